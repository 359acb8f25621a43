"""What every template must do with every tokenizer: demonstrations of each kind, written, counted and read back."""

from __future__ import annotations

from dataclasses import dataclass, field

from weather_tool import ROME, TOOL, TOOLS

from sft.demonstrations.demonstration import Call, Demonstration, Message
from sft.demonstrations.messages import written_calls
from sft.errors import DemonstrationsError, PolicyError
from sft.policies.rendering import Renderer, decode_tokens

__all__ = ["KINDS", "MODES", "Checked", "checked"]

#: What becomes of thoughts.
MODES = ("off", "keep", "context")

_USER, _AGAIN = Message("user", "How are you, Zoë?"), Message("user", "And now?")
_SAID = "  Well: naïve café,\n\n\tdef f(x): return 你好 🎉\n "
#: Kind -> (prompt, words, calls) of a demonstration. A thought stands before its completion where thoughts are on.
KINDS: dict[str, tuple[tuple[Message, ...], str, tuple[Call, ...]]] = {
    "words": ((_USER,), _SAID, ()),
    "dialogue": (
        (Message("system", "Be brief."), _USER, Message("assistant", "Fine, thank you."), _AGAIN),
        "Still fine.",
        (),
    ),
    "call": ((TOOLS, _USER), "", (ROME,)),
    "answer to a result": (
        (TOOLS, _USER, Message("assistant", "", calls=(ROME,)), Message("tool", "24 C", name="weather")),
        _SAID,
        (),
    ),
}


@dataclass
class Checked:
    """One template under one mode. ``faults``: what went wrong, by kind; ``refused``: kinds that it says it cannot."""

    mode: str
    faults: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    ids: dict[str, list[int]] = field(default_factory=dict)
    masks: dict[str, int] = field(default_factory=dict)

    @property
    def written(self) -> tuple[str, ...]:
        """Kinds that were written and read back."""
        return tuple(kind for kind in KINDS if kind not in self.faults and kind not in self.refused)


def checked(renderer: Renderer) -> Checked:
    """Every kind of demonstration through ``renderer``."""
    found = Checked(renderer.frame.thoughts)
    for kind, (prompt, words, calls) in KINDS.items():
        thought = "" if found.mode == "off" else "hm  hm"
        if found.mode == "context":
            prompt, thought = (*prompt, Message("thought", thought)), ""
        demonstration = Demonstration(prompt, written_calls(words, calls), thought=thought, calls=calls)
        try:
            fault = _fault(renderer, demonstration, found, kind)
        except (DemonstrationsError, PolicyError) as error:
            found.refused[kind] = str(error)
            continue
        if fault:
            found.faults[kind] = fault
    return found


def _fault(renderer: Renderer, d: Demonstration, found: Checked, kind: str) -> str:
    """What is wrong with the row of ``d``; "" for nothing."""
    tokenizer, row = renderer.tokenizer, renderer.render(d)
    found.ids[kind], found.masks[kind] = list(row.input_ids), len(row.prompt_ids)
    prompt, completion = list(row.prompt_ids), list(row.completion_ids)
    if prompt != renderer.prompt_ids(d.prompt):
        return "it is asked otherwise than it was trained"
    stops = set(renderer.stop_token_ids)
    if completion[-1] not in stops or stops & set(completion[:-1]):
        return "its turn does not end once, at its end"
    if row.input_ids.count(tokenizer.bos_token_id) > 1 and tokenizer.bos_token_id not in stops:
        return "it begins twice"
    asked, supervised = (decode_tokens(tokenizer, ids) for ids in (prompt, completion))
    for text in (d.thought, *(() if d.calls else (d.completion,))):
        if text not in supervised:
            return f"{text!r} is not verbatim"
    turn = asked[asked.rfind(next(m.content for m in reversed(d.prompt) if m.role != "thought")) :] + supervised
    if turn.count("<think>") > 1:
        return "it thinks twice"
    if d.calls and not all(part in supervised for part in ("weather", "Rome")):
        return "the call is not supervised"
    read = renderer.answers.read(completion, calls=True, tools=[TOOL])
    if read != (d.completion, d.thought):
        return f"read back as {read!r}"
    given = d.prompt[-1].content if d.prompt[-1].role == "thought" else ""
    if given and asked.count(given) != 1:
        return "the given thought does not stand in the prompt once"
    return ""
