"""The command line: parse, call one function, print. Results on stdout, progress and complaints on stderr.

Exit status: 0 fine; 1 our fault, with a traceback; 2 the user's, with one sentence.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft import __version__
from sft.errors import DemonstrationsError, UserError
from sft.refusals import system_refusal

if TYPE_CHECKING:
    from sft.recipes import Resolved
    from sft.runs import Run
    from sft.scorecards import Scorecard

__all__ = ["main", "parser"]

EPILOG = """\
The loop: sft check data.jsonl · sft run recipe.yaml · open report.html. Begin with `sft demo`.
Exit status: 0 fine, 1 a fault of this program, 2 something to mend, said in one sentence.
"""


def parser() -> argparse.ArgumentParser:
    """All verbs with their options."""
    top = argparse.ArgumentParser(
        prog="sft",
        description="Clone an expert's writing into a language model, and prove how well the clone worked.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"sft {__version__}")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)

    def verb(name: str, help: str, run: Any) -> argparse.ArgumentParser:
        one = verbs.add_parser(name, help=help, description=help)
        one.set_defaults(run=run)
        return one

    def takes_recipe(one: argparse.ArgumentParser, *, output: bool = True) -> None:
        one.add_argument("recipe", help="a recipe file, or the name of a shipped one (see `sft recipes`)")
        takes_settings(one)
        if output:
            one.add_argument("--output", "-o", type=Path, help="the run directory (default: runs/NAME)")
            one.add_argument("--resume", action="store_true", help="go on with the run that is there")
            takes_keep_going(one)

    def takes_settings(one: argparse.ArgumentParser) -> None:
        one.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="override one key of the recipe, e.g. --set training.learning_rate=1.0e-4",
        )

    def takes_keep_going(one: argparse.ArgumentParser) -> None:
        one.add_argument(
            "--keep-going",
            action="store_true",
            help="leave out rows that cannot become demonstrations, and write them down with the reasons",
        )

    def takes_json(one: argparse.ArgumentParser) -> None:
        one.add_argument("--json", action="store_true", help="print JSON")

    demo = verb("demo", "the whole loop on real demonstrations, with nothing to prepare", _demo)
    demo.add_argument("--output", "-o", type=Path, default=Path("runs/demo"), help="the run directory")
    takes_settings(demo)
    takes_recipe(verb("run", "check, split, train, evaluate and report, as a recipe says", _run))

    check = verb("check", "what is in a file of demonstrations, or what a recipe makes of it", _check)
    check.add_argument("target", help="a file of demonstrations, a recipe, or data:NAME")
    check.add_argument("--format", default="auto", help="shape of the rows (default: recognised)")
    check.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="FIELD=NAME",
        help="the file's own column name, e.g. --column prompt=question",
    )
    check.add_argument("--rejected", type=Path, metavar="FILE", help="write rejected rows and their reasons here")
    takes_settings(check)
    takes_keep_going(check)
    takes_json(check)

    preview = verb("preview", "what the model will see, with supervised tokens marked", _preview)
    takes_recipe(preview, output=False)
    preview.add_argument("--rows", "-n", type=int, default=3, help="how many demonstrations (default: 3)")

    train = verb("train", "fit the policy (also: accelerate launch -m sft train RECIPE)", _train)
    takes_recipe(train)

    evaluate = verb("evaluate", "measure the clone of a run on held-out prompts", _evaluate)
    evaluate.add_argument("target", type=Path, metavar="run", help="the run directory")
    evaluate.add_argument("--split", choices=["test", "validation"], default="test", help="which held-out split")
    takes_json(evaluate)

    report = verb("report", "write report.html and report.md again; needs no model", _report)
    report.add_argument("target", type=Path, metavar="run", help="the run directory")
    takes_json(report)

    chat = verb("chat", "talk to the clone", _chat)
    chat.add_argument("target", type=Path, metavar="run", help="the run directory")
    chat.add_argument("--base", action="store_true", help="talk to the base model instead")
    chat.add_argument("--max-new-tokens", type=int, default=256, help="longest answer (default: 256)")

    shelf = verb("recipes", "list the shipped recipes, show one, or copy one", _recipes)
    shelf.add_argument("action", nargs="?", choices=["list", "show", "copy"], default="list")
    shelf.add_argument("name", nargs="?", help="which recipe (show, copy)")
    shelf.add_argument("destination", nargs="?", type=Path, default=Path(), help="where to (copy; default: here)")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the exit status."""
    options = parser().parse_args(arguments)
    try:
        options.run(options)
        return _flush()
    except UserError as error:
        complaint = _shortened(error, options)
    except KeyboardInterrupt as stop:
        complaint = f"{stop or 'stopped; what was done is kept'}{_how_to_go_on(options)}"
        sys.stderr.write("\n")  # behind the ^C, or a progress bar
    except BrokenPipeError:  # whoever read our output has left before its end, as `head` does
        return _flush(0 if options.verb in ("preview", "recipes", "report") else 2)
    except Exception as error:
        refusal = system_refusal(error)
        if refusal is None:
            raise
        complaint = refusal + _how_to_go_on(options)
    status = _flush(2)
    sys.stderr.write(f"sft: {complaint}\n")
    return status


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
    """At most ``lines`` lines, and the command that writes all of them: ten thousand of one kind help nobody."""
    rows = str(error).split("\n")
    if len(rows) <= lines:
        return str(error)
    if not isinstance(error, DemonstrationsError) or not error.summary:
        return "\n".join([*rows[: lines - 1], f"... and {len(rows) - lines + 1} more"])
    more = f"... and {len(rows) - lines + 1} more; write all of them to a file: {_check_again(options)}"
    return "\n".join([*rows[: lines - 2], more, rows[-1]])


