"""Texts to ids under one tokenizer, in which control tokens are words where somebody only spelled them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer
    from transformers import PreTrainedTokenizerBase

__all__ = ["Encoder", "any_of"]

#: A text, and whether somebody wrote it, rather than the template.
Piece = tuple[str, bool]


def any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """A pattern that finds any of ``texts``, the longest first; none of them finds nothing."""
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or r"(?!)")


class Encoder:
    """Ids of texts. ``control``: text -> id of the tokens that only a template may write.

    ``written``: finds them spelled in a text. ``control_ids``: their ids; ``unknown_id``: that of characters the
    tokenizer cannot write, where it is among them; ``counted_ids``: the others, which prove something about a text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, control: Mapping[str, int]) -> None:
        self._tokenizer = tokenizer
        self._control = dict(control)
        self.written = any_of(control)
        self.control_ids = frozenset(control.values())
        unknown = getattr(tokenizer.backend_tokenizer.model, "unk_token", tokenizer.unk_token)
        self.unknown_id = self._control.get(unknown)
        self.counted_ids = self.control_ids - {self.unknown_id}
        self._bare: Tokenizer | None = None
        self._prefixes = _adds_prefix(tokenizer)

    def count_written(self, text: str) -> int:
        """How many control tokens ``text`` spells, the unknown token aside."""
        return sum(self._control[m] in self.counted_ids for m in self.written.findall(text))

    def whole(self, texts: list[str]) -> list[list[int]]:
        """Ids as the tokenizer gives them; the template writes every special token, so none is added."""
        return [row.ids for row in self._backend().encode_batch_fast(texts, add_special_tokens=False)]

    def words(self, texts: list[str]) -> list[list[int]]:
        """Ids of texts as continuations: no space in front that nobody wrote, no control tokens."""
        if not texts:
            return []
        if self._prefixes:
            return [e.ids for e in self._bare_backend().encode_batch(texts, add_special_tokens=False)]
        rows = self.whole(texts)
        for index, ids in enumerate(rows):
            if not self.control_ids.isdisjoint(ids):
                rows[index] = self._bare_backend().encode(texts[index], add_special_tokens=False).ids
        return rows

    def offsets(self, text: str) -> Encoding:
        """As :meth:`words` of one text, with the characters that each token stands for."""
        if not self._prefixes:
            found = self._backend().encode(text, add_special_tokens=False)
            if self.control_ids.isdisjoint(found.ids):
                return found
        return self._bare_backend().encode(text, add_special_tokens=False)

    def pieces(self, rows: Sequence[Sequence[Piece]], *, meant: bool) -> list[list[int]]:
        """Ids of texts in pieces, as continuations: what the template wrote has its control tokens.

        ``meant``: so has what somebody wrote. Between two control tokens a text is one, whoever wrote which part.
        """
        texts: list[str] = []
        plans: list[list[int | None]] = []  # an id, or None for the next text
        for row in rows:
            plan: list[int | None] = []
            open_text = ""
            for text, somebodys in row:
                parts = [text] if somebodys and not meant else _parts(self.written, text)
                for place, part in enumerate(parts):
                    if place % 2 == 0:
                        open_text += part
                        continue
                    if open_text:
                        texts.append(open_text)
                        plan.append(None)
                    plan.append(self._control[part])
                    open_text = ""
            if open_text:
                texts.append(open_text)
                plan.append(None)
            plans.append(plan)
        backend = self._bare_backend()
        found = iter(backend.encode_batch(texts, add_special_tokens=False) if texts else ())
        made = []
        for plan in plans:
            ids: list[int] = []
            for one in plan:
                ids += next(found).ids if one is None else [one]
            made.append(ids)
        return made

    def _backend(self) -> Tokenizer:
        """The tokenizer as it is, set to encode whole texts."""
        backend = self._tokenizer.backend_tokenizer
        backend.encode_special_tokens = False
        backend.no_truncation()
        backend.no_padding()
        return backend

    def _bare_backend(self) -> Tokenizer:
        """The tokenizer without the space it puts before a text and without its control tokens."""
        if self._bare is None:
            from tokenizers import Tokenizer

            state = json.loads(self._tokenizer.backend_tokenizer.to_str())
            state = _without_prefix(state)
            vocabulary = state["model"]["vocab"]
            pieces = vocabulary if isinstance(vocabulary, dict) else {piece for piece, _ in vocabulary}
            # Those that the vocabulary does not hold are numbered in their order: one that goes leaves its place.
            state["added_tokens"] = [
                token | {"content": f"\ue000{token['id']}\ue001"} if token["content"] in self._control else token
                for token in state["added_tokens"]
                if token["content"] not in self._control or token["content"] not in pieces
            ]
            state.update(post_processor=None, truncation=None, padding=None)
            self._bare = Tokenizer.from_str(json.dumps(state))
        return self._bare


def _parts(pattern: re.Pattern[str], text: str) -> list[str]:
    """Text, match, text, ..., text."""
    made, end = [], 0
    for found in pattern.finditer(text):
        made += [text[end : found.start()], found[0]]
        end = found.end()
    return [*made, text[end:]]


def _adds_prefix(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether this tokenizer puts a space before a text that has none."""
    backend = tokenizer.backend_tokenizer
    parts = [json.loads(part.__getstate__()) for part in (backend.normalizer, backend.pre_tokenizer) if part]
    return any(part != _without_prefix(part) for part in parts)


def _without_prefix(node: Any) -> Any:
    """A tokenizer's state with everything undone that puts a space before a text."""
    if isinstance(node, list):
        return [_without_prefix(item) for item in node]
    if not isinstance(node, dict) or "vocab" in node:
        return node
    if node.get("type") == "Prepend":
        return {"type": "Sequence", "normalizers": []}
    if node.get("type") == "Metaspace":
        return node | {"prepend_scheme": "never"}
    if node.get("type") == "ByteLevel" and "use_regex" in node:
        return node | {"add_prefix_space": False}
    return {key: _without_prefix(value) for key, value in node.items()}
