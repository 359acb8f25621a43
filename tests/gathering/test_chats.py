"""One conversation in the form of every source, and what each source has of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import exports
import pytest
from exports import ANSWERS, CHATS, OWN, Import, answers, rows

from sft.cli import main


@pytest.mark.parametrize("form", CHATS)
def test_a_conversation_comes_out_the_same_of_every_source(form: str, tmp_path: Path, imported: Import) -> None:
    kind, make = CHATS[form]
    source = make(tmp_path)
    status, made, complaint = imported(source, *([] if form in OWN else ["--me", "ada"]))
    assert status == 0, complaint
    assert made["kind"] == kind and made["expert"] == OWN.get(form, "Ada")
    found = [pair for pair in answers(tmp_path / "out") if "@Ada see" not in pair[0]]
    assert found == ANSWERS
    account = json.loads((tmp_path / "out" / "ledger.json").read_text(encoding="utf-8"))
    assert account["rows"] + account["unrolled"] == sum(account["fates"].values())
    assert "invalid" not in account["fates"]


@pytest.mark.parametrize("form", [form for form in CHATS if form not in OWN])
def test_who_the_expert_is_is_asked_for_with_the_names_found(form: str, tmp_path: Path, imported: Import) -> None:
    source = CHATS[form][1](tmp_path)
    status, _, complaint = imported(source)
    assert status == 2 and complaint.count("\n") == 1
    assert "who is the expert? found were 'Ada' (" in complaint and "'Ben" in complaint and "--me" in complaint
    assert not (tmp_path / "out").exists()
    status, _, complaint = imported(source, "--me", "Aida")
    assert status == 2 and "--me Aida: wrote nothing in" in complaint and "'Ada' (" in complaint


def test_an_id_names_the_expert_too(tmp_path: Path, imported: Import) -> None:
    for source, known in (
        (exports.telegram, "user1"),
        (exports.slack, "ada@lovelace.org"),
        (exports.discord_json, "11"),
    ):
        (folder := tmp_path / known).mkdir()
        status, made, _ = imported(source(folder), "--me", known, output=folder / "out")
        assert status == 0 and answers(folder / "out")[0] == ANSWERS[0]
        assert made["expert"] == "Ada"


@pytest.mark.parametrize("make", [exports.telegram, exports.discord_json, exports.slack])
def test_json_that_is_cut_short_is_read_up_to_there(make: Any, tmp_path: Path, imported: Import) -> None:
    source = make(tmp_path)
    file = source if source.is_file() else next(source.rglob("2026-03-14.json"))
    text = file.read_text(encoding="utf-8")
    file.write_text(text[: text.index("Gern, um")], encoding="utf-8")
    status, made, _ = imported(source, "--me", "Ada")
    assert status == 0 and made["ledger"]["fates"]["invalid"] == 1
    found = [pair for pair in answers(tmp_path / "out") if "@Ada see" not in pair[0]]
    assert found == ANSWERS[:2]
    rejected = (tmp_path / "out" / "rejected.jsonl").read_text(encoding="utf-8")
    assert "messages that were read; export it again" in rejected


def test_telegram_leaves_out_what_was_passed_on(tmp_path: Path, imported: Import) -> None:
    _, made, _ = imported(exports.telegram(tmp_path), "--me", "Ada")
    assert made["ledger"]["fates"]["forwarded"] == 1 and made["ledger"]["fates"]["wordless"] == 2
    assert "Somebody else" not in (tmp_path / "out" / "demonstrations.jsonl").read_text(encoding="utf-8")


def test_telegram_passes_on_of_accounts_that_are_gone_too(tmp_path: Path, imported: Import) -> None:
    """``"forwarded_from": null`` was the expert's own message."""
    path = exports.telegram(tmp_path)
    path.write_text(path.read_text("utf-8").replace('"forwarded_from": "News"', '"forwarded_from": null'), "utf-8")
    _, made, _ = imported(path, "--me", "Ada")
    assert made["ledger"]["fates"]["forwarded"] == 1
    assert "Somebody else" not in (tmp_path / "out" / "demonstrations.jsonl").read_text(encoding="utf-8")


