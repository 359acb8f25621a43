"""What is wrong with one value, in the words of the person who wrote it.

pydantic's own sentences name Python types and repeat themselves for every member of a union; the JSON
Schema says the same in a form that can be put into one sentence, with the default as the way out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from sft.recipes.complaints import Complaint, nearest
from sft.recipes.documents import Location, as_yaml, number_as_yaml
from sft.recipes.fields import Recipe

__all__ = ["complaint", "json_schema", "key_of", "schema_text"]


def key_of(loc: Location) -> Location:
    """The key that a pydantic location speaks of: without union members and places in a list."""
    return loc[: len(_path(loc))]


def complaint(loc: Location, kind: str, values: Mapping[str, Any]) -> Complaint:
    """The complaint about the key at ``loc``: pydantic's error type, and the recipe's plain values."""
    path = _path(loc)
    wanted = path[-1] if path else json_schema()
    if kind == "missing":
        return Complaint(loc, "is missing", _missing(loc, wanted))
    value: Any = values
    for key in loc:
        value = value[key]
    shown = "empty" if value is None else _shown(value)
    words = _words(wanted, full="less" in kind)
    return Complaint(loc, f"is {shown} but must be {words}", _remedy(value, wanted))


def _path(loc: Location) -> list[dict[str, Any]]:
    """The schemas of the keys in ``loc``, as far as they are keys."""
    schema, found = json_schema(), []
    for part in loc:
        if part in schema.get("properties", {}):
            schema = _resolved(schema["properties"][part])
        elif isinstance(schema.get("additionalProperties"), dict):
            schema = _resolved(schema["additionalProperties"])
        else:
            break
        found.append(schema)
    return found


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return schema
    named: dict[str, Any] = json_schema()["$defs"][schema["$ref"].rpartition("/")[2]]
    return named


def _missing(loc: Location, wanted: dict[str, Any]) -> str:
    description = wanted.get("description", "").partition("\n")[0]
    if "properties" not in wanted:
        return f"give it: {description}".rstrip(".")
    needed = ", ".join(f"{loc[-1]}.{key}" for key in wanted.get("required", ()))
    return f"add the section with {needed}"


def _words(schema: dict[str, Any], *, full: bool = False) -> str:
    """What a schema accepts: ``a whole number of at least 1 or empty``; ``full``: with limits nobody meets."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_words(option, full=full) for option in schema["anyOf"]))
    if "enum" in schema:
        return "one of " + ", ".join(schema["enum"])
    kind = schema.get("type")
    if kind in ("integer", "number"):
        low, high = schema.get("minimum"), schema.get("maximum")
        if high is not None and high >= 2**31 - 1 and not full:
            high = None
        above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
        bounds = [
            f"of at least {low}" if low is not None else f"above {above}" if above is not None else "",
            f"at most {high}" if high is not None else f"below {below}" if below is not None else "",
        ]
        return " ".join(
            ["a whole number" if kind == "integer" else "a number", " and ".join(filter(None, bounds))]
        ).strip()
    if kind == "array":
        return f"a list of {_words(schema['items'])}".replace("a list of one of", "a list of these:").replace(
            "a list of text", "a list of texts"
        )
    if kind == "string" and "/" in schema.get("pattern", ""):
        return "OWNER/NAME"
    return {"string": "text", "boolean": "true or false", "null": "empty"}.get(kind or "", "a mapping of keys")


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list) and (not value or any(isinstance(item, dict | list) for item in value)):
        return "a list" if value else "an empty list"
    if isinstance(value, str):
        return f'"{value[:60]}..."' if len(value) > 60 else f'"{value}"'
    text = as_yaml(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _remedy(value: Any, schema: dict[str, Any]) -> str:
    """The likeliest thing that was meant, else the default, else the description."""
    options = schema.get("anyOf", [schema])
    kinds = {option.get("type") for option in options}
    words = [word for option in options for word in option.get("enum", ())]
    if isinstance(value, str):
        if kinds & {"integer", "number"} and (number := number_as_yaml(value)) is not None:
            return f"write {number} without quotes"
        if "boolean" in kinds and value.strip().lower() in ("true", "false"):
            return f"write {value.strip().lower()} without quotes"
        if words and (close := nearest(value, words)) is not None:
            return f"did you mean {close}?"
    if "string" in kinds and not words and isinstance(value, bool | int | float):
        return f'write "{as_yaml(value)}" in quotes'
    if isinstance(value, float) and value.is_integer() and "integer" in kinds:
        return f"write {int(value)}"
    if "default" in schema:
        default = "empty" if schema["default"] is None else as_yaml(schema["default"])
        return f"remove the line for the default, {default}"
    if "properties" in schema:
        return f"its keys are {', '.join(schema['properties'])}"
    return schema.get("description", "give another value").partition("\n")[0].rstrip(".")


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
