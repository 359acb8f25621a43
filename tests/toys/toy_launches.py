"""``python -m sft`` many times, as several processes, and killed in the middle; see ``forked_python``.

A launch: ``{"words": [...], "processes": 1, "watch": FILE, "kill": {"rank": 0, "step": 7, "log": FILE}}``. ``words``
are those after ``sft``. Each process is given what a launcher gives it; nothing of the product is replaced. What its
model reads is written to ``watch`` (see ``watched/watching.py``); the process ``kill.rank`` is killed from outside
with ``kill -9`` as soon as step ``kill.step``, or a later one that this launch is the first to take, stands in the
run's log.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import forked_python
from repository import ROOT, TESTS


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


def launch(
    words: list[str],
    watch: str,
    processes: int = 1,
    kill: dict[str, Any] | None = None,
    others: list[str] | None = None,
    path: str = "",
) -> dict[str, Any]:
    """Start ``processes`` processes of ``sft WORDS``; exit codes (-9: killed), seconds, and what they said.

    ``others``: words that all but the first process are given too; ``path``: a folder in which these look for modules
    first.
    """
    began, said = time.monotonic(), Path(watch).with_suffix(".err")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS / "toys" / "watched"), str(ROOT)])}
    environment |= {"OMP_NUM_THREADS": "1", "WATCH": watch}
    if processes > 1:
        environment |= {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    log = Path(kill["log"]) if kill else Path()
    deadly = max(kill["step"], _last_step(log) + 1) if kill else 0
    with said.open("w") as file:
        ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {} for rank in range(processes)]
        how = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": file}
        first = {"PYTHONPATH": os.pathsep.join([path, environment["PYTHONPATH"]])} if path else {}
        started = [
            forked_python.Popen(
                [sys.executable, "-m", "sft", *words, *(others or [] if number else [])],
                env=environment | rank | (first if number else {}),
                **how,
            )
            for number, rank in enumerate(ranks)
        ]
    while any(process.poll() is None for process in started):
        if kill and _last_step(log) >= deadly:
            started[kill["rank"]].kill()
            kill = None
        time.sleep(0.002)
    text, seconds = said.read_text(encoding="utf-8", errors="replace"), round(time.monotonic() - began, 2)
    return {"codes": [process.returncode for process in started], "seconds": seconds, "said": text}
