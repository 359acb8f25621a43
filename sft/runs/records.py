"""What the files of a run hold: the rows that measuring writes down, and the shape of every file.

One class per file that measuring fills, one instance per line, before any arithmetic: a scorecard is computed from
these alone, so it can be had again without a model. ``fidelity`` reads them; ``evaluation`` makes them, and so may
anybody else. The shapes say which keys a row of a file has, and of which type their values are. Keys that are not
named are let through: later versions may write more. Types are strict, a number is no text, except that a whole
number is a number. Nothing here reads a file (``sealed`` does) or knows what the values mean.
"""

from __future__ import annotations

from dataclasses import MISSING, asdict, dataclass, fields
from functools import cache
from types import GenericAlias
from typing import Annotated, Any, Literal, NotRequired, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict


@dataclass(frozen=True, slots=True)
class Completion:
    """What a system wrote for one held-out prompt. ``finished``: it stopped by itself.

    ``tokens``: how many, stop token included. ``ids``: the tokens themselves, without the stop token; empty where
    no policy wrote it. ``thought``: what it thought before it wrote ``text``, where thoughts are learned.
    """

    id: str
    text: str
    finished: bool
    tokens: int = 0
    ids: tuple[int, ...] = ()
    thought: str = ""


def as_row(one: Completion) -> dict[str, Any]:
    """The row that ``one`` is in a file and in a hash, without a thought where there is none."""
    return {name: value for name, value in asdict(one).items() if name != "thought" or value}


@dataclass(frozen=True, slots=True)
class Served:
    """What a server answered to one held-out prompt. ``finished``: it says that the answer ended by itself.

    ``reason``: the server's word for why it ended. ``tokens`` and ``prompt_tokens``: as the server counts them, 0
    where it does not. ``nats``: -log p of each token written, empty where the server does not offer them.
    ``elsewhere``: a field of the answer, other than the text, that holds words (``reasoning_content``); "" for none.
    ``refused``: the server's words where it refuses this prompt, "" where it answers it. ``ids``: the tokens written,
    that which ended it included, where the server was asked for them and tells.
    """

    id: str
    text: str
    finished: bool
    tokens: int = 0
    reason: str = ""
    prompt_tokens: int = 0
    nats: tuple[float, ...] = ()
    elsewhere: str = ""
    refused: str = ""
    ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Departure:
    """Where a text that a server wrote leaves what transformers writes from the same weights; ``token`` None: nowhere.

    ``token``: the place, counted from 0. ``nats``: by how much transformers finds its own token likelier there.
    """

    id: str
    token: int | None
    nats: float


@dataclass(frozen=True, slots=True)
class TokenScores:
    """Teacher-forced scores of one expert completion under one policy.

    The tuples run over the completion's tokens, stop token last. ``nats``: -log p of the expert's token;
    ``ranks``: how many tokens the policy found likelier (0 = it would have written the same);
    ``entropies``: of the policy's next-token distribution, nats; ``confidences``: probability of the token the
    policy found likeliest (empty in runs measured before it was recorded).
    ``bytes``: UTF-8 length of the completion. ``thought_nats``: of the expert's thought before it, which the others
    leave out. Where no policy of ours scored it (``sft score``), ``nats`` is one sum, and the rest is empty.
    """

    id: str
    nats: tuple[float, ...]
    ranks: tuple[int, ...]
    entropies: tuple[float, ...]
    bytes: int
    confidences: tuple[float, ...] = ()
    thought_nats: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class OwnPath:
    """The clone's own greedy completion of one held-out prompt, token by token, stop token included if it wrote one.

    ``confidences``: the probability it gave each token it wrote. ``hits``: whether that token belongs to the
    longest common subsequence with the tokens (stop token included) of the reference that shares most with it.
    ``left``: index of the first token that no reference has there, all before it agreeing with one reference;
    None where it wrote a reference word for word, or was cut at the length limit while it still agreed with one.
    """

    id: str
    confidences: tuple[float, ...]
    hits: tuple[bool, ...]
    left: int | None


