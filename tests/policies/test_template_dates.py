"""No chat template sees the clock: the date is one, in training, evaluation and export."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.engine
pytest.importorskip("transformers")

from small_tokenizers import CHATML, chatml
from transformers import AutoTokenizer

from sft.demonstrations.demonstration import Message
from sft.errors import PolicyError
from sft.policies.rendering import renderer_for
from sft.policies.template_clock import TODAY, dated

USER = Message("user", "How are you?")


def prompt(renderer: Any) -> str:
    return renderer.tokenizer.decode(renderer.prompt_ids((USER,)))


@pytest.mark.parametrize(
    ("asks", "said"),
    [
        ("{{ strftime_now('%d %b %Y') }}", "26 Jul 2024"),
        ('{{ strftime_now("%d " ~ "%b") }}', "26 Jul"),
        ("{{ strftime_now('%d' + ' ' + '%B') }}", "26 July"),
        ("{% set form = '%Y-%m-%d' %}{{ strftime_now(form) }}", "2024-07-26"),
        ("{% set form = '%-d/%-m %%d %H:%M:%S' %}{{ strftime_now(form) }}", "26/7 %d 00:00:00"),
        ("{% set clock = strftime_now %}{{ clock('%A') }}", "Friday"),
        ("{{ strftime_now(format='%d.%m.') }}", "26.07."),
        ('{{ strftime_now("%d\\u0020%b") }}', "26 Jul"),
        ("{% macro day() %}{{ strftime_now('%' ~ 'j') }}{% endmacro %}{{ day() }}", "208"),
        ("{{ [('%Y' ~ '')] | map('string') | first | replace('%Y', strftime_now('%' ~ 'y')) }}", "24"),
        ("{% if strftime_now is defined %}{{ strftime_now('%s' ~ '') }}{% endif %}", "1721952000"),
        ("{% set form = '%' %}[{{ strftime_now(form) }}]", "[%]"),
    ],
)
def test_whatever_way_a_template_asks_it_is_told_one_date(asks: str, said: str) -> None:
    """A format that was put together gave garbage, and one in a variable today's date, in every prompt."""
    tokenizer = chatml("{{ 'Today: ' }}" + asks + "{{ '.\n' }}" + CHATML)
    renderer = renderer_for(tokenizer)
    assert prompt(renderer).startswith(f"Today: {said}.\n<|im_start|>user")
    assert renderer.today == "2024-07-26"


def test_every_directive_is_the_one_that_python_gives() -> None:
    letters = "aAbBcCdDeFgGhHIjklmMnpPrRStTuUVwWxXyYzZ%"
    form = "|".join(f"%{flag}{letter}" for letter in letters for flag in ("", "-"))
    tokenizer = chatml("{% set form = " + json.dumps(form) + " %}{{ strftime_now(form) }}\n" + CHATML)
    assert prompt(renderer_for(tokenizer)).startswith(TODAY.strftime(form).replace("\n", "\n"))


def test_the_date_goes_with_the_template_wherever_it_is_saved(tmp_path: Path) -> None:
    """Saved, loaded and settled again it is the same text, under the same hash: export and proof compare those."""
    first = renderer_for(chatml("{% set form = '%d %b' %}{{ strftime_now(form) }}\n" + CHATML))
    first.tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    said = loaded.apply_chat_template([{"role": "user", "content": "How are you?"}], tokenize=False)
    assert said.startswith("26 Jul\n<|im_start|>user"), "whoever serves it with transformers alone"
    again = renderer_for(loaded)
    assert (again.template, again.template_hash) == (first.template, first.template_hash)
    assert prompt(again) == prompt(first)


def test_a_template_that_only_asks_whether_there_is_a_clock_stays_as_it_is() -> None:
    template = (
        "{% if strftime_now is defined %}{% set d = strftime_now('%d') %}{% endif %}{# strftime_now(x) #}" + CHATML
    )
    assert dated(template) == template.replace("strftime_now('%d')", '"26"')
    assert renderer_for(chatml(CHATML)).today is None


@pytest.mark.parametrize("drawn", ["{{ ['a', 'b'] | random }}", "{{ lipsum() }}"])
def test_a_template_that_draws_by_chance_is_refused(drawn: str) -> None:
    """The clock is not the only thing that makes a prompt another one than that of a minute ago."""
    with pytest.raises(PolicyError, match=r"draws by chance .* give another with model\.template"):
        renderer_for(chatml(drawn + CHATML))


def test_words_about_chance_and_the_clock_are_no_code() -> None:
    template = "At random | random; lipsum, strftime_now(now).\n" + CHATML
    assert prompt(renderer_for(chatml(template))).startswith("At random | random; lipsum, strftime_now(now).\n")


def test_the_date_is_on_record_with_the_template(tiny_model: Path, tmp_path: Path) -> None:
    from sft.cli import main
    from sft.runs.run import Run

    began = time.strftime("%Y-%m-%d")
    template = tmp_path / "dated.jinja"
    template.write_text("{% set form = '%Y-%m-%d' %}{{ strftime_now(form) }}\n" + CHATML, encoding="utf-8")
    rows = [{"prompt": f"question {n}", "completion": f"the expert wrote {n}"} for n in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "recipe.yaml").write_text(
        f"model: {{name: {tiny_model}, template: {template}}}\ndemonstrations: {{path: {tmp_path / 'rows.jsonl'}}}\n"
        "split: {near_duplicates: allow}\ntraining: {max_steps: 1}\n",
        encoding="utf-8",
    )
    assert main(["train", str(tmp_path / "recipe.yaml"), "--output", str(tmp_path / "run")]) == 0
    run = Run.open(tmp_path / "run")
    assert run.manifest["template"]["today"] == "2024-07-26"
    saved = "".join(p.read_text(encoding="utf-8") for p in run.adapter_path.glob("*.jinja"))
    assert "macro strftime_now" in saved and began not in saved
