"""What comments and docstrings name is there: functions, files, tests and documents.

A comment that sends its reader to a function that was renamed, or a page that never shipped, is worse than none.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("sft", "tests", "benchmarks", "data")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))

_ROLE = re.compile(r":(?:func|class|meth|data|mod|attr|exc|obj):`~?([^`]+)`")
_QUOTED = re.compile(r"``([^`]+)``|(?<![:`])`([^`\n]+)`(?!`)")
_NAME = re.compile(r"_{0,2}[a-z]\w*(?:\.\w+)*(?:\(\))?|[A-Z]\w*(?:\.\w+)*")
_FILE = re.compile(r"(?<![\w/.~-])(?:[\w-]+/)*[\w-]+\.(?:\w+\.j2|py|md|ya?ml|toml|jinja)\b")
_TEST = re.compile(r"\btest_\w+")

#: Names in quotes that are nobody's of ours, each with whose it is.
OTHERS = {
    "torchrun": "PyTorch's launcher",
    "even_batches": "an option of accelerate",
    "hf_xxxxxxxx": "a token that is none",
    "scancel": "a command of SLURM's",
    "simple_launcher": "a function of accelerate",
    "trainer_optimizer": "a module of transformers",
    "integration_utils": "a module of transformers",
    "save_only_model": "an option of transformers",
}
#: Files that are named and not there, each with the reason.
ABSENT = {
    "statistics.py": "why a file of ours is not called so",
    "tokenizers.py": "why a file of ours is not called so",
    "report.md": "what a run is given",
    "path/to/file.py": "a user's own",
    "trainer_utils.py": "a file of transformers",
}


@cache
def names() -> tuple[frozenset[str], frozenset[str]]:
    """Every name in our code (what it defines, imports, calls, and the words of its short texts: keys, options), and
    of those what it defines: modules, classes, functions, and names that are assigned to.
    """
    known, defined = set[str](), set[str]()
    for path in FILES:
        known |= {path.stem, path.parent.name}
        defined |= {path.stem, path.parent.name}
        if path == Path(__file__):  # which names what is not there
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.FunctionDef() | ast.ClassDef() | ast.AsyncFunctionDef():
                    defined.add(node.name)
                case ast.arg() | ast.keyword():
                    known.add(node.arg or "")
                case ast.Name():
                    (defined if isinstance(node.ctx, ast.Store) else known).add(node.id)
                case ast.Attribute():
                    known.add(node.attr)
                case ast.alias():
                    known.update(node.name.split("."))
                case ast.Constant(value=str(text)) if not re.search(r"\s", text):
                    known.update(re.split(r"\W+", text))
    return frozenset(known | defined), frozenset(defined | set(sys.stdlib_module_names))


@cache
def shipped() -> frozenset[str]:
    """Every file of the checkout, by its path and by every end of it."""
    ends: set[str] = set()
    for folder in (*FOLDERS, "docs", "recipes"):
        for path in (ROOT / folder).rglob("*"):
            parts = path.relative_to(ROOT).parts
            ends.update("/".join(parts[start:]) for start in range(len(parts)))
    return frozenset(ends | {path.name for path in ROOT.iterdir()})


def remarks(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of every comment and docstring."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=False)
            if text:
                yield getattr(node, "lineno", 1), text


def dangling(text: str) -> set[str]:
    """What ``text`` names and nobody has."""
    found = {name for name in _ROLE.findall(text) if name.split(".")[-1] not in names()[1]}
    found |= {name for name in _TEST.findall(text) if name not in names()[0]}
    found |= {name for name in _FILE.findall(text) if name not in shipped() and name not in ABSENT}
    for double, single in _QUOTED.findall(text):
        name = double or single
        if _NAME.fullmatch(name) and not _FILE.fullmatch(name):
            last = name.removesuffix("()").split(".")[-1]
            if last not in names()[0] and name not in OTHERS:
                found.add(name)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_remark_names_is_there(path: Path) -> None:
    """``sft/training/batches.py`` sent its reader to a function that was renamed, five files to a page."""
    source = path.read_text(encoding="utf-8")
    wrong = [f"{line}: {name}" for line, text in remarks(source) for name in sorted(dangling(text))]
    assert not wrong, wrong


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "docs/decisions.md", "benchmarks/README.md"])
def test_the_files_a_document_names_are_there(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    ours = [found for found in _FILE.findall(text) if found.startswith(tuple(f"{folder}/" for folder in FOLDERS))]
    assert not [found for found in ours if found not in shipped() and "results/" not in found]


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="other Pythons break lines of help elsewhere")
def test_the_reference_is_what_the_code_says(tmp_path: Path) -> None:
    """``python docs/reference.py`` mends this: verbs, keys of recipes and the API are made from code."""
    subprocess.run([sys.executable, str(ROOT / "docs" / "reference.py"), str(tmp_path / "site")], check=True)
    for path in (ROOT / "docs" / "reference").iterdir():
        made = (tmp_path / "site" / "docs" / "reference" / path.name).read_text(encoding="utf-8")
        assert path.read_text(encoding="utf-8") == made, f"{path.name} is older than the code"


def test_the_search_finds_what_it_is_for() -> None:
    assert dangling(
        ":func:`no_such_function` and ``no_such_option``, see tests/test_nowhere.py and engine.md, row 20"
    ) == {
        "no_such_function",
        "no_such_option",
        "test_nowhere",
        "tests/test_nowhere.py",
        "engine.md",
    }
    assert not dangling(
        ":func:`sft.demonstrations.selection.divide`, ``--set`` and ``divide()``, see tests/test_references.py"
    )
