"""What a push needs: a run, a hub, and both on one bench. Files that need more put it on top."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from loopback_hub import LoopbackHub
    from toy_pushes import Bench


@pytest.fixture(scope="module")
def fitted(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run to publish, made once for all processes of the suite. Copy it to change it."""
    from toy_pushes import fitted_run

    return fitted_run(tiny_model, tmp_path_factory)


@pytest.fixture
def hub(tiny_model: Path) -> Iterator[LoopbackHub]:
    """A hub on this machine that holds the base model and nothing else."""
    from loopback_hub import LoopbackHub
    from toy_pushes import BASE, base_files

    with LoopbackHub() as hub:
        hub.put(BASE, base_files(tiny_model), private=False)
        yield hub


@pytest.fixture
def bench(fitted: Path, tmp_path: Path, hub: LoopbackHub, monkeypatch: Any, capsys: Any, caplog: Any) -> Bench:
    """A copy of the run, and this process as a client of the hub."""
    from toy_pushes import bench_for

    return bench_for(fitted, tmp_path, hub, monkeypatch, capsys, caplog)
