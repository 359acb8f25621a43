"""What roles and the keys of messages are called by those who write them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

#: Role as others write it, in lower case -> ours.
ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "chatgpt", "chatbot", "ai"), "assistant"),
    **dict.fromkeys(("tool", "observation", "function", "function_response", "tool_response", "ipython"), "tool"),
    **dict.fromkeys(("function_call", "tool_call"), "call"),
    "tools": "tools",
    "thought": "thought",
}
KNOWN = "system, user, assistant, tool"
#: What the two keys of a message are called elsewhere: used only to suggest a name, never to guess one.
SPOKEN_AS = ("speaker", "sender", "author", "user_role", "who", "from", "type", "name", "side")
SAID_AS = ("parts", "text", "message", "body", "utterance", "msg", "value", "said", "words")
TEXT_PARTS = ("text", "input_text", "output_text")
THOUGHT_PARTS = ("thinking", "reasoning")
CALL_PARTS = ("tool_use", "tool_result", "tool_call", "function_call", "function_call_output")
THOUGHTS = ("reasoning_content", "thinking", "reasoning", "thought")
#: Keys that say whether a turn is to be learned, as OpenAI, Axolotl and ms-swift have them.
MARKS = ("weight", "train", "training", "loss", "trainable", "loss_weight", "supervised", "learn")
#: How other keys begin that say it in a way not known here, where what they say is yes or no.
MAYBE_MARKS = ("train", "learn", "loss", "supervis", "mask", "ignore", "do_not_train", "no_train", "skip_loss")
#: A name that needs no quotes in YAML.
_PLAIN = re.compile(r"(?!(?i:true|false|yes|no|on|off|null)\Z)[^\W\d](?:[\w. /-]*\w)?")
CALLS = ("tool_calls", "function_call", "calls")
#: Keys of a message that change what it means -> what to do about it.
REFUSED = {
    **dict.fromkeys(
        ("images", "image", "image_url", "audio", "audios", "video", "videos", "file", "files"),
        "describe it in words, or leave the row out: demonstrations are text",
    ),
    "refusal": "write what was said as content",
    "channel": "write thoughts as reasoning_content and what was said as content",
    "recipient": "write the call as tool_calls",
    "prefix": "write whole turns",
    **dict.fromkeys(("ignore", "mask", "masked"), "write weight: 0 for a turn to read only, else take it out"),
    "train_detail": "mark whole turns: weight 0 or 1",
}


def key_names(message: Mapping[str, Any]) -> dict[str, str]:
    """How the two keys of ``message`` that are needed would be named in a recipe, as far as they can be told."""
    by_name = {key.lower(): key for key in message if isinstance(key, str)}
    known = {"role": ("role", *SPOKEN_AS), "content": ("content", *SAID_AS)}
    return {
        ours: next((by_name[name] for name in names if name in by_name), "YOUR_KEY") for ours, names in known.items()
    }


def how_to_name(message: Mapping[str, Any]) -> str:
    """:func:`key_names` as what to do."""
    named = key_names(message)
    shown = ", ".join(f"{ours}: {in_yaml(name)}" for ours, name in named.items())
    options = " ".join(f"--column {shlex.quote(f'{ours}={name}')}" for ours, name in named.items())
    return f"name its keys in the recipe, demonstrations.columns: {{{shown}}}; to `sft check`, {options}"


def in_yaml(name: str) -> str:
    """``name`` as it stands between braces of a recipe: in quotes where YAML would read something else."""
    return name if _PLAIN.fullmatch(name) else json.dumps(name, ensure_ascii=False)
