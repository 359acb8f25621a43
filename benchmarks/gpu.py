"""Everything about a GPU in one call: is it right, how fast is it beside TRL, does the plan hold.

    python benchmarks/gpu.py --minutes 8 --out DIR       # on a machine with a card; nothing is fetched
    python benchmarks/gpu.py --minutes 9 --out DIR --only 8B-lora 1.3B-full 135M-lora
    python benchmarks/gpu.py --minutes 9 --out DIR --only 8B-lora-packed 1.3B-full-packed writing-1.3B plan-full
    python benchmarks/gpu.py --rehearse --out DIR        # the same parts on a CPU at toy size

Every part is a process of its own, the most telling first; what it finds is written at once, to gpu.jsonl in DIR and,
as tables that name the card, to a page. A crash or the clock costs one part: it leaves its reason, and what it had
found until then. gpu.log has all that was said. Models have random weights and the shapes of published
ones (``gpu_made``), so losses compare and fidelity does not.

Eight minutes reach about as far as the first cell; the other lines above have the rest. Their DIR may be the same.
``gpu_wheels.py`` gets together what a machine without network lacks.

A rehearsal shows that the script has no bug left. Its figures are those of toys on a CPU, and say nothing of any card.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import gpu_fast
import gpu_right
from gpu_made import ROOT, Report, Scene, in_one_line


@dataclass(frozen=True, slots=True)
class Part:
    """A process of its own: ``work`` is what it does, for ``seconds`` at most; ``crowd``: others may run beside it."""

    work: Callable[[Scene], None]
    seconds: int
    crowd: bool = False


PARTS: dict[str, Part] = {
    "prepare": Part(gpu_right.prepare, 90),
    "lora": Part(gpu_right.way, 120, crowd=True),
    "alone": Part(gpu_right.alone, 120, crowd=True),
    "full": Part(gpu_right.way, 120, crowd=True),
    "written": Part(gpu_right.writing, 150, crowd=True),
    "packing": Part(gpu_right.way, 120, crowd=True),
    "qlora": Part(gpu_right.way, 120, crowd=True),
    "killed": Part(gpu_right.killed, 150, crowd=True),
    "dora": Part(gpu_right.way, 120, crowd=True),
    "one_pass": Part(gpu_right.way, 120, crowd=True),
    "float32": Part(gpu_right.way, 120, crowd=True),
    "checkpointing": Part(gpu_right.way, 120, crowd=True),
    "1.3B-lora": Part(gpu_fast.cell, 230),
    "8B-lora": Part(gpu_fast.cell, 230),
    "1.3B-full": Part(gpu_fast.cell, 200),
    "writing-135M": Part(gpu_fast.writing, 120),
    "8B-lora-packed": Part(gpu_fast.cell, 200),
    "plan-lora": Part(gpu_fast.plan, 120),
    "135M-lora": Part(gpu_fast.cell, 180),
    "1.3B-full-packed": Part(gpu_fast.cell, 180),
    "writing-1.3B": Part(gpu_fast.writing, 150),
    "plan-full": Part(gpu_fast.plan, 120),
}
TITLES = {
    "right": "Is it right? Every way to fit, on the card and on the CPU",
    "rows": "Do rows in one line stand alone?",
    "fast": "How fast is a fit?",
    "written": "How fast is held-out writing?",
    "planned": "Does the plan hold?",
    "failed": "What did not come to its end",
}


CLOCK = "ended by the clock"


class Parts:
    """The parts, started one by one or several at a time, until the time is over."""

    def __init__(self, out: Path, scratch: Path, until: float, *, rehearsal: bool) -> None:
        self.out, self.scratch, self.until, self.rehearsal = out, scratch, until, rehearsal
        self.found = out / "gpu.jsonl"
        self.running: set[int] = set()

    def run(self, name: str) -> None:
        """The part ``name``; anew without what ended it, as long as something of it is left to try."""
        tried: set[str] = set()
        while True:
            left = self.until - time.monotonic()
            if left < 5:
                self._fails(name, "not begun: the time was over")
                break
            seconds = min(float(PARTS[name].seconds) * (5 if self.rehearsal else 1), left)  # a CPU may have other work
            said = len(self.failures(name))
            code = self._process(name, seconds, tried)
            begun = {row["contender"] for row in self.rows() if row["part"] == name and row["section"] == "begun"}
            if code == 0:
                break
            why = f"{CLOCK} after {seconds:.0f} s" if code is None else f"ended with {code}"
            at = f", in {sorted(begun - tried)[-1]}" if begun - tried else ""
            if len(self.failures(name)) == said:  # else it has said why itself
                self._fails(name, f"{why}{at}; see gpu.log")
            if code is None or not begun - tried:
                break
            tried = begun
        self.write()

    def _process(self, name: str, seconds: float, tried: set[str]) -> int | None:
        """Its exit status; None where the clock ended it."""
        words = ["--part", name, "--out", str(self.out), "--scratch", str(self.scratch), "--seconds", str(seconds)]
        words += ["--rehearse"] * self.rehearsal + [word for one in sorted(tried) for word in ("--skip", one)]
        began = time.monotonic()
        with (self.out / "gpu.log").open("a") as log:
            log.write(f"\n== {name}\n")
            log.flush()
            started = self._start([sys.executable, str(Path(__file__).resolve()), *words], log)
            self.running.add(started.pid)
            try:
                code = started.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                self.running.discard(started.pid)
                with suppress(ProcessLookupError):  # what it has started goes with it
                    os.killpg(started.pid, signal.SIGKILL)
                started.wait()
        took = time.monotonic() - began
        print(f"{name}: {'the clock' if code is None else code or 'done'}, {took:.0f} s", file=sys.stderr, flush=True)
        return code

    def _start(self, command: list[str], log: Any) -> subprocess.Popen[bytes]:
        how: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "start_new_session": True}
        if not self.rehearsal:
            return subprocess.Popen(command, **how)
        import forked_python  # a toy takes less time than to import what it needs

        return forked_python.Popen(command, **how)

    def stop(self, number: int, _: Any = None) -> None:
        """Told to stop: no part goes on behind our back, and what was found is on file."""
        for pid in self.running:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        shutil.rmtree(self.scratch, ignore_errors=True)
        os._exit(128 + number)

    def forget(self, names: Iterable[str]) -> None:
        """Take out what an earlier call has found of the parts ``names``, which are run anew."""
        kept = [row for row in self.rows() if row["part"] not in {*names}]
        self.found.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")

    def rows(self) -> list[dict[str, Any]]:
        """All rows so far; a line that a killed process left half-written is none."""
        found = []
        for line in self.found.read_text(encoding="utf-8").splitlines() if self.found.exists() else []:
            with suppress(ValueError):
                found.append(json.loads(line))
        return found

    def failures(self, name: str) -> list[dict[str, Any]]:
        """What of the part ``name`` did not come to its end, and why, in the order in which it was found."""
        return [row for row in self.rows() if row["part"] == name and row["section"] == "failed"]

    def _fails(self, name: str, why: str) -> None:
        Report(self.found, name)("failed", why=why)

    def write(self) -> None:
        """Write the page from all rows so far."""
        (self.out / "gpu.md").write_text(page(self.rows(), rehearsal=self.rehearsal), encoding="utf-8")


# -- the page -------------------------------------------------------------------------------------------------------


def page(rows: list[dict[str, Any]], *, rehearsal: bool) -> str:
    """All tables; the first lines say which card it was, or that it was none."""
    machine = next((row for row in rows if row["section"] == "machine"), {})
    said = {k: v for k, v in machine.items() if k not in ("section", "part", "card") and v is not None}
    lines = [f"# {machine.get('card', 'an unknown machine')}", ""]
    if rehearsal:
        lines += ["**A rehearsal on a CPU with toys: no figure here says anything of a GPU.**", ""]
    lines += [", ".join(f"{name.replace('_', ' ')} {shown(name, value)}" for name, value in said.items()), ""]
    for section, title in TITLES.items():
        its = [row for row in rows if row["section"] == section]
        if its:
            lines += [f"## {title}", "", *table(compared(its) if section == "fast" else its), ""]
    return "\n".join(lines)


def compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of cells, beside the fastest of TRL's in the same cell, and with losses beside those of ``sft``."""
    made = []
    for row in rows:
        cell = [other for other in rows if other["cell"] == row["cell"] and "failed" not in other]
        theirs = [other["tokens_a_second"] for other in cell if other["contender"].startswith("TRL")]
        own = next((other["losses"] for other in cell if other["contender"] == "sft"), None)
        row = dict(row)
        losses = row.pop("losses", None)
        if theirs and "tokens_a_second" in row:
            row["of_TRL's_best"] = f"{row['tokens_a_second'] / max(theirs):.2f}x"
        if own and losses:
            row["a_loss_differs_by"] = max(abs(a - b) for a, b in zip(own, losses, strict=False))
        made.append(row)
    return made


