"""The verb ``chat``: what a line is (a message, the beginning of a longer one, or a command), and what Ctrl-C stops."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
from typing import TYPE_CHECKING

from sft.cli.printing import quiet
from sft.errors import UserError

if TYPE_CHECKING:
    from sft.policies.chat import Conversation

__all__ = ["ABOUT", "chat"]

_FENCE = '"""'
_COMMANDS = f"""\
/system TEXT   another system message, and a new conversation; /system alone shows it, /system - takes it away
/new           forget the conversation
/help          this
{_FENCE}            begins and ends a message of several lines; several lines that are pasted are one message, too
Ctrl-C         stops an answer; twice, it leaves, as an empty line and Ctrl-D do
"""
ABOUT = f"""\
A line is a message. It is answered with those before it in mind, and with the system message that all of the run's
demonstrations have, where they have one. Piped lines are answered one by one, and a fault ends them.

{_COMMANDS}"""
_COMMAND = re.compile(r"/([^\W\d_]\w*)(?:\s+(.*))?", re.DOTALL)


def chat(options: argparse.Namespace) -> None:
    """Lines from the user, answers from the clone."""
    from sft.runs.run import Run

    one = Run.open(options.target)
    with quiet():
        from sft.policies.chat import converse

        conversation = converse(one, base=options.base, max_new_tokens=options.max_new_tokens)
    asks = sys.stdin.isatty()
    _say(_about_system(conversation))
    if asks:
        _edit_lines()
        _say(f"an empty line or Ctrl-D leaves; /help tells of /new, /system, and messages of several lines ({_FENCE})")
    _talk(conversation, asks)


def _talk(conversation: Conversation, asks: bool) -> None:
    stops = 0  # Ctrl-C without a line in between
    while True:
        message = None
        try:
            message, verbatim = _message(asks)
            if message is None or (not message and asks):
                return
            stops = 0
            if message and (verbatim or not _obeyed(conversation, message)):
                _answer(conversation, message)
        except UserError as error:
            if not asks:  # a script that goes on after a fault would count its answers wrongly
                raise
            _say(str(error))
        except KeyboardInterrupt:
            sys.stdout.write("\n")
            stops += 1
            if stops > 1 or not asks:
                raise SystemExit(130) from None
            _say(f"{'' if message is None else 'stopped; '}Ctrl-C once more leaves, as Ctrl-D does")


def _message(asks: bool) -> tuple[str | None, bool]:
    """The next message, None at the end; and whether it stood between fences, where nothing is a command."""
    try:
        text = input("you> " if asks else "")
        text.encode()  # some terminals' settings let bytes through that are no text
        if not text.lstrip().startswith(_FENCE):
            return text.strip(), False
        lines = [text.lstrip().removeprefix(_FENCE)]
        while not lines[-1].rstrip().endswith(_FENCE):
            lines.append(input("...> " if asks else ""))
            lines[-1].encode()
    except EOFError:
        return None, False
    except UnicodeError:
        raise UserError("this line is not UTF-8; write it in UTF-8") from None
    lines[-1] = lines[-1].rstrip().removesuffix(_FENCE)
    return "\n".join(lines).strip(), True


def _obeyed(conversation: Conversation, message: str) -> bool:
    """Whether ``message`` was a command, and has been followed. Raises ``UserError`` for one that is none of ours."""
    command = _COMMAND.fullmatch(message)
    if command is None:
        return False
    name, text = command[1], (command[2] or "").strip()
    if name == "system":
        if text:
            conversation.begin(system="" if text == "-" else text)
        _say(_about_system(conversation))
    elif name == "new" and not text:
        conversation.begin(system=conversation.system)
        _say("a new conversation")
    elif name == "help" and not text:
        _say(_COMMANDS.rstrip())
    else:
        extra = " with a text behind it" if name in ("new", "help") else ""
        raise UserError(
            f"/{name}{extra}: is no command, and was not sent; /help lists them, and a message that begins so is "
            f"sent between two {_FENCE}"
        )
    return True


def _answer(conversation: Conversation, message: str) -> None:
    with quiet():
        remark = conversation.say(message, lambda piece: print(piece, end="", flush=True))
    print(flush=True)
    if remark:
        _say(remark)


def _about_system(conversation: Conversation) -> str:
    shown = conversation.system if conversation.system else f"none{conversation.why_none}"
    return f"system message: {shown}"


def _say(text: str) -> None:
    """To stderr: stdout holds answers alone."""
    sys.stdout.flush()
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _edit_lines() -> None:
    """Editing and history at the prompt, and pasted lines as one message, where Python came with readline."""
    with contextlib.suppress(ImportError):
        import readline

        readline.parse_and_bind("set enable-bracketed-paste on")
