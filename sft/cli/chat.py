"""The verb ``chat``: turns with one policy, what a line is (a message, the beginning of a longer one, or a command),
and what Ctrl-C stops."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sft.errors import UserError
from sft.verbs.quiet import quiet

if TYPE_CHECKING:
    from sft.demonstrations.demonstration import Demonstration, Message
    from sft.policies.policy import Policy
    from sft.runs.run import Run

_FENCE = '"""'
_DIM, _RESET = "\033[2m", "\033[0m"
_COMMANDS = f"""\
/system TEXT   another system message, and a new conversation; /system alone shows it, /system - takes it away
/new           forget the conversation
/thoughts      show or hide what the clone thinks before it answers
/help          this
{_FENCE}            begins and ends a message of several lines; several lines that are pasted are one message, too
Ctrl-C         stops an answer; twice, it leaves, as an empty line and Ctrl-D do
"""
ABOUT = f"""\
A line is a message. It is answered with those before it in mind, and with the system message that all of the run's
demonstrations have, where they have one. Piped lines are answered one by one, and a fault ends them. A thought before
an answer is no part of it: it goes to stderr, dim on a terminal, and is left out where lines are piped, unless
--thoughts says otherwise. What later answers see of it is the chat template's affair.

{_COMMANDS}"""
_COMMAND = re.compile(r"/([^\W\d_]\w*)(?:\s+(.*))?", re.DOTALL)


class Conversation:
    """Turns with one policy, which sees all of them, and the ``system`` message before them, until it begins anew.

    ``why_none``: why there is no system message, where that needs a word. ``thinks``: whether thoughts are told apart.
    """

    def __init__(self, policy: Policy, max_new_tokens: int, system: str = "", why_none: str = "") -> None:
        self._policy = policy
        self._max_new_tokens = max_new_tokens
        self._turns: tuple[Message, ...] = ()
        self.system = system
        self.why_none = why_none
        self.thinks = policy.renderer.answers.thought_form is not None

    def begin(self, *, system: str) -> None:
        """Begin anew, with this system message ("": none). Raises ``UserError`` for what is no message."""
        if system:
            _turn("system", system)
        self._turns, self.system, self.why_none = (), system, ""

    def say(self, text: str, hand_on: Callable[[str, bool], None]) -> str:
        """Answer ``text``, in pieces as they are written, each with whether it is of a thought.

        Returns a remark if the answer is cut or empty, or nothing.

        Raises ``UserError``, with the conversation as it was, where the context is full or the template refuses the
        turns. ``KeyboardInterrupt`` ends the answer, and what was written of it stays in the conversation.
        """
        from sft.policies.generation import stream
        from sft.policies.weights import context_length

        head = (_turn("system", self.system),) if self.system else ()
        turns = (*self._turns, _turn("user", text))
        ids = self._policy.renderer.prompt_ids((*head, *turns))
        context = context_length(self._policy.model.config)
        room = self._max_new_tokens if context is None else context - len(ids)
        if room < 1:
            raise UserError(
                f"the conversation is {len(ids)} tokens long with this message, and the model's context ends at "
                f"{context}; it was not sent: begin anew with /new, or send a shorter one"
            )
        pieces: dict[bool, list[str]] = {False: [], True: []}

        def keep(piece: str, of_thought: bool) -> None:
            pieces[of_thought].append(piece)
            hand_on(piece, of_thought)

        most = min(room, self._max_new_tokens)
        try:
            answer, thought, finished = stream(self._policy, ids, max_new_tokens=most, hand_on=keep)
        except KeyboardInterrupt:
            self._keep(turns, "".join(pieces[False]), "".join(pieces[True]))
            raise
        self._keep(turns, answer, thought)
        if finished:
            return "" if answer.strip() else "(the answer is empty; neither it nor the message is remembered)"
        if room <= self._max_new_tokens:
            return f"(the answer is cut: the model's context of {context} tokens is full; /new begins anew)"
        return f"(the answer is cut at {self._max_new_tokens} tokens: --max-new-tokens)"

    def _keep(self, turns: tuple[Message, ...], answer: str, thought: str) -> None:
        """The turns and what was answered; a question without any answer is forgotten, for roles take turns."""
        if answer.strip():
            self._turns = (*turns, _turn("assistant", answer, thought.strip()))


