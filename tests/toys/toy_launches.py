"""``python -m sft`` many times, as several processes, and killed in the middle; the engine is imported once.

Run as a program, ``toy_launches.py PLAN`` reads a JSON list of launches and prints a JSON list of what came of them.
A launch: ``{"words": [...], "processes": 1, "watch": FILE, "kill": {"rank": 0, "step": 7, "log": FILE}}``. ``words``
are those after ``sft``. Each process is forked from one that has imported the engine, sets what a launcher sets, and
runs the module ``sft`` as ``python -m sft`` does; nothing of the product is replaced. What its model reads is
written to ``watch`` (see ``watched/watching.py``); the process ``kill.rank`` is killed from outside with ``kill -9``
as soon as step ``kill.step``, or a later one that this launch is the first to take, stands in the run's log.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent / "watched"))


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def passes(watch: Path) -> dict[int, list[list[dict[str, Any]]]]:
    """Rank -> its launches in order -> their forward passes in training mode, as ``watching`` wrote them down."""
    found: dict[int, list[list[dict[str, Any]]]] = {}
    for path in watch.parent.glob(f"{watch.name}-*.jsonl"):
        launches: dict[int, list[dict[str, Any]]] = {}
        for line in path.read_text(encoding="utf-8").splitlines():
            seen = json.loads(line)
            launches.setdefault(seen.pop("pid"), []).append(seen)
        found[int(path.stem.rpartition("-")[2])] = list(launches.values())
    return dict(sorted(found.items()))


def _last_step(log: Path) -> int:
    """The last training step in ``log``; 0 where there is none. The last line may be half-written."""
    lines = log.read_bytes().split(b"\n")[:-1] if log.exists() else []
    return max((row["step"] for row in map(json.loads, lines) if "loss" in row), default=0)


def _as_a_process_of_its_own(words: list[str], environment: dict[str, str], said: Path) -> None:
    """Run the module ``sft`` in this (forked) process, and end with its exit status."""
    os.environ.update(environment)
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(file, 1)
    os.dup2(file, 2)
    code = 70
    try:
        import watching

        watching.install()
        sys.argv = ["sft", *words]
        runpy.run_module("sft", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def launch(words: list[str], watch: str, processes: int = 1, kill: dict[str, Any] | None = None) -> dict[str, Any]:
    """Fork ``processes`` processes that run ``sft WORDS``; exit codes (-9: killed), seconds, and what they said."""
    began, port, children = time.monotonic(), str(free_port()), []
    said = Path(watch).with_suffix(".err")
    said.unlink(missing_ok=True)
    log = Path(kill["log"]) if kill else Path()
    deadly = max(kill["step"], _last_step(log) + 1) if kill else 0
    for rank in range(processes):
        environment = {"WATCH": watch}
        if processes > 1:
            environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        if (pid := os.fork()) == 0:
            _as_a_process_of_its_own(words, environment, said)
        children.append(pid)
    codes: dict[int, int] = {}
    while len(codes) < processes:
        for pid in children:
            if pid not in codes and (ended := os.waitpid(pid, os.WNOHANG))[0]:
                codes[pid] = os.waitstatus_to_exitcode(ended[1])
        if kill and children[kill["rank"]] not in codes and _last_step(log) >= deadly:
            os.kill(children[kill["rank"]], signal.SIGKILL)
            kill = None
        time.sleep(0.001)
    text = said.read_text(encoding="utf-8", errors="replace") if said.exists() else ""
    return {"codes": [codes[pid] for pid in children], "seconds": round(time.monotonic() - began, 2), "said": text}


def main() -> None:
    """See the module's docstring."""
    import datasets  # noqa: F401
    import peft  # noqa: F401
    import torch
    from transformers import Trainer, models  # noqa: F401
    from trl import SFTTrainer  # noqa: F401  (these are most of a start: 4 s of 5)

    torch.set_num_threads(1)
    sys.stdout.write(json.dumps([launch(**one) for one in json.loads(sys.argv[1])]))


if __name__ == "__main__":
    main()
