"""A Modelfile for Ollama: the chat template in Go's language, stop tokens, and greedy decoding.

Ollama does not read the Jinja template of a GGUF file, so what the template writes around messages is found out by
asking it, and written down as fixed texts. A template that does more than put fixed texts around messages
cannot be written so, and is not; but white space around a message, which many templates drop, stays: Ollama's
language has no word for that.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jinja2 import TemplateError

from sft.demonstrations.demonstration import Message
from sft.policies.conversations import conversation
from sft.publishing.export.gguf_tokenizers import begins_itself

if TYPE_CHECKING:
    from sft.policies.rendering import Renderer

__all__ = ["Around", "around", "modelfile_of"]

_SYSTEM, _USER, _ANSWER, _AGAIN = "zqsystemqz", "zquserqz", "zqanswerqz", "zqagainqz"
_TRIMS = "# The chat template drops white space around a message; here it stays, so send none.\n"
_WORDS = ("Be brief.", "How are you?", "Fine, thank you.", "And she?", "Fine too.", "Good.")


@dataclass(frozen=True, slots=True)
class Around:
    """The texts that a template writes around messages, but the first token where the tokenizer writes it, too.

    ``system``: before a system message. ``first``: before the first user message, where no system message was given;
    ``first_after_system``: where one was. ``answer``: before an assistant's; ``again``: before a later user message;
    ``last``: after the last user message, up to where the completion begins.
    """

    system: str
    first: str
    first_after_system: str
    answer: str
    again: str
    last: str

    def rendered(self, prompt: Sequence[Message]) -> str:
        """``prompt`` (perhaps a system message, then turns from user to user), as the Go template writes it."""
        text = ""
        before = None
        for message in prompt:
            if message.role == "system":
                text += self.system
            elif message.role == "assistant":
                text += self.answer
            elif before is None:
                text += self.first
            else:
                text += self.first_after_system if before == "system" else self.again
            text += message.content
            before = message.role
        return text + self.last

    def go(self) -> str:
        """The Go template. Every text is a quoted constant, so that no white space is lost or added."""
        return "".join(
            [
                "{{- $system := false }}{{- $turns := false }}\n",
                "{{- range .Messages }}\n",
                '{{- if eq .Role "system" }}', _constant(self.system), "{{ .Content }}{{- $system = true }}\n",
                '{{- else if eq .Role "user" }}\n',
                "{{- if $turns }}", _constant(self.again),
                "{{- else if $system }}", _constant(self.first_after_system),
                "{{- else }}", _constant(self.first), "{{- end }}{{ .Content }}{{- $turns = true }}\n",
                '{{- else if eq .Role "assistant" }}', _constant(self.answer), "{{ .Content }}\n",
                "{{- end }}\n",
                "{{- end }}", _constant(self.last),
            ]
        )  # fmt: skip


def _constant(text: str) -> str:
    """An action that writes ``text``; JSON's quoting is Go's, too.

    What cannot be printed, spaces other than the usual one among them, is escaped: Ollama drops it from a Modelfile.
    """
    quoted = json.dumps(text, ensure_ascii=False)
    written = "".join(letter if letter.isprintable() else f"\\U{ord(letter):08x}" for letter in quoted)
    return f"{{{{ {written} }}}}" if text else ""


def around(renderer: Renderer) -> Around | str:
    """What the template of ``renderer`` writes around messages; or, where that is no fixed text, why not."""
    if renderer.frame.one_turn:
        return "its chat template writes single turns only"
    user, system = Message("user", _USER), Message("system", _SYSTEM)
    later = (Message("assistant", _ANSWER), Message("user", _AGAIN))
    try:
        plain, long, instructed = (
            _between(_rendered(renderer, prompt), prompt)
            for prompt in ((user,), (user, *later), (system, user))
        )  # fmt: skip
        if plain is None or long is None or instructed is None:
            return "its chat template does not write every message exactly once"
        found = Around(instructed[0], plain[0], instructed[1], long[1], long[2], plain[-1])
        turns = tuple(Message("assistant" if place % 2 else "user", words) for place, words in enumerate(_WORDS[1:]))
        for prompt in (turns[:1], turns[:3], turns, *((Message("system", _WORDS[0]), *turns[:n]) for n in (1, 3, 5))):
            if _rendered(renderer, prompt) != found.rendered(prompt):
                return "its chat template does more than put fixed texts around messages"
    except (TemplateError, TypeError, ValueError) as error:
        return f"its chat template refuses a conversation ({error})"
    return found


def _rendered(renderer: Renderer, prompt: Sequence[Message]) -> str:
    """The prompt's text, without the beginning-of-sequence token where Ollama writes that itself."""
    text: str = renderer.tokenizer.apply_chat_template(
        conversation(tuple(prompt), renderer.frame),
        chat_template=renderer.template,
        tokenize=False,
        add_generation_prompt=True,
    )
    return text.removeprefix(renderer.tokenizer.bos_token) if begins_itself(renderer) else text


def _between(text: str, prompt: Sequence[Message]) -> list[str] | None:
    """What stands before, between and after the messages of ``prompt``; None where one is not there exactly once."""
    places = [text.find(message.content) for message in prompt]
    if any(text.count(message.content) != 1 for message in prompt) or places != sorted(places):
        return None
    edges = [0]
    for place, message in zip(places, prompt, strict=True):
        edges += [place, place + len(message.content)]
    edges.append(len(text))
    return [text[edges[n] : edges[n + 1]] for n in range(0, len(edges), 2)]


def _trims(renderer: Renderer) -> bool:
    """Whether the template drops white space around a message."""
    return f" {_USER}\n" not in _rendered(renderer, (Message("user", f" {_USER}\n"),))


def modelfile_of(renderer: Renderer, file: str) -> tuple[str, str]:
    """The Modelfile for the GGUF ``file`` in the same folder; or "", with why there is none and what to do."""
    found = around(renderer)
    if isinstance(found, str):
        return "", f"{found}; write one with a TEMPLATE of your own, or serve the file with llama.cpp, which reads it"
    # Not those that cannot stand between quotes there: their numbers are in the file itself, and end a turn, too.
    stops = "".join(
        f'PARAMETER stop "{stop}"\n'
        for stop in (renderer.tokenizer.decode([token]) for token in renderer.stop_token_ids)
        if stop.isprintable() and not {'"', "\\"} & {*stop}
    )
    return (
        f"FROM ./{file}\n\n"
        f"{_TRIMS if _trims(renderer) else ''}"
        f'TEMPLATE """{found.go()}"""\n\n'
        "# Where the clone was taught to stop.\n"
        f"{stops}\n"
        "# As it was measured: the likeliest token, always.\n"
        "PARAMETER temperature 0\n"
        "PARAMETER repeat_penalty 1\n"
    ), ""