def test_addresses_in_slack_are_read_as_they_were_typed(tmp_path: Path, imported: Import) -> None:
    """An address of mail stood there twice, once as a link."""
    path = exports.slack(tmp_path)
    for day in path.rglob("????-??-??.json") if path.is_dir() else ():
        day.write_text(day.read_text("utf-8").replace(
            "I have, <!here>.", "Write to <mailto:b@n.org|b@n.org> or <tel:+442079460958|+44 20 7946 0958>, see <http://n.org|n.org>."
        ), "utf-8")  # fmt: skip
    imported(path, "--me", "Ada", "--personal", "keep")
    assert any(
        completion == "Write to b@n.org or +44 20 7946 0958 (tel:+442079460958), see http://n.org."
        for _, completion in answers(tmp_path / "out")
    )


def test_a_thread_of_slack_is_a_dialogue_of_its_own(tmp_path: Path, imported: Import) -> None:
    _, made, _ = imported(exports.slack(tmp_path), "--me", "Ada")
    assert made["groups"] == 3
    (thread,) = [row for row in rows(tmp_path / "out") if "@Ada see" in row["prompt"]]
    assert thread["prompt"] == "@Ada see the plan (https://example.org/a?b=1&c=2) in #mill <soon>?"
    assert thread["completion"] == "I have, @here."
    assert made["ledger"]["fates"]["wordless"] == made["ledger"]["fates"]["automatic"] == 1


def test_the_data_package_of_discord_has_ones_own_words_alone(tmp_path: Path, imported: Import) -> None:
    status, made, _ = imported(exports.discord_package(tmp_path))
    assert status == 0 and made["expert"] == "Ada"
    assert answers(tmp_path / "out") == [("Friday is fine: nine it is.\nBring the drawings 📐", "Those of the mill.")]
    assert made["ledger"]["fates"] == {"written": 1, "joined": 1, "unprompted": 2}
    assert "what the expert wrote before it that day" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_marks_of_discord_are_read(tmp_path: Path, imported: Import) -> None:
    source = exports.discord_json(tmp_path)
    whole = json.loads(source.read_text(encoding="utf-8"))
    whole["messages"][0]["content"] = "<@11> <a:wave:123> look <@99>"
    whole["messages"][0]["mentions"] = [{"id": "11", "nickname": "Ada"}]
    source.write_text(json.dumps(whole), encoding="utf-8")
    imported(source, "--me", "Ada")
    assert answers(tmp_path / "out")[0][0] == "@Ada :wave: look @somebody"


# -- the rule of chats ------------------------------------------------------------------------------------------


def chat(folder: Path, *said: tuple[str, str, str]) -> Path:
    """A chat of Telegram's: (minute, who, what)."""
    messages = [
        {"id": n, "type": "message", "date": f"2026-03-{at}:00", "from": who, "from_id": who, "text": text}
        for n, (at, who, text) in enumerate(said)
    ]
    path = folder / "result.json"
    path.write_text(json.dumps({"type": "private_group", "id": 1, "messages": messages}), encoding="utf-8")
    return path


def test_what_a_program_of_discord_wrote_is_no_turn(tmp_path: Path, imported: Import) -> None:
    """A bot's message stood in prompts as somebody's words."""
    source = exports.discord_json(tmp_path)
    data = json.loads(source.read_text(encoding="utf-8"))
    bot = {"id": "77", "name": "helper", "nickname": "helper", "isBot": True}
    data["messages"].insert(1, data["messages"][0] | {"id": "999", "author": bot, "content": "beep"})
    source.write_text(json.dumps(data), encoding="utf-8")
    status, made, _ = imported(source, "--me", "Ada")
    assert status == 0 and made["ledger"]["fates"]["automatic"] == 1
    assert "beep" not in (tmp_path / "out" / "demonstrations.jsonl").read_text(encoding="utf-8")
    assert answers(tmp_path / "out") == ANSWERS


def test_messages_within_minutes_are_one_turn(tmp_path: Path, imported: Import) -> None:
    talk = [
        ("02T09:00", "Ben", "Well?"),
        ("02T09:01", "Ada", "One."),
        ("02T09:05", "Ada", "Two."),
        ("02T09:30", "Ada", "3"),
    ]
    talk += [("02T09:31", "Ben", "And?"), ("02T09:32", "Ada", "Four.")]
    for minutes, first, unprompted in (("5", "One.\nTwo.", 1), ("1", "One.", 2), ("60", "One.\nTwo.\n3", 0)):
        _, made, _ = imported(chat(tmp_path, *talk), "--me", "Ada", "--join", minutes, "--overwrite")
        assert answers(tmp_path / "out") == [("Well?", first), ("And?", "Four.")]
        assert made["ledger"]["fates"].get("unprompted", 0) == unprompted
        second: Any = rows(tmp_path / "out")[1]["prompt"]
        assert second[1] == {"role": "assistant", "content": "One.\nTwo.\n3"}, (
            "what was not answered is context all the same"
        )


