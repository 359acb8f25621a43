"""Real vocabularies, whole or reduced to what some texts need, with the templates of their models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from template_checks import Checked
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

__all__ = ["FOLDER", "reduced", "tokenizer_from"]

#: Reduced vocabularies that ``benchmarks/templates.py --reduce`` wrote.
FOLDER = Path(__file__).parent.parent / "data" / "templates"


def tokenizer_from(entry: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    """The tokenizer of ``entry``: state of tokenizer.json, template (None for none), BOS and EOS."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(entry["state"])),
        bos_token=entry["bos"],
        eos_token=entry["eos"],
        pad_token=entry["eos"],
        clean_up_tokenization_spaces=False,
        name_or_path="real",
    )
    tokenizer.chat_template = entry["template"]
    return tokenizer


def reduced(
    entry: Mapping[str, Any], seen: Mapping[str, Checked], tokenizer: PreTrainedTokenizerFast, licence: str
) -> dict[str, Any]:
    """``entry`` with the pieces that the rows of ``seen`` need, those they are merged from, and all merges between.

    A merge that is applied stands in the history of a piece that is left at the end, so the rows come out the same.
    ``pieces``: what they came out as, by mode and kind.
    """
    pieces = {
        mode: {kind: tokenizer.convert_ids_to_tokens(ids) for kind, ids in checks.ids.items()}
        for mode, checks in seen.items()
    }
    state = json.loads(json.dumps(entry["state"]))
    vocab, merges = (
        state["model"]["vocab"],
        [tuple(pair.split(" ") if isinstance(pair, str) else pair) for pair in state["model"]["merges"]],
    )
    made: dict[str, list[tuple[str, str]]] = {}
    for pair in merges:
        made.setdefault("".join(pair), []).append(pair)
    waiting = {piece for of_mode in pieces.values() for row in of_mode.values() for piece in row}
    waiting |= {piece for piece in vocab if len(piece) == 1 and ord(piece) < 0x180}
    waiting |= {piece for piece in vocab if piece.startswith("<0x") and piece.endswith(">")}
    needed: set[str] = set()
    while waiting:
        piece = waiting.pop()
        needed.add(piece)
        waiting |= {half for pair in made.get(piece, ()) for half in pair} - needed
    added = [one for one in state["added_tokens"] if one["content"] in needed | {entry["bos"], entry["eos"]}
             or one["content"] in (entry["template"] or "")]  # fmt: skip
    kept = sorted({*needed, *(one["content"] for one in added)} & vocab.keys() | {one["content"] for one in added},
                  key=lambda piece: vocab.get(piece, len(vocab)))  # fmt: skip
    numbers = {piece: number for number, piece in enumerate(kept)}
    state["model"]["vocab"] = numbers
    state["model"]["merges"] = [list(pair) for pair in merges if numbers.keys() >= {*pair, "".join(pair)}]
    state["added_tokens"] = sorted((one | {"id": numbers[one["content"]]} for one in added), key=lambda one: one["id"])
    processor = state["post_processor"]
    if processor and processor["type"] == "TemplateProcessing":
        for token in processor["special_tokens"].values():
            token["ids"] = [numbers[one] for one in token["tokens"]]
    return {"licence": licence, **entry, "state": state, "pieces": pieces}
