"""The preview shows what is supervised, and nothing in the data can reach the terminal."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.engine
pytest.importorskip("transformers")

from small_tokenizers import LLAMA2, chatml, llama2

from sft.demonstrations.demonstration import Demonstration, Message, Source
from sft.policies.rendered import preview, visible
from sft.policies.rendering import renderer_for

DEMONSTRATION = Demonstration(
    (Message("user", "Say ⟦hi⟧\x1b[31m"),), "Hi \U0001f389\n\x07there", source=Source("data/x.jsonl", 17)
)


def test_supervised_tokens_stand_between_brackets_when_piped() -> None:
    tokenizer = chatml()
    rendered = renderer_for(tokenizer).render(DEMONSTRATION)
    context, supervised = len(rendered.prompt_ids), len(rendered.completion_ids)
    assert preview([(DEMONSTRATION, rendered)], tokenizer, color=False) == (
        "Supervised tokens stand between ⟦ and ⟧; ⏎ is a newline.\n\n"
        f"data/x.jsonl:17  {context} context + {supervised} supervised tokens\n"
        "<|im_start|>user⏎\nSay \\u27e6hi\\u27e7\\x1b[31m<|im_end|>⏎\n<|im_start|>assistant⏎\n"
        "⟦Hi 🎉⏎\n\\x07there<|im_end|>⟧\n\n"
        f"1 shown: {context} context tokens, {supervised} supervised tokens\n"
    )


def test_supervised_tokens_stand_on_green_in_a_terminal_line_by_line() -> None:
    tokenizer = chatml()
    rendered = renderer_for(tokenizer).render(DEMONSTRATION)
    shown = preview([(DEMONSTRATION, rendered)], tokenizer, color=True)
    assert "\x1b[30;42mHi 🎉⏎\x1b[0m\n\x1b[30;42m\\x07there\x1b[0m\x1b[1;30;42m<|im_end|>\x1b[0m" in shown
    assert "⟦hi⟧" in shown
    assert "\x1b[31m" not in shown
    assert shown.count("\x1b[0m") == shown.count("\x1b[") - shown.count("\x1b[0m")


def test_spaces_in_front_of_runs_are_shown_and_rows_are_totalled() -> None:
    tokenizer = llama2(LLAMA2)
    renderer = renderer_for(tokenizer)
    rows, _ = renderer.render_all([Demonstration((Message("user", u),), "Fine") for u in ("How", "Why")])
    shown = preview(rows, tokenizer, color=False)
    assert "[INST] Why [/INST]⟦ Fine </s>⟧" in shown
    assert f"demonstration {rows[1][0].id}  " in shown
    context = sum(len(r.prompt_ids) for _, r in rows)
    supervised = sum(len(r.completion_ids) for _, r in rows)
    assert shown.endswith(f"2 shown: {context} context tokens, {supervised} supervised tokens\n")
    assert preview([], tokenizer, color=False).endswith("0 shown: 0 context tokens, 0 supervised tokens\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\r\n", "a\\tb\\r⏎\n"),
        ("\x9b2J\x00\x7f", "\\x9b2J\\x00\\x7f"),  # C1 and C0 controls
        ("\u202eabc\u2066", "\\u202eabc\\u2066"),  # text that would run backwards
        ("\u2028\ufeff", "\\u2028\\ufeff"),
        ("👩\u200d👧 naïve 你好", "👩\u200d👧 naïve 你好"),
    ],
)
def test_what_could_drive_or_deceive_a_terminal_is_escaped(text: str, shown: str) -> None:
    assert visible(text, marks=True) == shown
