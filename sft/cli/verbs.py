"""What each verb does: call one function, print. Whatever is heavy is imported inside the verb that needs it."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from sft.errors import RunError, UserError

if TYPE_CHECKING:
    from sft import checking
    from sft.exporting import Gguf, Merged
    from sft.recipes import Resolved
    from sft.runs import Run
    from sft.scorecards import Scorecard
    from sft.secret_scan import Finding as Secret

__all__ = [
    "check",
    "compare",
    "demo",
    "evaluate",
    "export",
    "plan",
    "preview",
    "recipes",
    "report",
    "run",
    "score",
    "train",
]


def demo(options: argparse.Namespace) -> None:
    """The shipped recipe, from nothing or from where it was."""
    options.recipe, options.resume, options.keep_going, options.allow_change = "demo", True, False, False
    run(options)


def run(options: argparse.Namespace) -> None:
    """Check, split, train, evaluate, report."""
    from sft import loop

    resolved = _resolved(options)
    folder = _folder(options, resolved)
    if options.verb == "run" and not options.resume:
        loop.say(resolved.to_text())
    with quiet(), _begun(options, resolved, folder) as one:
        loop.fit(one, resolved.recipe, resume=options.resume)
        card = loop.evaluate(one, resolved.recipe, profile=options.profile)
        if loop.is_main():
            _print_report(one, card)


def train(options: argparse.Namespace) -> None:
    """The first half of a run."""
    from sft import loop

    resolved = _resolved(options)
    folder = _folder(options, resolved)
    if not options.resume:
        loop.say(resolved.to_text())
    with quiet(), _begun(options, resolved, folder) as one:
        fitted = loop.fit(one, resolved.recipe, resume=options.resume)
        if fitted is not None and loop.is_main():
            loss = "" if fitted.eval_loss is None else f", validation loss {fitted.eval_loss:.4f}"
            print(f"{folder}: {fitted.steps} steps{loss}; measure it with: sft evaluate {folder}")


def evaluate(options: argparse.Namespace) -> None:
    """The second half of a run; or, with ``--held-out``, any adapter or model on any file."""
    if options.held_out is not None:
        _evaluate_elsewhere(options)
        return
    for name in ("train", "base", "output", "max_prompts"):
        if getattr(options, name) is not None:
            raise UserError(
                f"--{name.replace('_', '-')}: goes with --held-out FILE; a run itself is measured as its recipe says"
            )
    from sft import loop
    from sft.runs import Run

    try:
        opened = Run.open(options.target, writing=loop.is_main())
    except RunError as error:
        if (Path(options.target) / "manifest.json").exists():
            raise
        raise RunError(f"{error}; what was trained elsewhere is judged with --held-out FILE") from None
    with quiet(), opened as one:
        if not one.resolved_recipe_path.exists():
            raise RunError(
                f"{one.path}: was not made by a recipe, so there is nothing to measure again; "
                f"compute its scorecard again with `sft report {one.path} --recompute`"
            )
        with one.session() if loop.is_main() else contextlib.nullcontext():
            card = loop.evaluate(
                one,
                loop.load_recipe(one),
                split=options.split or "test",
                profile=options.profile,
                checker=options.checker,
            )
        if loop.is_main():
            _print_card(options, one, card)


def _evaluate_elsewhere(options: argparse.Namespace) -> None:
    if options.split is not None:
        raise UserError("--split: a held-out file is no split of a run; leave out --split or --held-out")
    from sft import elsewhere, loop

    folder = options.output or Path("runs") / f"{Path(options.target).name}-on-{Path(options.held_out).stem}"
    with quiet():
        one, card = elsewhere.evaluate(
            options.target,
            options.held_out,
            train=options.train,
            base=options.base,
            output=folder,
            profile=options.profile or "standard",
            checker=options.checker or "",
            max_prompts=options.max_prompts or 200,
        )
    if loop.is_main():
        _print_card(options, one, card)


def score(options: argparse.Namespace) -> None:
    """A scorecard from completions on file."""
    from sft import scoring

    bar = {}
    for name, value in _pairs(options.bar, "--bar", "METRIC=POINTS", "--bar chrf=60").items():
        try:
            bar[name] = float(value)
        except ValueError:
            raise UserError(f"--bar {name}={value}: is no number; write for example --bar chrf=60") from None
    card, one = scoring.score(
        options.target,
        train=options.train,
        checker=options.checker or "",
        bar=bar,
        further=options.metric,
        output=options.output,
        fast=options.fast,
    )
    if options.json:
        print(json.dumps(card.to_dict(), ensure_ascii=False))
        return
    _print_verdict(card)
    print(scoring.to_text(card))
    if one is not None:
        print(f"\nReport: {one.report_html_path}")


def report(options: argparse.Namespace) -> None:
    """The report again, from what is on file."""
    from sft import observing, reports
    from sft.runs import Run

    with Run.open(options.target, writing=options.recompute) as one:
        if options.recompute:
            observing.remeasure(one)
        page = reports.render(one)
        print(json.dumps(observing.read_scorecard(one).to_dict(), ensure_ascii=False) if options.json else page)


def compare(options: argparse.Namespace) -> None:
    """Two runs or more side by side."""
    from sft import comparing
    from sft.runs import Run, write_text

    found = comparing.compare([Run.open(target) for target in options.targets])
    write_text(options.output, found.to_html())
    if options.json:
        print(json.dumps(found.to_dict(), ensure_ascii=False))
    else:
        print(f"{found.to_text()}\n\nPage: {options.output}")


def check(options: argparse.Namespace) -> None:
    """What is in a file, or what a recipe makes of it."""
    from sft import checking

    finding = checking.check(
        options.target,
        format=options.format,
        columns=_pairs(options.column, "--column", "FIELD=NAME", "--column prompt=question"),
        overrides=options.set,
        rejected=options.rejected,
    )
    secrets = _secrets(finding) if options.secrets else None
    if options.json:
        asked = {} if secrets is None else {"secrets": [one.to_dict() for one in secrets]}
        print(json.dumps(finding.to_dict() | asked, ensure_ascii=False))
    elif secrets is None:
        print(finding.to_text())
    else:
        _print_with_secrets(finding, secrets)
    finding.demand(keep_going=options.keep_going)
    if secrets:
        from sft.secret_scan import reviewing

        reviewing.demand(options.target, secrets)


def preview(options: argparse.Namespace) -> None:
    """The first rows as the model will see them."""
    from sft import loop
    from sft.gathering import gather

    resolved = _resolved(options)
    with quiet():
        gathered = gather(resolved.recipe, keep_going=True)
        from sft.preview import preview as drawn

        renderer = loop.renderer_of(resolved.recipe)
        rows = renderer.render_all(gathered.splits.train[: options.rows])[0]
    color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    print(drawn(rows, renderer.tokenizer, color=color))


def plan(options: argparse.Namespace) -> None:
    """What a fit will take, before it does."""
    from sft import planning

    resolved = _resolved(options)
    with quiet():
        made = planning.plan(resolved.recipe, options.recipe, options.set, probe=options.probe)
    print(json.dumps(made.to_dict(), ensure_ascii=False) if options.json else made.to_text())


def export(options: argparse.Namespace) -> None:
    """The clone in shapes that other programs load."""
    if options.merged is None and options.gguf is None:
        raise UserError("sft export: what into? Name a folder with --merged DIR, or a file with --gguf FILE")
    if options.outtype is not None and options.gguf is None:
        raise UserError("sft export: --outtype is of a GGUF file; name one with --gguf FILE")
    from sft.runs import Run

    one = Run.open(options.target)
    made: dict[str, Merged | Gguf] = {}
    with quiet():
        from sft import exporting

        if options.merged is not None:
            made["merged"] = exporting.export_merged(one, options.merged)
        if options.gguf is not None:
            made["gguf"] = exporting.export_gguf(one, options.gguf, options.outtype or "f16")
    if options.json:
        print(json.dumps({name: each.to_dict() for name, each in made.items()}, ensure_ascii=False))
    else:
        print("\n".join(each.to_text() for each in made.values()))


def recipes(options: argparse.Namespace) -> None:
    """The shelf."""
    from sft import recipes as shelf

    if options.action == "list":
        rows = shelf.shipped()
        width = max(len(name) for name, _, _ in rows)
        for name, _, about in rows:
            print(f"{name:<{width}}  {about}")
        return
    if options.name is None:
        raise UserError(f"sft recipes {options.action}: which one? `sft recipes` lists them")
    if options.action == "show":
        print(shelf.find(options.name).read_text(encoding="utf-8"), end="")
    else:
        print(shelf.copy(options.name, options.destination))


# -- around them ------------------------------------------------------------------------------------------


def _resolved(options: argparse.Namespace) -> Resolved:
    from sft import recipes

    return recipes.resolve(options.recipe, options.set, to_follow=True)


def _secrets(finding: checking.Finding) -> list[Secret]:
    """What is found in every demonstration, held out or not: the report and the card show some of those too."""
    from sft.secret_scan import in_demonstrations

    return in_demonstrations(finding.reading.demonstrations)


def _print_with_secrets(finding: checking.Finding, secrets: Sequence[Secret]) -> None:
    from sft.secret_scan import reviewing

    text = finding.to_text()
    if secrets:  # so there is something to mend
        text = text.removesuffix("Nothing to mend.").removesuffix("Nothing else to mend.").rstrip()
    print(f"{text}\n\n{reviewing.to_text(secrets)}")


def _folder(options: argparse.Namespace, resolved: Resolved) -> Path:
    return options.output or Path("runs") / (resolved.recipe.name or Path(options.recipe).stem)


def _begun(options: argparse.Namespace, resolved: Resolved, folder: Path) -> AbstractContextManager[Run]:
    """The run that the options begin, or go on with."""
    from sft import loop

    if options.allow_change and not options.resume:
        raise UserError("--allow-change: goes with --resume, for a new run has nothing to change from")
    return loop.begin(
        resolved,
        folder,
        resume=options.resume,
        keep_going=options.keep_going,
        allow_change=options.allow_change,
    )


def _pairs(given: Sequence[str], option: str, shape: str, example: str) -> dict[str, str]:
    """``NAME=VALUE`` words as a mapping."""
    pairs = {}
    for item in given:
        name, sign, value = item.partition("=")
        if not (name and sign and value):
            raise UserError(f"{option} {item}: is not {shape}; write for example {example}")
        pairs[name] = value
    return pairs


def _print_card(options: argparse.Namespace, one: Run, card: Scorecard) -> None:
    if options.json:
        print(json.dumps(card.to_dict(), ensure_ascii=False))
    else:
        _print_report(one, card)


def _print_report(one: Run, card: Scorecard) -> None:
    """The verdict in words, and where to read the rest."""
    from sft import reports

    page = reports.render(one)
    _print_verdict(card)
    print(f"Report: {page}")


def _print_verdict(card: Scorecard) -> None:
    verdict = card.verdict
    print(f"\nVerdict: {verdict.rung}\n")
    print(verdict.sentence)
    if verdict.shortfall:
        print(verdict.shortfall)
    for reason in verdict.reasons:
        print(f"  - {reason}")
    if card.looks > 1:
        print(
            f"  - the {card.split} split has been looked at {card.looks} times: if anything was chosen by those looks, "
            "these figures are too good to be true"
        )
    print(f"Next: {verdict.next_step}\n")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside, the engine's deprecation notes stay out of the user's sight; they are ours to act on, not his."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
