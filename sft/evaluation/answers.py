"""What an OpenAI-compatible server answers, in the shapes that servers give it: models, completions, refusals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sft.demonstrations import tool_calls
from sft.demonstrations.messages import written_calls
from sft.demonstrations.tool_calls import NoCall
from sft.runs.records import Served
from sft.runs.visible import plain

__all__ = ["ListedModel", "Refused", "TryAgain", "models", "said", "served"]

_BY_ITSELF = ("stop", "eos_token", "stop_sequence")
_ELSEWHERE = ("reasoning_content", "reasoning", "tool_calls")


class Refused(Exception):
    """The server understood a question and refuses it; ``str()``: in its own words."""


class TryAgain(Exception):
    """Worth asking again. ``retry_after``: seconds it asked for."""

    def __init__(self, why: str, retry_after: float | None = None) -> None:
        self.why, self.retry_after = why, retry_after
        super().__init__(why)


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model as the server lists it. ``owner``: its word for itself ("llamacpp", "vllm", "library" for Ollama).

    ``weights``: what it tells of their format, such as "Q4_0, 4.5 bits each"; "" where it tells nothing. ``parent``: of
    an adapter, the base that it is put on.
    """

    name: str
    owner: str = ""
    weights: str = ""
    parent: str = ""


def said(text: str) -> str:
    """The server's own words, cut short."""
    try:
        found = json.loads(text)
        error = found.get("error", found) if isinstance(found, dict) else found
        text = str(error.get("message") or error.get("detail") or error) if isinstance(error, dict) else str(error)
    except ValueError:
        pass
    words = plain(" ".join(text.split()))
    return f": {words[:300]}" if words else ""


def models(answer: Mapping[str, Any]) -> list[ListedModel]:
    """The models of a list."""
    rows = answer.get("data")
    return [_model(row) for row in rows if isinstance(row, dict) and row.get("id")] if isinstance(rows, list) else []


def _model(row: Mapping[str, Any]) -> ListedModel:
    about = row.get("meta")
    meta: Mapping[str, Any] = about if isinstance(about, dict) else {}
    size, count = meta.get("size"), meta.get("n_params")
    told = [str(meta["ftype"])] if meta.get("ftype") else []
    if isinstance(size, int) and isinstance(count, int) and count > 0:
        told.append(f"{8 * size / count:.1f} bits each")
    return ListedModel(str(row["id"]), str(row.get("owned_by") or ""), ", ".join(told), str(row.get("parent") or ""))


def served(key: str, answer: Mapping[str, Any]) -> Served:
    """An answer of either route. Raises :class:`TryAgain` for one that holds no choice."""
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        raise TryAgain(f"an answer without a choice{said(json.dumps(answer))}")
    message = choice.get("message")
    holder = message if isinstance(message, dict) else choice
    text = holder.get("content") if isinstance(message, dict) else choice.get("text")
    elsewhere = next((name for name in _ELSEWHERE if holder.get(name)), "")
    usage = answer.get("usage") if isinstance(answer.get("usage"), dict) else {}
    counts = [(usage or {}).get(name) for name in ("completion_tokens", "prompt_tokens")]
    written, read = (count if isinstance(count, int) else 0 for count in counts)
    reason = str(choice.get("finish_reason") or "")
    body = text if isinstance(text, str) else ""
    if given := holder.get("tool_calls"):
        with suppress(NoCall):
            body, elsewhere = written_calls(body, [one.call for one in tool_calls.read([given])]), ""
    ids = choice.get("token_ids")
    known = tuple(ids) if isinstance(ids, list) and all(type(one) is int for one in ids) else ()
    return Served(key, body, reason in _BY_ITSELF, written, reason, read, _nats(choice), elsewhere, ids=known)


def _nats(choice: Mapping[str, Any]) -> tuple[float, ...]:
    """-log p of each token, in the shape of the chat route or of the older one; empty where there are none."""
    found = choice.get("logprobs")
    if not isinstance(found, dict):
        return ()
    rows = found.get("content")
    values = [row.get("logprob") for row in rows] if isinstance(rows, list) else found.get("token_logprobs")
    if not isinstance(values, list) or not all(isinstance(value, int | float) for value in values):
        return ()
    return tuple(abs(float(value)) for value in values)
