"""A hub with data sets on it, and processes of their own that are its clients."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow
from loopback_hub import LoopbackHub
from pyarrow import parquet
from repository import ROOT

__all__ = ["Client", "client", "environment", "in_parquet", "with_subsets"]

#: Runs one command a line of standard input, and says how it ended and what it printed, on one line each.
_CODE = """
import contextlib, io, json, sys
from sft.cli import main
said = sys.stdout
for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(json.loads(line))
        except SystemExit as end:
            status = end.code
    print(json.dumps([status, out.getvalue(), err.getvalue()]), file=said, flush=True)
"""


@dataclass
class Client:
    """A process with the package in it. ``words`` of one command after another."""

    _process: subprocess.Popen[str]

    def __call__(self, *words: str) -> tuple[int, str, str]:
        """(status, standard output, standard error) of ``sft`` with these words."""
        into, out = self._process.stdin, self._process.stdout
        assert into is not None and out is not None
        into.write(json.dumps(words) + "\n")
        into.flush()
        status, said, complained = json.loads(out.readline())
        return status, said, complained

    def checked(self, *words: str) -> dict[str, Any]:
        """What ``sft check --json`` finds; it must find nothing that is refused."""
        status, said, complained = self("check", *words, "--json")
        assert status == 0, complained
        return json.loads(said)

    def refused(self, *words: str) -> str:
        """The one sentence with which the command is refused."""
        status, _, complained = self(*words)
        assert status == 2, complained
        said = [line for line in complained.splitlines() if line.startswith("sft: ")]
        assert len(said) == 1, complained
        return said[0].removeprefix("sft: ")


def environment(endpoint: str, home: Path, **more: str) -> dict[str, str]:
    """Of a process that knows no hub but the one at ``endpoint`` and keeps what it gets under ``home``."""
    places = {"HF_HOME": str(home / "hf"), "SFT_CACHE": str(home / "sft"), "PYTHONPATH": str(ROOT)}
    return os.environ | {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "HF_TOKEN": ""} | places | more


@contextmanager
def client(endpoint: str, home: Path, **more: str) -> Iterator[Client]:
    """A client of the hub at ``endpoint``, started in ``home``."""
    command, env = [sys.executable, "-c", _CODE], environment(endpoint, home, **more)
    log: IO[str]
    with (
        (home / "client.log").open("w") as log,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=home, env=env
        ) as process,
    ):
        yield Client(process)
        assert process.stdin is not None
        process.stdin.close()


def in_parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """The rows as the bytes of a Parquet file."""
    made = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in rows]), made)
    return made.getvalue()


def with_subsets(hub: LoopbackHub, name: str, subsets: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]) -> str:
    """Put a data set onto ``hub``, or a further commit of it: subset -> split -> rows. Returns the commit."""
    lines, files = ["---", "configs:"], {}
    for subset, splits in subsets.items():
        lines += [f"- config_name: {subset}", "  data_files:"]
        for split, rows in splits.items():
            path = f"{subset}/{split}-00000-of-00001.parquet"
            lines += [f"  - split: {split}", f"    path: {path}"]
            files[path] = in_parquet(rows)
    tree = {"README.md": "\n".join([*lines, "---", ""]).encode(), **files}
    kept = f"datasets/{name}"
    if kept not in hub.repos:
        hub.put(kept, tree, private=False)
    else:
        hub.repos[kept].add(tree, "changed")
    return hub.repos[kept].refs["main"]