@dataclass(frozen=True, slots=True)
class Forced:
    """How a policy goes on when the first part of the expert's completion is given (prefix forcing).

    ``share``: how much of the expert's tokens was given, 0.25, 0.5 or 0.75. ``given`` and ``rest``: the two parts
    of the expert's completion. ``text``: what the policy wrote after ``given``.
    """

    id: str
    share: float
    given: str
    rest: str
    text: str
    finished: bool


@dataclass(frozen=True, slots=True)
class ControlWindow:
    """One window of a plain control text (no template, no stop token) under one policy.

    ``text``: name of the control text; ``window``: its number within it; ``nats``: summed over the tokens
    predicted; ``bytes``: UTF-8 length of what was predicted.
    """

    text: str
    window: int
    nats: float
    bytes: int


@dataclass(frozen=True, slots=True)
class PromptValue:
    """How much reading the prompt tells the base policy about one *training* completion, whole and token by token.

    ``own_nats``: -log p of the completion, stop token included, after its own prompt; ``other_nats``: the mean of
    the same after prompts of other demonstrations, ``others`` of them. ``own_token_nats`` and ``other_token_nats``:
    the same of each token that writes a part of the completion, and ``token_ends``: the character of the completion
    before which it ends (all three are empty in runs measured before tokens were recorded).
    """

    id: str
    own_nats: float
    other_nats: float
    others: int
    bytes: int
    token_ends: tuple[int, ...] = ()
    own_token_nats: tuple[float, ...] = ()
    other_token_nats: tuple[float, ...] = ()


# -- the shape of every file ----------------------------------------------------------------------------------


def json_object(needed: Any = None, **others: Any) -> Any:
    """A JSON object that has the keys ``needed`` (key -> type) and may have the ``others``."""
    typed_dict: Any = TypedDict  # of fields that are known when it is called
    keys = dict(needed or {}) | {name: NotRequired[kind] for name, kind in others.items()}
    return with_config(ConfigDict(strict=True))(typed_dict("Object", keys))


def _line_of(record: type) -> Any:
    """A line of a file that holds ``record``: its tuples are lists in JSON, and what has a default may be missing."""
    needed, others = dict[str, Any](), dict[str, Any]()
    kinds = get_type_hints(record)
    for field in fields(record):
        kind: Any = kinds[field.name]
        kind = GenericAlias(list, get_args(kind)[:1]) if get_origin(kind) is tuple else kind
        (needed if field.default is MISSING else others)[field.name] = kind
    return json_object(needed, **others)


