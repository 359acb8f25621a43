"""docs/clone_an_expert.ipynb is executed cell by cell, offline; ``make notebook`` does so in a kernel, as Jupyter."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
from repository import ROOT

from sft.training.plan.parts import Plan

pytestmark = pytest.mark.engine

NOTEBOOK = ROOT / "docs" / "clone_an_expert.ipynb"


def cells() -> list[str]:
    found = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == "code"]


def shown(code: str, names: dict[str, Any]) -> Any:
    """Execute a cell; the value of its last line where that is an expression, as a notebook shows it."""
    import ast

    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if isinstance(last, ast.Expr) else None


def test_the_notebook_runs_from_its_first_cell_to_its_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    with redirect_stderr(io.StringIO()):
        values = [shown(code, names) for code in cells()]
    pages = [value._repr_html_() for value in values if value is not None]
    assert len(pages) > 7 and any("Verdict" in page for page in pages)
    assert (tmp_path / "runs" / "first" / "report.html").is_file() and (tmp_path / "merged" / "config.json").is_file()
    (planned,) = [value for value in values if isinstance(value, Plan)]
    assert {row["quantity"]: row["value"] for row in planned.table()}["steps"] == 3
    assert names["card"].scores_of("tuned")["exact_match"].value == 0.0


def test_it_holds_no_output() -> None:
    """What a cell printed on somebody's machine says nothing of the cell as it is now."""
    found = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not [cell for cell in found if cell.get("outputs") or cell.get("execution_count")]
