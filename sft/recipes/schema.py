"""The JSON Schema of a recipe, for editors (``recipes/recipe.schema.json``) and for our own complaints."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from sft.recipes.fields import Recipe

__all__ = ["json_schema", "schema_text"]

_FURTHER = {"Adapter": "peft.LoraConfig", "Training": "trl.SFTConfig"}


@lru_cache(maxsize=1)
def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a recipe.

    Further ``SFTConfig`` and ``LoraConfig`` fields are permitted but not listed, so that the file does not
    change with the installed versions; ``sft`` itself checks their names.
    """
    schema: dict[str, Any] = _untitled(Recipe.model_json_schema())
    for section, config in _FURTHER.items():
        schema["$defs"][section]["additionalProperties"] = {"description": f"A field of the installed {config}."}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "sft recipe", **schema}


def schema_text() -> str:
    """The committed file's content."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _untitled(node: Any, *, names: bool = False) -> Any:
    """``node`` without pydantic's titles, which repeat the key; below ``properties`` a title is a key."""
    if isinstance(node, dict):
        return {
            key: _untitled(value, names=key in ("properties", "$defs"))
            for key, value in node.items()
            if names or key != "title"
        }
    return [_untitled(item) for item in node] if isinstance(node, list) else node
