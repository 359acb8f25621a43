"""The examples of a report: each prompt side by side, and the buttons that pick them by kind and by score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from sft.fidelity.findings import Example
from sft.fidelity.probes.examples import BANDS
from sft.reports.names import EXAMPLE_KINDS, system_name
from sft.reports.text import grouped, marked

__all__ = ["bands", "example", "extent", "kinds"]


#: Characters of a text that a page shows: some examples of long documents, told by six systems, are megabytes.
SHOWN_CHARACTERS = 4_000


def _slug(kind: str) -> str:
    return kind.replace(" ", "-") or "more"


def _band(score: float | None) -> str:
    """The score band that ``score`` is in, by its lower edge; "" without a score. 100 belongs to the highest."""
    if score is None:
        return ""
    return str(max(low for low, _ in pairwise(BANDS) if score >= low or low == BANDS[0]))


def extent(found: Sequence[Example], n: int) -> str:
    """That of ``n`` prompts only some are ``found``, and where the others are; "" where all are shown."""
    shown = len({one.id for one in found})
    if shown >= n:
        return ""
    return f"{shown} of {grouped(n)} prompts are shown; the scores of all are in `scores.jsonl`."


def kinds(found: Sequence[Example]) -> list[dict[str, Any]]:
    """One button for every kind there is, and one for all: slug, label, meaning, count."""
    rows: list[dict[str, Any]] = [
        {"slug": _slug(kind), "label": label, "meaning": meaning, "count": count}
        for kind, (label, meaning) in EXAMPLE_KINDS.items()
        if (count := sum(one.kind == kind for one in found))
    ]
    everything = {"slug": "all", "label": "All", "meaning": "every example below", "count": len(found)}
    return [*rows, everything]


def bands(found: Sequence[Example]) -> list[dict[str, Any]]:
    """One button for any score and one for each score band: slug, label, and how many there are of each kind."""

    def counts(low: str | None) -> dict[str, int]:
        inside = [one for one in found if low is None or _band(one.scores.get("tuned")) == low]
        return {kind["slug"]: sum(kind["slug"] in ("all", _slug(one.kind)) for one in inside) for kind in kinds(found)}

    rows = [
        {"slug": str(low), "label": f"{low}\N{EN DASH}{high}", "counts": counts(str(low))}
        for low, high in pairwise(BANDS)
    ]
    return [{"slug": "any", "label": "Any score", "counts": counts(None)}, *rows]


def example(one: Example, names: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What the templates show of an example: the prompt, the expert, the clone and the base, the shortcuts.

    ``names``: ``Scorecard.names``.
    """
    texts = {system: _cut(text) for system, text in one.completions.items()}
    others = {s: text for s, text in texts.items() if s not in ("tuned", "B0")}
    expert = _cut(one.expert)
    return {
        "slug": _slug(one.kind),
        "band": _band(one.scores.get("tuned")),
        "label": EXAMPLE_KINDS.get(one.kind, (one.kind, ""))[0],
        "id": one.id[:8],
        "prompt": _cut(one.prompt),
        "expert": expert,
        "sides": [
            {
                "system": system,
                "name": system_name(system, names),
                "text": texts[system],
                "score": _score(one, system),
                "marked": marked(expert, texts[system]),
            }
            for system in ("tuned", "B0")
            if system in texts
        ],
        "others": [{"name": system_name(s, names), "text": t, "score": _score(one, s)} for s, t in others.items()],
    }


def _cut(text: str) -> str:
    """``text`` as far as a page shows it, with a word on how much is left out."""
    rest = len(text) - SHOWN_CHARACTERS
    return text if rest <= 0 else f"{text[:SHOWN_CHARACTERS]} [... {grouped(rest)} more characters]"


def _score(one: Example, system: str) -> str:
    value = one.scores.get(system)
    return "" if value is None else f"{value:.1f}"
