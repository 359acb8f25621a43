"""What several verbs print: a scorecard, a report's place, a verdict."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sft.cli.door import as_json
from sft.errors import UserError

if TYPE_CHECKING:
    from sft.fidelity.scorecard import Scorecard
    from sft.runs.run import Run
    from sft.verbs.opened import OpenedRun


def pairs(given: Sequence[str], option: str, shape: str, example: str) -> dict[str, str]:
    """``NAME=VALUE`` words as a mapping."""
    pairs = {}
    for item in given:
        name, sign, value = item.partition("=")
        if not (name and sign and value):
            raise UserError(f"{option} {item}: is not {shape}; write for example {example}")
        pairs[name] = value
    return pairs


def print_run(options: argparse.Namespace, one: OpenedRun) -> None:
    """The scorecard as JSON where that was asked for; otherwise the verdict, and where the report is."""
    from sft.runs.processes import is_main

    if not is_main():
        return
    if options.json:
        print(as_json(one.scorecard.to_dict()))
    else:
        print_verdict(one.scorecard)
        print(f"Report: {one.report}")


def print_report(one: Run, card: Scorecard) -> None:
    """The verdict in words, and the report drawn."""
    from sft.reports.report import render

    page = render(one)
    print_verdict(card)
    print(f"Report: {page}")


def print_verdict(card: Scorecard) -> None:
    """The rung, its reasons, what to do next, and what to know before believing it."""
    from sft.reports.caveats import warnings_of
    from sft.reports.sections.from_start import from_start_sentences

    verdict = card.verdict
    print(f"\nVerdict: {verdict.rung}\n")
    print(verdict.sentence)
    if verdict.shortfall:
        print(verdict.shortfall)
    for reason in verdict.reasons:
        print(f"  - {reason}")
    for sentence in from_start_sentences(card):
        print(sentence)
    print(f"Next: {verdict.next_step}")
    for warning in warnings_of(card, card.looks):
        print(f"Note: {warning}")
    print()
