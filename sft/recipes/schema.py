"""The JSON Schema of a recipe, for editors and for words: what a value must be, in one sentence.

pydantic's own sentences name Python types and repeat themselves for every member of a union; the schema
says the same in a form that can be put into one sentence, with the default as the way out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from sft.recipes.complaints import Complaint, Location, nearest
from sft.recipes.fields import Recipe
from sft.recipes.yaml_text import as_yaml, number_as_yaml

__all__ = ["json_schema", "key_of", "place_in_list", "schema_text", "wrong_value"]

_FURTHER = {"Adapter": "peft.LoraConfig", "Training": "trl.SFTConfig"}
_WORDS = {"string": "text", "boolean": "true or false", "null": "empty"}


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
        kept = {key: value for key, value in node.items() if names or key != "title"}
        return {key: _untitled(value, names=key in ("properties", "$defs")) for key, value in kept.items()}
    return [_untitled(item) for item in node] if isinstance(node, list) else node


def key_of(loc: Location, values: Mapping[str, Any]) -> Location:
    """The key that a pydantic location speaks of, in the recipe's plain ``values``.

    Without the members of unions, and without places in a list but for those of mappings, whose keys are said:
    ``path[2]``, counted from 1.
    """
    value: Any = values
    found: list[str] = []
    for place, part in enumerate(loc):
        if isinstance(value, Mapping) and (part in value or place == len(loc) - 1):
            found.append(part)
            value = value.get(part)
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
            if not isinstance(value, str | int | float | None):
                found[-1] += f"[{int(part) + 1}]"
    return tuple(found[: len(_schemas(tuple(found)))])


def place_in_list(part: str) -> tuple[str, int | None]:
    """``path[2]`` as (path, 1): a key, and the place in the list that it holds; None where there is none."""
    match = re.fullmatch(r"(.+)\[(\d+)\]", part)
    return (match[1], int(match[2]) - 1) if match else (part, None)


def wrong_value(loc: Location, kind: str, values: Mapping[str, Any]) -> Complaint:
    """The complaint about the value of the key at ``loc``: pydantic's error type, and the recipe's plain values."""
    schema = [json_schema(), *_schemas(loc)][-1]
    if kind == "missing":
        needed = ", ".join(f"{loc[-1]}.{key}" for key in schema.get("required", ()))
        remedy = f"add the section with {needed}" if "properties" in schema else f"give it: {_described(schema)}"
        return Complaint(loc, "is missing", remedy)
    value: Any = values
    for part in loc:
        key, place = place_in_list(part)
        value = value[key] if place is None else value[key][place]
    return Complaint(
        loc, f"is {_shown(value)} but must be {_words(schema, full='less' in kind)}", _remedy(value, schema)
    )


def _schemas(loc: Location) -> list[dict[str, Any]]:
    """The schemas of the keys in ``loc``, as far as they are keys."""
    schema, found = json_schema(), list[dict[str, Any]]()
    for part in loc:
        key, place = place_in_list(part)
        section = _mapping(schema)
        schema = section.get("properties", {}).get(key, section.get("additionalProperties"))
        if not isinstance(schema, dict):
            break
        if place is not None:
            lists: dict[str, Any] = next((option for option in schema.get("anyOf", [schema]) if "items" in option), {})
            schema = lists.get("items", {})
        is_choice = any(option.get("type", "null") != "null" for option in schema.get("anyOf", ()))
        found.append(schema if is_choice else _mapping(schema))
    return found


def _mapping(schema: dict[str, Any]) -> dict[str, Any]:
    """``schema``, or the section that it refers to, or may be beside nothing or text."""
    for option in (schema, *schema.get("anyOf", ())):
        if "$ref" in option:
            section: dict[str, Any] = json_schema()["$defs"][option["$ref"].rpartition("/")[2]]
            return {"description": schema["description"], **section} if "description" in schema else section
    return schema


def _described(schema: dict[str, Any]) -> str:
    return str(schema.get("description", "give another value")).partition("\n")[0].rstrip(".")


def _words(schema: dict[str, Any], *, full: bool = False) -> str:
    """What a schema accepts: ``a whole number of at least 1 or empty``; ``full``: with limits nobody meets."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_words(option, full=full) for option in schema["anyOf"]))
    if "enum" in schema:
        return "one of " + ", ".join(schema["enum"])
    kind = schema.get("type", "")
    if kind in ("integer", "number"):
        bounds = {
            "minimum": "of at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below",
        }  # fmt: skip
        met = [
            f"{words} {schema[key]}"
            for key, words in bounds.items()
            if key in schema and (full or key != "maximum" or schema[key] < 2**31 - 1)
        ]
        return " ".join(["a whole number" if kind == "integer" else "a number", *([" and ".join(met)] if met else [])])
    if kind == "array":
        words = f"a list of {_words(schema['items'])}"
        return (
            words.replace("list of one of", "list of these:")
            .replace("list of text", "list of texts")
            .replace("texts or a mapping of keys", "texts and mappings")
        )
    if kind == "string" and "/" in schema.get("pattern", ""):
        return "OWNER/NAME"
    return _WORDS.get(kind, "a mapping of keys")


def _shown(value: Any) -> str:
    if value is None:
        return "empty"
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
    if isinstance(value, dict) and "array" in kinds:
        return "put it into a list: [{...}]"
    if any(option.get("exclusiveMaximum") == 1 for option in options) and value not in (None, ""):
        tenth = not isinstance(value, int | float) or isinstance(value, bool) or not 1 < value < 100
        share = f"write {'0.1 for a tenth' if tenth else f'{value / 100:g} for {value:g} %'}"
        if "string" in kinds:
            return f"{share}, or the name of a file"
        if "exclusiveMinimum" in schema and isinstance(value, int | float) and value > 1:
            return share
    if "string" in kinds and isinstance(value, dict) and list(value.values()) == [None]:
        return f'write "{{{next(iter(value))}}}" in quotes'
    if "string" in kinds and not words and isinstance(value, bool | int | float):
        return f'write "{as_yaml(value)}" in quotes'
    least = min((option.get("minimum", value) for option in options if option.get("type") == "integer"), default=None)
    if isinstance(value, float) and value.is_integer() and least is not None and value >= least:
        return f"write {int(value)}"
    if "default" in schema:
        default = "empty" if schema["default"] is None else as_yaml(schema["default"])
        return f"remove the line for the default, {default}"
    return f"its keys are {', '.join(schema['properties'])}" if "properties" in schema else _described(schema)
