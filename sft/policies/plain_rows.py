"""Plain text as rows: without a template, every token but the first predicted, as control texts are read."""

from __future__ import annotations

from collections.abc import Sequence

from sft.policies.rendered import Rendered
from sft.policies.rendering import Renderer

__all__ = ["plain_rows"]


def plain_rows(renderer: Renderer, texts: Sequence[str], *, max_length: int) -> list[Rendered | None]:
    """The beginning of each text, ``max_length`` tokens at most, after what opens every text of the tokenizer.

    The text of a control token is words. None where there is nothing to predict.
    """
    tokenizer = renderer.tokenizer
    opening = tokenizer("a", verbose=False)["input_ids"][:1]
    opening = opening if opening == [tokenizer.bos_token_id] else []
    made: list[Rendered | None] = []
    for words in renderer.words(texts):
        ids = [*opening, *words][:max_length]
        made.append(Rendered(ids, [0] + [1] * (len(ids) - 1)) if len(ids) > 1 else None)
    return made
