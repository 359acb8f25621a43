"""What an epoch goes through: training rows as often as their sources weigh, and general rows beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sft.demonstrations.demonstration import Demonstration
from sft.demonstrations.plain_text import PlainText
from sft.demonstrations.splits import Splits
from sft.recipes import Recipe

if TYPE_CHECKING:
    from sft.policies.rendering import Renderer

__all__ = ["Epoch", "epoch_of"]

Pairs = list[tuple[Demonstration, Any]]


@dataclass(frozen=True, slots=True)
class Epoch:
    """The ``rows`` of an epoch and, beside them, the fate of each: trained, repeated or replayed.

    ``too_long``: fate -> rows that are longer than may be, and are not among them.
    """

    rows: Pairs
    fates: list[str]
    too_long: dict[str, Pairs]


def epoch_of(
    renderer: Renderer,
    made: Splits,
    train: tuple[Sequence[tuple[Demonstration, Any]], Sequence[tuple[Demonstration, Any]]],
    recipe: Recipe,
    context: int | None,
) -> Epoch:
    """The epoch of ``made``, whose training rows are rendered already: (those that are short enough, the longer ones).

    General rows that are too long are left out, whatever the recipe says of demonstrations; of plain text the
    beginning is learned.
    """
    kept, longer = train
    rows, fates = list(kept), ["trained"] * len(kept)
    copies = _copies(kept, made.times)
    rows += copies
    fates += ["repeated"] * len(copies)
    too_long: dict[str, Pairs] = {"trained": list(longer), "replayed": []}
    if made.replay:
        longest = min(size for size in (recipe.training.max_length, context) if size is not None)
        general, too_long["replayed"] = _general(renderer, made.replay, longest)
        rows += general
        fates += ["replayed"] * len(general)
    return Epoch(rows, fates, too_long)


def _copies(rows: Sequence[tuple[Demonstration, Any]], times: Mapping[str, int]) -> Pairs:
    return [pair for pair in rows for _ in range(times.get(pair[0].id, 1) - 1)] if times else []


def _general(renderer: Renderer, replay: Sequence[Demonstration], longest: int) -> tuple[Pairs, Pairs]:
    from sft.policies import rendering_cache
    from sft.policies.plain_rows import plain_rows

    pages = [d for d in replay if isinstance(d, PlainText)]
    asked = [d for d in replay if not isinstance(d, PlainText)]
    kept, longer = rendering_cache.render_all(renderer, asked, max_length=longest, too_long="drop")
    read = plain_rows(renderer, [page.completion for page in pages], max_length=longest)
    return [*kept, *((page, row) for page, row in zip(pages, read, strict=True) if row is not None)], longer
