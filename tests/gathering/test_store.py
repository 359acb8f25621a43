"""The truth of a gathering is its events: what stands is a fold of them, and what recipes read is derived."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from gatherings import asked, gathering, served, submitted, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from sft.cli import main
from sft.demonstrations.demonstration import Demonstration, Message, Origin
from sft.errors import RunError
from sft.gathering import export
from sft.gathering.events import KINDS, Event, compacted, read_events
from sft.gathering.folder import Gathering, HeldOutKeys
from sft.gathering.items import Item, share_of, shared
from sft.gathering.prompts import screened
from sft.gathering.state import Standing


def event(n: int, kind: str, item: str = "", expert: str = "ada", **more: Any) -> Event:
    return Event(n, f"2026-03-01T10:00:{n % 60:02d}.000+00:00", kind, item, expert, **more)


ITEMS = asked(4)
KIND = st.sampled_from(sorted(KINDS))
EVENTS = st.lists(
    st.builds(
        lambda kind, item, expert, text, rev: (kind, item, expert, text, rev),
        KIND, st.sampled_from([one.id for one in ITEMS] + ["gone"]), st.sampled_from(["ada", "ben"]),
        st.text(min_size=1, max_size=8), st.integers(0, 5),
    ),
    max_size=40,
)  # fmt: skip


@settings(max_examples=50)
@given(EVENTS)
def test_any_beginning_of_any_events_is_a_state(rows: list[tuple[str, str, str, str, int]]) -> None:
    events = [
        event(n, kind, item if kind != "asked" else f"own{n}", who, rev=rev,
              text=text if kind in ("draft", "submitted", "asked") else None, parent=item if kind == "asked" else "")
        for n, (kind, item, who, text, rev) in enumerate(rows, 1)
    ]  # fmt: skip
    whole = Standing(ITEMS)
    for one in events:
        whole.apply(one)
        for answer in whole.answers():
            assert answer.text and answer.prompt[-1].role == "user"
        assert whole.lengths == {(answer.item.id, answer.expert): len(answer.text) for answer in whole.answers()}
        for name, some in whole.by_item().items():
            assert whole.status(whole.items[name], some) in ("open", "done", "flagged", "contested")
        for who in ("ada", "ben"):
            offered = whole.next_for(who)
            assert offered is None or offered.only in ("", who)


def test_the_states_of_an_item() -> None:
    (one, *_), standing = ITEMS, Standing(ITEMS)

    def stands(n: int, kind: str, **more: Any) -> str:
        standing.apply(event(n, kind, one.id, **more))
        return standing.work(one.id, "ada").status

    assert standing.work(one.id, "ada").status == "waiting"
    assert stands(1, "opened") == "opened"
    assert stands(2, "draft", text="a", rev=1) == "draft"
    assert stands(3, "submitted", text="ab", rev=2) == "submitted"
    assert [answer.text for answer in standing.answers()] == ["ab"]
    assert stands(4, "opened") == "submitted"  # who looks at an answer does not take it up
    assert stands(5, "reopened", rev=3) == "reopened"
    assert stands(6, "draft", text="abc", rev=4) == "draft"
    assert [answer.text for answer in standing.answers()] == ["ab"]  # nothing is lost until there is another
    assert stands(7, "submitted", text="abcd", rev=5) == "submitted"
    standing.apply(event(8, "withdrawn", one.id))
    assert not list(standing.answers())
    assert stands(9, "submitted", text="e", rev=6) == "submitted"
    assert [answer.text for answer in standing.answers()] == ["e"]


def test_flagged_is_shown_to_nobody_until_it_is_cleared() -> None:
    standing = Standing(ITEMS[:1])
    standing.apply(event(1, "flagged", ITEMS[0].id, reason="two questions"))
    assert standing.next_for("ben") is None
    standing.apply(event(2, "cleared", ITEMS[0].id, expert=""))
    assert standing.next_for("ben") == ITEMS[0] == standing.next_for("ada")


def test_an_item_in_hand_is_offered_to_nobody_else_for_half_an_hour() -> None:
    from datetime import UTC, datetime

    standing = Standing(ITEMS[:1])
    standing.experts |= {"ada": True, "ben": True}
    standing.apply(event(1, "opened", ITEMS[0].id))
    assert standing.next_for("ben", datetime(2026, 3, 1, 10, 29, tzinfo=UTC)) is None
    assert standing.next_for("ben", datetime(2026, 3, 1, 10, 31, tzinfo=UTC)) == ITEMS[0]


def test_drawing_is_the_same_in_any_order_and_when_items_are_added() -> None:
    items = asked(400)
    few, more = share_of(items[:300], 0.2, 7, "x"), share_of(list(reversed(items)), 0.2, 7, "x")
    assert few == more & {one.id for one in items[:300]} and 40 < len(few) < 80
    assert few != share_of(items[:300], 0.2, 8, "x")
    assert sum(one.shared for one in shared(items, 0.1, 0)) == len(share_of(items, 0.1, 0, "shared"))


CLONE = "The tide is the rise and fall of the sea, twice a day, caused by the pull of the moon."


@pytest.mark.parametrize(
    ("clone", "text", "said"),
    [
        (None, CLONE, "blind"),
        (CLONE, CLONE, "accepted"),
        ("cafe\u0301\r\nau lait", "caf\u00e9\nau lait", "accepted"),
        (CLONE, CLONE.replace("twice", "two times"), "edited"),
        (CLONE, "The tide is the rise and fall of water. Ask a fisherman about it; every harbour posts a table.",
         "continued"),
        (CLONE, CLONE + " And of the sun, a little.", "continued"),
        (CLONE, CLONE[:60], "edited"),
        (CLONE, "Nobody knows.", "rewritten"),
        (CLONE, "The tide is 19 c: none of it.", "rewritten"),
        ("潮汐是海水每天两次的涨落,由月亮的引力引起。", "潮汐是海水每天两次的涨落,由月球的引力引起。", "edited"),
        ("潮汐是海水每天两次的涨落,由月亮的引力引起,与太阳有关。", "潮汐是海水每天两次的涨落,由月亮的引力引起,问渔民吧",
         "continued"),
        ("المد هو ارتفاع البحر وانخفاضه مرتين في اليوم.", "المد هو ارتفاع الماء وانخفاضه مرتين في اليوم.", "edited"),
        ("🌊🌙🌊🌙🌊🌙", "🌊🌙🌊🌙🌊🌞", "edited"),
        ("🌊🌙🌊🌙🌊🌙", "☀️", "rewritten"),
    ],
)  # fmt: skip
def test_how_an_answer_came_about_is_read_off_the_texts(clone: str | None, text: str, said: str) -> None:
    assert export.how(clone, text) == said


def test_the_least_that_counts_as_continued() -> None:
    beginning = "x" * export.KEPT
    assert export.how(beginning + "abcdefghijklmnop", beginning + "1234567890") == "continued"
    assert export.how(beginning[1:] + "abcdefghijklmnop", beginning[1:] + "1234567890") != "continued"


def test_the_least_that_counts_as_edited() -> None:
    assert export.how("abcdefghij", "abcde12345") == "edited"
    assert export.how("abcdefghij", "abcd123456") == "rewritten"


def test_ter_is_sacrebleus_and_cuts_chinese_into_characters() -> None:
    assert export.distance("the cat sat on mat", "the cat sat on the mat today") == (2.0, 7.0)
    assert export.distance("我是人", "我是猫") == (1.0, 3.0)
    edits, words = export.distance("word " * 3000, "word " * 2990 + "other")
    assert (edits, words) == (10.0, 2991.0)


def test_events_are_written_and_read_again(tmp_path: Path) -> None:
    with gathering(tmp_path / "g", 3) as made:
        with served(made) as (_, who):
            item = who["ada"].answer("Caf\u00e9 \u2028 \U0001f600 \x00", seconds=12.5, keys=9, pasted=3)
        found = read_events(made.events_path)
        assert [one.n for one in found] == list(range(1, len(found) + 1))
        (answer,) = made.state(found).answers()
        assert (answer.text, answer.seconds, answer.keys, answer.pasted) == (
            "Caf\u00e9 \u2028 \U0001f600 \x00",
            12.5,
            9,
            3,
        )
    assert texts(tmp_path / "g") == {item: answer.text}


def test_a_torn_last_line_is_mended_and_a_damaged_one_refused_with_the_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "g"
    with gathering(folder, 3) as made, served(made) as (_, who):
        item = who["ada"].answer("one")
    events = folder / "events.jsonl"
    whole = events.read_bytes()
    events.write_bytes(whole + b'{"n":99,"at"')
    assert main(["collect", str(folder), "--check"]) == 0
    with Gathering.open(folder, writing=True) as made, served(made) as (_, who):
        assert who["ada"].do("withdrawn", item=item)[0] == 200
    assert b'"at"{' not in events.read_bytes()
    lines = events.read_bytes().splitlines(keepends=True)
    events.write_bytes(b"".join([lines[0], b"{broken\n", *lines[1:]]))
    assert main(["collect", str(folder), "--check"]) == 2
    said = capsys.readouterr().err
    assert "events.jsonl:2: is no event" in said and f"sft collect {folder} --repair" in said
    assert main(["collect", str(folder), "--repair"]) == 0
    assert "1 lines left out (2)" in capsys.readouterr().out
    assert events.read_bytes() == b"".join(lines) and (folder / "events.damaged.jsonl").exists()
    assert main(["collect", str(folder), "--check"]) == 0


def test_two_histories_copied_together_are_refused(tmp_path: Path) -> None:
    with gathering(tmp_path / "g", 3) as made, served(made) as (_, who):
        who["ada"].answer("one")
    events = tmp_path / "g" / "events.jsonl"
    events.write_bytes(events.read_bytes() * 2)
    with pytest.raises(RunError, match="two histories"):
        read_events(events)


def test_compacting_drops_drafts_and_keeps_the_rest_to_the_byte(tmp_path: Path) -> None:
    folder = tmp_path / "g"
    with gathering(folder, 3) as made, served(made) as (_, who):
        item = who["ada"].next()
        for rev in range(5):
            who["ada"].do("draft", item=item, text="a" * (rev + 1), rev=rev, seconds=rev)
        who["ada"].answer("aaaaaa", item)
        other = who["ada"].next()
        who["ada"].do("draft", item=other, text="not yet", rev=0)
    before = (folder / "events.jsonl").read_bytes().splitlines()
    state = Gathering.open(folder).state()
    assert main(["collect", str(folder), "--compact"]) == 0
    after = (folder / "events.jsonl").read_bytes().splitlines()
    assert len(after) == len(before) - 5 and set(after) < set(before)
    again = Gathering.open(folder).state()
    assert [vars_of(one) for one in again.answers()] == [vars_of(one) for one in state.answers()]
    assert again.work(other, "ada").text == "not yet"
    assert compacted(read_events(folder / "events.jsonl")) == read_events(folder / "events.jsonl")


def vars_of(answer: Any) -> dict[str, Any]:
    return {name: getattr(answer, name) for name in ("text", "n", "at", "expert", "prompt")}


def test_a_gathering_is_a_path_that_check_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "g"
    with gathering(folder, 40, ("ada", "ben")) as made, served(made) as (page, _):
        names = [("ada", "ben")[n % 2] for n in range(40)]
        told = (f"{name} says that it is answer {n}" for n, name in enumerate(names))
        submitted(page, *zip(names, (one.id for one in made.items()), told, strict=True))
    (folder / "demonstrations.jsonl").unlink()  # as after a kill: it is made again from the events
    assert main(["check", str(folder)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"experts +ada 20, ben 20", said) and re.search(r"rows +40", said)
    assert "Columns that no" not in said


def test_an_answer_that_began_from_a_clones_text_is_held_out_from_nothing(tmp_path: Path) -> None:
    from sft.demonstrations import selection
    from sft.recipes import parse

    rows = [
        {"prompt": f"question {n} about something of its own", "completion": f"answer {n}", "expert": "ada",
         "gathered": {"item": f"i{n}", "round": n % 2, "how": "edited" if n % 2 else "blind"}}
        for n in range(200)
    ]  # fmt: skip
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = parse(f"model: {{name: x}}\ndemonstrations: {{path: {tmp_path / 'd.jsonl'}}}\n").recipe
    found = selection.gather(recipe)
    held = [*found.splits.validation, *found.splits.test]
    assert held and all(d.origin is not None and d.origin.how == "blind" for d in held)
    left = found.ledger.fates["drafted_left_out"]
    assert left > 5 and len(found.splits.train) + len(held) + left == 200
    again = Demonstration.from_dict(held[0].to_dict())
    assert again.origin == held[0].origin and again.id == held[0].id
    plain = Demonstration(held[0].prompt, held[0].completion, expert="ada")
    assert plain.id == held[0].id  # how it was gathered is no part of what it is


@pytest.mark.parametrize("gathered", ['"yes"', '{"how": "guessed"}', '{"how": "blind", "round": -1}', '{"round": "1"}'])
def test_what_no_gathering_wrote_is_complained_about(
    tmp_path: Path, gathered: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text(f'{{"prompt": "a", "completion": "b", "gathered": {gathered}}}\n', encoding="utf-8")
    assert main(["check", str(path)]) == 2
    assert "d.jsonl:1: 'gathered' is not what a gathering wrote" in capsys.readouterr().err


def test_origin_says_whether_it_was_drafted() -> None:
    assert Origin("i", 1, "accepted").drafted and not Origin("i", 0, "blind").drafted


def test_what_is_held_out_is_never_asked() -> None:
    """Planted four ways: the same prompt, in other case and spacing, the same group, nearly the same words."""
    long = "Explain to a child of ten why the sea rises and falls twice on every day of the year, please, in two lines."

    def item(text: str, group: str = "") -> Item:
        return Item(text[:8] + group, (Message("user", text),), group=group)

    held = item(long)
    keys = HeldOutKeys(frozenset({held.key}), frozenset({"dialogue 7"}), (long,), 0.8, "runs/r0")
    fine = [item(f"Explain how thing {n} works and what it is for") for n in range(9)]
    near = item(long + " Thanks.")
    found = screened([*fine, held, item(long.upper().replace(" ", "  ")), item("Another", "dialogue 7"), near], keys)
    assert found.items == fine and [why for _, why in found.refused][:3] == ["same prompt", "same prompt", "same group"]
    assert found.refused[3][1].endswith("alike") and "are held out in runs/r0" in found.in_words(keys)


def test_frozen_keys_are_those_of_one_run(tmp_path: Path) -> None:
    with gathering(tmp_path / "g", 1) as made:
        keys = HeldOutKeys(frozenset({"a"}), frozenset(), ("text",), 0.8, "runs/r0")
        made.freeze(keys)
        made.freeze(keys)
        assert Gathering.open(made.path).held_out() == keys
        with pytest.raises(RunError, match=r"runs/r0 were frozen here.*--into"):
            made.freeze(HeldOutKeys(frozenset({"b"}), frozenset(), (), 0.8, "runs/other"))
