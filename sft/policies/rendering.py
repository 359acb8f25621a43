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
from array import array
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from sft.demonstrations.demonstration import Demonstration, Message
from sft.errors import DemonstrationsError, PolicyError, Problem
from sft.policies.answers import AnswerForms, SpecialTokens
from sft.policies.conversations import conversation, left_out_of, prompt_strings, tools_of
from sft.policies.encoding import Piece
from sft.policies.frame import REFUSALS
from sft.policies.rendered import Census, Rendered, census, decode_tokens, divided, where_of
from sft.policies.template_clock import TODAY, tells_the_date
from sft.policies.templates import read_template, settle
from sft.runs.hashes import Digest, fingerprint
from sft.runs.patience import within

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


#: A template is tried out in milliseconds.
_LONGEST_SECONDS = 5


def renderer_for(
    tokenizer: PreTrainedTokenizerBase,
    template: str = "auto",
    *,
    options: Mapping[str, Any] | None = None,
    thoughts: str | None = None,
    special_tokens: SpecialTokens = "text",
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
    endless = PolicyError(
        f"the chat template of {name} does not come to an end within {_LONGEST_SECONDS} s; it is a program, and may "
        "never end: name another with model.template"
    )
    with within(_LONGEST_SECONDS, endless):
        return Renderer(tokenizer, read_template(tokenizer, template), options, thoughts, special_tokens)


class Renderer:
    """Prompts and demonstrations to token ids under one tokenizer and one settled template.

    Built by :func:`renderer_for`. ``template``: the settled template text. ``template_hash``: of that
    text and the special tokens it can write; equal for the base policy and the clone saved from it.
    ``today``: the date (ISO 8601) that the template is given for the present one; None where it asks for none.
    ``end_of_turn``: the ids that end every completion in words. ``stop_token_ids``: generation stops on any.
    ``answers``: what is written and read after a prompt.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: str,
        options: Mapping[str, Any] | None = None,
        thoughts: str | None = None,
        special_tokens: SpecialTokens = "text",
    ) -> None:
        self.tokenizer = tokenizer
        self.special_tokens = special_tokens
        self.today = TODAY.date().isoformat() if tells_the_date(template) else None
        self.frame = settle(tokenizer, template, options, thoughts)
        self.template = tokenizer.chat_template = self.frame.template
        self.answers = AnswerForms(tokenizer, self.frame, special_tokens)
        self._encoder = self.answers.encoder
        self.end_of_turn, self.stop_token_ids = self.answers.end_of_turn, self.answers.stop_token_ids
        words = {k: str(v) for k, v in tokenizer.special_tokens_map.items() if k != "pad_token"}
        self.template_hash = Digest.by("v1", fingerprint([self.template, words]))

    @property
    def pad_token_id(self) -> int:
        """What fills batches up: the tokenizer's padding token, else its end-of-sequence token; never attended to."""
        pad = self.tokenizer.pad_token_id
        return int(self.tokenizer.eos_token_id if pad is None else pad)

    def words(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of texts as they stand, without a template; what spells a control token is words."""
        return self._encoder.words(list(texts))

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
            if not text:
                continue
            if left_out := left_out_of(text, prompt):
                problems.append(
                    Problem(*places[index], "prompt", f"is not whole in the chat template, which leaves out {left_out}",
                            "change that turn, or choose another template with model.template")
                )  # fmt: skip
            expected = encoder.count_written(text)
            # With ``tokens`` the expert's own earlier turns mean what they spell, as completions do.
            spelling = [m for m in prompt if self.special_tokens != "tokens" or m.role != "assistant"]
            if any(encoder.written.search(f"{c.name} {c.arguments}") for m in spelling for c in m.calls):
                problems.append(
                    Problem(*places[index], "prompt", "spells a special token inside a call of an earlier turn",
                            "take it out, or set demonstrations.special_tokens: tokens")
                )  # fmt: skip
                continue
            if any(encoder.written.search(said) for m in spelling for said in (m.content, m.thought)):
                rows[index] = self._sanitized(prompt)
                expected -= sum(encoder.count_written(m.content) for m in prompt)
                expected -= sum(encoder.count_written(m.thought) for m in prompt if m.thought in text)
            if not rows[index] or sum(map(encoder.counted_ids.__contains__, rows[index])) != expected:
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
        stops = frozenset(self.stop_token_ids)
        made = []
        for d, place, prompt, ids, end in zip(demonstrations, places, prompts, completions, ends, strict=True):
            fault = ""
            if self.answers.is_plain(d) and not self._encoder.counted_ids.isdisjoint(ids):
                fault = "the text of a control token, which this tokenizer cannot treat as words"
            elif not stops.isdisjoint(ids):
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
            spelled = self.answers.spelled(d)
            if spelled:
                problems.append(Problem(*places[index], "completion", *spelled))
            elif self.answers.is_plain(d):
                plain.append(index)
            elif asked[index]:
                try:
                    if d.calls and self.frame.calls is None:
                        raise self._writes_no("calls of functions", places[index])
                    shaped[index], ends[index] = self.answers.shaped(d, asked[index])
                except REFUSALS as error:
                    problems.append(
                        Problem(*places[index], "completion", f"cannot be written by the chat template: {error}",
                                "change the row, or choose another template with model.template")
                    )  # fmt: skip
        texts = [self.frame.lead + demonstrations[index].completion + self.answers.trail for index in plain]
        for index, ids in zip(plain, self._encoder.words(texts), strict=True):
            made[index] = ids
        meant = self.special_tokens == "tokens"
        for index, ids in zip(shaped, self._encoder.pieces(list(shaped.values()), meant=meant), strict=True):
            made[index] = ids
        return made, ends, problems

    # -- what was written -------------------------------------------------------------------------------

    def token_ends(self, completion: str) -> tuple[int, ...]:
        """See :meth:`AnswerForms.token_ends`."""
        return self.answers.token_ends(completion)

    def decode_completion(self, ids: Sequence[int]) -> str:
        """See :meth:`AnswerForms.decode`."""
        return self.answers.decode(ids)
