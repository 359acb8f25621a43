"""Verbs that judge: evaluate, score, report, compare. Whatever is heavy is imported inside the verb that needs it."""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path
from typing import Any

from sft.cli.printing import pairs, print_card, print_verdict, quiet
from sft.cli.served import evaluate_served, refuse_alone
from sft.errors import RunError, UserError


def evaluate(options: argparse.Namespace) -> None:
    """The second half of a run; with ``--held-out``, any adapter or model on any file; with ``--endpoint`` a server."""
    if options.endpoint is not None:
        evaluate_served(options)
        return
    refuse_alone(options)
    if options.held_out is not None:
        _evaluate_elsewhere(options)
        return
    for name in ("train", "base", "output", "max_prompts"):
        if getattr(options, name) is not None:
            raise UserError(
                f"--{name.replace('_', '-')}: goes with --held-out FILE; a run itself is measured as its recipe says"
            )
    from sft.demonstrations.stored import load_recipe
    from sft.runs.processes import is_main
    from sft.runs.run import Run

    try:
        opened = Run.open(options.target, writing=is_main())
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
        from sft.evaluation.evaluate import evaluate_clone, judged_by

        asked = _judged_by(options)
        with one.session() if is_main() else contextlib.nullcontext():
            card = evaluate_clone(
                one,
                judged_by(load_recipe(one), asked),
                split=options.split or "test",
                profile=options.profile,
                engine=(options.engine or "", options.served_model or ""),
                purpose=", ".join(["report", *(f"{name} {_in_words(value)}" for name, value in asked.items())]),
            )
        if is_main():
            print_card(options, one, card)


def _judged_by(options: argparse.Namespace) -> dict[str, Any]:
    """What the command line says of how it is judged, as settings of ``fidelity``."""
    asked: dict[str, Any] = {"checker": options.checker, "headline": options.headline}
    asked |= {"normalise": tuple(options.normalise), "metrics": tuple(options.metric)}
    return {name: value for name, value in asked.items() if value}


def _in_words(value: str | tuple[str, ...]) -> str:
    return value if isinstance(value, str) else " ".join(value)


def _evaluate_elsewhere(options: argparse.Namespace) -> None:
    if options.split is not None:
        raise UserError("--split: a held-out file is no split of a run; leave out --split or --held-out")
    from sft.evaluation import foreign
    from sft.runs.processes import is_main

    folder = options.output or Path("runs") / f"{Path(options.target).name}-on-{Path(options.held_out).stem}"
    with quiet():
        one, card = foreign.evaluate(
            options.target,
            options.held_out,
            train=options.train,
            base=options.base,
            output=folder,
            profile=options.profile or "standard",
            max_prompts=options.max_prompts or 200,
            engine=(options.engine or "", options.served_model or ""),
            **_judged_by(options),
        )
    if is_main():
        print_card(options, one, card)


def score(options: argparse.Namespace) -> None:
    """A scorecard from completions on file."""
    from sft.cli.score import score_file
    from sft.reports.terminal import to_text

    bar = {}
    for name, value in pairs(options.bar, "--bar", "METRIC=POINTS", "--bar chrf=60").items():
        try:
            bar[name] = float(value)
        except ValueError:
            raise UserError(f"--bar {name}={value}: is no number; write for example --bar chrf=60") from None
    card, one = score_file(
        options.target,
        train=options.train,
        checker=options.checker or "",
        bar=bar,
        further=options.metric,
        headline=options.headline or "chrf",
        normalise=options.normalise,
        output=options.output,
        fast=options.fast,
    )
    if options.json:
        print(json.dumps(card.to_dict(), ensure_ascii=False))
        return
    print_verdict(card)
    print(to_text(card))
    if one is not None:
        print(f"\nReport: {one.report_html_path}")


def report(options: argparse.Namespace) -> None:
    """The report again, from what is on file."""
    from sft.fidelity import stored
    from sft.reports.report import render
    from sft.runs.run import Run

    with Run.open(options.target, writing=options.recompute) as one:
        if options.recompute:
            stored.remeasure(one)
        page = render(one)
        print(json.dumps(stored.read_scorecard(one).to_dict(), ensure_ascii=False) if options.json else page)


def compare(options: argparse.Namespace) -> None:
    """Two runs or more side by side."""
    if options.rounds:
        _compare_rounds(options)
        return
    if options.plain:
        raise UserError("--plain: goes with --rounds, whose control it is")
    from sft.fidelity.compare import compare_runs
    from sft.reports.compare_page import to_html, to_text
    from sft.runs.run import Run, write_text

    found = compare_runs([Run.open(target) for target in options.targets])
    write_text(options.output, to_html(found))
    if options.json:
        print(json.dumps(found.to_dict(), ensure_ascii=False))
    else:
        print(f"{to_text(found)}\n\nPage: {options.output}")


def _compare_rounds(options: argparse.Namespace) -> None:
    """The learning curve over correction rounds; it goes on record in the last run, whose report is drawn again."""
    from sft.gathering.curve import chain_of, put_on_record
    from sft.gathering.rounds import round_of
    from sft.reports.report import render
    from sft.reports.sections.rounds import to_text
    from sft.runs.run import Run

    runs = sorted((Run.open(target) for target in options.targets), key=round_of)
    chain = runs if len(runs) > 1 else chain_of(runs[0])
    found = put_on_record(chain[-1], chain, [Run.open(one) for one in options.plain])
    page = render(chain[-1])
    print(json.dumps(found.to_dict(), ensure_ascii=False) if options.json else f"{to_text(found)}\n\nReport: {page}")