def _check_again(options: argparse.Namespace) -> str:
    """The command that writes every rejected row of what ``options`` reads to a file."""
    command = ["sft", "check", str(options.target if options.verb == "check" else options.recipe)]
    for name in ("set", "column"):
        command += [word for value in getattr(options, name, ()) for word in (f"--{name}", value)]
    if getattr(options, "format", "auto") != "auto":
        command += ["--format", options.format]
    return shlex.join([*command, "--rejected", "rejected.jsonl"])


def _how_to_go_on(options: argparse.Namespace) -> str:
    """The command that continues an interrupted verb."""
    settings = [word for setting in getattr(options, "set", ()) for word in ("--set", setting)]
    if options.verb == "demo":
        folder = ["--output", str(options.output)] if options.output != Path("runs/demo") else []
        command = ["demo", *settings, *folder]
    elif options.verb in ("run", "train"):
        folder = ["--output", str(options.output)] if options.output else []
        command = [options.verb, options.recipe, *settings, *folder]
        command += ["--keep-going"] * options.keep_going + ["--resume"]
    elif options.verb == "evaluate":
        command = ["evaluate", str(options.target), *(["--split", options.split] if options.split != "test" else [])]
    else:
        return ""
    return f"; go on with: {shlex.join(['sft', *command])}"


def _resolved(options: argparse.Namespace) -> Resolved:
    from sft import recipes

    return recipes.resolve(options.recipe, options.set)


def _folder(options: argparse.Namespace, resolved: Resolved) -> Path:
    return options.output or Path("runs") / (resolved.recipe.name or Path(options.recipe).stem)


# -- verbs ------------------------------------------------------------------------------------------------


def _demo(options: argparse.Namespace) -> None:
    options.recipe, options.resume, options.keep_going = "demo", True, False
    _run(options)


def _run(options: argparse.Namespace) -> None:
    from sft import loop

    resolved = _resolved(options)
    folder = _folder(options, resolved)
    if options.verb == "run" and not options.resume:
        loop.say(resolved.to_text())
    with _quiet(), loop.begin(resolved, folder, resume=options.resume, keep_going=options.keep_going) as run:
        loop.fit(run, resolved.recipe, resume=options.resume)
        card = loop.evaluate(run, resolved.recipe)
        if loop.is_main():
            _print_report(run, card)


