"""``sft import`` as its users run it, in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from exports import Import

from sft.cli import main


@pytest.fixture
def imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Import:
    """The verb, writing into ``tmp_path / "out"`` unless another folder is named."""

    def run(source: Path, *words: object, output: Path | None = None) -> tuple[int, Any, str]:
        out = output or tmp_path / "out"
        status = main(["import", str(source), "--output", str(out), "--json", *map(str, words)])
        said, complaint = capsys.readouterr()
        return status, json.loads(said) if said else None, complaint

    return run
