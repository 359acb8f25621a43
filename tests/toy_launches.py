"""``sft`` as several processes, and processes killed in the middle; the engine is imported once and forked for each.

Run as a program, ``toy_launches.py PLAN`` reads a JSON list of launches and prints a JSON list of what came of them.
A launch: ``{"words": [...], "processes": 1, "rows": FILE, "die": {"rank": 0, "step": 7}}``. ``words`` are those after
``sft``; every process writes the rows of each of its batches to ``rows``; the one in ``die`` is killed with kill -9
when it comes to that step. ``toy_launches.py sft WORDS`` is one such process, for a launcher: what it writes and where
it dies are in ``ROWS`` and ``DIE`` of its environment.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def watched() -> None:
    """Let the trainer write down the rows of every batch, and die where it is told to."""
    from sft import proving
    from sft.training import fitting
    from sft.training.shares import EachRowOnce
    from sft.training.trainer import CloningTrainer

    if not issubclass(CloningTrainer, EachRowOnce):
        fitting.CloningTrainer = type("Once", (EachRowOnce, CloningTrainer), {})  # type: ignore[misc]
    # What was saved is proven in tests of its own, by a process that takes longer than these fits.
    proving.prove = lambda run: {"wall_seconds": 0.0}  # type: ignore[assignment]
    proving.in_words = lambda saved: "not proven here"  # type: ignore[assignment]
    rank, rows = os.environ.get("RANK", "0"), Path(os.environ["ROWS"])
    die = json.loads(os.environ.get("DIE", "null"))
    compute = CloningTrainer.compute_loss

    def recording(self: Any, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        step = self.state.global_step + 1
        with rows.with_name(f"{rows.stem}-{rank}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "pid": os.getpid(), "rows": inputs["row"].tolist()}) + "\n")
        if die and (die["rank"], die["step"]) == (int(rank), step):
            os.kill(os.getpid(), signal.SIGKILL)
        return compute(self, model, inputs, *args, **kwargs)

    CloningTrainer.compute_loss = recording  # type: ignore[method-assign]


def rows_of(file: Path) -> dict[int, list[int]]:
    """Step -> its rows over all processes, sorted; of a step that was taken again, what was seen the last time."""
    found: dict[int, dict[int, tuple[int, list[int]]]] = {}
    for rank, part in enumerate(sorted(file.parent.glob(f"{file.stem}-*.jsonl"))):
        for line in part.read_text(encoding="utf-8").splitlines():
            seen = json.loads(line)
            pid, rows = found.setdefault(seen["step"], {}).get(rank, (seen["pid"], []))
            found[seen["step"]][rank] = (seen["pid"], [*(rows if pid == seen["pid"] else []), *seen["rows"]])
    return {step: sorted(row for _, rows in parts.values() for row in rows) for step, parts in sorted(found.items())}


def launch(words: list[str], rows: str, processes: int = 1, die: dict[str, int] | None = None) -> dict[str, Any]:
    """Fork ``processes`` processes that run ``sft WORDS``; exit codes (-9: killed), seconds, and what they said."""
    began, port, children = time.monotonic(), str(free_port()), []
    said = Path(rows).with_suffix(".err")
    said.unlink(missing_ok=True)
    for rank in range(processes):
        if (pid := os.fork()) == 0:
            if processes > 1:
                local = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
                os.environ.update({**local, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port})
            os.environ |= {"ROWS": rows, "DIE": json.dumps(die)}
            file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            os.dup2(file, 1)
            os.dup2(file, 2)
            code = 70
            try:
                watched()
                from sft.cli import main

                code = main(words)
            except SystemExit as end:
                code = int(end.code or 0)
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        children.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    text = said.read_text(encoding="utf-8", errors="replace") if said.exists() else ""
    return {"codes": codes, "seconds": round(time.monotonic() - began, 2), "said": text}


def main() -> None:
    """See the module's docstring."""
    import torch

    import sft.loop
    import sft.measuring
    import sft.training  # noqa: F401

    torch.set_num_threads(1)
    if sys.argv[1] == "sft":
        from sft.cli import main as command

        watched()
        raise SystemExit(command(sys.argv[2:]))
    sys.stdout.write(json.dumps([launch(**one) for one in json.loads(sys.argv[1])]))


if __name__ == "__main__":
    main()
