"""Renderings from the cache are the ones that rendering gives, and anything that could make them others misses."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.engine

import small_tokenizers

from sft.demonstrations.demonstration import Demonstration, Message
from sft.errors import DemonstrationsError
from sft.policies import rendering_cache
from sft.policies.rendering import Renderer, renderer_for

ROWS = [
    Demonstration((Message("user", f"question {n}"),), f"answer \N{LATIN SMALL LETTER E WITH ACUTE} {'so ' * (n % 5)}")
    for n in range(40)
]


@pytest.fixture
def renderer() -> Renderer:
    return renderer_for(small_tokenizers.chatml())


@pytest.fixture(autouse=True)
def cache_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFT_CACHE", str(tmp_path))


#: Small sets too.
render_all = partial(rendering_cache.render_all, at_least=1)


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "renderings").glob("*"))


class NeverRenders:
    """A renderer that can be asked for everything but to render."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._renderer, name)

    def render_all(self, *_: object, **__: object) -> Any:
        raise AssertionError("rendered again")


def test_what_was_kept_is_what_rendering_gives(renderer: Renderer, tmp_path: Path) -> None:
    fresh = renderer.render_all(ROWS)
    short = min(len(row) for _, row in fresh[0])
    some_dropped = renderer.render_all(ROWS, max_length=short, too_long="drop")
    assert some_dropped[0] and some_dropped[1]
    assert render_all(renderer, ROWS, max_length=short, too_long="drop") == some_dropped
    assert len(kept(tmp_path)) == 1
    with pytest.raises(DemonstrationsError) as refusal:
        renderer.render_all(ROWS, max_length=short)
    again: Any = NeverRenders(renderer_for(small_tokenizers.chatml()))
    assert render_all(again, ROWS) == fresh
    assert render_all(again, ROWS, max_length=short, too_long="drop") == some_dropped
    with pytest.raises(DemonstrationsError) as from_cache:
        render_all(again, ROWS, max_length=short)
    assert str(from_cache.value) == str(refusal.value)


def test_another_text_template_or_tokenizer_is_another_file(renderer: Renderer, tmp_path: Path) -> None:
    render_all(renderer, ROWS)
    reworded = [*ROWS[:-1], Demonstration(ROWS[-1].prompt, ROWS[-1].completion + "!")]
    asked_by_system = [Demonstration((Message("system", "s"), *ROWS[0].prompt), ROWS[0].completion), *ROWS[1:]]
    plain = renderer_for(small_tokenizers.chatml(), "plain")
    larger = small_tokenizers.chatml()
    larger.add_tokens(["question"])
    for count, (other, rows) in enumerate(
        [(renderer, reworded), (renderer, asked_by_system), (plain, ROWS), (renderer_for(larger), ROWS)], start=2
    ):
        assert render_all(other, rows) == other.render_all(rows)
        assert len(kept(tmp_path)) == count


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign", "empty", "another's"])
def test_a_file_that_is_not_what_was_written_is_written_anew(damage: str, renderer: Renderer, tmp_path: Path) -> None:
    fresh = render_all(renderer, ROWS)
    (path,) = kept(tmp_path)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-200] ^= 1
    render_all(renderer, ROWS[:-1])
    (other,) = set(kept(tmp_path)) - {path}
    path.write_bytes(
        {"cut": whole[:-9], "flipped": flipped, "foreign": b"PK" * 99, "empty": b"", "another's": other.read_bytes()}[
            damage
        ]
    )
    assert render_all(renderer, ROWS) == fresh
    assert path.read_bytes() == whole
    never: Any = NeverRenders(renderer)
    assert render_all(never, ROWS) == fresh


def test_a_cache_that_cannot_be_written_costs_a_line(
    renderer: Renderer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("SFT_CACHE", str(tmp_path / "file"))
    assert render_all(renderer, ROWS) == renderer.render_all(ROWS)
    complaint = capsys.readouterr().err
    assert "cannot be written (Not a directory)" in complaint and complaint.count("\n") == 1


def test_what_was_used_longest_ago_makes_room(renderer: Renderer, tmp_path: Path) -> None:
    for count in (20, 21):
        render_all(renderer, ROWS[:count])
        for path in kept(tmp_path):
            os.utime(path, (1e9 + count, 1e9 + count))
    render_all(renderer, ROWS[:20])  # used: now the newest
    used = max(kept(tmp_path), key=lambda path: path.stat().st_mtime)
    render_all(renderer, ROWS[:19], at_most_bytes=2 * used.stat().st_size)
    assert len(kept(tmp_path)) == 2 and used in kept(tmp_path)
    render_all(renderer, ROWS[:23], at_most_bytes=10)
    assert len(kept(tmp_path)) == 2, "one set that is larger than all may be is not kept"


def test_only_the_first_process_of_a_machine_writes(
    renderer: Renderer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert render_all(renderer, ROWS) == renderer.render_all(ROWS)
    assert kept(tmp_path) == []


def write_often(folder: str) -> list[bool]:
    os.environ["SFT_CACHE"] = folder
    renderer = renderer_for(small_tokenizers.chatml())
    fresh = renderer.render_all(ROWS)
    found = []
    for _ in range(20):
        found.append(render_all(renderer, ROWS) == fresh)
        for path in (Path(folder) / "renderings").glob("*.safetensors"):
            path.unlink(missing_ok=True)
    return found


def test_writers_at_the_same_time_do_not_disturb_each_other(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as processes:
        for found in processes.map(write_often, [str(tmp_path)] * 2):
            assert found == [True] * 20
    assert not [path for path in kept(tmp_path) if path.suffix != ".safetensors"]


def test_few_rows_are_not_worth_a_file(renderer: Renderer, tmp_path: Path) -> None:
    rendering_cache.render_all(renderer, ROWS)
    assert not (tmp_path / "renderings").exists()
