"""The command line: parse, call one function, print. Results on stdout, progress and complaints on stderr.

Exit status: 0 fine; 1 our fault, with a traceback; 2 the user's, with one sentence.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft import __version__
from sft.errors import UserError

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
    except UserError as error:
        sys.stdout.flush()
        sys.stderr.write(f"sft: {_shortened(str(error))}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write(f"\nsft: stopped; what was done is kept{_how_to_go_on(options)}\n")
        return 2
    except BrokenPipeError:  # the reader of our output has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    return 0


def _shortened(text: str, lines: int = 40) -> str:
    """At most ``lines`` lines: all kinds of problem matter, ten thousand repetitions of one do not."""
    rows = text.split("\n")
    if len(rows) <= lines:
        return text
    return "\n".join([*rows[: lines - 2], f"... and {len(rows) - lines + 1} more", rows[-1]])


def _how_to_go_on(options: argparse.Namespace) -> str:
    """The command that continues an interrupted verb."""
    if options.verb == "demo":
        return "; go on with: sft demo" + (f" --output {options.output}" if options.output != Path("runs/demo") else "")
    if options.verb in ("run", "train"):
        settings = "".join(f" --set {setting}" for setting in options.set)
        folder = f" --output {options.output}" if options.output else ""
        return f"; go on with: sft {options.verb} {options.recipe}{settings}{folder} --resume"
    if options.verb == "evaluate":
        return f"; go on with: sft evaluate {options.target}"
    return ""


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
        sys.stderr.write(resolved.to_text() + "\n")
    with _quiet(), loop.prepare(resolved, folder, resume=options.resume, keep_going=options.keep_going) as run:
        with run.session():
            loop.fit(run, resolved.recipe, resume=options.resume)
            card = loop.evaluate(run, resolved.recipe)
        _print_report(run, card)


def _train(options: argparse.Namespace) -> None:
    from sft import loop

    resolved = _resolved(options)
    folder = _folder(options, resolved)
    if not options.resume:
        loop.say(resolved.to_text())
    with _quiet(), loop.prepare(resolved, folder, resume=options.resume, keep_going=options.keep_going) as run:
        with run.session():
            fitted = loop.fit(run, resolved.recipe, resume=options.resume)
        if fitted is not None and loop.is_main():
            loss = "" if fitted.eval_loss is None else f", validation loss {fitted.eval_loss:.4f}"
            print(f"{folder}: {fitted.steps} steps{loss}; measure it with: sft evaluate {folder}")


def _evaluate(options: argparse.Namespace) -> None:
    from sft import loop
    from sft.runs import Run

    with _quiet(), Run.open(options.target, writing=loop.is_main()) as run:
        with run.session() if loop.is_main() else _nothing():
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

    resolved = _resolved(options)
    if options.rows < 1:
        raise UserError(f"--rows {options.rows}: shows nothing; give 1 or more")
    with _quiet():
        gathered = loop.gather(resolved.recipe, keep_going=True)
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


def _nothing() -> Any:
    import contextlib

    return contextlib.nullcontext()


def _quiet() -> Any:
    """Inside, the engine's deprecation notes stay out of the user's sight; they are ours to act on, not his."""
    caught = warnings.catch_warnings()

    class Quiet:
        def __enter__(self) -> None:
            caught.__enter__()
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)

        def __exit__(self, *error: object) -> None:
            caught.__exit__(None, None, None)

    return Quiet()
