"""What several verbs print: a scorecard, a report's place, a verdict."""

from __future__ import annotations

import argparse
import contextlib
import json
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sft.errors import UserError

if TYPE_CHECKING:
    from sft.fidelity.scorecard import Scorecard
    from sft.runs.run import Run


def pairs(given: Sequence[str], option: str, shape: str, example: str) -> dict[str, str]:
    """``NAME=VALUE`` words as a mapping."""
    pairs = {}
    for item in given:
        name, sign, value = item.partition("=")
        if not (name and sign and value):
            raise UserError(f"{option} {item}: is not {shape}; write for example {example}")
        pairs[name] = value
    return pairs


def print_card(options: argparse.Namespace, one: Run, card: Scorecard) -> None:
    """As JSON where that was asked for; otherwise the verdict, and where the report is."""
    if options.json:
        print(json.dumps(card.to_dict(), ensure_ascii=False))
    else:
        print_report(one, card)


def print_report(one: Run, card: Scorecard) -> None:
    """The verdict in words, and where to read the rest."""
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


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside, the engine's deprecation notes stay out of the user's sight; they are ours to act on, not his."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