_TEXTS = list[str]
_NUMBER = float | None
_CALLS = GenericAlias(list, (json_object({"name": str, "arguments": str}),))
_TURN = json_object(
    {"role": Literal["system", "user", "assistant", "tools", "tool", "thought"], "content": str},
    thought=str, calls=_CALLS, name=str,
)  # fmt: skip
TURNS = GenericAlias(list, (_TURN,))
_DEMONSTRATION: dict[str, Any] = {
    "id": str, "group": str, "expert": str, "references": _TEXTS, "source": json_object({"file": str, "line": int}),
    "gathered": json_object({"item": str, "round": int, "how": str}, drawn=str),
    "thought": str, "calls": _CALLS,
}  # fmt: skip
#: A section of the manifest that names data, a split, a template or weights.
_HASHED = json_object(hash=str, rows=int, paths=_TEXTS, commits=dict[str, str], counts=dict[str, int], choice=str)
_SECTIONS = ("model", "demonstrations", "split", "adapter", "training", "fidelity", "publish")
_MANIFEST: dict[str, Any] = {
    "created": str,
    "recipe": json_object(
        written=str | None,
        resolved=json_object(name=str | None, **dict.fromkeys(_SECTIONS, dict[str, Any])),
        origins=dict[str, Any],
        fingerprint=str,
    ) | None,
    **dict.fromkeys(("data", "split", "template", "clone"), _HASHED),
    "base": json_object(
        **dict.fromkeys(("name", "hub_id", "revision"), str | None),
        **dict.fromkeys(("weights", "tokenizer", "config"), str),
        architecture=dict[str, Any],
    ),
    "seeds": dict[str, int],
    "versions": dict[str, str | None],
    "machine": dict[str, Any],
    "sessions": list[dict[str, Any]],
    "looks": list[json_object(split=str, when=str, purpose=str, weights=str)],  # type: ignore[misc]
    "held_out": dict[str, json_object({"prompts": _TEXTS, "clones": _TEXTS})],  # type: ignore[misc]
    "launch": dict[str, int],
    "round": int,
    "parent": json_object({"run": str}, gathering=str, arm=str, seed=int, new_rows=int, union=str),
    "changes": list[json_object(what=str, when=str, step=int | None)],  # type: ignore[misc]
    "precision": json_object({"bf16": bool | None}) | None,
    "training": json_object(
        **dict.fromkeys(("steps", "supervised_tokens", "trainable_parameters", "parameters", "rows_not_reached"), int),
        best_step=int | None, train_loss=_NUMBER, eval_loss=_NUMBER, wall_seconds=float,
        tokens_not_reached=dict[str, int], fates_not_reached=dict[str, dict[str, int]], saved=dict[str, Any],
    ) | None,
    "files": dict[str, json_object({"bytes": int, "sha256": str}, grows=bool)],  # type: ignore[misc]
}  # fmt: skip
#: Beginning of a file's name -> the shape of each of its rows, or of its one value.
_SHAPES: dict[str, Any] = {
    "manifest.json": json_object({"schema_version": int}, **_MANIFEST),
    "demonstrations.jsonl": json_object(
        {"prompt": TURNS, "completion": str, "split": Literal["train", "validation", "test"]}, **_DEMONSTRATION
    ),
    "replay.jsonl": json_object(text=str, prompt=TURNS, completion=str, **_DEMONSTRATION),
    "others.jsonl": json_object({"prompt": TURNS, "completion": str}, **_DEMONSTRATION),
    "split.json": json_object(
        {"ids": dict[str, _TEXTS]}, counts=dict[str, int], data_hash=str, times=dict[str, int], replay=_TEXTS
    ),
    "ledger.json": json_object(
        {"rows": int, "unrolled": int, "fates": dict[str, int]}, tokens=dict[str, dict[str, int]]
    ),
    "log.jsonl": json_object(
        {"step": int},
        **dict.fromkeys(("loss", "eval_loss", "learning_rate", "grad_norm", "epoch", "tokens"), _NUMBER),
        wall_seconds=float,
    ),
    "held-out.jsonl": json_object(
        {"id": str, "prompt": TURNS, "references": _TEXTS, "experts": _TEXTS, "cluster": str},
        others=list[Annotated[_TEXTS, Field(min_length=2, max_length=2)]],
        thoughts=_TEXTS,
        calls=GenericAlias(list, (_CALLS,)),
    ),
    "measurement.json": json_object(
        {"split": str, "systems": _TEXTS},
        scored=_TEXTS, profile=str, bar=dict[str, float] | None, metrics=_TEXTS, checker=str | None,
        headline=str, normalise=_TEXTS, clones=int, conflicts=str, near_threshold=float, seed=int,
        signature=dict[str, Any] | None, agreement=dict[str, str],
    ),
    "completions-": _line_of(Completion),
    "samples-": _line_of(Completion),
    "token-scores-": _line_of(TokenScores),
    "own-path.jsonl": _line_of(OwnPath),
    "departures-": _line_of(Departure),
    "forced-": _line_of(Forced),
    "control-": _line_of(ControlWindow),
    "prompt-values.jsonl": _line_of(PromptValue),
    "scores.jsonl": json_object({"id": str, "system": str}),
    "scorecard.json": dict[str, Any],
}  # fmt: skip


@cache
def _shape_of(name: str) -> TypeAdapter[Any]:
    """What the file called ``name`` holds, row by row."""
    return TypeAdapter(next(shape for beginning, shape in _SHAPES.items() if name.startswith(beginning)))


def fault_of(name: str, value: Any) -> str:
    """What keeps ``value`` from being a row of the file called ``name``, as half a sentence; "" if nothing does."""
    return misfit(_shape_of(name), value)


def misfit(shape: TypeAdapter[Any], value: Any) -> str:
    """What keeps ``value`` from having this ``shape``, as half a sentence; "" if nothing does."""
    try:
        shape.validate_python(value)
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
        "bool": "true or false",
        "bytes": "bytes",
    }.get(type(value).__name__, f"a {type(value).__name__}")