def table(rows: list[dict[str, Any]]) -> list[str]:
    """One table with every key that a row has, in the order in which they come."""
    keys = list(dict.fromkeys(key for row in rows for key in row if key not in ("section", "part")))
    if all("part" in row for row in rows) and "why" in keys:
        keys.insert(0, "part")
    lines = ["| " + " | ".join(key.replace("_", " ") for key in keys) + " |", "|" + "---|" * len(keys)]
    return lines + ["| " + " | ".join(shown(key, row.get(key)) for key in keys) + " |" for row in rows]


def shown(key: str, value: Any) -> str:
    """A value as a reader wants it: gigabytes, shares, few digits."""
    if value is None:
        return "-"
    if not isinstance(value, float | int) or isinstance(value, bool):
        return str(value).replace("|", "/").replace("\n", " ")
    if key in ("memory", "peak_bytes", "memory_planned", "memory_taken"):
        return f"{value / 1e9:.2f} GB"
    if key in ("product_rate", "operations_a_second"):
        return f"{value / 1e12:.3g} TFLOP/s"
    if key in ("utilisation", "padding"):
        return f"{value:.0%}"
    if key in ("tokens_a_second", "steps", "tokens", "completions", "killed_after_step"):
        return f"{value:,.0f}"
    return f"{value:.3g}"


