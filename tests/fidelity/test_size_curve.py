"""Fidelity against the number of demonstrations: what is planted is said, and more is not promised where nothing is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import known_scorecards
import numpy as np
import pytest

from sft.errors import RunError
from sft.fidelity.size_curve import MeasuredSize, SizeCurve, read_size_curve, size_curve_of
from sft.reports.sections.chapters import body
from sft.reports.sections.size_curve import pictures, size_sentences, to_text
from sft.runs.atomic_files import write_json
from sft.runs.run import Run

SIZES, PROMPTS = (50, 100, 200, 400), 80


def planted(
    b: float, *, seeds: int = 3, c: float = 0.5, run: float = 0.002, world: int = 0, uneven: float = 0.0
) -> SizeCurve:
    """Clones whose bits per byte follow 0.8 + b (n / 400)**-c, each run with luck of its own.

    ``uneven``: by that share the rows of a subset are more with one seed and fewer with another.
    """
    draw = np.random.default_rng(world)
    prompts = draw.normal(0, 0.2, PROMPTS)
    measured = []
    for seed in range(seeds):
        for n in SIZES:
            luck = draw.normal(0, run)
            per = 0.8 + b * (n / 400) ** -c + prompts + luck + draw.normal(0, 0.05, PROMPTS)
            ids = [str(number) for number in range(PROMPTS)]
            measured.append(
                MeasuredSize(
                    f"{n}-{seed}", n + int(uneven * n * (seed - 1)) if n < max(SIZES) else n, seed,
                    {key: float(40 - 20 * (value - 0.8)) for key, value in zip(ids, per, strict=True)},
                    {key: float(60 * value) for key, value in zip(ids, per, strict=True)},
                    dict.fromkeys(ids, 60), {key: key for key in ids},
                )
            )  # fmt: skip
    return size_curve_of(measured, "chrf", seed=0)


def test_a_curve_that_falls_says_what_more_would_bring() -> None:
    curve = planted(0.1)
    half, hundred, again = size_sentences(curve)
    assert "of all 400 demonstrations finds the expert\u2019s words likelier than that of 200: 0.0" in half
    assert hundred.startswith("100 more demonstrations would save 0.0") and "by the fitted curve" in hundred
    assert again.startswith("400 more demonstrations would save 0.0")
    truth = 0.1 * (1 - 2**-0.5)
    told = curve.more["400"]
    assert told.low is not None and told.high is not None and told.low < truth < told.high
    assert "more-demonstrations" in [chapter.key for chapter in body(known_scorecards.ALL, None, curve).chapters]
    assert [name for name, _ in pictures(curve)] == ["size-curve"] and not list(pictures(None))
    assert "400" in to_text(curve) and "validation prompts" in to_text(curve)


def test_a_flat_curve_says_that_more_would_not_help_and_why_only_where_it_is_known() -> None:
    curve = planted(0.0, run=0.0005)
    *_, last = size_sentences(curve)
    assert (
        last.startswith("More of the same would not help: as many again save less than 1 %") and "experts" not in last
    )
    *_, with_experts = size_sentences(curve, known_scorecards.ALL)
    assert "as close as experts are to each other" in with_experts
    short = replace(known_scorecards.ALL, closure=known_scorecards.closure("not cloned"))
    assert "experts" not in size_sentences(curve, short)[-1]


@pytest.mark.parametrize("b", [0.0, 0.05])
def test_more_is_not_called_useless_where_it_helps_nor_promised_where_it_does_not(b: float) -> None:
    """20 worlds of each: a wrong word in more than 3 would be by chance once in 400 tries."""
    wrong = "more demonstrations would save" if not b else "would not help"
    said = [" ".join(size_sentences(planted(b, world=world))) for world in range(20)]
    assert sum(wrong in words for words in said) <= 3


def test_one_run_a_size_tells_of_no_more() -> None:
    curve = planted(0.1, seeds=1)
    assert not curve.more and curve.law is not None
    assert "it takes `--seeds 3`" in size_sentences(curve)[-1] and len(size_sentences(curve)) == 2


def test_it_is_read_back_and_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    curve = planted(0.1)
    with Run.create(tmp_path / "all") as run:
        assert read_size_curve(run) is None
        write_json(run.size_curve_path, curve.to_dict())
        assert read_size_curve(run) == curve
        write_json(run.size_curve_path, curve.to_dict() | {"seeds": "many"})
        with pytest.raises(RunError, match=r"size-curve.json: seeds: .*; write it again: sft curve"):
            read_size_curve(run)
    other = MeasuredSize("x", 10, 0, {"a": 1.0}, {"a": 1.0}, {"a": 1}, {"a": "a"})
    with pytest.raises(RunError, match="shares no measured prompt"):
        size_curve_of([other, replace(other, rows=20, scores={"b": 1.0}, bits={"b": 1.0})], "chrf", seed=0)


def test_subsets_of_prompts_that_differ_in_rows_are_one_size() -> None:
    """Where a prompt has several demonstrations an eighth was 18 rows by one seed and 15 by another: a traceback."""
    even, uneven = planted(0.1), planted(0.1, uneven=0.1)
    assert uneven == even, "the mean of 45, 50 and 55 is 50"