def test_a_day_begins_at_four_and_a_prompt_is_so_many_turns_long(tmp_path: Path, imported: Import) -> None:
    talk = [(f"02T23:{n:02}", who, f"{who} {n}") for n in range(50, 60) for who in ("Ben", "Ada")]
    talk += [
        ("03T03:59", "Ben", "late"),
        ("03T03:59", "Ada", "very"),
        ("03T04:00", "Ben", "early"),
        ("03T04:01", "Ada", "yes"),
    ]
    _, made, _ = imported(chat(tmp_path, *talk), "--me", "Ada", "--turns", "4")
    assert made["groups"] == 2
    found = rows(tmp_path / "out")
    assert [turn["content"] for turn in found[10]["prompt"]] == ["Ben 59", "Ada 59", "late"]
    assert found[11]["prompt"] == "early"


def test_others_words_are_left_out(tmp_path: Path, imported: Import) -> None:
    talk = [("02T09:00", "Ben", "my secret plan"), ("02T09:01", "Ada", "One."), ("02T09:31", "Ben", "two words"),
            ("02T09:32", "Ada", "Four.")]  # fmt: skip
    _, made, _ = imported(chat(tmp_path, *talk), "--me", "Ada", "--mask-others")
    assert made["ledger"]["fates"] == {"written": 1, "others": 2, "masked": 1}
    (row,) = rows(tmp_path / "out")
    assert [turn["content"] for turn in row["prompt"]] == [
        "[3 words by another person]", "One.", "[2 words by another person]"
    ]  # fmt: skip
    whole = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "out").iterdir())
    assert "secret" not in whole and "two words" not in whole


def test_half_a_letter_costs_its_message_and_no_other(tmp_path: Path, imported: Import) -> None:
    """Half an emoji in the name of a chat, of a person, and in a text, as a tool that cuts by length leaves it."""
    talk = [("02T09:00", "Ben \ud83d", "Well?"), ("02T09:01", "Ada", "One."), ("02T09:31", "Ben", "And?")]
    path = chat(
        tmp_path, *talk, ("02T09:32", "Ada", "Two \ud83d"), ("02T09:50", "Ben", "So?"), ("02T09:51", "Ada", "3.")
    )
    path.write_text(path.read_text(encoding="utf-8").replace('"id": 1', '"id": 1, "name": "Mill \\ud83d"'), "utf-8")
    status, made, _ = imported(path, "--me", "Ada", "--turns", "1")
    assert status == 0 and answers(tmp_path / "out") == [("Ben: Well?", "One."), ("Ben: So?", "3.")]
    assert made["ledger"]["fates"]["invalid"] == 1
    assert "holds a lone surrogate" in (tmp_path / "out" / "rejected.jsonl").read_text(encoding="utf-8")


def test_prompts_that_repeat_are_said_with_what_a_recipe_needs(
    tmp_path: Path, imported: Import, capsys: pytest.CaptureFixture[str]
) -> None:
    talk = [
        (f"{day:02}T09:0{n}", who, text)
        for day in range(1, 31)
        for n, who, text in ((0, "Ben", "Hello"), (1, "Ada", f"Good day no. {day}, how is the mill?"))
    ]
    _, made, _ = imported(chat(tmp_path, *talk), "--me", "Ada")
    assert made["repeated"] == 29
    assert "29 prompts of other rows again" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert (
        main(["import", str(tmp_path / "result.json"), "--me", "Ada", "-o", str(tmp_path / "out"), "--overwrite"]) == 0
    )
    assert "Prompts repeat: 29; a recipe needs split.near_duplicates: remove" in capsys.readouterr().out


def test_short_and_early_turns_are_left_out(tmp_path: Path, imported: Import) -> None:
    talk = [("01T09:00", "Ben", "Old?"), ("01T09:01", "Ada", "Old it is."), ("02T09:00", "Ben", "Well?"),
            ("02T09:01", "Ada", "Yes."), ("02T09:31", "Ben", "And?"), ("02T09:32", "Ada", "我明天来。")]  # fmt: skip
    _, made, _ = imported(chat(tmp_path, *talk), "--me", "Ada", "--min-words", "3", "--since", "2026-03-02")
    assert made["ledger"]["fates"] == {"written": 1, "others": 2, "old": 2, "short": 1}
    assert answers(tmp_path / "out") == [("And?", "我明天来。")], "characters of Chinese are words"