# -- the command ----------------------------------------------------------------------------------------------------


def part(name: str, given: argparse.Namespace) -> int:
    """What a process of its own does."""
    report = Report(given.out / "gpu.jsonl", name)
    scene = Scene(report, given.scratch, given.rehearse, given.seconds, frozenset(given.skip))
    try:
        PARTS[name].work(scene)
    except Exception as error:
        report("failed", why=in_one_line(error))
        raise
    return 0


def main() -> int:
    """See the module's docstring. The exit status is 1 where a part failed, but for want of time."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--minutes", type=float, help="for all parts together: 8, and 30 for a rehearsal")
    options.add_argument("--out", type=Path, required=True, help="the folder for gpu.jsonl, gpu.md and gpu.log")
    options.add_argument("--only", nargs="+", choices=[*PARTS], default=[*PARTS], metavar="PART", help=", ".join(PARTS))
    options.add_argument("--rehearse", action="store_true", help="on a CPU, at toy size")
    options.add_argument("--at-once", type=int, default=max(1, (os.cpu_count() or 1) // 4), help=argparse.SUPPRESS)
    for hidden in ("--part", "--scratch", "--seconds"):
        kind = {"--scratch": Path, "--seconds": float}.get(hidden, str)
        options.add_argument(hidden, type=kind, help=argparse.SUPPRESS)
    options.add_argument("--skip", action="append", default=[], help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.part:
        return part(given.part, given)
    if given.minutes is not None and not 0 < given.minutes < float("inf"):
        options.error(f"--minutes {given.minutes}: a number of minutes above 0")
    try:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "gpu.log").open("a").close()
    except OSError as error:
        options.error(f"--out {given.out}: nothing can be written there ({error.strerror})")
    # Parts that run beside each other share the cores.
    os.environ |= {
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "4",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),  # not installed
    }
    os.environ["CUDA_VISIBLE_DEVICES"] = first_card(os.environ.get("CUDA_VISIBLE_DEVICES"))
    if given.rehearse:
        os.environ |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    until = time.monotonic() + 60 * (given.minutes or (30.0 if given.rehearse else 8.0))
    with tempfile.TemporaryDirectory(prefix="sft-gpu-") as scratch:
        parts = Parts(given.out.resolve(), Path(scratch), until, rehearsal=given.rehearse)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, parts.stop)
        chosen = [name for name in given.only if name != "prepare"]
        parts.forget(["prepare", *chosen])
        parts.run("prepare")
        if why := parts.failures("prepare"):  # the others read what it makes
            options.exit(1, f"gpu.py: {why[-1]['why']}\n")
        crowd: Iterable[str] = [name for name in chosen if PARTS[name].crowd]
        with ThreadPoolExecutor(2 if given.rehearse else given.at_once) as pool:
            list(pool.map(parts.run, crowd))
        for name in chosen:
            if not PARTS[name].crowd:
                parts.run(name)
        parts.write()
    print((given.out / "gpu.md").read_text(encoding="utf-8"))
    return 1 if broken(parts.rows(), chosen, rehearsal=given.rehearse) else 0


def first_card(seen: str | None) -> str:
    """Of the cards that are ``seen`` (None: all there are) the one to measure: TRL refuses to choose one of several."""
    return "0" if seen is None else seen.split(",")[0]


def broken(rows: list[dict[str, Any]], chosen: list[str], *, rehearsal: bool) -> bool:
    """Whether a part of those ``chosen`` failed, for another reason than the clock.

    A contender that fails is a row of a table; in a rehearsal, where all can run but what needs a card or a package
    that nobody must have, it is a bug.
    """
    its = [row for row in rows if row["part"] in ("prepare", *chosen)]
    late = ("the time was over", *([] if rehearsal else [CLOCK]))
    parts = [row for row in its if row["section"] == "failed" and not any(word in row["why"] for word in late)]
    needs_card = ("_flash_attention_forward", "FlexAttention does not support backward on CPU", "'cut_cross_entropy'")
    contenders = [row for row in its if "failed" in row and not any(why in row["failed"] for why in needs_card)]
    return bool(parts or (rehearsal and contenders))


if __name__ == "__main__":
    sys.exit(main())
