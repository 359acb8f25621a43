"""Demonstrations as token ids and a mask: the one place that knows chat templates.

Training and generation must see the same prompt, token for token, so a row is built in the order in
which a model meets it: the ids of the rendered prompt, with its generation prompt; the ids of the
completion, word for word as the expert wrote it; the template's own end of turn. Only the last two are
supervised. Nothing the template would put after its end of turn is kept.

``templates`` settles what the template leaves open and writes that into ``tokenizer.chat_template``. A call of a
function is supervised as the template writes it, its own tokens included, and so is a thought that is learned.

Control tokens written out in a message or completion (``<|im_end|>``) are words there: they become
ordinary tokens, never the token that ends a turn; a tokenizer that cannot do so has the row refused. Completions may
be refused for spelling one, or be taken at their word (``special_tokens``).
"""

from __future__ import annotations

import inspect
import json
import re
from array import array
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from sft.demonstrations.demonstration import Demonstration, Message
from sft.demonstrations.messages import Call, written_calls
from sft.errors import DemonstrationsError, PolicyError, Problem
from sft.policies.encoding import Encoder, Piece, any_of
from sft.policies.rendered import Census, Rendered, census, decode_tokens, divided, where_of
from sft.policies.template_calls import common_beginning
from sft.policies.template_clock import TODAY, tells_the_date
from sft.policies.templates import (
    REFUSALS,
    THOUGHT_TOKENS,
    conversation,
    prompt_strings,
    read_template,
    settle,
    tools_of,
    written_answer,
)
from sft.runs.hashes import Digest, fingerprint

if TYPE_CHECKING:
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


def few_shot_prompt(demonstrations: Sequence[Demonstration], prompt: tuple[Message, ...]) -> tuple[Message, ...]:
    """``prompt`` after whole demonstrations as earlier turns, in their order, under its own tools and system."""
    heads = ("tools", "system")
    shown = tuple(
        message
        for demonstration in demonstrations
        for message in (*demonstration.prompt, demonstration.answer)
        if message.role not in (*heads, "thought")
    )
    return (*(m for m in prompt if m.role in heads), *shown, *(m for m in prompt if m.role not in heads))


def renderer_for(
    tokenizer: PreTrainedTokenizerBase,
    template: str = "auto",
    *,
    options: Mapping[str, Any] | None = None,
    thoughts: str | None = None,
    special_tokens: Literal["text", "tokens", "refuse"] = "text",
) -> Renderer:
    """The renderer of a policy; sets ``tokenizer.chat_template`` to exactly what it renders with.

    ``template``: "auto" (the tokenizer's own, else the plain one), "plain", or the path of a .jinja file.
    ``options``, ``thoughts`` and ``special_tokens``: as ``template_options`` and the two keys of ``demonstrations``.
    Raises :class:`PolicyError` when the tokenizer is not a fast one, has no end-of-sequence token, or the
    template cannot be read, rendered, or made to ask for a completion the way it writes one.
    """
    name = tokenizer.name_or_path or type(tokenizer).__name__
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise PolicyError(f"the tokenizer of {name} is a slow one; save it as tokenizer.json (a fast tokenizer)")
    if tokenizer.eos_token_id is None:
        raise PolicyError(f"the tokenizer of {name} has no eos_token; set one in its tokenizer_config.json")
    return Renderer(tokenizer, read_template(tokenizer, template), options, thoughts, special_tokens)


