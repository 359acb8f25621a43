"""A demonstration refuses nonsense, and says the same thing twice with the same hash."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata
from dataclasses import replace

import pytest
import regex
from hypothesis import assume, given, settings
from strategies import demonstrations, few_texts, nonsense, prompts, texts

from sft.demonstrations.demonstration import (
    Demonstration,
    Message,
    Source,
    held_out,
    prompt_key,
    prompt_text,
    text_fault,
)
from sft.demonstrations.messages import without_invisible
from sft.runs.hashes import fingerprint

USER = Message("user", "What is it?")
few = settings(max_examples=40, deadline=None)


def say(*roles: str) -> tuple[Message, ...]:
    return tuple(Message(role, f"turn {place}") for place, role in enumerate(roles))


@given(nonsense)
def test_no_message_and_no_completion_from_nonsense(value: object) -> None:
    with pytest.raises(ValueError):
        Message("user", value)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        Demonstration((USER,), value)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        Demonstration((USER,), "yes", references=(value,))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("", "is blank"),
        (" \u3000\n", "is blank"),
        ("\u200b\u200b", "is blank (only control or zero-width characters)"),
        ("\x00\x07", "is blank (only control or zero-width characters)"),
        (None, "must be text, not null"),
        (3, "must be text, not a number"),
        ("ab\ud83dc", "holds a lone surrogate at character 3"),
        (".", ""),
        ("\u200bx", ""),
        ("👩‍🚀", ""),
        ("\ue000", ""),  # private use: an icon in some font
    ],
)
def test_the_fault_of_a_text(value: object, fault: str) -> None:
    assert text_fault(value) == fault


@pytest.mark.parametrize("role", ["human", "observation", "User", "", None, 3])
def test_a_role_nobody_has_is_refused(role: object) -> None:
    with pytest.raises(ValueError, match="is not one of system, user, assistant"):
        Message(role, "text")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("prompt", "why"),
    [
        ((), "prompt is empty"),
        (say("system"), "must end with a user turn"),
        (say("user", "assistant"), "must end with a user turn"),
        (say("user", "user"), "a user message where the assistant's turn must stand"),
        (say("user", "system", "user"), "a system message where the assistant's turn must stand"),
        (say("system", "system", "user"), "a system message where the user's turn must stand"),
        (say("tool"), "a tool message where the user's turn must stand"),
        (say("user", "tool"), "a tool message where the assistant's turn must stand"),
        (say("user", "tools"), "a tools message where the assistant's turn must stand"),
        (say("user", "thought", "user"), "a thought message where the assistant's turn must stand"),
        ([USER], "must be a tuple of Message"),
        ("What is it?", "must be a tuple of Message"),
        (({"role": "user", "content": "x"},), "must be a tuple of Message"),
    ],
)
def test_a_prompt_out_of_order_is_refused(prompt: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Demonstration(prompt, "yes")  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["id", "group", "expert"])
@pytest.mark.parametrize("value", [" ", "\ud800", 7, None])
def test_names_are_text_too(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        Demonstration((USER,), "yes", **{field: value})  # type: ignore[arg-type]


def test_references_must_be_a_tuple() -> None:
    """A string is a sequence of strings: it would have become one reference per character."""
    with pytest.raises(ValueError, match="tuple of text"):
        Demonstration((USER,), "yes", references="no")  # type: ignore[arg-type]


@few
@given(demonstrations())
def test_a_demonstration_survives_a_file(demonstration: Demonstration) -> None:
    line = json.dumps(demonstration.to_dict(), ensure_ascii=False)
    again = Demonstration.from_dict(json.loads(line))
    assert again == demonstration
    assert again.key == demonstration.key == prompt_key(demonstration.prompt)


@few
@given(demonstrations(few_texts), demonstrations(few_texts))
def test_ids_are_equal_exactly_when_the_content_is(one: Demonstration, other: Demonstration) -> None:
    one, other = (Demonstration(d.prompt, d.completion, expert=d.expert, references=d.references) for d in (one, other))
    same = (one.prompt, one.completion, one.expert, one.references) == (
        other.prompt,
        other.completion,
        other.expert,
        other.references,
    )
    assert (one.id == other.id) == same
    assert (one.group == other.group) == (one.key == other.key)


@few
@given(demonstrations())
def test_ids_and_keys_are_fingerprints_of_plain_json(demonstration: Demonstration) -> None:
    """They are put together by hand for speed; whoever has only the file must get the same."""
    unnamed = Demonstration(
        demonstration.prompt, demonstration.completion, expert=demonstration.expert, references=demonstration.references
    )
    assert unnamed.id == fingerprint(demonstration.to_dict(content_only=True))
    seen = [(m.role, _UNSEEN.sub("", m.content)) for m in demonstration.prompt]
    folded = [(role, " ".join(unicodedata.normalize("NFKC", text).casefold().split())) for role, text in seen]
    assert unnamed.key == unnamed.group == fingerprint(folded)


#: What Unicode says is not drawn, by another library's tables; but for marks of shorthand and music.
_UNSEEN = regex.compile(
    r"(?V1)[[\p{Default_Ignorable_Code_Point}\p{Cc}\uFFF9-\uFFFB]--[\s\x1C-\x1F\U0001BCA0-\U0001BCA3\U0001D173-\U0001D17A]]"
)


def test_what_nobody_sees_is_what_unicode_says_is_not_drawn() -> None:
    every = "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    assert set(without_invisible(every)) ^ set(_UNSEEN.sub("", every)) == set()


def test_prompts_that_look_the_same_have_one_key_and_keep_their_text() -> None:
    """Soft hyphen, zero-width space, joiner and no-break, direction marks, variation selectors, tags, a control."""
    plain = "Where is the caf\u00e9\u2764 in Haag?"
    marks = "\xad \u200b \u200c \u2060 \ufeff \u200e \u200f \u2067\u2069 \ufe0f \U000e0101 \U000e0041 \x08 \u034f"
    for mark in marks.split(" "):
        for text in (mark + plain, plain + mark, plain.replace("Haag", f"Ha{mark}ag"), f"Where {mark} is" + plain[8:]):
            prompt = (Message("user", text),)
            assert prompt_key(prompt) == prompt_key((Message("user", plain),)), ascii(text)
            assert Demonstration(prompt, text).completion == text
    assert prompt_key((Message("user", "cafe\u200d\u0301"),)) == prompt_key((Message("user", "caf\u00e9"),))


@given(prompts())
def test_case_and_white_space_do_not_make_another_prompt(prompt: tuple[Message, ...]) -> None:
    loud = tuple(Message(m.role, f"  {m.content}\n") for m in prompt)
    assert prompt_key(loud) == prompt_key(prompt)


def test_prompts_that_differ_have_keys_that_differ() -> None:
    keys = {
        prompt_key(prompt)
        for prompt in [
            (USER,),
            (Message("system", "x"), USER),
            (Message("user", "What is it"),),
            (Message("user", "What\nis it? no"),),
            say("user", "assistant", "user"),
        ]
    }
    assert len(keys) == 5
    assert prompt_key((Message("user", "ＨELLO\u00a0straße"),)) == prompt_key((Message("user", "hello STRASSE"),))


def test_a_fingerprint_is_the_same_in_every_process() -> None:
    """Python's own hash() is salted per process; ranks of one run would disagree about the split."""
    code = "from sft.runs.hashes import fingerprint; print(fingerprint(['é', 1]))"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert there == fingerprint(["é", 1]) and len(there) == 32


