"""Rows of messages, what is read of them, and what is complained about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sft.demonstrations.demonstration import Call
from sft.demonstrations.formats import Reading, read
from sft.demonstrations.message_fields import MessageRules

ASK, SAY = {"role": "user", "content": "ask"}, {"role": "assistant", "content": "say"}
TOOLS = [{"type": "function", "function": {"name": "w", "parameters": {"type": "object", "properties": {}}}}]
RESULT = {"role": "tool", "content": "24 C"}
CALL = {"id": "c1", "type": "function", "function": {"name": "w", "arguments": '{"town": "Rome"}'}}
ROME = Call("w", '{"town": "Rome"}')


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def complaints(path: Path) -> list[str]:
    return [str(problem).removeprefix(str(path)) for problem in read(path).problems]


def reading(tmp_path: Path, *messages: Any, rules: MessageRules | None = None, **columns: Any) -> Reading:
    """One row of ``messages``, and columns beside them."""
    return read(lines(tmp_path / "x.jsonl", {"messages": list(messages), **columns}), rules=rules)


def complaint(tmp_path: Path, *messages: Any, **columns: Any) -> str:
    (one,) = complaints(lines(tmp_path / "x.jsonl", {"messages": list(messages), **columns}))
    return one


def said(found: Reading) -> list[tuple[list[str], str]]:
    return [([turn.text for turn in d.prompt], d.completion) for d in found.demonstrations]
