"""Fits that several files of this folder look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def never_stopped(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The uneven run, in one go; and what it amounted to."""
    from fit_logs import UNEVEN
    from toy_fits import fit, recipe_for

    folder = tmp_path_factory.mktemp("never-stopped") / "run"
    return folder, fit(recipe_for(tiny_model, *UNEVEN), folder)
