"""Checkpoints made by hand, without a fit, and finished runs taken back to one."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

from sft.runs.checkpoints import write_list
from sft.runs.run import read_json, write_json


def zipped(path: Path) -> None:
    """A file as torch saves one: a zip, each part with its checksum."""
    with zipfile.ZipFile(path, "w") as parts:
        parts.writestr("data", bytes(range(200)))


def tensors(path: Path, *sizes: int, metadata: bool = True) -> None:
    """A file as safetensors writes it: the header's length, the header, then ``sizes`` bytes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}} if metadata else {}
    end = 0
    for number, size in enumerate(sizes):
        header[f"w{number}"] = {"dtype": "U8", "shape": [size], "data_offsets": [end, end + size]}
        end += size
    written = json.dumps(header).encode()
    path.write_bytes(len(written).to_bytes(8, "little") + written + bytes(end))


def state(at: Path, step: int, **others: Any) -> None:
    (at / "trainer_state.json").write_text(json.dumps({"global_step": step} | others), encoding="utf-8")


def checkpoint(folder: Path, step: int, *, best: Any = None, listed: bool = True) -> Path:
    """A whole checkpoint at ``step``; ``listed``: with the list of its files, else of a release that wrote none."""
    at = folder / f"checkpoint-{step}"
    at.mkdir(parents=True)
    tensors(at / "adapter_model.safetensors", 40, 24)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        zipped(at / name)
    (at / "README.md").write_text("a file that nobody checks by its form", encoding="utf-8")
    state(at, step, best_global_step=best, stateful_callbacks={"sft": {"listed": True}} if listed else {})
    if listed:
        write_list(at, processes=1)
    return at


def cut_short(run: Path, name: str) -> Path:
    """A copy of ``run``, beside it, as it was stopped after its last checkpoint but one."""
    copy = run.with_name(name)
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "adapter")
    shutil.rmtree(max((copy / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2])))
    manifest = read_json(copy / "manifest.json")
    del manifest["training"]
    write_json(copy / "manifest.json", manifest)
    return copy


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
