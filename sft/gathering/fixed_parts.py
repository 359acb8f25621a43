"""A recipe whose training, validation and test rows are fixed: written as files, and used as they are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml

from sft import recipes
from sft.demonstrations.demonstration import Demonstration
from sft.demonstrations.splits import Splits
from sft.errors import DemonstrationsError, Problem, RecipeError, RunError, UserError
from sft.recipes import Recipe, Resolved
from sft.runs.atomic_files import read_jsonl, write_json, write_jsonl
from sft.runs.hashes import fingerprint

__all__ = ["by_their_sources", "lost_rows", "recipe_of_parts", "write_parts"]


def recipe_of_parts(recipe: Recipe, place: Path, name: str, *, seed: int = 0, **training: Any) -> Resolved:
    """``recipe`` with the rows at ``place`` (see :func:`write_parts`) as its files, called ``name``.

    ``seed`` more than the recipe's; ``training``: other values of that section.
    """
    files = {part: place / f"{part}.jsonl" for part in ("train", "validation", "test")}
    values = recipe.to_dict()
    values["name"] = name
    unwritten = ("columns", "limit", "system")  # rows stand there as they were read
    section = {key: value for key, value in values["demonstrations"].items() if key not in unwritten}
    once = [str(files["train"])] if files["train"].exists() else []
    repeated = [{"path": str(file), "weight": int(file.stem[6:])} for file in sorted(place.glob("train-*.jsonl"))]
    path = [*once, *repeated] if repeated else once[0]
    values["demonstrations"] = section | {"path": path, "format": "prompt_completion"}
    values["split"] = {"validation": str(files["validation"]), "test": str(files["test"]),
                       "near_duplicates": "remove", "near_threshold": recipe.split.near_threshold}  # fmt: skip
    values["training"] |= {"seed": recipe.training.seed + seed, **training}
    return recipes.parse(yaml.safe_dump(values, allow_unicode=True, sort_keys=False), str(place / "recipe.yaml"))


def write_parts(above: Path, made: Splits) -> Path:
    """The folder in ``above`` that holds the rows of ``made``. Its name is their hash: none is written over.

    Raises ``RunError`` where files of that name hold something else.
    """
    parts = {part: list(some) for part, some in made.parts.items()}
    if made.times:  # what is learned more than once stands in files of its own, which the recipe weighs
        parts.pop("train")
        for d in made.train:
            times = made.times.get(d.id, 1)
            parts.setdefault("train" if times == 1 else f"train-{times}", []).append(d)
    rows = {part: [_row(d) for d in some] for part, some in parts.items()}
    place = above / fingerprint(rows)[:16]
    for part, some in rows.items():
        path = place / f"{part}.jsonl"
        if not path.exists():
            place.mkdir(parents=True, exist_ok=True)
            write_jsonl(path, some)
        elif list(read_jsonl(path)) != some:
            raise RunError(f"{path}: is not as it was written, and a run may have learned from it; restore it from a "
                           "copy, or move it away")  # fmt: skip
    _put_sources(place, parts)
    return place


def _put_sources(place: Path, parts: Mapping[str, Sequence[Demonstration]]) -> None:
    """Write down where each line of the files at ``place`` was read, beside them."""
    path = place / "sources.json"
    if not path.exists():
        write_json(path, {part: [asdict(d.source) if d.source else None for d in some] for part, some in parts.items()})


@contextmanager
def by_their_sources(place: Path) -> Iterator[None]:
    """Inside, a refusal that names a line of the files at ``place`` names the user's own, from which it was read."""
    try:
        yield
    except UserError as error:
        path = place / "sources.json"
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if isinstance(error, DemonstrationsError):
            raise DemonstrationsError([_of_user(one, place, known) for one in error.problems], error.summary) from error
        said = re.sub(
            rf"{re.escape(str(place))}/([\w-]+)\.jsonl:(\d+)",
            lambda found: _address(known, found[1], int(found[2])) or found[0],
            str(error),
        )
        if said == str(error) or isinstance(error, RecipeError):
            raise
        raise type(error)(said) from error


def _of_user(problem: Problem, place: Path, known: Mapping[str, Any]) -> Problem:
    path = Path(problem.path)
    if path.parent != place or problem.line is None or not (found := _source(known, path.stem, problem.line)):
        return problem
    return replace(problem, path=found["file"], line=found["line"])


def _source(known: Mapping[str, Any], part: str, line: int) -> Any:
    lines = known.get(part, ())
    return lines[line - 1] if 0 < line <= len(lines) else None


def _address(known: Mapping[str, Any], part: str, line: int) -> str:
    found = _source(known, part, line)
    return f"{found['file']}:{found['line']}" if found else ""


def _row(d: Demonstration) -> dict[str, Any]:
    row = d.to_dict()
    return {key: value for key, value in row.items() if key not in ("id", "source")}


def lost_rows(made: Splits, carried: Splits) -> int:
    """Test rows of ``made`` that are not those of a run that was made of its files."""
    return len({d.content_hash for d in made.test} - {d.content_hash for d in carried.test})
