"""Demonstrations as token ids and a mask: the one place that knows chat templates.

Training and generation must see the same prompt, token for token, so a row is built in the order in
which a model meets it: the ids of the rendered prompt, with its generation prompt; the ids of the
completion, word for word as the expert wrote it; the template's own end of turn. Only the last two are
supervised. Nothing the template would put after its end of turn is kept.

``templates`` settles what the template leaves open and writes that into ``tokenizer.chat_template``.

Control tokens written out in a message or completion (``<|im_end|>``) are words there: they become
ordinary tokens, never the token that ends a turn; a tokenizer that cannot do so has the row refused.
"""

from __future__ import annotations

import inspect
import json
import re
from array import array
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from sft.demonstrations.demonstration import Demonstration, Message
from sft.errors import DemonstrationsError, PolicyError, Problem
from sft.policies.rendered import Census, Rendered, census, decode_tokens, divided, where_of
from sft.policies.templates import (
    REFUSALS,
    THOUGHT_TOKENS,
    TODAY,
    conversation,
    prompt_strings,
    read_template,
    settle,
    tells_the_date,
)
from sft.runs.hashes import Digest, fingerprint

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "Census",
    "Rendered",
    "Renderer",
    "census",
    "decode_tokens",
    "divided",
    "few_shot_prompt",
    "renderer_for",
]


_TOGETHER = 4096  # rows rendered at once


def few_shot_prompt(demonstrations: Sequence[Demonstration], prompt: tuple[Message, ...]) -> tuple[Message, ...]:
    """``prompt`` after whole demonstrations as earlier turns, in their order, under its own system message."""
    system = tuple(m for m in prompt if m.role == "system")
    shown = tuple(
        message
        for demonstration in demonstrations
        for message in (*demonstration.prompt, Message("assistant", demonstration.completion))
        if message.role != "system"
    )
    return (*system, *shown, *(m for m in prompt if m.role != "system"))


def renderer_for(tokenizer: PreTrainedTokenizerBase, template: str = "auto") -> Renderer:
    """The renderer of a policy; sets ``tokenizer.chat_template`` to exactly what it renders with.

    ``template``: "auto" (the tokenizer's own, else the plain one), "plain", or the path of a .jinja file.
    Raises :class:`PolicyError` when the tokenizer is not a fast one, has no end-of-sequence token, or the
    template cannot be read, rendered, or made to ask for a completion the way it writes one.
    """
    name = tokenizer.name_or_path or type(tokenizer).__name__
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise PolicyError(f"the tokenizer of {name} is a slow one; save it as tokenizer.json (a fast tokenizer)")
    if tokenizer.eos_token_id is None:
        raise PolicyError(f"the tokenizer of {name} has no eos_token; set one in its tokenizer_config.json")
    return Renderer(tokenizer, read_template(tokenizer, template))


