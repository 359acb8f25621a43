"""A clone's files in transformers 4.57 and peft 0.18, which `make test-transformers-4` installs: words and numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from repository import ROOT, TESTS

pytestmark = pytest.mark.engine

OTHER = ROOT / ".venv-transformers-4" / "bin" / "python"
if not (ROOT / ".venv-transformers-4" / "installed").exists():
    pytest.skip("transformers 4 is not here; `make test-transformers-4` installs it", allow_module_level=True)

import toy_families
from exported_runs import trained

from sft.cli import main
from sft.policies.portable import as_both_majors_read
from sft.runs.run import read_jsonl


def clones(folder: Path) -> list[dict[str, Any]]:
    """A run of every toy family, its merged weights, and for the first its adapter on its base."""
    questions = []
    for number, family in enumerate(toy_families.FAMILIES):
        place = folder / str(number)
        tokenizer = toy_families.tokenizer_of(family)
        for what in (tokenizer, toy_families.model_of(family, len(tokenizer))):
            what.save_pretrained(place / "base")
        run = trained(place / "base", place)
        assert main(["export", str(run), "--merged", str(place / "merged")]) == 0
        prompts = [row["prompt"] for row in read_jsonl(run / "demonstrations.jsonl") if row["split"] == "test"][:4]
        questions.append({"model": str(place / "merged"), "adapter": None, "prompts": prompts})
        if not number:
            as_both_majors_read(place / "base")  # bases of hubs are written so that both read them
            questions.append({"model": str(place / "base"), "adapter": str(run / "adapter"), "prompts": prompts})
    return questions


def test_both_majors_read_the_same_clone(tmp_path: Path) -> None:
    questions = json.dumps(clones(tmp_path))
    quiet = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    found = []
    for python in (Path(sys.executable), OTHER):
        done = subprocess.run(
            [str(python), str(TESTS / "toys" / "loaded_elsewhere.py")],
            input=questions, capture_output=True, text=True, env=quiet, timeout=900,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-4000:]
        found.append(json.loads(done.stdout))
    for five, four, asked in zip(*found, json.loads(questions), strict=True):
        assert four["ids"] == five["ids"], asked["model"]
        for one, other in zip(four["logits"], five["logits"], strict=True):
            assert one == pytest.approx(other, abs=2e-3), (asked["model"], four["tokenizer"])
        assert four["written"] == five["written"], asked["model"]
