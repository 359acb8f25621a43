"""Every recipe is built against the installed trainer: what our dicts say is what its objects hold."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from sft import recipes
from sft.recipes import engine_fields

pytestmark = pytest.mark.engine

SMALL = "model:\n  name: some/model\ndemonstrations:\n  path: rows.jsonl\n"
SHIPPED = [name for name, _, _ in recipes.shipped()]
VARIANTS = {
    "epochs": "training:\n  eval_strategy: epoch\n  early_stopping_patience: 1\n",
    "no validation loss": 'training:\n  eval_strategy: "no"\n  max_steps: 3\n',
    "whole steps": "training:\n  eval_steps: 50\n  save_steps: 100\n  warmup_steps: 10\n  logging_steps: 0.1\n",
    "checkpointing": "training:\n  gradient_checkpointing: true\n"
    "  gradient_checkpointing_kwargs: {use_reentrant: false}\n",
    "further fields": "training:\n  lr_scheduler_type: cosine_with_min_lr\n  lr_scheduler_kwargs: {min_lr_rate: 0.1}\n"
    "  optim: adamw_torch_fused\n  adam_beta2: 0.95\n  neftune_noise_alpha: 5\n  full_determinism: false\n",
    "dora": "adapter:\n  method: dora\n  target_modules: [q_proj, v_proj]\n  rank_pattern: {q_proj: 4}\n",
    "rslora": "adapter:\n  method: rslora\n  init_lora_weights: gaussian\n  modules_to_save: [lm_head]\n",
}


def built(recipe: recipes.Recipe, folder: Path, **machine: bool) -> Any:
    from trl import SFTConfig

    return SFTConfig(output_dir=str(folder), use_cpu=True, **recipes.training_arguments(recipe, **machine))


def check(recipe: recipes.Recipe, folder: Path) -> None:
    from peft import LoraConfig

    for machine in ({"bf16": True}, {"bf16": False}, {"validation": False}):
        wanted = recipes.training_arguments(recipe, **machine)
        made = built(recipe, folder, **machine)
        for key, value in wanted.items():
            held = getattr(made, key)
            if key == "report_to":
                value = [] if value == "none" else value
            assert held == value, f"{key}: asked for {value!r}, the trainer holds {held!r}"
        assert made.gradient_checkpointing is recipe.training.gradient_checkpointing
    adapter = recipes.lora_arguments(recipe)
    if adapter is not None:
        made = LoraConfig(**adapter)
        for key, value in adapter.items():
            held = getattr(made, key)
            assert (sorted(held) if isinstance(held, set) else held) == value, key


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_is_what_the_installed_trainer_takes(name: str, tmp_path: Path) -> None:
    """Warnings are errors here, so that a deprecated field in a shipped recipe is found too."""
    check(recipes.load(name), tmp_path)


@pytest.mark.parametrize("name", VARIANTS)
def test_what_a_recipe_may_say_is_what_the_installed_trainer_takes(name: str, tmp_path: Path) -> None:
    check(recipes.parse(SMALL + VARIANTS[name]).recipe, tmp_path)


def test_the_defaults_that_act_unasked_are_off(tmp_path: Path) -> None:
    """SFTConfig() alone turns on bf16 and gradient checkpointing, hides NaN losses, and cuts at 1024 tokens."""
    made = built(recipes.parse(SMALL).recipe, tmp_path)
    assert made.bf16 is False
    assert made.gradient_checkpointing is False
    assert made.logging_nan_inf_filter is False
    assert made.max_length is None
    assert made.report_to == []
    assert made.push_to_hub is False


def test_a_number_below_one_is_a_share_of_the_run(tmp_path: Path) -> None:
    made = built(recipes.parse(SMALL).recipe, tmp_path)
    assert made.get_warmup_steps(1000) == 30


def test_fields_read_from_source_are_those_of_the_classes() -> None:
    from peft import LoraConfig
    from trl import SFTConfig

    for config, read in ((SFTConfig, engine_fields.training_fields()), (LoraConfig, engine_fields.adapter_fields())):
        assert set(read) == {field.name for field in dataclasses.fields(config) if field.init}


def test_every_default_of_the_trainer_passes_our_check_of_its_type() -> None:
    """A check that refused a field's own default would refuse good recipes too."""
    from peft import LoraConfig
    from trl import SFTConfig

    for config, read in ((SFTConfig, engine_fields.training_fields()), (LoraConfig, engine_fields.adapter_fields())):
        for field in dataclasses.fields(config):
            if field.init and field.default is not dataclasses.MISSING and field.default is not None:
                value = getattr(field.default, "value", field.default)
                assert read[field.name].accepts(value), f"{field.name} = {value!r}"
