"""A guardrail is written in one way wherever it is shown: in the verdict, the report, the terminal and the card."""

from __future__ import annotations

from pathlib import Path

import pytest
from factories import make_run
from known_scorecards import judged, known, planted

from sft.fidelity.conventions import GUARDRAIL_LIMITS
from sft.fidelity.guardrails import VERBATIM, over_limit, written
from sft.fidelity.scorecard import Guardrail, Scorecard
from sft.fidelity.stored import read_scorecard
from sft.metrics.estimate import Estimate
from sft.publishing.card_facts import tables
from sft.reports.report import render
from sft.reports.terminal import to_text
from sft.runs.run import Run, write_json

RAILS = (
    (Guardrail("empty", known(0.125, 0.1, 0.15), 0.01, True, "no word"), "12.5 % [10.0, 15.0]", "1 %"),
    (Guardrail(VERBATIM, known(0.02, 0.01, 0.03), 0.005, True, "word for word"), "2.0 % [1.0, 3.0]", "0.5 %"),
    (Guardrail("wordiness", known(2.5, 2.0, 3.0), 2.0, True, "words for one"), "2.500 [2.000, 3.000]", "2"),
)


@pytest.mark.parametrize(("rail", "measured", "limit"), RAILS, ids=["share", "copies", "not ours"])
def test_value_and_limit_are_in_one_unit(rail: Guardrail, measured: str, limit: str) -> None:
    assert written(rail) == (measured, limit)
    (reason,) = (said for said in judged(planted(guardrails=(rail,))).reasons if said.startswith(rail.name))
    assert reason == f"{rail.name}: {measured}, the limit is {limit}; {rail.meaning}"


def test_wherever_a_guardrail_is_shown_it_is_the_same(tmp_path: Path) -> None:
    """A limit of half a per cent was "0%" in the verdict, and one that is no share was a share in the terminal."""
    run = make_run(tmp_path / "run", prompts=40)
    card: Scorecard = read_scorecard(run)
    with Run.open(run.path, writing=True) as one:
        write_json(one.scorecard_path, card.to_dict() | {"guardrails": [planted_rail(rail) for rail, _, _ in RAILS]})
        one.update_manifest(files={})
    render(Run.open(run.path))
    report, card = run.report_md_path.read_text(encoding="utf-8"), read_scorecard(Run.open(run.path))
    (rows,) = (table.rows for table in tables(card) if table.title == "Guardrails")
    for (rail, measured, limit), row in zip(RAILS, rows, strict=True):
        assert row[1:3] == (measured, limit)
        assert f"red: {rail.name} {measured}; " in to_text(card)
        assert f"| over the limit | {measured} | {limit}" in report.replace("\\", "")


def planted_rail(rail: Guardrail) -> dict[str, object]:
    return planted(guardrails=(rail,)).to_dict()["guardrails"][0]


def test_a_guardrail_just_at_its_limit_is_not_over_it() -> None:
    for name, limit in GUARDRAIL_LIMITS.items():
        assert not over_limit(name, Estimate(limit, None, None, 0.95, "", 100))
        assert over_limit(name, Estimate(limit + 1e-9, None, None, 0.95, "", 100))
