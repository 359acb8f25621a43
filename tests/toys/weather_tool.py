"""A tool, and a call of it, for tests of how templates write them."""

from __future__ import annotations

import json

from sft.demonstrations.demonstration import Call, Message

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "the weather",
        "parameters": {
            "type": "object",
            "properties": {"town": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["town"],
        },
    },
}
#: The list of tools as a demonstration holds it.
TOOLS = Message("tools", json.dumps([TOOL]))
ROME = Call("weather", '{"days": 3, "town": "Rome é"}')