def _turn(role: str, text: str, thought: str = "") -> Message:
    from sft.demonstrations.demonstration import Message

    try:
        return Message(role, text, thought)
    except ValueError as error:
        raise UserError(f"{error}; it was not sent: write it otherwise") from None


def _converse(run: Run, *, base: bool, max_new_tokens: int) -> Conversation:
    """Load the run's clone (or its base model) to talk to, as its demonstrations did: with their system message.

    There is none where they have none, or several. Raises ``RunError`` when the run is not trained.
    """
    from sft.demonstrations.stored import load_recipe, load_splits
    from sft.policies.policy import load_policy, load_renderer
    from sft.recipes.sources import source_of
    from sft.runs.run import demand_trained

    tuned = None if base else demand_trained(run)
    system, why_none = _system_of(load_splits(run).train)
    recipe = load_recipe(run)
    model = recipe.model
    base_model = source_of(model)
    renderer = load_renderer(base_model, recipe)
    policy = load_policy(base_model, renderer, dtype=model.dtype, tuned=tuned)
    return Conversation(policy, max_new_tokens, system, why_none)


def _system_of(demonstrations: Sequence[Demonstration]) -> tuple[str, str]:
    """The system message that all have, and otherwise why there is none."""
    found = {next((turn.content for turn in d.prompt if turn.role == "system"), "") for d in demonstrations}
    if len(found) < 2:
        return next(iter(found), ""), ""
    without = "some have none" if "" in found else "no two alike" if len(found) == len(demonstrations) else "several"
    return "", f" (the demonstrations differ in it: {without}; /system TEXT sets one)"


# -- the verb -----------------------------------------------------------------------------------------------


def chat(options: argparse.Namespace) -> None:
    """Lines from the user, answers from the clone."""
    from sft.runs.run import Run

    one = Run.open(options.target)
    with quiet():
        conversation = _converse(one, base=options.base, max_new_tokens=options.max_new_tokens)
    asks = sys.stdin.isatty()
    _say(_about_system(conversation))
    if asks:
        _edit_lines()
        _say(f"an empty line or Ctrl-D leaves; /help tells of /new, /system, and messages of several lines ({_FENCE})")
    _talk(conversation, asks, Shown(asks if options.thoughts is None else options.thoughts == "show"))


def _talk(conversation: Conversation, asks: bool, shown: Shown) -> None:
    stops = 0  # Ctrl-C without a line in between
    while True:
        message = None
        try:
            message, verbatim = _message(asks)
            if message is None or (not message and asks):
                return
            stops = 0
            if message and (verbatim or not _obeyed(conversation, message, shown)):
                _answer(conversation, message, shown)
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


def _obeyed(conversation: Conversation, message: str, shown: Shown) -> bool:
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
    elif name == "thoughts" and not text:
        shown.thoughts = not shown.thoughts
        why = "" if conversation.thinks else " (the run's demonstrations have none: they stand in the answer, if any)"
        _say(f"thoughts are {'shown' if shown.thoughts else 'hidden'}{why}")
    elif name == "help" and not text:
        _say(_COMMANDS.rstrip())
    else:
        extra = " with a text behind it" if name in ("new", "help", "thoughts") else ""
        raise UserError(
            f"/{name}{extra}: is no command, and was not sent; /help lists them, and a message that begins so is "
            f"sent between two {_FENCE}"
        )
    return True


@dataclass
class Shown:
    """What of an answer is shown. ``thoughts``: what was thought before it, too."""

    thoughts: bool
    _open: bool = False

    def piece(self, text: str, of_thought: bool) -> None:
        """A piece of an answer to stdout; of a thought to stderr, dim on a terminal."""
        if of_thought and not self.thoughts:
            return
        if of_thought and not self._open:
            self._open = True
            sys.stderr.write(_DIM if sys.stderr.isatty() else "")
        if of_thought:
            sys.stderr.write(text)
            sys.stderr.flush()
            return
        self.close()
        print(text, end="", flush=True)

    def close(self) -> None:
        """End the thought, if one is open."""
        if self._open:
            self._open = False
            sys.stderr.write(f"{_RESET if sys.stderr.isatty() else ''}\n")
            sys.stderr.flush()


def _answer(conversation: Conversation, message: str, shown: Shown) -> None:
    try:
        with quiet():
            remark = conversation.say(message, shown.piece)
    finally:
        shown.close()
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