class Renderer:
    """Prompts and demonstrations to token ids under one tokenizer and one settled template.

    Built by :func:`renderer_for`. ``template``: the settled template text. ``template_hash``: of that
    text and the special tokens it can write; equal for the base policy and the clone saved from it.
    ``today``: the date (ISO 8601) that the template is given for the present one; None where it asks for none.
    ``end_of_turn``: the ids that end every completion in words. ``stop_token_ids``: generation stops on any.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: str,
        options: Mapping[str, Any] | None = None,
        thoughts: str | None = None,
        special_tokens: Literal["text", "tokens", "refuse"] = "text",
    ) -> None:
        self.tokenizer = tokenizer
        self.special_tokens = special_tokens
        self._added = {
            token.content: index for index, token in tokenizer.added_tokens_decoder.items() if token.content.strip()
        }
        self._special = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
        self.today = TODAY.date().isoformat() if tells_the_date(template) else None
        self.frame = settle(tokenizer, template, options, thoughts)
        self.template = tokenizer.chat_template = self.frame.template
        self._trail, self.end_of_turn = self._end_of_turn(self.frame.tail)
        calls = self.frame.calls
        ends = self._end_of_call(calls.tail)[1] if calls else self.end_of_turn
        self.stop_token_ids = tuple(dict.fromkeys((self.end_of_turn[-1], int(tokenizer.eos_token_id), ends[-1])))
        words = {k: str(v) for k, v in tokenizer.special_tokens_map.items() if k != "pad_token"}
        self.template_hash = Digest.by("v1", fingerprint([self.template, words]))
        self._encoder = Encoder(
            tokenizer,
            {
                content: index
                for content, index in self._added.items()
                if index in self._special
                or index in self.end_of_turn
                or (content in self.frame.skeleton and content not in THOUGHT_TOKENS)
            },
        )

        self._closes = self._end_of_thought()
        self._readable: dict[tuple[bool, bool, int], bool] = {}

    def _end_of_thought(self) -> str:
        """What ends a thought, whether words or a call follow it."""
        form, calls = self.frame.thought, self.frame.calls
        if form is None or calls is None or not form.key:
            return form.between.strip() if form else ""
        answer = Message("assistant", "", "zqthoughtqz", (Call("zqcallqz", '{"zqkeyqz": "zqvalueqz"}'),))
        try:
            text = prompt_strings(self.tokenizer, self.frame, [_ASKED])[0]
            *_, (rest, _) = written_answer(self.tokenizer, self.frame, _ASKED, text, answer)
        except REFUSALS:
            return form.between.strip()
        return common_beginning(form.between, rest).strip() or form.between.strip()

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
        _, ids, problems = self._prompts(prompts, [("prompt", number) for number in range(1, len(prompts) + 1)])
        if problems:
            raise DemonstrationsError(problems)
        return ids

    def _prompts(
        self, prompts: Sequence[tuple[Message, ...]], places: Sequence[tuple[str, int | None]]
    ) -> tuple[list[str], list[list[int]], list[Problem]]:
        """Texts and ids of prompts, and what is wrong with any of them. Raises :class:`PolicyError` for functions."""
        self._refuse_functions(prompts, places)
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
        encoder = self._encoder
        rows = encoder.whole(texts) if texts else []
        for index, (text, prompt) in enumerate(zip(texts, prompts, strict=True)):
            expected = encoder.count_written(text)
            # With ``tokens`` the expert's own earlier turns mean what they spell, as completions do.
            spelling = [m for m in prompt if self.special_tokens != "tokens" or m.role != "assistant"]
            if text and any(encoder.written.search(m.content) for m in spelling):
                rows[index] = self._sanitized(prompt)
                expected -= sum(encoder.count_written(m.content) for m in prompt)
            if text and (not rows[index] or sum(map(encoder.counted_ids.__contains__, rows[index])) != expected):
                problems.append(
                    Problem(*places[index], "prompt",
                            "holds the text of a control token, which this tokenizer cannot treat as words",
                            "take it out of the prompt")
                )  # fmt: skip
        return texts, rows, problems

    def _refuse_functions(
        self, prompts: Sequence[tuple[Message, ...]], places: Sequence[tuple[str, int | None]]
    ) -> None:
        """Raise :class:`PolicyError` where prompts hold functions, calls or results that the template cannot write."""
        calls = self.frame.calls
        for prompt, place in zip(prompts, places, strict=True):
            roles = {turn.role for turn in prompt}
            what = ""
            if calls is None and (any(turn.calls for turn in prompt) or roles & {"tools", "tool"}):
                what = "calls of functions"
            elif calls is not None and "tools" in roles and not calls.lists_tools:
                what = "which functions there are"
            elif calls is not None and "tool" in roles and not calls.results:
                what = "what called functions gave back"
            if what:
                raise self._writes_no(what, place)

    def _writes_no(self, what: str, place: tuple[str, int | None]) -> PolicyError:
        where = f"{place[0]}:{place[1]}" if place[1] is not None else place[0]
        name = self.tokenizer.name_or_path or type(self.tokenizer).__name__
        return PolicyError(
            f"{where}: the chat template of {name} does not write {what}; choose a model whose template does, name one "
            "with model.template, or write them into the messages as text"
        )

    def _sanitized(self, prompt: tuple[Message, ...]) -> list[int]:
        """Ids of a prompt whose contents spell control tokens, which transformers encodes as text; else none."""
        apply = self.tokenizer.apply_chat_template
        if "sanitize_control_tokens" not in inspect.signature(apply).parameters or prompt[-1].role == "thought":
            return []  # an older transformers would take it for a variable of the template
        try:
            return apply(
                conversation(prompt, self.frame),
                tools=tools_of(prompt),
                chat_template=self.template,
                add_generation_prompt=True,
                return_dict=False,
                sanitize_control_tokens=True,
            )
        except ValueError:  # the tokenizer makes the control token from plain text too
            return []

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
        asked, prompts, problems = self._prompts([d.prompt for d in demonstrations], places)
        completions, ends, refused = self._completions(demonstrations, asked, places)
        problems += refused
        made = []
        for d, place, prompt, ids, end in zip(demonstrations, places, prompts, completions, ends, strict=True):
            fault = ""
            if self._is_plain(d) and not self._encoder.counted_ids.isdisjoint(ids):
                fault = "the text of a control token, which this tokenizer cannot treat as words"
            elif not set(self.stop_token_ids).isdisjoint(ids):
                fault = "a token that ends the turn, before its end"
            elif self._encoder.unknown_id in ids:
                fault = "characters that this tokenizer cannot write, so no clone of this model can"
            if fault:
                problems.append(
                    Problem(*place, "completion", f"holds {fault}",
                            "take them out of the completion, or choose another model")
                )  # fmt: skip
            packed = array("i", prompt)
            packed.extend(ids)
            packed.extend(end)
            made.append(Rendered.of_packed(packed.tobytes(), len(prompt)))
        return made, problems

    def _completions(
        self, demonstrations: Sequence[Demonstration], asked: Sequence[str], places: Sequence[tuple[str, int | None]]
    ) -> tuple[list[list[int]], list[tuple[int, ...]], list[Problem]]:
        """Ids of completions, those that end each, and what is wrong with any of them."""
        made: list[list[int]] = [[] for _ in demonstrations]
        ends = [self.end_of_turn] * len(demonstrations)
        problems: list[Problem] = []
        plain: list[int] = []
        shaped: dict[int, list[Piece]] = {}
        for index, d in enumerate(demonstrations):
            spelled = self._spelled(d)
            if spelled:
                problems.append(Problem(*places[index], "completion", *spelled))
            elif self._is_plain(d):
                plain.append(index)
            elif asked[index]:
                try:
                    shaped[index], ends[index] = self._shaped(d, asked[index], places[index])
                except REFUSALS as error:
                    problems.append(
                        Problem(*places[index], "completion", f"cannot be written by the chat template: {error}",
                                "change the row, or choose another template with model.template")
                    )  # fmt: skip
        texts = [self.frame.lead + demonstrations[index].completion + self._trail for index in plain]
        for index, ids in zip(plain, self._encoder.words(texts), strict=True):
            made[index] = ids
        meant = self.special_tokens == "tokens"
        for index, ids in zip(shaped, self._encoder.pieces(list(shaped.values()), meant=meant), strict=True):
            made[index] = ids
        return made, ends, problems

    def _spelled(self, d: Demonstration) -> tuple[str, str] | None:
        """What is wrong with the special tokens that a completion spells, and the remedy; None for nothing."""
        if self.special_tokens == "tokens":
            return None
        if self.special_tokens == "refuse":
            for text in (d.completion, d.thought):
                if found := self._encoder.written.search(text):
                    return (
                        f"spells {found[0]}, a special token of this tokenizer",
                        "say which is meant with demonstrations.special_tokens: text (letters) or tokens (the token)",
                    )
        for call in d.calls:
            if found := self._encoder.written.search(f"{call.name} {call.arguments}"):
                return f"spells {found[0]} inside a call", "take it out, or set demonstrations.special_tokens: tokens"
        return None

    def _is_plain(self, d: Demonstration) -> bool:
        """Whether the completion is words alone, after a prompt in which no functions are in play."""
        if self.thinks or self.special_tokens == "tokens" or d.thought or d.calls:
            return False
        return not any(turn.calls or turn.role in ("tools", "tool") for turn in d.prompt)

    def _shaped(
        self, d: Demonstration, asked: str, place: tuple[str, int | None]
    ) -> tuple[list[Piece], tuple[int, ...]]:
        """The completion in pieces without its end of turn, and the ids of that. Raises one of :data:`REFUSALS`."""
        if d.calls and self.frame.calls is None:
            raise self._writes_no("calls of functions", place)
        if not (d.calls or any(turn.calls or turn.role in ("tools", "tool") for turn in d.prompt)):
            form, words = self.frame.thought, (d.completion, True)
            if form is not None and d.thought and self.thinks:
                return [
                    (form.lead, False),
                    (d.thought, True),
                    (form.between, False),
                    words,
                    (self._trail, False),
                ], self.end_of_turn
            return [(self.frame.lead, False), words, (self._trail, False)], self.end_of_turn
        if fault := self._unreadable(d):
            raise ValueError(fault)
        *pieces, (rest, _) = written_answer(self.tokenizer, self.frame, d.prompt, asked, d.answer)
        trail, end = self._end_of_call(rest)
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
            text = prompt_strings(self.tokenizer, self.frame, [_ASKED])[0]
            *pieces, (rest, _) = written_answer(self.tokenizer, self.frame, _ASKED, text, answer)
        except REFUSALS:
            return True  # it says what is wrong with the row itself
        trail, end = self._end_of_call(rest)
        ids = [*self._encoder.pieces([[*pieces, (trail, False)]], meant=False)[0], *end]
        return self.read(ids, calls=True, tools=[_TOOL]) == (answer.text, answer.thought)

    def token_ends(self, completion: str) -> tuple[int, ...]:
        """Before which character of ``completion`` each of its tokens ends, in the order of their ids.

        Of several tokens that make one character each ends behind it. Tokens that write nothing of the completion, as
        those of the end of turn, are left out; they are the last ones.
        """
        found = self._encoder.offsets(self.frame.lead + completion + self._trail)
        lead, size = len(self.frame.lead), len(completion)
        ends: list[int] = []
        for start, end in found.offsets:
            if start >= lead + size:
                break
            ends.append(max([*ends[-1:], min(max(end - lead, 0), size)]))
        return tuple(ends)

    # -- what was written -------------------------------------------------------------------------------

    def decode_completion(self, ids: Sequence[int]) -> str:
        """The words of generated ``ids``, up to the first stop token; other control tokens are left out.

        Nothing is stripped but what the template itself puts around a completion, so the ids of a
        rendered completion decode to the completion (up to what the tokenizer's normaliser changes).
        """
        dropped = frozenset[int]() if self.special_tokens == "tokens" else self._encoder.control_ids
        return self._decoded(ids, dropped).removeprefix(self.frame.lead)

    def _decoded(self, ids: Sequence[int], dropped: frozenset[int]) -> str:
        kept: list[int] = []
        finished = False
        for token in map(int, ids):
            if finished := token in self.stop_token_ids:
                break
            if token not in dropped:
                kept.append(token)
        text = decode_tokens(self.tokenizer, kept)
        return text.removesuffix(self._trail) if finished else text

    def read(self, ids: Sequence[int], *, calls: bool, tools: Sequence[Any] = ()) -> tuple[str, str]:
        """(what was said, the thought before it) of generated ``ids``, as demonstrations hold them.

        ``calls``: whether calls of functions are looked for, which are then written as
        :func:`~sft.demonstrations.messages.written_calls` does; ``tools``: the functions that could be called.
        """
        form = self.frame.calls if calls else None
        learned = self.thinks
        if form is None and not learned:
            return self.decode_completion(ids), ""
        text = self._decoded(ids, frozenset())
        thought, text = self._parted(text) if learned else ("", text.removeprefix(self.frame.lead))
        text = text.removeprefix(self.frame.header)
        words, found = form.read(text, tools) if form is not None else (text, [])
        if self.special_tokens != "tokens":
            words, thought = (self._encoder.written.sub("", part) for part in (words, thought))
        return written_calls(words, found), thought

    @property
    def thinks(self) -> bool:
        """Whether a thought is learned with the completion, and so may stand before what is written."""
        return self.frame.thoughts == "keep"

    def thought_tokens(self, demonstration: Demonstration, rendered: Rendered) -> int:
        """How many of the supervised tokens belong to the thought before the completion, and what closes it.

        A token that has a part of both belongs to the completion.
        """
        form = self.frame.thought
        if form is None or not self.thinks or not demonstration.thought:
            return 0
        head = [(form.lead, False), (demonstration.thought, True), (form.between, False)]
        if demonstration.calls:  # a header of the answer may differ
            head[-1] = (self._closes, False)
        ids, whole = self._encoder.pieces([head], meant=self.special_tokens == "tokens")[0], rendered.completion_ids
        return next((n for n, (a, b) in enumerate(zip(ids, whole, strict=False)) if a != b), min(len(ids), len(whole)))

    def _parted(self, text: str) -> tuple[str, str]:
        """(thought, rest) of a text that begins with a thought as the template writes one."""
        form = self.frame.thought
        assert form is not None
        begun = text.removeprefix(form.lead)
        opened = begun != text or not form.lead
        if not opened and form.lead.strip() and text.lstrip().startswith(form.lead.strip()):
            begun, opened = text.lstrip().removeprefix(form.lead.strip()), True
        for close in (form.between, form.between.strip(), self._closes):
            thought, found, rest = begun.partition(close)
            if found:
                return thought.strip("\n"), rest if close == form.between else rest.lstrip("\n")
        return (begun.strip("\n"), "") if opened else ("", text.removeprefix(self.frame.lead))

    # -- template ---------------------------------------------------------------------------------------

    def _end_of_turn(self, tail: str) -> tuple[str, tuple[int, ...]]:
        """(text before, ids of) the end of turn: the first run of added tokens after a completion, else eos."""
        run = re.match(rf"(\s*)((?:{any_of(self._added).pattern})+)", tail) if self._added else None
        if run is None:
            return "", (int(self.tokenizer.eos_token_id),)
        return run[1], tuple(self._added[token] for token in any_of(self._added).findall(run[2]))

    def _end_of_call(self, tail: str) -> tuple[str, tuple[int, ...]]:
        """The same of a turn that closes calls with tokens of its own: the first run of special ones that ends it."""
        ends = {
            text: index for text, index in self._added.items() if index in self._special or index in self.end_of_turn
        }
        run = f"(?:{any_of(ends).pattern})+"
        found = re.search(rf"(?s)^(.*?)({run})(?:\s*{run})*\s*$", tail) if ends else None
        if found is None:
            return tail.rstrip(), (int(self.tokenizer.eos_token_id),)
        return found[1], tuple(ends[token] for token in any_of(ends).findall(found[2]))