def _train(options: argparse.Namespace) -> None:
    from sft import loop

    resolved = _resolved(options)
    folder = _folder(options, resolved)
    if not options.resume:
        loop.say(resolved.to_text())
    with _quiet(), loop.begin(resolved, folder, resume=options.resume, keep_going=options.keep_going) as run:
        fitted = loop.fit(run, resolved.recipe, resume=options.resume)
        if fitted is not None and loop.is_main():
            loss = "" if fitted.eval_loss is None else f", validation loss {fitted.eval_loss:.4f}"
            print(f"{folder}: {fitted.steps} steps{loss}; measure it with: sft evaluate {folder}")


def _evaluate(options: argparse.Namespace) -> None:
    from sft import loop
    from sft.runs import Run

    with _quiet(), Run.open(options.target, writing=loop.is_main()) as run:
        with run.session() if loop.is_main() else contextlib.nullcontext():
            card = loop.evaluate(run, loop.load_recipe(run), split=options.split)
        if not loop.is_main():
            return
        if options.json:
            print(json.dumps(card.to_dict(), ensure_ascii=False))
        else:
            _print_report(run, card)


def _report(options: argparse.Namespace) -> None:
    from sft import reports
    from sft.runs import Run, read_json

    run = Run.open(options.target)
    page = reports.render(run)
    if options.json:
        print(json.dumps(read_json(run.scorecard_path), ensure_ascii=False))
    else:
        print(page)


def _print_report(run: Run, card: Scorecard) -> None:
    """The verdict in words, and where to read the rest."""
    from sft import reports

    page = reports.render(run)
    verdict = card.verdict
    print(f"\nVerdict: {verdict.rung}\n")
    print(verdict.sentence)
    for reason in verdict.reasons:
        print(f"  - {reason}")
    print(f"Next: {verdict.next_step}\n")
    print(f"Report: {page}")


def _check(options: argparse.Namespace) -> None:
    from sft import checking

    finding = checking.check(
        options.target,
        format=options.format,
        columns=_pairs(options.column),
        overrides=options.set,
        rejected=options.rejected,
    )
    print(json.dumps(finding.to_dict(), ensure_ascii=False) if options.json else finding.to_text())
    finding.demand(keep_going=options.keep_going)


def _pairs(given: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for item in given:
        field, sign, name = item.partition("=")
        if not (field and sign and name):
            raise UserError(f"--column {item}: is not FIELD=NAME; write for example --column prompt=question")
        pairs[field] = name
    return pairs


def _preview(options: argparse.Namespace) -> None:
    from sft import loop
    from sft.gathering import gather

    resolved = _resolved(options)
    if options.rows < 1:
        raise UserError(f"--rows {options.rows}: shows nothing; give 1 or more")
    with _quiet():
        gathered = gather(resolved.recipe, keep_going=True)
        from sft.preview import preview

        renderer = loop.renderer_of(resolved.recipe)
        rows = renderer.render_all(gathered.splits.train[: options.rows])[0]
    color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    print(preview(rows, renderer.tokenizer, color=color))


def _chat(options: argparse.Namespace) -> None:
    from sft import loop
    from sft.runs import Run

    run = Run.open(options.target)
    with _quiet():
        conversation = loop.converse(run, base=options.base, max_new_tokens=options.max_new_tokens)
    asks = sys.stdin.isatty()
    if asks:
        sys.stderr.write("an empty line or Ctrl-D ends; /new forgets the conversation\n")
    while True:
        try:
            line = input("you> " if asks else "").strip()
        except EOFError:
            break
        if not line and asks:
            break
        if line == "/new":
            conversation.forget()
        elif line:
            with _quiet():
                conversation.say(line, lambda piece: print(piece, end="", flush=True))
            print()


def _recipes(options: argparse.Namespace) -> None:
    from sft import recipes

    if options.action == "list":
        rows = recipes.shipped()
        width = max(len(name) for name, _, _ in rows)
        for name, _, about in rows:
            print(f"{name:<{width}}  {about}")
        return
    if options.name is None:
        raise UserError(f"sft recipes {options.action}: which one? `sft recipes` lists them")
    if options.action == "show":
        print(recipes.find(options.name).read_text(encoding="utf-8"), end="")
    else:
        print(recipes.copy(options.name, options.destination))


# -- around them ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Inside, the engine's deprecation notes stay out of the user's sight; they are ours to act on, not his."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
