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
    assert loaded_after(words, left_alone, tmp_path) == "loaded: 0 []"


@pytest.mark.parametrize("verb", ["run", "train", "plan", "preview"])
def test_a_wrong_recipe_is_refused_before_the_engine_is_loaded(verb: str, tmp_path: Path) -> None:
    """Whoever mistyped a key waited six seconds for torch to hear of it."""
    (tmp_path / "wrong.yaml").write_text("model: {nme: x}\n", encoding="utf-8")
    assert loaded_after([verb, "wrong.yaml"], ENGINE, tmp_path) == "loaded: 2 []"


def test_rows_that_are_not_there_are_missed_before_the_engine_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("model: {name: x}\ndemonstrations: {path: none.jsonl}\n", encoding="utf-8")
    assert loaded_after(["preview", "r.yaml"], ENGINE, tmp_path) == "loaded: 2 []"


def test_a_file_is_asked_for_a_recipe_before_the_engine_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "small.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 3, encoding="utf-8")
    assert loaded_after(["check", "small.jsonl", "--gaps"], ENGINE, tmp_path) == "loaded: 2 []"


def test_a_recipe_is_checked_without_the_engine(tmp_path: Path) -> None:
    rows = [{"prompt": f"question{n} about topic{n}", "completion": f"answer {n}"} for n in range(60)]
    (tmp_path / "small.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "r.yaml").write_text("model: {name: x}\ndemonstrations: {path: small.jsonl}\n", encoding="utf-8")
    assert loaded_after(["check", "r.yaml"], ENGINE, tmp_path) == "loaded: 0 []"


def loaded_after(words: list[str], names: set[str], folder: Path) -> str:
    """Exit status of ``sft WORDS`` in a process of its own, and which of ``names`` it has imported."""
    code = (
        "import sys\nfrom sft.cli import main\ntry:\n    status = main(sys.argv[1:])\n"
        "except SystemExit as end:\n    status = end.code\n"
        f"print('\\nloaded:', status, sorted({names!r} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=folder, capture_output=True, text=True, check=True
    )
    return answer.stdout.splitlines()[-1]


ELSEWHERE = "import sys; sys.modules['fcntl'] = sys.modules['resource'] = sys.modules['pwd'] = None; "
SENTENCE = "sft runs on Linux and macOS, and this Python is built for another system; on Windows install Python and"


def test_another_system_is_one_sentence(tmp_path: Path) -> None:
    """On Windows the command ended in a traceback about ``fcntl``."""
    code = f"{ELSEWHERE}import runpy; runpy.run_module('sft', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"sft: {SENTENCE}") and done.stderr.count("\n") == 1


def test_another_system_is_told_in_a_notebook_too(tmp_path: Path) -> None:
    code = f"{ELSEWHERE}import sft; print(sft.__version__)\ntry: sft.check\nexcept ImportError as error: print(error)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[1].startswith(SENTENCE), done
