"""Every row has one fate, and the fates add up."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft.demonstrations.ledger import FATES, Ledger

#: Every fate but that of further passes, which are no rows.
OF_ROWS = sorted(set(FATES) - {"repeated"})
counts = st.dictionaries(st.sampled_from(OF_ROWS), st.integers(0, 1000))


@given(counts, st.integers(0, 1000))
def test_a_ledger_is_one_that_adds_up(fates: dict[str, int], unrolled: int) -> None:
    rows = sum(fates.values()) - unrolled
    if rows < 0:
        with pytest.raises(ValueError, match="negative"):
            Ledger(rows, unrolled, fates)
        return
    ledger = Ledger(rows, unrolled, fates)
    assert Ledger.from_dict(json.loads(json.dumps(ledger.to_dict()))) == ledger
    with pytest.raises(ValueError, match="does not add up"):
        Ledger(rows + 1, unrolled, fates)


@given(counts, st.integers(0, 1000))
def test_passes_over_rows_are_no_rows(fates: dict[str, int], passes: int) -> None:
    ledger = Ledger(sum(fates.values()), 0, fates).with_passes(passes)
    assert ledger.total == ledger.rows + passes == sum(ledger.fates.values())
    assert ledger.with_passes(0) == Ledger(ledger.rows, 0, fates)


@given(counts, st.sampled_from(OF_ROWS), st.sampled_from(OF_ROWS), st.data())
def test_moving_rows_loses_none(fates: dict[str, int], source: str, to: str, data: st.DataObject) -> None:
    ledger = Ledger(sum(fates.values()), 0, fates)
    there = fates.get(source, 0)
    moved = ledger.moved(data.draw(st.integers(0, there)), source=source, to=to)
    assert sum(moved.fates.values()) == ledger.rows
    if source != to:
        with pytest.raises(ValueError, match=f"negative: {source}"):
            ledger.moved(there + 1, source=source, to=to)


def test_what_a_ledger_cannot_say_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown fates: vanished"):
        Ledger(1, 0, {"vanished": 1})
    with pytest.raises(ValueError, match="tokens of fates that no row has: test"):
        Ledger(1, 0, {"trained": 1}, {"test": {"prompt": 1, "completion": 1}})
