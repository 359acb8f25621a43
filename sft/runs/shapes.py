"""The shape of every file of a run: which keys a row has, and of which type their values are.

Nothing here reads a file (``sealed`` does) or knows what the values mean. Keys that are not named are let through:
later versions may write more. Types are strict, a number is no text, except that a whole number is a number.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from functools import cache
from types import GenericAlias
from typing import Annotated, Any, Literal, NotRequired, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from sft.runs import records

__all__ = ["fault_of", "kind_of", "shape_of"]

strict = with_config(ConfigDict(strict=True))


def _line_of(record: type) -> Any:
    """A line of a file that holds ``record``: its tuples are lists in JSON, and what has a default may be missing."""
    kinds = get_type_hints(record)
    typed_dict: Any = TypedDict  # of fields that are known when it is called
    shape: dict[str, Any] = {}
    for field in fields(record):
        kind: Any = kinds[field.name]
        kind = GenericAlias(list, get_args(kind)[:1]) if get_origin(kind) is tuple else kind
        shape[field.name] = kind if field.default is MISSING else NotRequired[kind]
    return strict(typed_dict(record.__name__, shape))


@strict
class Turn(TypedDict):
    role: Literal["system", "user", "assistant"]
    content: str


@strict
class SourcePlace(TypedDict):
    file: str
    line: int


@strict
class Demonstrated(TypedDict):
    prompt: list[Turn]
    completion: str
    id: NotRequired[str]
    group: NotRequired[str]
    expert: NotRequired[str]
    references: NotRequired[list[str]]
    source: NotRequired[SourcePlace]


@strict
class InSplit(Demonstrated):
    split: Literal["train", "validation", "test"]


@strict
class SplitFile(TypedDict):
    ids: dict[str, list[str]]
    counts: NotRequired[dict[str, int]]
    data_hash: NotRequired[str]


@strict
class Account(TypedDict):
    rows: int
    unrolled: int
    fates: dict[str, int]
    tokens: NotRequired[dict[str, dict[str, int]]]


@strict
class Logged(TypedDict):
    step: int
    loss: NotRequired[float | None]
    eval_loss: NotRequired[float | None]
    learning_rate: NotRequired[float | None]
    grad_norm: NotRequired[float | None]
    epoch: NotRequired[float | None]
    wall_seconds: NotRequired[float]
    tokens: NotRequired[float | None]


@strict
class HeldOutRow(TypedDict):
    id: str
    prompt: list[Turn]
    references: list[str]
    experts: list[str]
    cluster: str
    others: NotRequired[list[Annotated[list[str], Field(min_length=2, max_length=2)]]]


@strict
class MeasurementFile(TypedDict):
    split: str
    systems: list[str]
    scored: NotRequired[list[str]]
    profile: NotRequired[str]
    bar: NotRequired[dict[str, float] | None]
    metrics: NotRequired[list[str]]
    checker: NotRequired[str | None]
    headline: NotRequired[str]
    normalise: NotRequired[list[str]]
    conflicts: NotRequired[str]
    near_threshold: NotRequired[float]
    seed: NotRequired[int]
    signature: NotRequired[dict[str, Any] | None]


@strict
class Points(TypedDict):
    id: str
    system: str


@strict
class ResolvedValues(TypedDict, total=False):
    name: str | None
    model: dict[str, Any]
    demonstrations: dict[str, Any]
    split: dict[str, Any]
    adapter: dict[str, Any]
    training: dict[str, Any]
    fidelity: dict[str, Any]
    publish: dict[str, Any]


@strict
class RecipeSection(TypedDict, total=False):
    written: str | None
    resolved: ResolvedValues
    origins: dict[str, Any]
    fingerprint: str


@strict
class Hashed(TypedDict, total=False):
    hash: str
    rows: int
    paths: list[str]
    counts: dict[str, int]
    choice: str


@strict
class Named(TypedDict, total=False):
    name: str | None
    hub_id: str | None
    revision: str | None
    weights: str
    tokenizer: str
    config: str
    architecture: dict[str, Any]


@strict
class Look(TypedDict, total=False):
    split: str
    when: str
    purpose: str


@strict
class Change(TypedDict, total=False):
    what: str
    when: str
    step: int | None


@strict
class Precision(TypedDict):
    bf16: bool | None


@strict
class Trained(TypedDict, total=False):
    steps: int
    best_step: int | None
    train_loss: float | None
    eval_loss: float | None
    supervised_tokens: int
    trainable_parameters: int
    parameters: int
    wall_seconds: float
    rows_not_reached: int
    tokens_not_reached: dict[str, int]
    saved: dict[str, Any]


@strict
class Sealed(TypedDict):
    bytes: int
    sha256: str
    grows: NotRequired[bool]


@strict
class Manifest(TypedDict):
    schema_version: int
    created: NotRequired[str]
    recipe: NotRequired[RecipeSection | None]
    data: NotRequired[Hashed]
    split: NotRequired[Hashed]
    template: NotRequired[Hashed]
    base: NotRequired[Named]
    clone: NotRequired[Hashed]
    seeds: NotRequired[dict[str, int]]
    versions: NotRequired[dict[str, str | None]]
    machine: NotRequired[dict[str, Any]]
    sessions: NotRequired[list[dict[str, Any]]]
    looks: NotRequired[list[Look]]
    launch: NotRequired[dict[str, int]]
    changes: NotRequired[list[Change]]
    precision: NotRequired[Precision | None]
    training: NotRequired[Trained | None]
    files: NotRequired[dict[str, Sealed]]


#: Beginning of a file's name -> the shape of each of its rows, or of its one value.
_SHAPES: dict[str, Any] = {
    "manifest.json": Manifest,
    "demonstrations.jsonl": InSplit,
    "others.jsonl": Demonstrated,
    "split.json": SplitFile,
    "ledger.json": Account,
    "log.jsonl": Logged,
    "held-out.jsonl": HeldOutRow,
    "measurement.json": MeasurementFile,
    "completions-": _line_of(records.Completion),
    "samples-": _line_of(records.Completion),
    "token-scores-": _line_of(records.TokenScores),
    "own-path.jsonl": _line_of(records.OwnPath),
    "forced-": _line_of(records.Forced),
    "control-": _line_of(records.ControlWindow),
    "prompt-values.jsonl": _line_of(records.PromptValue),
    "scores.jsonl": Points,
    "scorecard.json": dict[str, Any],
}


@cache
def shape_of(name: str) -> TypeAdapter[Any]:
    """What the file called ``name`` holds, row by row."""
    return TypeAdapter(next(shape for beginning, shape in _SHAPES.items() if name.startswith(beginning)))


def fault_of(name: str, value: Any) -> str:
    """What keeps ``value`` from being a row of the file called ``name``, as half a sentence; "" if nothing does."""
    try:
        shape_of(name).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part + 1) if isinstance(part, int) else part for part in first["loc"])
        if first["type"] == "missing":
            return f"has no '{where}'"
        wanted = _WANTED.get(first["type"]) or first.get("ctx", {}).get("expected", "another value")
        return f"'{where}' is {kind_of(first['input'])}, not {wanted}" if where else f"is {kind_of(first['input'])}"
    return ""


#: pydantic's word for what is wrong -> what belongs there.
_WANTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "an object",
    "too_short": "a pair",
    "too_long": "a pair",
}


def kind_of(value: Any) -> str:
    """What ``value`` is, in words a user knows: text, a list, an object, null, a number's type."""
    return {
        "NoneType": "null",
        "dict": "an object",
        "str": "text",
        "list": "a list",
        "int": "a number",
        "float": "a number",
    }.get(type(value).__name__, f"a {type(value).__name__}")
