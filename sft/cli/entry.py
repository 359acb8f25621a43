"""The command line: parse, call one function, print. Results on stdout, progress and complaints on stderr.

Exit status: 0 fine; 1 our fault, with a traceback; 2 the user's, with one sentence; 3 to 9 outcomes of a push;
130 stopped by Ctrl-C, 143 by SIGTERM, with one sentence.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
from collections.abc import Callable, Sequence

from sft.errors import DemonstrationsError, UserError, refuse_other_systems

try:
    refuse_other_systems()
except ImportError as error:  # before what cannot be imported there
    print(f"sft: {error}", file=sys.stderr)
    raise SystemExit(2) from None

from sft.cli.arguments import parser
from sft.cli.door import open_door
from sft.cli.examples import FIRST_STEPS
from sft.cli.hand_on import refuse_token
from sft.runs.machine import system_refusal
from sft.runs.processes import Terminated, gone, has_the_word, listening, others_are_gone, rank_and_world, status_of
from sft.runs.progress import QUIET
from sft.verbs.quiet import tell_nobody

#: Verbs that go on where they were when they are called again, and those that need ``--resume`` for it.
_GO_ON, _RESUME = ("demo", "curve", "sweep", "evaluate", "push"), ("run", "train", "correct")
#: Verbs that have done all their work by the time they print, and keep nothing of it when they are stopped before.
_ONLY_PRINT = ("preview", "plan", "recipes", "report", "compare", "score", "export")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the exit status. Whatever it prints goes through one door (``cli.door``)."""
    with open_door():
        return _run(list(sys.argv[1:] if arguments is None else arguments))


def _run(words: Sequence[str]) -> int:
    tell_nobody()  # before the hub's client is imported, which reads it then
    try:
        refuse_token(words)
    except UserError as error:
        _complain(str(error))
        return error.exit_status
    if not words:
        print(FIRST_STEPS, end="")
        return _flush()
    options = parser().parse_args(words)
    if getattr(options, "quiet", False):
        os.environ[QUIET] = "1"
    with listening(lambda why: _complain(f"{why}{how_to_go_on(options, words)}", above="\n")) as is_over:
        return _carried_out(options, words, is_over)


def _carried_out(options: argparse.Namespace, words: Sequence[str], is_over: Callable[[], None]) -> int:
    """Run the verb; the exit status. ``is_over`` is called before last words, which no further signal may cut off."""
    status, above = 2, ""
    try:
        options.run(options)
        return _flush()
    except UserError as error:
        complaint, status = _shortened(error, options), error.exit_status
    except (KeyboardInterrupt, Terminated) as stop:
        is_over()
        kept = "stopped" if options.verb in (*_ONLY_PRINT, "check", "import") else "stopped; what was done is kept"
        complaint, status = f"{str(stop) or kept}{how_to_go_on(options, words)}", status_of(stop)
        above = "\n"  # behind the ^C, or a progress bar, whichever process it is of
    except BrokenPipeError:  # whoever read our output has left before its end, as `head` does
        return _flush(0 if options.verb in _ONLY_PRINT else 2)
    except Exception as error:
        refusal = gone(error) if others_are_gone(error) else system_refusal(error)
        if refusal is None:
            raise
        complaint = refusal + how_to_go_on(options, words)
    is_over()
    status = _flush(status)
    _complain(complaint, above=above)
    return status


def _complain(complaint: str, *, above: str = "") -> None:
    """One sentence on stderr, from one process of all that a launcher has started."""
    if has_the_word():
        with contextlib.suppress(OSError):  # a terminal that was closed takes no more words
            sys.stderr.write(f"{above}sft: {complaint}\n")
            sys.stderr.flush()


def _flush(status: int = 0) -> int:
    """Write out what was printed; the exit status. Python itself would fail at exit, with a traceback."""
    try:
        sys.stdout.flush()
    except OSError as error:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # `head` may leave when it has seen enough
            sys.stderr.write(f"sft: standard output: {system_refusal(error)}\n")
            return 2
    return status


def _shortened(error: UserError, options: argparse.Namespace, lines: int = 40) -> str:
    """At most ``lines`` lines, and the command that writes all complaints: ten thousand of one kind help nobody."""
    rows = str(error).split("\n")
    if not isinstance(error, DemonstrationsError) or not error.summary:
        return "\n".join(rows if len(rows) <= lines else [*rows[: lines - 1], f"... and {len(rows) - lines + 1} more"])
    *rows, summary = rows
    hidden = len(rows) + 2 > lines
    again = _check_again(options) if hidden or len(error.problems) > len(rows) else ""
    more = [f"... and {len(rows) - lines + 2} more"] * hidden + [f"write all of them to a file: {again}"] * bool(again)
    return "\n".join([*(rows[: lines - 2] if hidden else rows), *(["; ".join(more)] if more else []), summary])


def _check_again(options: argparse.Namespace) -> str:
    """The command that writes every rejected row of what ``options`` reads to a file; "" where there is none."""
    if options.verb != "check" and not hasattr(options, "recipe"):
        return ""
    targets = options.target if options.verb == "check" else [options.recipe]
    if "-" in targets:  # standard input has been read, and is gone
        return ""
    command = ["sft", "check", *map(str, targets)]
    for name in ("set", "column"):
        command += [word for value in getattr(options, name, ()) for word in (f"--{name}", value)]
    if getattr(options, "format", "auto") != "auto":
        command += ["--format", options.format]
    if getattr(options, "encoding", None):
        command += ["--encoding", options.encoding]
    return shlex.join([*command, "--rejected", "rejected.jsonl"])


def how_to_go_on(options: argparse.Namespace, words: Sequence[str]) -> str:
    """The command that continues an interrupted verb: the same words, every flag kept."""
    if options.verb not in (*_GO_ON, *_RESUME):
        return ""
    resume = ["--resume"] if options.verb in _RESUME and not options.resume else []
    command = shlex.join(["sft", *words, *resume])
    started = rank_and_world()[1] > 1
    return f"; go on with: {f'accelerate launch (its options as before) -m {command}' if started else command}"
