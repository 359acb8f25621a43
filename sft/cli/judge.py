"""Verbs that judge: evaluate, score, report, compare. Whatever is heavy is imported inside the verb that needs it."""

from __future__ import annotations

import argparse

from sft.cli.door import as_json
from sft.cli.printing import pairs, print_run, print_verdict
from sft.errors import UserError


def evaluate(options: argparse.Namespace) -> None:
    """The second half of a run; with ``--held-out``, any adapter or model on any file; with ``--endpoint`` a server."""
    from sft.verbs import judge as verbs

    one = verbs.evaluate(
        options.target,
        split=options.split,
        profile=options.profile,
        checker=options.checker,
        headline=options.headline,
        metrics=options.metric,
        normalise=options.normalise,
        engine=options.engine,
        served_model=options.served_model,
        held_out=options.held_out,
        train=options.train,
        base=options.base,
        output=options.output,
        max_prompts=options.max_prompts,
        endpoint=options.endpoint,
        route=options.route,
        parallel=options.parallel,
        patience=options.patience,
    )
    if one.served is None:
        print_run(options, one)
    else:
        print(as_json(one.served.to_dict()) if options.json else one.served.to_text())


def score(options: argparse.Namespace) -> None:
    """A scorecard from completions on file."""
    from sft.reports.terminal import to_text
    from sft.verbs import judge as verbs

    bar = {}
    for name, value in pairs(options.bar, "--bar", "METRIC=POINTS", "--bar chrf=60").items():
        try:
            bar[name] = float(value)
        except ValueError:
            raise UserError(f"--bar {name}={value}: is no number; write for example --bar chrf=60") from None
    card = verbs.score(
        options.target,
        train=options.train,
        checker=options.checker or "",
        bar=bar,
        metrics=options.metric,
        headline=options.headline or "chrf",
        normalise=options.normalise,
        output=options.output,
        fast=options.fast,
    )
    if options.json:
        print(as_json(card.to_dict()))
        return
    print_verdict(card)
    print(to_text(card))
    if options.output is not None:
        print(f"\nReport: {options.output / 'report.html'}")


def report(options: argparse.Namespace) -> None:
    """The report again, from what is on file."""
    from sft.fidelity import stored
    from sft.reports.report import render
    from sft.runs.run import Run

    with Run.open(options.target, writing=options.recompute) as one:
        if options.recompute:
            stored.remeasure(one)
        page = render(one)
        print(as_json(stored.read_scorecard(one).to_dict()) if options.json else page)


def compare(options: argparse.Namespace) -> None:
    """Two runs or more side by side."""
    if options.rounds:
        _compare_rounds(options)
        return
    if options.plain:
        raise UserError("--plain: goes with --rounds, whose control it is")
    from sft.reports.compare_page import to_text
    from sft.verbs import judge as verbs

    found = verbs.compare(*options.targets, output=options.output)
    if options.json:
        print(as_json(found.to_dict()))
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
    print(as_json(found.to_dict()) if options.json else f"{to_text(found)}\n\nReport: {page}")