class Renderer:
    """Prompts and demonstrations to token ids under one tokenizer and one settled template.

    Built by :func:`renderer_for`. ``template``: the settled template text. ``template_hash``: of that
    text and the special tokens it can write; equal for the base policy and the clone saved from it.
    ``today``: the date (ISO 8601) that the template is given for the present one; None where it asks for none.
    ``end_of_turn``: the ids that end every completion. ``stop_token_ids``: generation stops on any.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str) -> None:
        self.tokenizer = tokenizer
        self._added = {
            token.content: index for index, token in tokenizer.added_tokens_decoder.items() if token.content.strip()
        }
        self.today = TODAY.date().isoformat() if tells_the_date(template) else None
        self.frame = settle(tokenizer, template)
        self.template = tokenizer.chat_template = self.frame.template
        self._trail, self.end_of_turn = self._end_of_turn(self.frame.tail)
        self.stop_token_ids = tuple(dict.fromkeys((self.end_of_turn[-1], int(tokenizer.eos_token_id))))
        words = {k: str(v) for k, v in tokenizer.special_tokens_map.items() if k != "pad_token"}
        self.template_hash = Digest.by("v1", fingerprint([self.template, words]))
        special = {t.content for t in tokenizer.added_tokens_decoder.values() if t.special}
        self._control = {
            content: index
            for content, index in self._added.items()
            if content in special
            or index in self.end_of_turn
            or (content in self.frame.skeleton and content not in THOUGHT_TOKENS)
        }
        self._control_ids = frozenset(self._control.values())
        unknown = getattr(tokenizer.backend_tokenizer.model, "unk_token", tokenizer.unk_token)
        # What the tokenizer writes for unknown characters proves nothing about the text.
        self._unknown_id = self._control.get(unknown)
        self._counted_ids = self._control_ids - {self._unknown_id}
        self._written = _any_of(self._control)
        self._bare: Tokenizer | None = None
        self._prefixes = _adds_prefix(tokenizer)

    @property
    def pad_token_id(self) -> int:
        """What fills batches up: the tokenizer's padding token, else its end-of-sequence token; never attended to."""
        pad = self.tokenizer.pad_token_id
        return int(self.tokenizer.eos_token_id if pad is None else pad)

    # -- prompts ------------------------------------------------------------------------------------

    def prompt_ids(self, prompt: tuple[Message, ...]) -> list[int]:
        """The ids to generate from. Raises :class:`DemonstrationsError` if the template refuses the prompt."""
        return self.prompt_ids_all([prompt])[0]

    def prompt_ids_all(self, prompts: Sequence[tuple[Message, ...]]) -> list[list[int]]:
        """:meth:`prompt_ids` of many at once (several times faster); raises with every problem found."""
        ids, problems = self._prompts(prompts, [("prompt", number) for number in range(1, len(prompts) + 1)])
        if problems:
            raise DemonstrationsError(problems)
        return ids

    def _prompts(
        self, prompts: Sequence[tuple[Message, ...]], places: Sequence[tuple[str, int | None]]
    ) -> tuple[list[list[int]], list[Problem]]:
        problems: list[Problem] = []
        try:
            texts = prompt_strings(self.tokenizer, self.frame, prompts) if prompts else []
        except REFUSALS:  # of one of them: which?
            texts = []
            for place, prompt in zip(places, prompts, strict=True):
                try:
                    texts += prompt_strings(self.tokenizer, self.frame, [prompt])
                except REFUSALS as error:
                    texts.append("")
                    problems.append(
                        Problem(*place, "prompt", f"is refused by the chat template: {error}",
                                "change the prompt, or choose another template with model.template")
                    )  # fmt: skip
        rows = self._encode(texts) if texts else []
        for index, (text, prompt) in enumerate(zip(texts, prompts, strict=True)):
            expected = self._count_written(text)
            if text and any(self._written.search(m.content) for m in prompt):
                expected -= sum(self._count_written(m.content) for m in prompt)
                rows[index] = self._sanitized(prompt)
            if text and (not rows[index] or sum(map(self._counted_ids.__contains__, rows[index])) != expected):
                problems.append(
                    Problem(*places[index], "prompt",
                            "holds the text of a control token, which this tokenizer cannot treat as words",
                            "take it out of the prompt")
                )  # fmt: skip
        return rows, problems

    def _sanitized(self, prompt: tuple[Message, ...]) -> list[int]:
        """Ids of a prompt whose contents spell control tokens, which transformers encodes as text; else none."""
        apply = self.tokenizer.apply_chat_template
        if "sanitize_control_tokens" not in inspect.signature(apply).parameters:
            return []  # an older transformers would take it for a variable of the template
        try:
            return apply(
                conversation(prompt, fold_system=self.frame.fold_system),
                chat_template=self.template,
                add_generation_prompt=True,
                return_dict=False,
                sanitize_control_tokens=True,
            )
        except ValueError:  # the tokenizer makes the control token from plain text too
            return []

    def _count_written(self, text: str) -> int:
        """How many control tokens ``text`` spells, the unknown token aside."""
        return sum(self._control[m] in self._counted_ids for m in self._written.findall(text))

    # -- demonstrations -----------------------------------------------------------------------------

    def render(self, demonstration: Demonstration) -> Rendered:
        """Ids and mask of one demonstration; ``prompt_ids`` of the result equals :meth:`prompt_ids`."""
        return self.render_all([demonstration])[0][0][1]

    def render_all(
        self,
        demonstrations: Sequence[Demonstration],
        *,
        max_length: int | None = None,
        too_long: Literal["refuse", "drop"] = "refuse",
    ) -> tuple[list[tuple[Demonstration, Rendered]], list[tuple[Demonstration, Rendered]]]:
        """Render many: (those of at most ``max_length`` tokens, the longer ones), each in the order given.

        No row is ever cut: a cut row loses its end of turn and teaches the clone not to stop. Raises
        :class:`DemonstrationsError` with every row that cannot be rendered or, unless ``too_long`` is
        "drop", is longer than ``max_length``.
        """

        rows, problems = self.rows(demonstrations)
        return divided(demonstrations, rows, problems, max_length=max_length, too_long=too_long)

    def rows(self, demonstrations: Sequence[Demonstration]) -> tuple[list[Rendered], list[Problem]]:
        """Every demonstration rendered, and what is wrong with any of them.

        A few thousand at a time: encodings take twenty times the room of ids.
        """
        made: list[Rendered] = []
        problems: list[Problem] = []
        for start in range(0, len(demonstrations), _TOGETHER):
            rows, found = self._some_rows(demonstrations[start : start + _TOGETHER])
            made += rows
            problems += found
        return made, problems

    def _some_rows(self, demonstrations: Sequence[Demonstration]) -> tuple[list[Rendered], list[Problem]]:
        places = [where_of(demonstration) for demonstration in demonstrations]
        prompts, problems = self._prompts([d.prompt for d in demonstrations], places)
        completions = self._completions([d.completion for d in demonstrations])
        made = []
        for index, (prompt, ids) in enumerate(zip(prompts, completions, strict=True)):
            fault = ""
            if not self._counted_ids.isdisjoint(ids):
                fault = "the text of a control token, which this tokenizer cannot treat as words"
            elif self._unknown_id in ids:
                fault = "characters that this tokenizer cannot write, so no clone of this model can"
            if fault:
                problems.append(
                    Problem(*places[index], "completion", f"holds {fault}",
                            "take them out of the completion, or choose another model")
                )  # fmt: skip
            packed = array("i", prompt)
            packed.extend(ids)
            packed.extend(self.end_of_turn)
            made.append(Rendered.of_packed(packed.tobytes(), len(prompt)))
        return made, problems

    def _completions(self, completions: Sequence[str]) -> list[list[int]]:
        """Ids of completions as continuations: no space in front that nobody wrote, no control tokens."""
        texts = [self.frame.lead + completion + self._trail for completion in completions]
        if not texts:
            return []
        if self._prefixes:
            return [e.ids for e in self._bare_backend().encode_batch(texts, add_special_tokens=False)]
        rows = self._encode(texts)
        for index, ids in enumerate(rows):
            if not self._control_ids.isdisjoint(ids):
                rows[index] = self._bare_backend().encode(texts[index], add_special_tokens=False).ids
        return rows

    def token_ends(self, completion: str) -> tuple[int, ...]:
        """Before which character of ``completion`` each of its tokens ends, in the order of their ids.

        Of several tokens that make one character each ends behind it. Tokens that write nothing of the completion, as
        those of the end of turn, are left out; they are the last ones.
        """
        text = self.frame.lead + completion + self._trail
        backend = self._bare_backend() if self._prefixes else self._backend()
        found = backend.encode(text, add_special_tokens=False)
        if not self._control_ids.isdisjoint(found.ids):
            found = self._bare_backend().encode(text, add_special_tokens=False)
        lead, size = len(self.frame.lead), len(completion)
        ends: list[int] = []
        for start, end in found.offsets:
            if start >= lead + size:
                break
            ends.append(max([*ends[-1:], min(max(end - lead, 0), size)]))
        return tuple(ends)

    def decode_completion(self, ids: Sequence[int]) -> str:
        """The words of generated ``ids``, up to the first stop token; other control tokens are left out.

        Nothing is stripped but what the template itself puts around a completion, so the ids of a
        rendered completion decode to the completion (up to what the tokenizer's normaliser changes).
        """
        kept: list[int] = []
        finished = False
        for token in map(int, ids):
            if finished := token in self.stop_token_ids:
                break
            if token not in self._control_ids:
                kept.append(token)
        text = decode_tokens(self.tokenizer, kept).removeprefix(self.frame.lead)
        return text.removesuffix(self._trail) if finished else text

    # -- tokenizer and template ---------------------------------------------------------------------

    def _encode(self, texts: list[str]) -> list[list[int]]:
        """Ids as the tokenizer gives them; the template writes every special token, so none is added."""
        return [row.ids for row in self._backend().encode_batch_fast(texts, add_special_tokens=False)]

    def _backend(self) -> Tokenizer:
        """The tokenizer as it is, set to encode whole texts."""
        backend = self.tokenizer.backend_tokenizer
        backend.encode_special_tokens = False
        backend.no_truncation()
        backend.no_padding()
        return backend

    def _bare_backend(self) -> Tokenizer:
        """The tokenizer without the space it puts before a text and without its control tokens."""
        if self._bare is None:
            from tokenizers import Tokenizer

            state = json.loads(self.tokenizer.backend_tokenizer.to_str())
            state = _without_prefix(state)
            state["added_tokens"] = [t for t in state["added_tokens"] if t["content"] not in self._control]
            state.update(post_processor=None, truncation=None, padding=None)
            self._bare = Tokenizer.from_str(json.dumps(state))
        return self._bare

    def _end_of_turn(self, tail: str) -> tuple[str, tuple[int, ...]]:
        """(text before, ids of) the end of turn: the first run of added tokens after a completion, else eos."""
        run = re.match(rf"(\s*)((?:{_any_of(self._added).pattern})+)", tail) if self._added else None
        if run is None:
            return "", (int(self.tokenizer.eos_token_id),)
        return run[1], tuple(self._added[token] for token in _any_of(self._added).findall(run[2]))


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """A pattern that finds any of ``texts``, the longest first; none of them finds nothing."""
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or r"(?!)")


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
