"""What a chat template writes around a completion, and the settling of what templates leave open.

Text only: ``rendering`` makes the ids. How a template frames a completion is learned from probe
conversations, once for a tokenizer. What is settled is written into the template itself, so that a saved
policy, whoever serves it, renders what it was trained on:

* no template: the plain one (``chat_templates/plain.jinja``) is used;
* a tokenizer that wants a beginning-of-sequence token, a template that writes none: it is written once;
* thoughts: a clone has the expert's words only, so think blocks are off (``enable_thinking=false`` where
  the template knows it) and one that the generation prompt opens is closed while still in the prompt;
* text between generation prompt and completion (a channel, a header) belongs to the prompt;
* "today" is 26 July 2024, Llama's own default: a prompt that changes overnight is not the one trained on, and a
  template that draws by chance is refused.

A template without a system turn has the system message open the user's first turn.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, TemplateError, TemplateSyntaxError

from sft.demonstrations.demonstration import Message
from sft.errors import PolicyError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EMPTY_THOUGHT = "<think>\n\n</think>\n\n"
#: What a template raises that cannot write a conversation.
REFUSALS = (TemplateError, TypeError, ValueError)
THOUGHT_TOKENS = frozenset({"<think>", "</think>"})  # an expert may write them: they end no turn

_PROBES = {"system": "zqsystemqz", "user": "zquserqz", "assistant": "zqassistantqz"}
_COMPLETION = "zqcompletionqz"
_SHAPES = tuple(
    tuple(Message(role, _PROBES[role]) for role in roles)
    for roles in (
        ("user",),
        ("system", "user"),
        ("user", "assistant", "user"),
        ("system", "user", "assistant", "user"),
    )
)


@dataclass(frozen=True, slots=True)
class Frame:
    """A settled template and what it was seen to do.

    ``lead``: white space it writes between generation prompt and completion. ``tail``: all it writes after
    a completion. ``fold_system``: it has no system turn. ``one_turn``: it cannot write earlier turns.
    ``skeleton``: everything it wrote around the probes.
    """

    template: str
    lead: str
    tail: str
    fold_system: bool
    one_turn: bool
    skeleton: str


def plain_template() -> str:
    """The template of words only, ``sft/policies/chat_templates/plain.jinja``."""
    return files("sft.policies").joinpath("chat_templates/plain.jinja").read_text(encoding="utf-8")


def read_template(tokenizer: PreTrainedTokenizerBase, template: str) -> str:
    """The text of ``template``: "auto" (the tokenizer's own, else the plain one), "plain", or a file's path.

    Raises :class:`PolicyError` if there is no such file, or several templates to choose from and no default.
    """
    if template == "plain" or (template == "auto" and not tokenizer.chat_template):
        return plain_template()
    if template == "auto":
        try:
            return tokenizer.get_chat_template()
        except ValueError as error:
            raise PolicyError(
                f"the tokenizer of {_name(tokenizer)} has several chat templates and no default; "
                "choose one with model.template, the path of a .jinja file"
            ) from error
    try:
        return Path(template).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(
            f"the chat template {template!r} cannot be read ({error}); "
            "model.template is auto, plain or the path of a .jinja file"
        ) from error


def conversation(prompt: tuple[Message, ...], *, fold_system: bool) -> list[dict[str, str]]:
    """``prompt`` as transformers wants it; ``fold_system`` puts the system message into the first user turn."""
    messages = [{"role": m.role, "content": m.content} for m in prompt]
    if fold_system and prompt[0].role == "system":
        messages[1]["content"] = f"{messages[0]['content']}\n\n{messages[1]['content']}"
        del messages[0]
    return messages


def prompt_strings(
    tokenizer: PreTrainedTokenizerBase, frame: Frame, prompts: Sequence[tuple[Message, ...]]
) -> list[str]:
    """``prompts`` through the template, the generation prompt last; many at once take half of the time.

    Raises one of :data:`REFUSALS` when the template refuses any of them.
    """
    if frame.one_turn and any(m.role == "assistant" for prompt in prompts for m in prompt):
        raise ValueError("it cannot write earlier turns")
    conversations = [conversation(prompt, fold_system=frame.fold_system) for prompt in prompts]
    return tokenizer.apply_chat_template(
        conversations, chat_template=frame.template, tokenize=False, add_generation_prompt=True
    )


def settle(tokenizer: PreTrainedTokenizerBase, template: str) -> Frame:
    """The template as it will be used. Raises :class:`PolicyError` if it cannot be made to ask for a
    completion the way it writes one, for every shape of prompt."""
    refuse_chance(template, _name(tokenizer))
    template = dated(template)
    first, bos = _probe(tokenizer, template, _SHAPES[0])[0], tokenizer.bos_token
    if bos and bos not in first and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]:
        template = "{{- bos_token }}" + template
    elif bos and first.startswith(bos + bos):
        raise PolicyError(
            f"the chat template of {_name(tokenizer)} begins with {bos} twice; "
            "give one that writes it once with model.template"
        )
    prompt, before, _ = _probe(tokenizer, template, _SHAPES[0])
    for candidate in _candidates(template, prompt, before):
        frame = _frame(tokenizer, candidate)
        if frame is not None:
            return frame
    raise PolicyError(
        f"the chat template of {_name(tokenizer)} asks for a completion with ...{prompt[-30:]!r} but writes one "
        f"after ...{before[-30:]!r}, so no prompt can be what was trained on; give another with model.template"
    )


def _candidates(template: str, prompt: str, before: str) -> Iterator[str]:
    """The template as it is; with thoughts off; with its generation prompt completed."""
    yield template
    for switch in ("enable_thinking", "thinking"):
        if re.search(rf"\b{switch}\b", template):
            yield f"{{%- set {switch} = {switch} | default(false) -%}}{template}"
    rest = before.removeprefix(prompt) if before.startswith(prompt) else ""
    if not rest and prompt.rstrip().endswith("<think>"):
        rest = "\n</think>\n\n"
    if rest:
        literal = json.dumps(rest, ensure_ascii=False)
        yield template.removesuffix("\n") + f"{{%+ if add_generation_prompt %}}{{{{- {literal} }}}}{{% endif %}}"


def _frame(tokenizer: PreTrainedTokenizerBase, template: str) -> Frame | None:
    """What ``template`` does, the same for every shape of prompt; None if it asks one way and writes another."""
    try:
        fold_system = _PROBES["system"] not in _probe(tokenizer, template, _SHAPES[1])[0]
    except PolicyError:
        fold_system = True
    frames: set[tuple[str, str]] = set()
    one_turn, skeleton = False, ""
    for shape in _SHAPES:
        try:
            prompt, before, tail = _probe(tokenizer, template, shape, fold_system=fold_system)
            if re.findall("|".join(_PROBES.values()), prompt) != [m.content for m in shape]:
                raise PolicyError(
                    f"the chat template of {_name(tokenizer)} does not write every message exactly once, in order; "
                    "give another with model.template"
                )
        except PolicyError:
            if len(shape) <= 2:
                raise
            one_turn = True
            continue
        skeleton += before + tail
        if not before.startswith(prompt):
            prompt = prompt.removesuffix(EMPTY_THOUGHT)
        if not before.startswith(prompt) or before.removeprefix(prompt).strip():
            return None
        frames.add((before.removeprefix(prompt), tail))
    return Frame(template, *frames.pop(), fold_system, one_turn, skeleton) if len(frames) == 1 else None


def _probe(
    tokenizer: PreTrainedTokenizerBase, template: str, shape: tuple[Message, ...], *, fold_system: bool = False
) -> tuple[str, str, str]:
    """(prompt with generation prompt, text before a completion, text after it), for a probe prompt."""
    messages = conversation(shape, fold_system=fold_system)
    try:
        prompt, full = (
            tokenizer.apply_chat_template(
                messages + answer, chat_template=template, tokenize=False, add_generation_prompt=not answer
            )
            for answer in ([], [{"role": "assistant", "content": _COMPLETION}])
        )
    except REFUSALS as error:
        raise PolicyError(
            f"the chat template of {_name(tokenizer)} does not render a conversation of "
            f"{', '.join(m.role for m in shape)} ({error}); give another with model.template"
        ) from error
    before, found, tail = full.partition(_COMPLETION)
    if not found or _COMPLETION in tail:
        raise PolicyError(
            f"the chat template of {_name(tokenizer)} does not write a completion exactly once; "
            "give another with model.template"
        )
    return prompt, before, tail


def _name(tokenizer: PreTrainedTokenizerBase) -> str:
    return tokenizer.name_or_path or type(tokenizer).__name__


# -- the clock --------------------------------------------------------------------------------------------------
#
# transformers gives templates one function that knows the time, ``strftime_now``. A call with a literal format becomes
# the text it gives on TODAY; any other use is answered by a macro of that name which the template then brings along,
# so that the saved template says the same wherever it is served. Names are read by jinja2's own lexer, which needs to
# know no tag.

#: What a template's ``strftime_now`` answers, always: midnight of Llama's own default date.
TODAY = datetime(2024, 7, 26, tzinfo=UTC)

# No quote and no backslash inside: `strftime_now("%d " ~ "%b")` is two literals, and left to the macro.
_LITERAL = re.compile(r"""strftime_now\(\s*(["'])((?:(?!\1)[^\\\n])*)\1\s*\)""")


def dated(template: str) -> str:
    """``template`` with the date of :data:`TODAY` wherever it asks for the present one."""
    template = _LITERAL.sub(lambda found: json.dumps(TODAY.strftime(found[2])), template)
    uses = _uses(template)
    # Where the first mention defines it, the template has been here before, and keeps the date it was given then.
    return _macro() + template if uses and uses[0] != "macro" else template


def tells_the_date(template: str) -> bool:
    """Whether ``template``, as its author wrote it, asks for the present date."""
    return bool(_uses(template))


def refuse_chance(template: str, name: str) -> None:
    """Raise ``PolicyError`` where the template of ``name`` draws by chance: no prompt would be written twice alike."""
    words = _words(template)
    drawn = next((word for before, word, _ in words if (before, word) == ("|", "random") or word == "lipsum"), None)
    if drawn is not None:
        raise PolicyError(
            f"the chat template of {name} draws by chance ({drawn}), so no prompt would be written twice alike; "
            "give another with model.template"
        )


def _uses(template: str) -> list[str]:
    """The word or sign before every use of ``strftime_now``; to ask whether it is defined is not to use it."""
    return [before for before, word, after in _words(template) if word == "strftime_now" and after != "is"]


def _words(template: str) -> list[tuple[str, str, str]]:
    """Every name in the template's code, with the word or sign before it and the one behind it."""
    try:
        pieces = [
            (kind, text) for _, kind, text in Environment().lex(template) if kind not in ("whitespace", "comment")
        ]
    except TemplateSyntaxError:
        return []  # whoever renders it says what is wrong with it
    texts = [text for _, text in pieces]
    return [
        (texts[at - 1] if at else "", text, texts[at + 1] if at + 1 < len(texts) else "")
        for at, (kind, text) in enumerate(pieces)
        if kind == "name" and (at == 0 or texts[at - 1] != ".")
    ]


def _macro() -> str:
    """``strftime_now`` for one date, in jinja: every directive looked up, with C's flag ``-`` for no padding."""
    codes = {}
    for letter in string.ascii_letters.replace("s", "") + "%":  # %s hangs on the machine's time zone
        for directive in (letter, f"-{letter}"):
            said = TODAY.strftime(f"%{directive}")
            if said != f"%{directive}":
                codes[directive] = said
    codes |= {"s": str(int(TODAY.timestamp()))}
    return (
        "{%- macro strftime_now(format) -%}"
        f"{{%- set codes = {json.dumps(codes)} -%}}"
        "{%- set at = namespace(code='') -%}"
        "{%- for letter in format -%}"
        "{%- if not at.code -%}{%- if letter == '%' -%}{%- set at.code = '%' -%}{%- else -%}{{- letter -}}{%- endif -%}"
        "{%- elif letter in '-_0^#' and at.code == '%' -%}{%- set at.code = '%' ~ letter -%}"
        "{%- else -%}{{- codes[at.code[1:] ~ letter] | default(codes[letter] | default(at.code ~ letter)) -}}"
        "{%- set at.code = '' -%}{%- endif -%}"
        "{%- endfor -%}{{- at.code -}}"
        "{%- endmacro -%}"
    )
