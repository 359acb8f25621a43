"""Answers that need nothing heavy do not load it: what is imported decides how long a person waits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ENGINE = {"torch", "transformers", "tokenizers", "trl", "peft", "accelerate", "datasets", "evaluate", "safetensors"}
STATISTICS = {"scipy", "sklearn", "pandas", "pyarrow", "sacrebleu"}
PAGES = {"jinja2"}


@pytest.mark.parametrize(
    ("words", "left_alone"),
    [
        (["--help"], ENGINE | STATISTICS | PAGES | {"numpy", "pydantic", "yaml"}),
        (["check", "--help"], ENGINE | STATISTICS | PAGES | {"numpy", "pydantic", "yaml"}),
        (["check", "small.jsonl"], ENGINE | STATISTICS | PAGES),  # numpy to compare prompts, pydantic for the defaults
    ],
)
def test_what_is_heavy_is_left_alone(words: list[str], left_alone: set[str], tmp_path: Path) -> None:
    rows = [{"prompt": f"question{n} about topic{n}", "completion": f"answer {n}"} for n in range(60)]
    (tmp_path / "small.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    code = (
        "import sys\nfrom sft.cli import main\ntry:\n    status = main(sys.argv[1:])\n"
        "except SystemExit as end:\n    status = end.code\n"
        f"print('\\nloaded:', status, sorted({left_alone!r} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert answer.stdout.splitlines()[-1] == "loaded: 0 []"
