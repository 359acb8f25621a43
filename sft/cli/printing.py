"""What several verbs print: a scorecard, a report's place, a verdict."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sft.cli.door import as_json, coloured
from sft.errors import UserError

if TYPE_CHECKING:
    from sft.fidelity.scorecard import Scorecard
    from sft.runs.run import Run
    from sft.verbs.opened import OpenedRun


def pairs(given: Sequence[str], option: str, shape: str, example: str) -> dict[str, str]:
    """``NAME=VALUE`` words as a mapping."""
    pairs: dict[str, str] = {}
    for item in given:
        name, sign, value = item.partition("=")
        if not (name and sign and value):
            raise UserError(f"{option} {item}: is not {shape}; write for example {example}")
        if name in pairs:
            raise UserError(f"{option} {name}: is given twice, as {pairs[name]} and {value}; give one of them")
        pairs[name] = value
    return pairs


#: Rung -> colour: red where nothing is shown, yellow where it only imitates, green above.
_COLOURS = {
    "no evidence of cloning": "31",
    "does not pass your bar": "31",
    "imitates": "33",
    "learned from the demonstrations": "32",
    "meets your bar": "32",
    "passes your bar": "32",
    "cloned, within the margin": "32",
}


def strong(text: str, colour: str = "") -> str:
    """``text`` in bold, and in ``colour``, on a terminal; as it is where NO_COLOR (no-color.org) is set."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\033[1{';' if colour else ''}{colour}m{text}\033[0m"


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
    coloured(f"\n{strong('Verdict:')} {strong(verdict.rung, _COLOURS.get(verdict.rung, ''))}\n")
    print(verdict.sentence)
    if verdict.shortfall:
        print(verdict.shortfall)
    for reason in verdict.reasons:
        print(f"  - {reason}")
    for sentence in from_start_sentences(card):
        print(sentence)
    coloured(strong("Next:"), end=" ")
    print(verdict.next_step)
    for warning in warnings_of(card, card.looks):
        print(f"Note: {warning}")
    print()
