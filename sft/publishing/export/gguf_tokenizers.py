"""A tokenizer as GGUF describes it: one list of tokens, and which of llama.cpp's tokenizers reads text with them.

llama.cpp builds in two that matter here. "gpt2": BPE over bytes, where a name stands for the rule that cuts a text
into words first. "llama": SentencePiece BPE, which merges whatever pair makes the token of the highest score. What a
tokenizer does is read from its own rules (tokenizer.json), not from the name of its model; one that llama.cpp
would read otherwise is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gguf import TokenType

from sft.errors import PolicyError

if TYPE_CHECKING:
    from sft.policies.rendering import Renderer

__all__ = ["Vocabulary", "begins_itself", "vocabulary_of"]

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

#: How words are cut, as a regular expression -> llama.cpp's name for it.
_BY_EXPRESSION = {
    rf"{_CONTRACTIONS}|\p{{N}}|{_REST}": "qwen2",
    rf"{_CONTRACTIONS}|\p{{N}}{{1,3}}|{_REST}": "llama-bpe",
}

#: What llama.cpp calls a character that stands for a space inside a token.
_SPACE = "▁"

#: Rules that come to the same: text in, ▁ for every space. "before": one more in front of the first word.
_SPACES_ONLY = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
_SPACE_BEFORE = {"type": "Prepend", "prepend": _SPACE}


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The token list and its rules. ``tokens``, ``types`` and ``scores`` have one entry for every row of the embedding.

    ``model``: "gpt2" or "llama"; ``pre``: how "gpt2" cuts words; ``merges``: of "gpt2", best first; ``scores``: of
    "llama", higher is merged first. ``space_before``: whether a text gets a space in front.
    """

    model: str
    pre: str
    tokens: Sequence[str]
    types: Sequence[int]
    merges: Sequence[str] = ()
    scores: Sequence[float] = ()
    space_before: bool = False


def vocabulary_of(renderer: Renderer, rows: int) -> Vocabulary:
    """The vocabulary of ``renderer``'s tokenizer, for an embedding of ``rows`` rows.

    Raises ``PolicyError`` for a tokenizer that llama.cpp cannot be told of.
    """
    state = json.loads(renderer.tokenizer.backend_tokenizer.to_str())
    model = state["model"]
    name = renderer.tokenizer.name_or_path or "the tokenizer"
    if model["type"] != "BPE":
        raise _unknown(name, f"it is of the kind {model['type']}")
    if renderer.tokenizer.vocab_size and max(renderer.tokenizer.get_vocab().values()) >= rows:
        raise PolicyError(
            f"{name}: has token {max(renderer.tokenizer.get_vocab().values())}, and the model knows {rows}; "
            "resize the model's embeddings before it is fitted"
        )
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in model["merges"]]
    if model["byte_fallback"]:
        return _sentencepiece(name, state, merges, renderer, rows)
    tokens, types = _tokens(state, rows, unknown=None)
    pre = _word_rule(name, state)
    return Vocabulary("gpt2", pre, tokens, types, merges=[f"{left} {right}" for left, right in merges])


def begins_itself(renderer: Renderer) -> bool:
    """Whether the tokenizer puts the beginning-of-sequence token before a text, which llama.cpp is then told to do.

    A program that renders the template drops the one that the template writes. Where the template alone writes it, a
    text without a template begins without.
    """
    tokenizer = renderer.tokenizer
    bos = tokenizer.bos_token
    return (
        bool(bos)
        and tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
        and renderer.frame.skeleton.startswith(bos)
    )


def _unknown(name: str, what: str) -> PolicyError:
    return PolicyError(
        f"{name}: GGUF has no description of this tokenizer ({what}), and llama.cpp would read texts otherwise than "
        "the clone was taught; export it with --merged DIR, which every transformers program loads"
    )


def _tokens(state: Mapping[str, Any], rows: int, unknown: str | None) -> tuple[list[str], list[int]]:
    """Every token's text and type; rows of the embedding that no token uses are named and never written."""
    tokens = [f"[PAD{number}]" for number in range(rows)]
    types = [int(TokenType.UNUSED)] * rows
    for token, number in state["model"]["vocab"].items():
        tokens[number], types[number] = token, int(TokenType.NORMAL)
        if state["model"]["byte_fallback"] and len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            types[number] = int(TokenType.BYTE)
    for added in state["added_tokens"]:
        number, special = added["id"], added["special"]
        tokens[number] = added["content"] if special else added["content"].replace(_SPACE, " ")
        types[number] = int(TokenType.CONTROL if special else TokenType.USER_DEFINED)
    if unknown is not None and unknown in state["model"]["vocab"]:
        types[state["model"]["vocab"][unknown]] = int(TokenType.UNKNOWN)
    return tokens, types


