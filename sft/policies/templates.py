"""What a chat template writes around a completion, and the settling of what templates leave open.

Text only: ``rendering`` makes the ids. How a template frames a completion is learned from probe
conversations, once for a tokenizer. What is settled is written into the template itself, so that a saved
policy, whoever serves it, renders what it was trained on:

* no template: the plain one (``chat_templates/plain.jinja``) is used;
* a tokenizer that wants a beginning-of-sequence token, a template that writes none: it is written once;
* the recipe's ``template_options`` are the values that the template takes unless it is given others;
* thoughts off: think blocks are off (``enable_thinking=false`` where the template knows it) and one that the
  generation prompt opens is closed while still in the prompt. Thoughts learned or given: think blocks are on;
* text between generation prompt and completion (a channel, a header) belongs to the prompt;
* lists that a template changes in place, which transformers forbids, are assigned anew;
* "today" is 26 July 2024, Llama's own default: a prompt that changes overnight is not the one trained on, and a
  template that draws by chance is refused.

A template without a system turn has the system message open the user's first turn.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft.demonstrations.demonstration import Message
from sft.errors import PolicyError
from sft.policies.conversations import conversation
from sft.policies.frame import REFUSALS, Frame, ThoughtForm
from sft.policies.template_calls import PROBE, TOOLS, learn_calls, opens_thought, without_prompt
from sft.policies.template_clock import dated, names_in
from sft.policies.template_lists import with_assignments

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

THOUGHT_TOKENS = frozenset({"<think>", "</think>"})  # an expert may write them: they end no turn

_PROBES = {"system": "zqsystemqz", "user": "zquserqz", "assistant": "zqassistantqz"}
_COMPLETION, _THOUGHT = "zqcompletionqz", "zqthoughtqz"
#: Names under which templates read thoughts; "" is inside the content, in tags.
_THOUGHT_KEYS = ("reasoning_content", "thinking", "reasoning", "")
_SWITCHES = ("enable_thinking", "thinking")
_MARK = "{{#- thoughts: {} -#}}"
_SHAPES = tuple(
    tuple(Message(role, _PROBES[role]) for role in roles)
    for roles in (
        ("user",),
        ("system", "user"),
        ("user", "assistant", "user"),
        ("system", "user", "assistant", "user"),
    )
)


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
        several = tokenizer.chat_template
        if isinstance(several, dict) and {"default", "tool_use"} <= several.keys():
            return f"{{%- if tools -%}}{several['tool_use']}{{%- else -%}}{several['default']}{{%- endif -%}}"
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


def settle(
    tokenizer: PreTrainedTokenizerBase,
    template: str,
    options: Mapping[str, Any] | None = None,
    thoughts: str | None = None,
) -> Frame:
    """The template as it will be used. Raises :class:`PolicyError` if it cannot be made to ask for a
    completion the way it writes one, for every shape of prompt.

    ``thoughts``: as in a recipe; None is what a settled template says of itself, and otherwise off.
    """
    marked = next((mode for mode in ("keep", "context") if template.startswith(_MARK.format(mode))), None)
    mode = thoughts or marked or "off"
    template = template.removeprefix(_MARK.format(marked))
    names = names_in(template)
    drawn = [word for before, word, _ in names if (before, word) == ("|", "random") or word == "lipsum"]
    if drawn:
        raise _unfit(tokenizer, f"draws by chance ({drawn[0]}), so no prompt would be written twice alike")
    template = with_assignments(dated(_with_options(tokenizer, template, options or {})))
    first, bos = _probe(tokenizer, template, _SHAPES[0])[0], tokenizer.bos_token
    if bos and bos not in first and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]:
        template = "{{- bos_token }}" + template
    elif bos and first.startswith(bos + bos):
        raise _unfit(tokenizer, f"begins with {bos} twice", "one that writes it once")
    prompt, before, _ = _probe(tokenizer, template, _SHAPES[0])
    free = [name for name in _SWITCHES if any(name == word for _, word, _ in names) and name not in (options or {})]
    settled = marked == mode  # it was settled before, with thoughts on
    candidates = (
        _candidates(template, prompt, before, free) if mode == "off" else _thinking(template, free * (not settled))
    )
    for candidate in candidates:
        frame = _frame(tokenizer, candidate, mode)
        if frame is not None:
            if mode != "off":
                frame = replace(frame, template=_MARK.format(mode) + frame.template)
            lead = frame.lead
            if mode == "context" and frame.thought is not None:
                lead = frame.thought.lead + frame.thought.between
            calls = learn_calls(tokenizer, frame.template, lead)
            return replace(frame, calls=calls, header=_header(tokenizer, frame) if calls else "")
    raise _unfit(
        tokenizer,
        f"asks for a completion with ...{prompt[-30:]!r} but writes one after ...{before[-30:]!r}, so no prompt can be "
        "what was trained on",
    )


def _with_options(tokenizer: PreTrainedTokenizerBase, template: str, options: Mapping[str, Any]) -> str:
    """The template with ``options`` as what it takes unless it is given others. Raises :class:`PolicyError`."""
    known = sorted({word for _, word, _ in names_in(template)})
    for name in options:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else "; remove it"
            raise PolicyError(
                f"model.template_options: {name!r} is nothing that the chat template of {_name(tokenizer)} reads{hint}"
            )
    return "".join(_default(name, value) for name, value in options.items()) + template


def _default(name: str, value: Any) -> str:
    return f"{{%- set {name} = {name} | default({_literal(value)}) -%}}"


def _literal(value: Any) -> str:
    """``value`` in jinja's notation."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {_literal(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_literal, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    return json.dumps(value, ensure_ascii=False)


