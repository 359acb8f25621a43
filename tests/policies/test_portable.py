"""Files that both majors of transformers read; the other major itself is in ``publishing/test_transformers_4``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sft.errors import RunError
from sft.policies.portable import as_both_majors_read
from sft.runs.run import read_json


def rewritten(folder: Path, name: str, config: dict[str, Any], *others: str) -> Any:
    (folder / name).write_text(json.dumps(config), encoding="utf-8")
    for other in others:
        (folder / other).write_text("{}", encoding="utf-8")
    as_both_majors_read(folder)
    return read_json(folder / name)


def test_a_tokenizer_is_named_by_a_class_that_both_have(tmp_path: Path) -> None:
    config = {"tokenizer_class": "TokenizersBackend", "backend": "tokenizers", "is_local": True, "eos_token": "x",
              "local_files_only": True, "extra_special_tokens": ["<a>"]}  # fmt: skip
    assert rewritten(tmp_path, "tokenizer_config.json", config, "tokenizer.json") == {
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "x", "additional_special_tokens": ["<a>"],
    }  # fmt: skip


@pytest.mark.parametrize("name", ["Qwen2Tokenizer", "LlamaTokenizer"])
def test_a_class_of_its_own_is_kept(tmp_path: Path, name: str) -> None:
    kept = {"tokenizer_class": name, "extra_special_tokens": {"image_token": "<i>"}}
    assert rewritten(tmp_path, "tokenizer_config.json", kept, "tokenizer.json") == kept


def test_without_tokenizer_json_nothing_else_can_read_it(tmp_path: Path) -> None:
    kept = {"tokenizer_class": "TokenizersBackend"}
    assert rewritten(tmp_path, "tokenizer_config.json", kept) == kept


@pytest.mark.parametrize(
    ("config", "added"),
    [
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e5}}, {"rope_theta": 1e5}),
        (
            {"rope_parameters": {"rope_type": "linear", "rope_theta": 2e4, "factor": 4.0}},
            {"rope_theta": 2e4, "rope_scaling": {"rope_type": "linear", "factor": 4.0}},
        ),
        (
            {"rope_parameters": {"full_attention": {"rope_theta": 1e6, "rope_type": "linear", "factor": 8.0},
                                 "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"}}},
            {"rope_theta": 1e6, "rope_scaling": {"rope_type": "linear", "factor": 8.0}, "rope_local_base_freq": 1e4},
        ),
        (
            {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.25}},
            {"rope_theta": 1e4, "partial_rotary_factor": 0.25},
        ),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 7.0}, "rope_theta": 8.0}, {}),
        ({"model_type": "gpt2"}, {}),
        ({"rope_parameters": None}, {}),
    ],
)  # fmt: skip
def test_rotary_positions_stand_where_either_looks(tmp_path: Path, config: dict[str, Any], added: Any) -> None:
    assert rewritten(tmp_path, "config.json", config) == config | added
    nested = {"text_config": config, "vision_config": {"x": 1}}
    assert rewritten(tmp_path, "config.json", nested) == {"text_config": config | added, "vision_config": {"x": 1}}


def test_a_damaged_file_is_one_sentence_and_stays(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match=r"config\.json"):
        as_both_majors_read(tmp_path)
    assert (tmp_path / "config.json").read_text(encoding="utf-8") == "{"