def test_the_address_is_the_line_or_the_id() -> None:
    assert Demonstration((USER,), "yes", source=Source("a.jsonl", 3)).address == "a.jsonl:3"
    assert Demonstration((USER,), "yes", id="0123456789").address == "demonstration 01234567"


def test_prompt_text_is_the_words_alone() -> None:
    assert prompt_text((Message("system", "Be brief."), USER)) == "Be brief.\n\nWhat is it?"


def test_held_out_gathers_what_every_expert_wrote() -> None:
    rows = [
        Demonstration((USER,), "a cat", expert="ann"),
        Demonstration((USER,), "a cat", expert="ann"),
        Demonstration((USER,), "a cat", expert="bob", references=("a dog",)),
        Demonstration((Message("user", "Who?"),), "me"),
    ]
    first, second = held_out(rows)
    assert first.references == ("a cat", "a cat", "a dog")
    assert first.experts == ("ann", "bob", "")
    assert (first.id, first.cluster) == (rows[0].id, rows[0].group)
    assert second.references == ("me",)


def test_what_others_wrote_stands_beside_the_references_once() -> None:
    """Only for the very prompt that is held out: what was asked elsewhere is nothing to compare with."""
    rows = [Demonstration((USER,), "a cat", expert="ann"), Demonstration((Message("user", "Who?"),), "me")]
    others = [
        Demonstration((USER,), "a feline", expert="bob", references=("of unknown hand",)),
        Demonstration((USER,), "a feline", expert="bob"),
        Demonstration((USER,), "a feline", expert="eve"),
        Demonstration((USER,), "a cat", expert="eve"),
        Demonstration((Message("user", "never held out"),), "x", expert="bob"),
    ]
    first, second = held_out(rows, others)
    assert first.others == (("bob", "a feline"), ("eve", "a feline"), ("eve", "a cat"))
    assert (first.references, first.experts, second.others) == (("a cat",), ("ann",), ())
    assert [replace(item, others=()) for item in (first, second)] == held_out(rows)


@given(texts)
def test_whatever_is_no_fault_can_be_a_demonstration(text: str) -> None:
    assume(not text_fault(text))
    assert Demonstration((Message("user", text),), text).completion == text
