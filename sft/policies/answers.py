"""Completions after a prompt: how a template writes an answer, and how what a model wrote is read back.

An answer in words is the expert's text and the template's end of turn. One with a thought, or with calls of functions,
is in pieces: what the template writes has its special tokens, what somebody wrote has none, unless they are meant.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from sft.demonstrations.demonstration import Call, Demonstration, Message
from sft.demonstrations.messages import written_calls
from sft.errors import PolicyError
from sft.policies.conversations import prompt_strings, written_answer
from sft.policies.encoding import Encoder, Piece, any_of
from sft.policies.frame import REFUSALS, Frame, ThoughtForm
from sft.policies.rendered import Rendered, decode_tokens
from sft.policies.template_calls import common_beginning
from sft.policies.templates import THOUGHT_TOKENS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["AnswerForms", "SpecialTokens"]

#: What completions mean that spell a special token.
SpecialTokens = Literal["text", "tokens", "refuse"]
#: A function, and a prompt in which it could be called: what a template makes of them is looked at.
_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "zqcallqz",
        "description": "zqaboutqz",
        "parameters": {"type": "object", "properties": {"zqkeyqz": {"type": "string"}}, "required": []},
    },
}
_ASKED = (Message("tools", json.dumps([_TOOL])), Message("user", "zquserqz"))


class AnswerForms:
    """What is written and read after prompts under one ``frame``.

    ``end_of_turn``: the ids that end every answer in words, and ``trail``, what the template writes before them.
    ``stop_token_ids``: generation stops on any. ``encoder``: texts to ids. ``closes``: what ends a thought.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, frame: Frame, special_tokens: SpecialTokens) -> None:
        self._tokenizer, self._frame = tokenizer, frame
        self._special_tokens = special_tokens
        tokens = tokenizer.added_tokens_decoder
        self._added = {token.content: index for index, token in tokens.items() if token.content.strip()}
        self._special = {index for index, token in tokens.items() if token.special}
        self.trail, self.end_of_turn = self._end_of_turn(frame.tail)
        ends = self._end_of_call(frame.calls.tail)[1] if frame.calls else self.end_of_turn
        self.stop_token_ids = tuple(dict.fromkeys((self.end_of_turn[-1], int(tokenizer.eos_token_id), ends[-1])))
        control = {
            content: index
            for content, index in self._added.items()
            if index in self._special
            or index in self.end_of_turn
            or (content in frame.skeleton and content not in THOUGHT_TOKENS)
        }
        self.encoder = Encoder(tokenizer, control)
        self._refuse_stops_in_thoughts()
        self.closes = self._end_of_thought()
        self._readable: dict[tuple[bool, bool, int], bool] = {}

    def _refuse_stops_in_thoughts(self) -> None:
        """Raise :class:`PolicyError` where a token that ends a turn ends thoughts too: a clone would stop after one."""
        form = self._frame.thought
        if form is None or not self.thinks:
            return
        for token in any_of(self._added).findall(form.lead + form.between):
            if self._added[token] in self.stop_token_ids:
                name = self._tokenizer.name_or_path or type(self._tokenizer).__name__
                raise PolicyError(
                    f"the chat template of {name} ends thoughts with {token}, which ends the turn too, so a clone "
                    "would stop after its thought; set demonstrations.thoughts: context or off, or name another "
                    "template with model.template"
                )

    @property
    def thinks(self) -> bool:
        """Whether a thought is learned with the completion, and so may stand before what is written."""
        return self._frame.thoughts == "keep"

    # -- writing ----------------------------------------------------------------------------------------

    def spelled(self, d: Demonstration) -> tuple[str, str] | None:
        """What is wrong with the special tokens that a completion spells, and the remedy; None for nothing."""
        if self._special_tokens == "tokens":
            return None
        if self._special_tokens == "refuse":
            for text in (d.completion, d.thought):
                if found := self.encoder.written.search(text):
                    return (
                        f"spells {found[0]}, a special token of this tokenizer",
                        "say which is meant with demonstrations.special_tokens: text (letters) or tokens (the token)",
                    )
        for call in d.calls:
            if found := self.encoder.written.search(f"{call.name} {call.arguments}"):
                return f"spells {found[0]} inside a call", "take it out, or set demonstrations.special_tokens: tokens"
        return None

    def is_plain(self, d: Demonstration) -> bool:
        """Whether the completion is words alone, after a prompt in which no functions are in play."""
        if self.thinks or self._special_tokens == "tokens" or d.thought or d.calls:
            return False
        return not any(turn.calls or turn.role in ("tools", "tool") for turn in d.prompt)

    def shaped(self, d: Demonstration, asked: str) -> tuple[list[Piece], tuple[int, ...]]:
        """The completion after the prompt ``asked``, in pieces without its end of turn, and the ids of that.

        Raises one of :data:`REFUSALS`.
        """
        if not (d.calls or any(turn.calls or turn.role in ("tools", "tool") for turn in d.prompt)):
            form, words = self._frame.thought, (d.completion, True)
            if form is not None and d.thought and self.thinks:
                return [
                    (form.lead, False),
                    (d.thought, True),
                    (form.between, False),
                    words,
                    (self.trail, False),
                ], self.end_of_turn
            return [(self._frame.lead, False), words, (self.trail, False)], self.end_of_turn
        if fault := self._unreadable(d):
            raise ValueError(fault)
        *pieces, (rest, _) = written_answer(self._tokenizer, self._frame, d.prompt, asked, d.answer)
        trail, end = self._end(d.calls, rest)
        return [*pieces, (trail, False)], end

    def _unreadable(self, d: Demonstration) -> str:
        """Why an answer of this kind could not be told apart again after the template wrote it; "" where it could.

        What a model writes is compared with what the expert did, so what the template mixes up cannot be measured.
        """
        kind = (bool(d.thought), bool(d.completion != written_calls("", d.calls)), min(len(d.calls), 2))
        if kind not in self._readable:
            self._readable[kind] = self._read_back(*kind)
        what = " and ".join(["a thought"] * kind[0] + ["words"] * kind[1] + ["a call", "calls"][kind[2] - 1 : kind[2]])
        return "" if self._readable[kind] else f"what it writes for {what} cannot be told apart again"

    def _read_back(self, thinks: bool, speaks: bool, calls: int) -> bool:
        given = (Call("zqcallqz", '{"zqkeyqz": "zqvalueqz"}'),) * calls
        answer = Message("assistant", "zqsaidqz" if speaks else "", "zqthoughtqz" if thinks else "", given)
        try:
            text = prompt_strings(self._tokenizer, self._frame, [_ASKED])[0]
            *pieces, (rest, _) = written_answer(self._tokenizer, self._frame, _ASKED, text, answer)
        except REFUSALS:
            return True  # it says what is wrong with the row itself
        trail, end = self._end(given, rest)
        ids = [*self.encoder.pieces([[*pieces, (trail, False)]], meant=False)[0], *end]
        return self.read(ids, calls=True, tools=[_TOOL]) == (answer.text, answer.thought)

    def token_ends(self, completion: str) -> tuple[int, ...]:
        """Before which character of ``completion`` each of its tokens ends, in the order of their ids.

        Of several tokens that make one character each ends behind it. Tokens that write nothing of the completion, as
        those of the end of turn, are left out; they are the last ones.
        """
        found = self.encoder.offsets(self._frame.lead + completion + self.trail)
        lead, size = len(self._frame.lead), len(completion)
        ends: list[int] = []
        for start, end in found.offsets:
            if start >= lead + size:
                break
            ends.append(max([*ends[-1:], min(max(end - lead, 0), size)]))
        return tuple(ends)

    # -- reading ----------------------------------------------------------------------------------------

    def decode(self, ids: Sequence[int]) -> str:
        """The words of generated ``ids``, up to the first stop token; other control tokens are left out.

        Nothing is stripped but what the template itself puts around a completion, so the ids of a
        rendered completion decode to the completion (up to what the tokenizer's normaliser changes).
        """
        dropped = frozenset[int]() if self._special_tokens == "tokens" else self.encoder.control_ids
        return self._decoded(ids, dropped).removeprefix(self._frame.lead)

    def _decoded(self, ids: Sequence[int], dropped: frozenset[int]) -> str:
        kept: list[int] = []
        finished = False
        for token in map(int, ids):
            if finished := token in self.stop_token_ids:
                break
            if token not in dropped:
                kept.append(token)
        text = decode_tokens(self._tokenizer, kept)
        return text.removesuffix(self.trail) if finished else text

    def read(self, ids: Sequence[int], *, calls: bool, tools: Sequence[Any] = ()) -> tuple[str, str]:
        """(what was said, the thought before it) of generated ``ids``, as demonstrations hold them.

        ``calls``: whether calls of functions are looked for, which are then written as
        :func:`~sft.demonstrations.messages.written_calls` does; ``tools``: the functions that could be called.
        """
        form = self._frame.calls if calls else None
        learned = self.thinks
        if form is None and not learned:
            return self.decode(ids), ""
        text = self._decoded(ids, frozenset())
        thought, text = self._split(text) if learned else ("", text.removeprefix(self._frame.lead))
        text = text.removeprefix(self._frame.header)
        words, found = form.read(text, tools) if form is not None else (text, [])
        if self._special_tokens != "tokens":
            words, thought = (self.encoder.written.sub("", part) for part in (words, thought))
        return written_calls(words, found), thought

    def thought_tokens(self, demonstration: Demonstration, rendered: Rendered) -> int:
        """How many of the supervised tokens belong to the thought before the completion, and what closes it.

        A token that has a part of both belongs to the completion.
        """
        form = self._frame.thought
        if form is None or not self.thinks or not demonstration.thought:
            return 0
        head = [(form.lead, False), (demonstration.thought, True), (form.between, False)]
        if demonstration.calls:  # a header of the answer may differ
            head[-1] = (self.closes, False)
        ids, whole = self.encoder.pieces([head], meant=self._special_tokens == "tokens")[0], rendered.completion_ids
        return next((n for n, (a, b) in enumerate(zip(ids, whole, strict=False)) if a != b), min(len(ids), len(whole)))

    @property
    def thought_form(self) -> ThoughtForm | None:
        """How a thought is written; None where thoughts are off."""
        return self._frame.thought

    @property
    def lead(self) -> str:
        """What the template writes before words without a thought."""
        return self._frame.lead

    def parted(self, text: str) -> tuple[str, str]:
        """(thought, words) of what a model wrote, which may think although it was not taught to; no control tokens.

        ``text``: as it was written, special tokens included, without the token that ends the turn.
        """
        thought, said = self._split(text) if self._frame.thought else ("", text.removeprefix(self._frame.lead))
        if self._special_tokens != "tokens":
            thought, said = (self.encoder.written.sub("", part) for part in (thought, said))
        return thought, said

    def parted_ids(self, ids: Sequence[int]) -> tuple[str, str]:
        """:meth:`parted` of generated ``ids``, up to the first stop token."""
        return self.parted(self._decoded(ids, frozenset())) if self._frame.thought else ("", self.decode(ids))

    def _split(self, text: str) -> tuple[str, str]:
        """(thought, rest) of a text that begins with a thought as the template writes one."""
        form = self._frame.thought
        assert form is not None
        begun = text.removeprefix(form.lead)
        opened = begun != text or not form.lead
        if not opened and form.lead.strip() and text.lstrip().startswith(form.lead.strip()):
            begun, opened = text.lstrip().removeprefix(form.lead.strip()), True
        for close in (form.between, form.between.strip(), self.closes):
            thought, found, rest = begun.partition(close)
            if found:
                return thought.strip("\n"), rest if close == form.between else rest.lstrip("\n")
        return (begun.strip("\n"), "") if opened else ("", text.removeprefix(self._frame.lead))

    # -- ends -------------------------------------------------------------------------------------------

    def _end_of_thought(self) -> str:
        """What ends a thought, whether words or a call follow it."""
        form, calls = self._frame.thought, self._frame.calls
        if form is None or calls is None or not form.key:
            return form.between.strip() if form else ""
        answer = Message("assistant", "", "zqthoughtqz", (Call("zqcallqz", '{"zqkeyqz": "zqvalueqz"}'),))
        try:
            text = prompt_strings(self._tokenizer, self._frame, [_ASKED])[0]
            *_, (rest, _) = written_answer(self._tokenizer, self._frame, _ASKED, text, answer)
        except REFUSALS:
            return form.between.strip()
        return common_beginning(form.between, rest).strip() or form.between.strip()

    def _end(self, calls: Sequence[Call], tail: str) -> tuple[str, tuple[int, ...]]:
        """(text before, ids of) the end of a turn that makes ``calls``; words end alike with tools and without."""
        return self._end_of_call(tail) if calls else self._end_of_turn(tail)

    def _end_of_turn(self, tail: str) -> tuple[str, tuple[int, ...]]:
        """(text before, ids of) the end of turn: the first run of added tokens after a completion, else eos."""
        run = re.match(rf"(\s*)((?:{any_of(self._added).pattern})+)", tail) if self._added else None
        if run is None:
            return "", (int(self._tokenizer.eos_token_id),)
        return run[1], self._up_to_eos(self._added[token] for token in any_of(self._added).findall(run[2]))

    def _end_of_call(self, tail: str) -> tuple[str, tuple[int, ...]]:
        """The same of a turn that closes calls with tokens of its own: the first run of special ones that ends it."""
        ends = {
            text: index for text, index in self._added.items() if index in self._special or index in self.end_of_turn
        }
        run = f"(?:{any_of(ends).pattern})+"
        found = re.search(rf"(?s)^(.*?)({run})(?:\s*{run})*\s*$", tail) if ends else None
        if found is None:
            return tail.rstrip(), (int(self._tokenizer.eos_token_id),)
        return found[1], self._up_to_eos(ends[token] for token in any_of(ends).findall(found[2]))

    def _up_to_eos(self, ids: Iterable[int]) -> tuple[int, ...]:
        """``ids`` up to the end of sequence: some templates ask for the next answer right behind every one."""
        found, eos = tuple(ids), int(self._tokenizer.eos_token_id)
        return found[: found.index(eos) + 1] if eos in found else found