def _word_rule(name: str, state: Mapping[str, Any]) -> str:
    """llama.cpp's name for how byte-level BPE cuts words."""
    normalizer, model = state["normalizer"], state["model"]
    # NFC is left out by llama.cpp: text that is not in it, which is rare, becomes other tokens there.
    if normalizer is not None and normalizer["type"] != "NFC":
        raise _unknown(name, f"it normalises texts by {normalizer['type']}")
    pre = state["pre_tokenizer"] or {"type": "none"}
    steps = pre["pretokenizers"] if pre["type"] == "Sequence" else [pre]
    found = ""
    match [step["type"] for step in steps]:
        case ["ByteLevel"] if steps[0].get("use_regex", True):
            found = "gpt-2"
        case ["Digits", "ByteLevel"] if steps[0]["individual_digits"] and steps[1].get("use_regex", True):
            found = "smollm"
        case ["Split", "ByteLevel"] if not steps[1].get("use_regex", True):
            cut = steps[0]
            if cut["behavior"] == "Isolated" and not cut["invert"]:
                found = _BY_EXPRESSION.get(cut["pattern"].get("Regex", ""), "")
    if not found or steps[-1].get("add_prefix_space"):
        raise _unknown(name, f"it cuts words by {json.dumps(pre, ensure_ascii=False)[:160]}")
    if model.get("ignore_merges", False) != (found == "llama-bpe"):
        raise _unknown(name, "it takes whole words from its vocabulary otherwise than others that cut words so")
    return found


def _sentencepiece(
    name: str, state: Mapping[str, Any], merges: Sequence[tuple[str, ...]], renderer: Renderer, rows: int
) -> Vocabulary:
    steps = state["normalizer"] or {"type": "none"}
    normal = steps["normalizers"] if steps["type"] == "Sequence" else [steps]
    pre = state["pre_tokenizer"]
    if pre is not None and pre["type"] == "Split" and pre["pattern"] == {"String": " "}:
        pre = None  # no space is left when it comes to cut at spaces
    if pre is None and normal in ([_SPACES_ONLY], [_SPACE_BEFORE, _SPACES_ONLY]):
        before = len(normal) == 2
    elif pre is not None and pre["type"] == "Metaspace" and state["normalizer"] is None and not pre["split"]:
        # llama.cpp's space comes after every control token, this one only at the beginning of a text: with a template
        # that begins with a control token there is none.
        before = pre["prepend_scheme"] == "always"
        if pre["prepend_scheme"] == "first" and not renderer.frame.skeleton.startswith(tuple(_control(state))):
            raise _unknown(name, "it puts a space before the first word only")
    else:
        raise _unknown(name, f"it changes texts by {json.dumps(steps, ensure_ascii=False)[:160]}")
    tokens, types = _tokens(state, rows, unknown=state["model"].get("unk_token"))
    ranks = _ranks(name, state, merges)
    scores = [-float(ranks.get(token, len(ranks))) for token in tokens]
    return Vocabulary("llama", "default", tokens, types, scores=scores, space_before=before)


def _control(state: Mapping[str, Any]) -> list[str]:
    return [token["content"] for token in state["added_tokens"] if token["special"]]


def _ranks(name: str, state: Mapping[str, Any], merges: Sequence[tuple[str, ...]]) -> dict[str, int]:
    """Token -> its place in the order of merging, which in "llama" is all that decides.

    A list of merges could say more: which halves a token is made of, and an order of the pairs that make the same
    one. Real SentencePiece vocabularies list every pair, token by token; anything else is refused.
    """
    added = {token["content"] for token in state["added_tokens"]}  # taken whole, before anything is merged
    pairs = {pair for pair in merges if not {*pair, "".join(pair)} & added}
    ranks: dict[str, int] = {}
    last = ""
    for pair in merges:
        made = "".join(pair)
        if pair not in pairs:
            continue
        if made != last and made in ranks:
            raise _unknown(name, f"it merges {made!r} in two places")
        last = made
        ranks.setdefault(made, len(ranks))
    known = state["model"]["vocab"].keys() - added
    for made in ranks:
        for cut in range(1, len(made)):
            pair = (made[:cut], made[cut:])
            if pair not in pairs and known.issuperset(pair):
                raise _unknown(name, f"it makes {made!r} of some of its halves only")
    return ranks
