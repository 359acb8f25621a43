"""Templates with the vocabularies of their models, reduced to what these rows need (``benchmarks/templates.py``)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.engine
pytest.importorskip("transformers")

import template_checks
from real_templates import FOLDER, tokenizer_from

from sft.errors import PolicyError
from sft.policies.rendering import renderer_for

ENTRIES = sorted(FOLDER.glob("*.json"))
#: Kinds of demonstrations that a template cannot write; all others it writes, with thoughts off, learned and given.
REFUSED = {
    "microsoft-phi-3-5-mini-instruct": {"call", "answer to a result"},
    "openai-gpt-oss-120b": {"call"},  # with a thought that is given: it would be written otherwise
    "plain": {"call", "answer to a result"},
}


def entry(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def test_what_is_kept_may_be_handed_on() -> None:
    assert ENTRIES and {entry(path)["licence"] for path in ENTRIES} <= {"MIT", "Apache-2.0"}


@pytest.mark.parametrize("path", ENTRIES, ids=lambda path: path.stem)
def test_every_kind_of_demonstration_is_asked_written_and_read_back(path: Path) -> None:
    """What is trained is what is asked for; words are verbatim; a turn begins and ends once. See ``template_checks``.

    The pieces are those of the whole vocabulary, as the benchmark saw them.
    """
    kept = entry(path)
    for mode in template_checks.MODES:
        if mode not in kept["pieces"]:
            with pytest.raises(PolicyError):
                renderer_for(tokenizer_from(kept), thoughts=mode)
            continue
        renderer = renderer_for(tokenizer_from(kept), thoughts=mode)
        found = template_checks.checked(renderer)
        assert not found.faults, mode
        assert found.refused.keys() <= REFUSED.get(path.stem, set()), mode
        assert {"words", "dialogue"} <= set(found.written)
        pieces = {kind: renderer.tokenizer.convert_ids_to_tokens(ids) for kind, ids in found.ids.items()}
        assert pieces == kept["pieces"][mode]
