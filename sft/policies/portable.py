"""Files of a clone as both majors of transformers read them, 4 and 5, and the servers that stand on either.

Transformers 5 names a class that 4 does not have, lists special tokens where 4 wants a mapping, and keeps the base of
rotary positions in a place that 4 passes over: 4.57 then reads 10,000 for 100,000 without a word. What is written
here says the same to both. Source: transformers 5.23 and 4.57.6, their tokenization_utils_base,
modeling_rope_utils and the models' own configurations.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sft.runs.atomic_files import read_json, write_json

__all__ = ["as_both_majors_read"]

#: What only the machine that saved the tokenizer means.
_OF_THIS_MACHINE = ("is_local", "local_files_only", "backend")


def as_both_majors_read(folder: Path) -> None:
    """Rewrite ``tokenizer_config.json`` and ``config.json`` in ``folder``, where they are there. Weights stay.

    Raises ``RunError`` for a file that is not JSON.
    """
    for name, change in (("tokenizer_config.json", _tokenizer), ("config.json", _model)):
        path = folder / name
        if path.is_file():
            known = read_json(path)
            changed = change(dict(known), folder)
            if changed != known:
                write_json(path, changed)


def _tokenizer(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    for key in _OF_THIS_MACHINE:
        config.pop(key, None)
    if config.get("tokenizer_class") == "TokenizersBackend" and (folder / "tokenizer.json").is_file():
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(config.get("extra_special_tokens"), list):
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    return config


def _model(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    for key, part in config.items():
        if isinstance(part, dict) and "rope_parameters" in part:  # text_config of a model that sees as well
            config[key] = _model(dict(part), folder)
    positions = config.get("rope_parameters")
    if not isinstance(positions, dict):
        return config
    whole: Any = positions
    local: Any = None
    if "rope_theta" not in positions:  # by the kind of the layers: 4 has a name of its own for those that look near
        whole, local = positions.get("full_attention"), positions.get("sliding_attention")
    if isinstance(whole, dict) and "rope_theta" in whole:
        config.setdefault("rope_theta", whole["rope_theta"])
        if "partial_rotary_factor" in whole:
            config.setdefault("partial_rotary_factor", whole["partial_rotary_factor"])
        if whole.get("rope_type", "default") != "default":
            config.setdefault("rope_scaling", {key: value for key, value in whole.items() if key != "rope_theta"})
    if isinstance(local, dict) and "rope_theta" in local:
        config.setdefault("rope_local_base_freq", local["rope_theta"])
    return config
