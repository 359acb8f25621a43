"""Ollama's templates, carried out in Python."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import Any

from sft.demonstrations.demonstration import Message
from sft.policies.rendering import Renderer
from sft.publishing.export.modelfile import modelfile_of


def commands(modelfile: str) -> list[tuple[str, str]]:
    """(Command or parameter, value) in order. What cannot be printed is dropped; three quotes hold several lines."""
    rest = "".join(character for character in modelfile if character.isprintable() or character in "\n\t")
    found = []
    while rest := rest.lstrip():
        if rest.startswith("#"):
            rest = rest.partition("\n")[2]
            continue
        name, _, rest = rest.partition(" ")
        if name == "PARAMETER":
            name, _, rest = rest.partition(" ")
        if rest.startswith('"""'):
            value, closed, rest = rest[3:].partition('"""')
            assert closed
        else:
            value, _, rest = rest.partition("\n")
            if value.startswith('"'):
                assert value.endswith('"')
                value = value[1:-1]
        found.append((name, value))
    return found


def go(template: str, messages: Sequence[Message]) -> str:
    """What Go's ``text/template`` writes for ``messages``: as much of it as is needed here, and nothing else."""
    action = r'\{\{(-?)\s*((?:"(?:\\.|[^"\\])*"|[^"}])*?)\s*\}\}'
    parts: list[tuple[str, str]] = []
    end = 0
    for match in re.finditer(action, template):
        text = template[end : match.start()]
        parts += [("text", text.rstrip() if match[1] else text), ("action", match[2])]
        end = match.end()
    parts.append(("text", template[end:]))
    assert not any("{{" in text or "}}" in text for kind, text in parts if kind == "text")
    return _run(parts, {"messages": messages})


def _run(parts: Sequence[tuple[str, str]], names: dict[str, Any]) -> str:
    written, place = "", 0
    while place < len(parts):
        kind, text = parts[place]
        place += 1
        if kind == "text":
            written += text
        elif text.startswith("range "):
            assert text == "range .Messages"
            ((_, body),), place = _branches(parts, place, text)
            for message in names["messages"]:
                names["."] = message
                written += _run(body, names)
        elif text.startswith("if "):
            branches, place = _branches(parts, place, text)
            for condition, body in branches:
                if condition is None or _value(condition, names):
                    written += _run(body, names)
                    break
        elif match := re.fullmatch(r"(\$\w+) (:?=) (true|false)", text):
            assert (match[1] in names) == (match[2] == "=") or match[2] == ":="
            names[match[1]] = match[3] == "true"
        else:
            written += _value(text, names)
    return written


def _branches(
    parts: Sequence[tuple[str, str]], place: int, opening: str
) -> tuple[list[tuple[str | None, list[tuple[str, str]]]], int]:
    """[(condition, parts)] up to the matching end, and the place after it."""
    found: list[tuple[str | None, list[tuple[str, str]]]] = [(opening.partition(" ")[2], [])]
    depth = 0
    for number in range(place, len(parts)):
        kind, text = parts[number]
        if kind == "action" and text == "end":
            if depth == 0:
                return found, number + 1
            depth -= 1
        elif kind == "action" and text.startswith(("if ", "range ")):
            depth += 1
        elif kind == "action" and text.startswith("else") and depth == 0:
            found.append((text.removeprefix("else if ") if text != "else" else None, []))
            continue
        found[-1][1].append(parts[number])
    raise AssertionError("an action without its end")


def _value(text: str, names: dict[str, Any]) -> Any:
    if match := re.fullmatch(r'eq \.Role "(\w+)"', text):
        return names["."].role == match[1]
    if text == ".Content":
        return names["."].content
    if text.startswith("$"):
        return names[text]
    assert re.fullmatch(r'"(?:\\(?:[abfnrtv"\\]|u[0-9a-f]{4}|U[0-9a-f]{8})|[^"\\\n])*"', text), text
    return ast.literal_eval(text)  # its escapes are Python's, too


def template_of(renderer: Renderer) -> str:
    made, why_not = modelfile_of(renderer, "clone.gguf")
    assert why_not == ""
    return dict(commands(made))["TEMPLATE"]