def _header(tokenizer: PreTrainedTokenizerBase, frame: Frame) -> str:
    """What the template writes before an answer in words where functions are listed, and elsewhere asks with."""
    try:
        prompt, whole = _both(
            tokenizer, frame.template, _SHAPES[0], frame.fold_system, {"content": _COMPLETION}, tools=TOOLS
        )
    except PolicyError:
        return ""
    return (without_prompt(whole.partition(_COMPLETION)[0], prompt) or "").removeprefix(frame.lead)


def _candidates(template: str, prompt: str, before: str, switches: Sequence[str]) -> Iterator[str]:
    """The template as it is; with thoughts off; with its generation prompt completed."""
    yield template
    for switch in switches:
        yield _default(switch, False) + template
    rest = without_prompt(before, prompt) or ""
    if not rest and prompt.rstrip().endswith("<think>"):
        rest = "\n</think>\n\n"
    if rest:
        literal = json.dumps(rest, ensure_ascii=False)
        # A header of an answer would keep calls from being written; a thought that is closed does not.
        calls = " and not tools" if "</think>" not in rest and re.search(r"\btools\b", template) else ""
        asked = f"{{%+ if add_generation_prompt{calls} %}}{{{{- {literal} }}}}{{% endif %}}"
        yield template.removesuffix("\n") + asked


def _thinking(template: str, switches: Sequence[str]) -> Iterator[str]:
    """The template with thoughts on; as it is."""
    for switch in switches:
        yield _default(switch, True) + template
    yield template


def _frame(tokenizer: PreTrainedTokenizerBase, template: str, mode: str) -> Frame | None:
    """What ``template`` does, the same for every shape of prompt; None if it asks one way and writes another."""
    try:
        folds = [True] if _PROBES["system"] not in _probe(tokenizer, template, _SHAPES[1])[0] else [False, True]
    except PolicyError:
        folds = [True]
    return next((found for fold in folds if (found := _folded(tokenizer, template, mode, fold))), None)


def _folded(tokenizer: PreTrainedTokenizerBase, template: str, mode: str, fold_system: bool) -> Frame | None:
    """As :func:`_frame`, with a system message in the first turn of the user, or in its own."""
    leads: set[str] = set()
    tails: set[str] = set()
    one_turn, skeleton, shapes = False, "", []
    for shape in _SHAPES:
        try:
            prompt, before, tail = _probe(tokenizer, template, shape, fold_system=fold_system)
            if re.findall("|".join(_PROBES.values()), prompt) != [m.content for m in shape]:
                raise _unfit(tokenizer, "does not write every message exactly once, in order")
        except PolicyError:
            if len(shape) <= 2:
                raise
            one_turn = True
            continue
        shapes.append(shape)
        skeleton += before + tail
        lead = without_prompt(before, prompt)
        if lead is None or (mode == "off" and (lead.strip() or opens_thought(prompt))):
            return None
        leads.add(lead)
        tails.add(tail)
    if len(tails) > 1:
        return None
    thought = None
    if mode != "off":
        thought = _thought_form(tokenizer, template, shapes, fold_system)
        if thought is None:
            return None
        skeleton += thought.lead + thought.between
        if not thought.lead:
            leads = {thought.between}  # the prompt has opened what has to be closed
    if mode == "context":
        leads = {""}  # the thought stands in the prompt
    if len(leads) > 1:
        return None
    return Frame(template, leads.pop(), tails.pop(), fold_system, one_turn, skeleton, mode, thought)


