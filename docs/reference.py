"""The reference pages, made from the code: ``python docs/reference.py`` writes verbs.md, recipe.md and api.md anew.

``python docs/reference.py FOLDER`` puts the source of the documentation site together, for ``make docs``: pages,
measurements and recipes stand in the folder as in a checkout, so that links between them hold; so does the reference.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import sft  # noqa: E402
from sft.cli import parser  # noqa: E402
from sft.fidelity.comparison import Comparison  # noqa: E402
from sft.recipes.schema import schema_text  # noqa: E402
from sft.training.plan.parts import Plan  # noqa: E402
from sft.verbs.before import AuditWithGaps  # noqa: E402
from sft.verbs.hand_on import Exported, Published  # noqa: E402
from sft.verbs.opened import OpenedRun  # noqa: E402
from sft.verbs.served import ServedClone  # noqa: E402

__all__ = ["pages"]

#: What the public functions return, each shown with its own public members.
RESULTS = (
    AuditWithGaps, Plan, OpenedRun, ServedClone, sft.Scorecard, Comparison, Exported, Published, sft.Demonstration,
    sft.Recipe,
)  # fmt: skip


def pages() -> dict[str, str]:
    """File name -> Markdown."""
    return {"verbs.md": verbs(), "recipe.md": recipe(), "api.md": api()}


def verbs() -> str:
    """Every verb's help, as the program prints it at 100 columns."""
    os.environ["COLUMNS"] = "100"
    top = parser()
    found = next(action for action in top._actions if isinstance(action, argparse._SubParsersAction))
    told = {choice.dest: choice.help for choice in found._choices_actions}
    lines = ["# Verbs", "", "Made from the program's own help.", "", "```text", top.format_help().rstrip(), "```", ""]
    for name, one in found.choices.items():
        lines += [f"## sft {name}", "", f"{told[name]}", "", "```text", one.format_help().rstrip(), "```", ""]
    return "\n".join(lines)


def recipe() -> str:
    """Every key of a recipe: its type, its default and what it is for."""
    schema = json.loads(schema_text())
    lines = ["# Keys of a recipe", "", "Made from `recipes/recipe.schema.json`, which an editor can read too.", ""]
    for name, section in schema["properties"].items():
        whole = _followed(section, schema)
        lines += [f"## {name}", "", _prose(whole.get("description") or section.get("description", "")), ""]
        for key, value in whole.get("properties", {}).items():
            inner = _followed(value, schema)
            lines += [f"**`{name}.{key}`** ({_kind(value, schema)}{_default(value)})", ""]
            lines += [_prose(value.get("description") or inner.get("description", "")), ""]
    return "\n".join(lines)


def _followed(value: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """``value``, or what it refers to."""
    choices = value.get("anyOf") or value.get("allOf") or [value]
    for one in choices:
        if "$ref" in one:
            found = schema
            for part in one["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            return found
    return value


def _kind(value: dict[str, Any], schema: dict[str, Any]) -> str:
    if "enum" in value:
        return "one of " + ", ".join(f"`{json.dumps(one)}`" for one in value["enum"])
    if "const" in value:
        return f"`{json.dumps(value['const'])}`"
    if choices := value.get("anyOf") or value.get("allOf"):
        return " or ".join(dict.fromkeys(_kind(one, schema) for one in choices))
    if "$ref" in value:
        return _kind(_followed(value, schema), schema)
    if value.get("type") == "array":
        return "a list"
    names = {"object": "a mapping", "string": "text", "integer": "a whole number", "number": "a number",
             "boolean": "true or false", "null": "null"}  # fmt: skip
    return names.get(str(value.get("type")), "a value")


def _default(value: dict[str, Any]) -> str:
    return f"; default `{json.dumps(value['default'])}`" if "default" in value else ""


def _prose(text: str) -> str:
    """Docstring text as Markdown: what is in double backticks stays code, roles lose their role."""
    return text.replace("``", "`").replace(":class:", "").replace(":meth:", "").replace(":func:", "").replace("`~", "`")


def api() -> str:
    """Signatures and docstrings of the public names, and of what they return."""
    lines = ["# Python", "", _prose(inspect.getdoc(sft) or ""), "", "## Functions", ""]
    for name in sorted(sft.__all__):
        found = getattr(sft, name)
        if inspect.isfunction(found):
            lines += [f"### sft.{name}", "", "```python", _signature(name, found), "```", ""]
            lines += [_prose(inspect.getdoc(found) or ""), ""]
    lines += ["## Errors", "", _prose(inspect.getdoc(sft.errors) or ""), "", "## Results and nouns", ""]
    for kind in RESULTS:
        lines += [f"### {kind.__name__}", "", _prose(inspect.getdoc(kind) or ""), ""]
        lines += [line for name, member in _members(kind) for line in _described(name, member)]
    return "\n".join(lines)


def _signature(name: str, function: Any) -> str:
    """The signature, an argument a line where one line does not hold it."""
    found = inspect.signature(function)
    arguments: list[str] = []
    for one in found.parameters.values():
        keyword, before = one.kind is one.KEYWORD_ONLY, "".join(arguments)
        if keyword and "*" not in before:
            arguments.append("*")
        star = "*" if one.kind is one.VAR_POSITIONAL else ""
        default = "" if one.default is one.empty else f" = {_plain(one.default)}"
        arguments.append(f"{star}{one.name}: {one.annotation}{default}")
    line = f"sft.{name}({', '.join(arguments)}) -> {found.return_annotation}"
    body = "".join(f"    {one},\n" for one in arguments)
    return line if len(line) < 90 else f"sft.{name}(\n{body}) -> {found.return_annotation}"


def _plain(value: Any) -> str:
    return value.__name__ if callable(value) else repr(value)


def _members(kind: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties that ``kind`` or a class of ours says something of."""
    for name in dir(kind):
        member = inspect.getattr_static(kind, name)
        if name.startswith("_") or (not isinstance(member, property | classmethod) and not inspect.isfunction(member)):
            continue
        inner = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if str(getattr(inner, "__module__", "")).startswith("sft."):
            yield name, member


def _described(name: str, member: Any) -> list[str]:
    shown = f"`{name}`" if isinstance(member, property) else f"`{name}()`"
    inner = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
    return [f"- {shown}: " + " ".join(_prose(inspect.getdoc(inner) or "").split()), ""]


#: What the site is made of, beside the reference.
PARTS = (
    "docs/*.md",
    "docs/*.ipynb",
    "docs/*.png",
    "docs/*.py",
    "docs/report/*.md",
    "docs/pains/*.md",
    "docs/collecting/*",
    "benchmarks/README.md",
    "benchmarks/results/*.md",
    "recipes/README.md",
    "recipes/*.yaml",
    "recipes/*.json",
    "data/README.md",
    "data/*/README.md",
)


def put_together(folder: Path) -> None:
    """Write the source of the site into ``folder``, which is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    for pattern in PARTS:
        for path in sorted(ROOT.glob(pattern)):
            target = folder / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    (folder / "conf.py").write_text((ROOT / "docs" / "conf.py").read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "docs" / "reference").mkdir()
    write_pages(folder / "docs" / "reference")


def write_pages(folder: Path) -> None:
    """Write the reference pages into ``folder``."""
    for file, text in pages().items():
        (folder / file).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        put_together(Path(sys.argv[1]))
    else:
        write_pages(ROOT / "docs" / "reference")
