"""The layers of the package, lowest first: imports point downwards, and within a layer never in a circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "sft"

# Lowest layer first.
LAYERS: list[tuple[str, set[str]]] = [
    (
        "words",
        {
            "errors",
            "cores",
            "demonstrations",
            "ledger",
            "intervals",
            "recipes",
            "engine_fields",
            "observations",
            "scorecards",
        },
    ),
    ("data", {"formats", "cells", "rows", "sources", "splits", "nearness", "audit", "secret_scan"}),
    (
        "results",
        {
            "files",
            "provenance",
            "runs",
            "checkpoints",
            "metrics",
            "floors",
            "fidelity",
            "probes",
            "evidence",
            "advice",
            "observing",
            "comparing",
            "verdicts",
            "drawings",
            "typography",
            "phrases",
            "meanings",
            "illustrations",
            "chapters",
            "exhibits",
            "reports",
            "cards",
            "plans",
        },
    ),
    (
        "engine",
        {
            "templates",
            "rendered",
            "rendering",
            "renderings",
            "preview",
            "precision",
            "policies",
            "adapting",
            "proving",
            "training",
            "prefilling",
            "generation",
            "sharing",
            "probing",
            "recording",
            "measuring",
            "exporting",
            "hub",
            "publishing",
            "sizing",
            "rehearsing",
        },
    ),
    (
        "shell",
        {
            "gathering",
            "checking",
            "scoring",
            "changes",
            "beginning",
            "loop",
            "planning",
            "elsewhere",
            "refusals",
            "cli",
            "__main__",
        },
    ),
]
LEVEL = {module: level for level, (_, modules) in enumerate(LAYERS) for module in modules}
FREE_OF_TORCH = {module for name, modules in LAYERS[:3] for module in modules}
HEAVY = {"torch", "transformers", "trl", "peft", "accelerate", "datasets", "evaluate"}


def modules() -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if name not in ("__init__", "_shipped"):
            found.setdefault(name, []).append(path)
    return found


def imported(path: Path) -> set[str]:
    """Names of ``sft`` modules that ``path`` imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "sft":
            parts = node.module.split(".")
            names |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {a.name.split(".")[1] for a in node.names if a.name.startswith("sft.")}
    return names - {"__version__"}


def test_every_module_has_a_layer() -> None:
    assert set(modules()) == set(LEVEL) - {m for m in LEVEL if m not in modules()}
    assert not set(modules()) - set(LEVEL), "name the layer of the new module in LAYERS"


@pytest.mark.parametrize("module", sorted(LEVEL))
def test_imports_point_downwards(module: str) -> None:
    for path in modules().get(module, []):
        upward = {name for name in imported(path) if LEVEL[name] > LEVEL[module]}
        assert not upward, f"{path.name} reaches up to {', '.join(sorted(upward))}"


def test_no_circles() -> None:
    needs = {module: set().union(*map(imported, paths)) - {module} for module, paths in modules().items()}
    while needs:
        free = {module for module, others in needs.items() if not others & needs.keys()}
        assert free, f"these import each other in a circle: {', '.join(sorted(needs))}"
        needs = {module: others for module, others in needs.items() if module not in free}


def test_only_training_imports_the_trainer() -> None:
    for module, paths in modules().items():
        for path in paths:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            roots = {
                (node.module or "").split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
            } | {a.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
            assert "trl" not in roots or module == "training", f"{path.name} imports trl"


def test_lower_layers_load_without_the_engine() -> None:
    present = sorted(FREE_OF_TORCH & set(modules()))
    code = (
        f"import sys, importlib\nfor m in {present!r}: importlib.import_module('sft.' + m)\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