def _thought_form(
    tokenizer: PreTrainedTokenizerBase, template: str, shapes: Sequence[tuple[Message, ...]], fold_system: bool
) -> ThoughtForm | None:
    """How ``template`` writes a thought before a completion, the same for every shape.

    Where it drops thoughts they are written as the prompt begins them, or in tags of their own.
    """
    opened, before, _ = _probe(tokenizer, template, shapes[0], fold_system=fold_system)
    none = without_prompt(before, opened) or ""
    called = {key: _before_call(tokenizer, template, shapes[0], fold_system, key, none) for key in _THOUGHT_KEYS if key}
    for key in _THOUGHT_KEYS:
        if not key:  # Gemma 4's writes thoughts beside calls alone, and drops them before words
            for other, form in called.items():
                if form is not None:
                    return ThoughtForm(other, *form, called=True)
        found: set[tuple[str, str] | None] = set()
        for shape in shapes:
            inside = f"<think>\n{_THOUGHT}\n</think>\n\n{_COMPLETION}"
            answer = {"content": _COMPLETION, key: _THOUGHT} if key else {"content": inside}
            try:
                prompt, whole = _both(tokenizer, template, shape, fold_system, answer)
            except PolicyError:
                found.add(None)
                continue
            rest = whole.removeprefix(prompt) if whole.startswith(prompt) else ""
            lead, _, behind = rest.partition(_THOUGHT)
            between, completed, _ = behind.partition(_COMPLETION)
            twice = "</think>" in lead or (lead.strip() and opens_thought(prompt))
            whole_form = completed and between.strip() and not twice
            found.add((lead, between) if whole_form else None)
        if len(found) == 1 and (one := found.pop()):
            return ThoughtForm(key, *one, called=called.get(key) == one)
    empty = re.fullmatch(r"(\s*<think>)(\s*)(</think>\s*)", none)
    if empty:  # it writes an empty thought, and drops others
        half = empty[2][: len(empty[2]) // 2]
        return ThoughtForm("", empty[1] + half, empty[2].removeprefix(half) + empty[3])
    if opened.endswith("<think>"):
        return ThoughtForm("", "", "</think>")
    return ThoughtForm("", "" if opened.rstrip().endswith("<think>") else "<think>\n", "\n</think>\n\n")


def _before_call(
    tokenizer: PreTrainedTokenizerBase,
    template: str,
    shape: tuple[Message, ...],
    fold_system: bool,
    key: str,
    none: str,
) -> tuple[str, str] | None:
    """What ``template`` writes around a thought under ``key`` that stands before a call; None where it writes none.

    ``none``: what it writes where there is no thought.
    """
    try:
        asked, plain = _both(tokenizer, template, shape, fold_system, PROBE, tools=TOOLS)
        whole = _both(tokenizer, template, shape, fold_system, PROBE | {key: _THOUGHT}, tools=TOOLS)[1]
    except PolicyError:
        return None
    call = (without_prompt(plain, asked) or "").removeprefix(none)
    lead, found, behind = (without_prompt(whole, asked) or "").partition(_THOUGHT)
    if not call or not found or not behind.endswith(call):
        return None
    between = behind.removesuffix(call)
    return (lead, between) if between.strip() else None


def _probe(
    tokenizer: PreTrainedTokenizerBase, template: str, shape: tuple[Message, ...], *, fold_system: bool = False
) -> tuple[str, str, str]:
    """(prompt with generation prompt, text before a completion, text after it), for a probe prompt."""
    prompt, full = _both(tokenizer, template, shape, fold_system, {"content": _COMPLETION})
    before, found, tail = full.partition(_COMPLETION)
    if not found or _COMPLETION in tail:
        raise _unfit(tokenizer, "does not write a completion exactly once")
    return prompt, before, tail


def _both(
    tokenizer: PreTrainedTokenizerBase,
    template: str,
    shape: tuple[Message, ...],
    fold_system: bool,
    answer: Mapping[str, Any],
    tools: Any = None,
) -> tuple[str, str]:
    """A probe prompt, and the same with ``answer`` after it."""
    messages = conversation(shape, Frame(template, "", "", fold_system, False, ""))
    try:
        prompt, full = (
            tokenizer.apply_chat_template(
                messages + turns,
                tools=tools,
                chat_template=template,
                tokenize=False,
                add_generation_prompt=not turns,
            )
            for turns in ([], [{"role": "assistant", **answer}])
        )
    except REFUSALS as error:
        roles = ", ".join(m.role for m in shape)
        raise _unfit(tokenizer, f"does not render a conversation of {roles} ({error})") from error
    return prompt, full


def _unfit(tokenizer: PreTrainedTokenizerBase, what: str, other: str = "another") -> PolicyError:
    return PolicyError(f"the chat template of {_name(tokenizer)} {what}; give {other} with model.template")


def _name(tokenizer: PreTrainedTokenizerBase) -> str:
    return tokenizer.name_or_path or type(tokenizer).__name__
