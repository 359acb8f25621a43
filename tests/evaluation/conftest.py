"""What asking a server needs: a measured run, made once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def measured_once(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run to serve, made once for all processes of the suite; copy it to change it.

    A file of tests that serves another run says so by ``MADE``: its name, and what makes it.
    """
    from made_once import made_once
    from served_runs import measured

    name, make = getattr(request.module, "MADE", ("served", measured))
    return made_once(tmp_path_factory, name, make) / "run"


@pytest.fixture
def measured_run(measured_once: Path, tmp_path: Path) -> Path:
    """A copy of the run, for one test."""
    return Path(shutil.copytree(measured_once, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints")))
