"""What the files of a gathering hold, held against them when they are read: damage is one sentence, with its place.

``events.jsonl`` has a rule of its own (``events``).
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from sft.errors import RunError
from sft.runs.atomic_files import numbered_rows, read_json
from sft.runs.records import TURNS, json_object, misfit

__all__ = ["json_of", "rows_of"]

_HASH = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
_SHARE = Annotated[float, Field(ge=0, le=1)]
_ROUND = json_object(
    {"number": int, "run": str, "weights_hash": str, "chosen_by": str, "audit": _SHARE, "blind": _SHARE},
    recipe_hash=str, template_hash=str | None, decoding=str, when=str,
)  # fmt: skip
#: Beginning of a file's name -> its one value, or each of its rows.
_SHAPES: dict[str, Any] = {
    "gathering.json": json_object(
        {"id": str, "created": str, "schema_version": int},
        seed=int, answers=Annotated[int, Field(ge=1)], overlap=_SHARE, order=Literal["random", "file"], dialogues=bool,
        own_prompts=bool, rounds=GenericAlias(list, (_ROUND,)), guidelines=list[_HASH],
        held_out=json_object(keys_hash=str, groups_hash=str, run=str),
    ),
    "experts.json": dict[str, json_object({"tokens": list[str]}, added=str)],  # type: ignore[misc]
    "items.jsonl": json_object(
        {"id": str, "prompt": TURNS, "round": Annotated[int, Field(ge=0)]},
        **dict.fromkeys(("group", "drawn", "shown", "reference", "dialogue", "only", "again"), str),
        shared=bool, score=float | None, turn=Annotated[int, Field(ge=0)],
    ),
    "clone-": json_object({"id": str, "text": str}),
    "held-out-keys.json": json_object(
        {"keys": list[str], "groups": list[str], "prompts": list[str], "run": str,
         "threshold": Annotated[float, Field(gt=0, le=1)]},
    ),
}  # fmt: skip


@cache
def _shape(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(next(shape for beginning, shape in _SHAPES.items() if name.startswith(beginning)))


def _fault(path: Path, value: Any) -> str:
    """What keeps ``value`` from standing in ``path``, as half a sentence; "" if nothing does."""
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return "holds half of an emoji, which no page can show"
    return misfit(_shape(path.name), value)


def json_of(path: Path) -> Any:
    """The value in ``path``. Raises ``RunError`` for one that no gathering wrote."""
    value = read_json(path)
    if fault := _fault(path, value):
        raise RunError(f"{path}: {fault}; restore it from a copy")
    return value


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows in ``path``. Raises ``RunError`` with the line of one that no gathering wrote."""
    found = []
    for number, row in numbered_rows(path):
        if fault := _fault(path, row):
            raise RunError(f"{path}:{number}: {fault}; restore it from a copy")
        found.append(row)
    return found
