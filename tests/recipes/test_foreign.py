"""What is brought from Axolotl, LLaMA-Factory, TRL and Unsloth: names get a pointer, configurations become recipes.

The configurations are made up, in the shape of those that the trainers ship as examples.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sft import recipes
from sft.cli import main
from sft.errors import RecipeError
from sft.recipes import engine_fields, foreign, forwarded
from sft.recipes.fields import section_keys
from sft.recipes.translation import translated

Captured = pytest.CaptureFixture[str]
SMALL = "model: {name: m}\ndemonstrations: {path: d.jsonl}\n"

# -- pointers -------------------------------------------------------------------------------------------------

BROUGHT = {
    "max_samples": "write demonstrations.limit",
    "val_size": "write split.validation",
    "sample_packing": "write training.packing",
    "use_peft": "write adapter.method: lora",
    "lora_target": "write adapter.target_modules",
    "mix_strategy": "write demonstrations.path with every file",
    "default_system": "write demonstrations.system",
    "train_on_inputs": "the expert's completions are learned and nothing else",
    "roles_to_train": "weight: 0",
    "dataset_config": "write demonstrations.path: hub:OWNER/NAME",
    "dataset_train_split": "write demonstrations.path: hub:OWNER/NAME:SUBSET/SPLIT",
    "assistant_only_loss": "only the completion is ever supervised",
    "do_train": "the command decides this: sft train",
    "random_state": "write training.seed",
    "use_gradient_checkpointing": "write training.gradient_checkpointing",
    "flash_attention": "decide which kernels",
    "evals_per_epoch": "write training.save_steps and training.eval_steps",
    "optim": "write it under training:",
    "lora_bias": "it is for adapters that were taken out of fitted weights",
}


@pytest.mark.parametrize("name", BROUGHT)
@pytest.mark.parametrize("section", ["", "demonstrations", "training", "adapter", "model"])
def test_a_name_from_elsewhere_gets_its_pointer_in_every_section(name: str, section: str) -> None:
    if section == "training" and name == "optim":
        return
    text = SMALL + f"{name}: 1\n"
    if section:
        text = SMALL.replace(f"{section}: {{", f"{section}: {{{name}: 1, ") if section in SMALL else ""
        text = text or SMALL + f"{section}: {{{name}: 1}}\n"
    with pytest.raises(RecipeError) as refused:
        recipes.parse(text)
    (problem,) = refused.value.problems
    assert BROUGHT[name] in problem.remedy


def keys_of_a_recipe() -> set[str]:
    known = {f"{section}.{key}" for section, keys in section_keys().items() for key in keys if section}
    known |= {f"training.{name}" for name in engine_fields.training_fields()}
    return known | {f"adapter.{name}" for name in engine_fields.adapter_fields()}


def test_every_pointer_points_at_a_key_that_there_is() -> None:
    said = [*foreign.LEFT_OUT.values(), *map(foreign.pointer, foreign.MOVED), *forwarded.RENAMED.values()]
    sections = "|".join(name for name in section_keys() if "." not in name and name)
    named = {found for text in said for found in re.findall(rf"\b(?:{sections})\.[a-z_0-9]+(?:\.[a-z_]+)?", text)}
    assert len(named) > 25 and named <= keys_of_a_recipe()
    assert not {*foreign.LEFT_OUT, *foreign.MOVED} & {*engine_fields.training_fields(), *engine_fields.adapter_fields()}
    assert not set(foreign.LEFT_OUT) & set(foreign.MOVED)


# -- configurations -------------------------------------------------------------------------------------------

AXOLOTL_QLORA = """\
base_model: google/gemma-3-1b-it
# hub_model_id: username/custom_model_name
load_in_8bit: false
load_in_4bit: true
chat_template: gemma3
eot_tokens:
  - <end_of_turn>
datasets:
  - path: somebody/dialogues
    type: chat_template
    split: train[:1%]
    field_messages: conversations
    message_property_mappings:
      role: from
      content: value
val_set_size: 0.0
output_dir: ./outputs/out
adapter: qlora
lora_r: 32
lora_alpha: 16
lora_dropout: 0
lora_target_linear: true
sequence_len: 2048
sample_packing: true
eval_sample_packing: false
wandb_project: mine
wandb_entity:
gradient_accumulation_steps: 4
micro_batch_size: 1
num_epochs: 4
lr_scheduler: cosine
learning_rate: 2e-4
bf16: auto
tf32: true
gradient_checkpointing: true
gradient_checkpointing_kwargs:
  use_reentrant: false
resume_from_checkpoint:
logging_steps: 1
flash_attention: true
warmup_ratio: 0.1
evals_per_epoch: 4
saves_per_epoch: 1
weight_decay: 0.0
special_tokens:
  pad_token: "<pad>"
"""
AXOLOTL_FULL = """\
base_model: ./models/llama
model_type: LlamaForCausalLM
tokenizer_type: LlamaTokenizer
datasets:
  - path: mine.jsonl
    ds_type: json
    type: alpaca
dataset_prepared_path: last_run_prepared
val_set_size: 0.1
sequence_len: 4096
adapter:
lora_r:
gradient_accumulation_steps: 1
micro_batch_size: 2
num_epochs: 1
optimizer: adamw_torch
cosine_min_lr_ratio: 0.1
learning_rate: 0.0002
train_on_inputs: true
group_by_length: true
neftune_noise_alpha: 5
sample_packing: true
early_stopping_patience: 3
warmup_steps: 100
eval_steps: 50
save_steps: 100
deepspeed: deepspeed_configs/zero2.json
hf_hub_token:
fsdp:
"""
AXOLOTL_CUSTOM = """\
base_model: Qwen/Qwen3-0.6B
trust_remote_code: true
datasets:
  - path: json
    data_files: [mine.jsonl]
    type:
      field_instruction: question
      field_output: answer
      field_system: voice
      format: "[INST] {instruction} [/INST]"
  - path: text.jsonl
    type: completion
test_datasets:
  - path: held.jsonl
    type: alpaca
adapter: lora
peft_use_dora: true
lora_r: 8
lora_alpha: 16
lora_target_modules: [q_proj, v_proj]
lora_modules_to_save: [embed_tokens]
learning_rate: 0.0001
lr_scheduler: rex
sequence_len: 512
micro_batch_size: 4
gradient_accumulation_steps: 2
loraplus_lr_ratio: 16
an_option_of_tomorrow: 3
"""
FACTORY_LORA = """\
### model
model_name_or_path: meta-llama/Meta-Llama-3-8B-Instruct
trust_remote_code: true
### method
stage: sft
do_train: true
finetuning_type: lora
lora_target: all
### dataset
dataset: mine,named
template: llama3
cutoff_len: 2048
max_samples: 1000
overwrite_cache: true
preprocessing_num_workers: 16
### output
output_dir: saves/llama3-8b/lora/sft
logging_steps: 10
save_steps: 500
plot_loss: true
overwrite_output_dir: true
### train
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1.0e-4
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
ddp_timeout: 180000000
### eval
val_size: 0.1
eval_strategy: steps
eval_steps: 500
"""
FACTORY_FULL = """\
model_name_or_path: ./base
stage: sft
finetuning_type: full
deepspeed: examples/deepspeed/ds_z3_config.json
dataset: talks
template: qwen
cutoff_len: 1024
default_system: You are kind.
eval_dataset: other
per_device_train_batch_size: 1
num_train_epochs: 2.0
warmup_steps: 0.1
neat_packing: true
enable_liger_kernel: true
"""
FACTORY_QLORA = """\
{"model_name_or_path": "org/base", "finetuning_type": "lora", "quantization_bit": 4, "lora_rank": 16,
 "lora_target": "q_proj,v_proj", "additional_target": "embed_tokens,lm_head", "pissa_init": true,
 "dataset": "nowhere", "val_size": 200, "learning_rate": "5e-5", "optim": "adamw_torch", "use_unsloth": true}
"""
TRL_LORA = """\
model_name_or_path: Qwen/Qwen3-0.6B
dataset_name: somebody/talks
dataset_config: daily
dataset_train_split: train_sft
use_peft: true
lora_target_modules: [q_proj, v_proj]
max_length: 2048
assistant_only_loss: true
eval_strategy: no
output_dir: out
push_to_hub: true
report_to: wandb
"""
DATASET_INFO = {
    "mine": {"file_name": "mine.jsonl"},
    "named": {"hf_hub_url": "owner/named", "columns": {"prompt": "instruction", "response": "output"}},
    "talks": {
        "file_name": "talks.json", "formatting": "sharegpt", "columns": {"messages": "messages"},
        "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "customer", "assistant_tag": "assistant"},
    },
}  # fmt: skip

#: Configuration, a few of the recipe's values, and what of it must be told as left out.
CONFIGURATIONS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "qlora.yml": (
        AXOLOTL_QLORA,
        {
            "model.name": "google/gemma-3-1b-it", "demonstrations.path": "hub:somebody/dialogues",
            "demonstrations.format": "sharegpt", "adapter.method": "qlora", "adapter.r": 32, "training.packing": True,
            "training.learning_rate": 2e-4, "training.num_train_epochs": 4, "training.eval_steps": 0.0625,
            "training.warmup_steps": 0.1, "training.max_length": 2048, "training.gradient_checkpointing": True,
        },
        ["chat_template", "datasets[1].split", "tf32", "flash_attention", "special_tokens", "wandb_project"],
    ),
    "full.yml": (
        AXOLOTL_FULL,
        {
            "demonstrations.path": "mine.jsonl", "demonstrations.format": "alpaca", "adapter.method": "full",
            "split.validation": 0.1, "training.lr_scheduler_type": "cosine_with_min_lr",
            "training.lr_scheduler_kwargs": {"min_lr_rate": 0.1}, "training.neftune_noise_alpha": 5,
            "training.train_sampling_strategy": "group_by_length", "training.eval_steps": 50,
        },
        ["train_on_inputs", "sample_packing", "save_steps", "deepspeed", "dataset_prepared_path"],
    ),
    "custom.yml": (
        AXOLOTL_CUSTOM,
        {
            "demonstrations.path": "mine.jsonl", "adapter.method": "dora",
            "adapter.target_modules": ["q_proj", "v_proj"],
            "demonstrations.columns": {"prompt": "question", "completion": "answer", "system": "voice"},
            "adapter.modules_to_save": ["embed_tokens"], "model.trust_remote_code": True,
        },
        ["datasets[1].type.format", "datasets[2]", "test_datasets", "lr_scheduler", "loraplus_lr_ratio",
         "an_option_of_tomorrow"],
    ),
    "lora.yaml": (
        FACTORY_LORA,
        {
            "demonstrations.path": ["data/mine.jsonl", "hub:owner/named"], "demonstrations.format": "alpaca",
            "adapter.r": 8, "adapter.lora_alpha": 16, "adapter.target_modules": "all-linear", "split.validation": 0.1,
            "demonstrations.limit": 1000, "training.num_train_epochs": 3.0, "training.warmup_steps": 0.1,
            "training.bf16": True, "training.eval_steps": 500,
        },
        ["template", "plot_loss", "ddp_timeout", "preprocessing_num_workers"],
    ),
    "full.yaml": (
        FACTORY_FULL,
        {
            "adapter.method": "full", "demonstrations.path": "data/talks.json", "demonstrations.format": "messages",
            "demonstrations.roles": {"customer": "user"}, "training.packing": True,
            "training.lr_scheduler_type": "linear", "training.learning_rate": 5e-5,
        },
        ["deepspeed", "template", "eval_dataset", "enable_liger_kernel"],
    ),
    "qlora.json": (
        FACTORY_QLORA,
        {
            "adapter.method": "qlora", "adapter.r": 16, "adapter.lora_alpha": 32, "adapter.init_lora_weights": "pissa",
            "adapter.modules_to_save": ["embed_tokens", "lm_head"], "demonstrations.path": "data/nowhere.json",
        },
        ["val_size", "use_unsloth"],
    ),
    "trl.yaml": (
        TRL_LORA,
        {
            "demonstrations.path": "hub:somebody/talks:daily/train_sft", "adapter.method": "lora", "adapter.r": 16,
            "training.eval_strategy": "no", "training.learning_rate": 2e-5, "training.max_length": 2048,
        },
        ["assistant_only_loss", "push_to_hub", "report_to", "output_dir"],
    ),
}  # fmt: skip


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with every configuration, the data that some of them name, and LLaMA-Factory's list of data sets."""
    for name, (text, _, _) in CONFIGURATIONS.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    rows = [{"instruction": f"Say the word {n}!", "input": "", "output": f"The word is {n}."} for n in range(200)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(DATASET_INFO), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def value_of(values: dict[str, Any], key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_configuration_becomes_a_recipe_and_what_was_left_out_is_told(
    there: Path, name: str, capsys: Captured
) -> None:
    """``sft recipes import``: the recipe is one, says the same, and has each thing that it lacks at its head."""
    text, expected, left_out = CONFIGURATIONS[name]
    assert main(["recipes", "import", name]) == 0
    said = capsys.readouterr().out.splitlines()
    target = Path(said[0])
    assert target.name == f"{Path(name).stem}-recipe.yaml"
    recipe = recipes.resolve(target).recipe.to_dict()
    for key, value in expected.items():
        found = value_of(recipe, key)
        found = {k: v for k, v in found.items() if v is not None} if isinstance(value, dict) else found
        assert found == value, key
    for key in left_out:
        (line,) = [one for one in said if f"'{key}' is left out: " in one]
        where = re.match(rf"  {re.escape(name)}:(\d+): ", line)
        start = key.partition("[")[0].partition(".")[0]
        assert where and f"{start}" in text.splitlines()[int(where.group(1)) - 1]
        assert f"'{key}' is left out: " in target.read_text(encoding="utf-8")
    taken = {key for key in yaml.safe_load(text) if f"'{key}'" not in "\n".join(said)}
    unset = {key for key, value in yaml.safe_load(text).items() if value in (None, False, 0.0, "")}
    assert taken - unset <= TAKEN, "nothing is dropped without a word"


#: Settings of theirs that the recipes above took along, or that say what a recipe does anyway.
TAKEN = {
    "adapter", "additional_target", "base_model", "bf16", "cosine_min_lr_ratio", "cutoff_len", "dataset",
    "dataset_config", "dataset_name", "dataset_train_split", "datasets", "default_system", "do_train",
    "early_stopping_patience", "eval_steps", "eval_strategy", "evals_per_epoch", "finetuning_type",
    "gradient_accumulation_steps",
    "gradient_checkpointing", "gradient_checkpointing_kwargs", "group_by_length", "learning_rate",
    "load_in_4bit", "logging_steps", "lora_alpha", "lora_modules_to_save", "lora_r", "lora_rank", "lora_target",
    "lora_target_linear", "lora_target_modules", "lr_scheduler", "lr_scheduler_type", "max_length",
    "max_samples", "micro_batch_size", "model_name_or_path", "neat_packing", "neftune_noise_alpha",
    "num_epochs", "num_train_epochs", "optim", "optimizer", "overwrite_output_dir", "peft_use_dora",
    "per_device_train_batch_size", "pissa_init", "quantization_bit", "sample_packing", "save_steps",
    "sequence_len", "stage", "trust_remote_code", "use_peft", "val_set_size", "val_size", "warmup_ratio",
    "warmup_steps",
}  # fmt: skip


def test_what_comes_out_is_checked_like_any_recipe(there: Path, capsys: Captured) -> None:
    assert main(["recipes", "import", "full.yml", "mine.yaml"]) == 0
    assert main(["check", "mine.yaml", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["format"] == "alpaca" and sum(found["splits"].values()) == 200


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("base_model: m\nrl: dpo\ndatasets: [{path: x.jsonl}]\n", "x.yml:2: is for rl: dpo; cloning is supervised"),
        ("model_name_or_path: m\nstage: ppo\n", "x.yml:2: is for stage: ppo;"),
        (SMALL, "x.yml: is a recipe already; check it with `sft check`"),
        ("a: 1\n", "x.yml: is no configuration of Axolotl, LLaMA-Factory or TRL;"),
        ("- a\n", "x.yml: is no mapping of settings;"),
        ("base_model: [a\n", "x.yml:2: is not YAML"),
        ("base_model: m\nlearning_rate: 1.0e-4\n", "x.yml: names no data set with answers to learn;"),
        ("base_model: m\ndatasets: [{path: t.txt, type: completion}]\n", "names no data set with answers to learn;"),
        ("base_model: !!python/object:os.system {}\n", "x.yml:1: is not YAML"),
        ("micro_batch_size: 1\ndatasets: [{path: x.jsonl}]\n", "'model' is missing"),
        (f"base_model: m\nhub_token: hf_{'a1B2' * 9}\n", "x.yml:2: holds what looks like an access token"),
        ("\x00\x01", "x.yml: is not YAML"),
        ("", "x.yml: is no mapping of settings"),
        (
            "base_model: &a [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\n"
            "c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]\noptim_args: [*c, *c, *c, *c, *c, *c, *c, *c, *c, *c]\n",
            "is too large with its aliases written out",
        ),
    ],
)  # fmt: skip
def test_what_cannot_become_a_recipe_is_one_sentence(there: Path, text: str, said: str, capsys: Captured) -> None:
    Path("x.yml").write_text(text, encoding="utf-8")
    assert main(["recipes", "import", "x.yml"]) == 2
    complaint = capsys.readouterr().err
    assert said in complaint and complaint.count("\n") == 1 and "hf_a1" not in complaint
    assert not Path("x-recipe.yaml").exists()


def test_nothing_is_overwritten_and_what_cannot_be_written_is_said(there: Path, capsys: Captured) -> None:
    Path("qlora-recipe.yaml").write_text("mine", encoding="utf-8")
    assert main(["recipes", "import", "qlora.yml"]) == 2
    assert "qlora-recipe.yaml: exists already; name another file" in capsys.readouterr().err
    assert Path("qlora-recipe.yaml").read_text(encoding="utf-8") == "mine"
    assert main(["recipes", "import", "nowhere.yml"]) == 2
    assert "nowhere.yml: cannot be read" in capsys.readouterr().err
    assert main(["recipes", "import", "qlora.yml", "no/such/folder.yaml"]) == 2
    assert "cannot be written" in capsys.readouterr().err
    if os.getuid():
        there.chmod(0o555)
        assert main(["recipes", "import", "lora.yaml"]) == 2
        there.chmod(0o755)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3000) | st.floats(allow_nan=True) | st.text(max_size=8) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)
KEYS = sorted(
    {*foreign.MOVED, *foreign.LEFT_OUT, *forwarded.REFUSED["training"], *TAKEN, *engine_fields.training_fields()}
)


@settings(deadline=None, max_examples=40)
@given(
    st.dictionaries(st.sampled_from(KEYS), values, max_size=12), st.sampled_from(sorted(CONFIGURATIONS)), st.booleans()
)
def test_whatever_stands_in_a_configuration_a_recipe_or_a_sentence_comes_out(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any], name: str, alone: bool
) -> None:
    given_values = {} if alone else yaml.safe_load(CONFIGURATIONS[name][0])
    path = tmp_path_factory.mktemp("fuzz") / "x.yml"
    path.write_text(yaml.safe_dump(given_values | changes), encoding="utf-8")
    try:
        made = translated(path)
    except RecipeError as error:
        assert len(error.problems) == 1
        return
    assert recipes.parse(made.to_yaml()).recipe
    told = {key for key, _ in made.left_out}
    homes = set(made.origin.values()) | told
    assert homes <= {*given_values, *changes} | {one for one in homes if "." in one or "[" in one} | {"lora_rank"} | {
        "num_epochs", "micro_batch_size", "weight_decay", "finetuning_type", "learning_rate", "num_train_epochs",
        "lr_scheduler_type", "warmup_steps", "cutoff_len", "lora_r", "lora_alpha", "lora_dropout", "load_in_4bit",
    }  # fmt: skip


def test_sources_that_differ_are_entries_of_their_own(tmp_path: Path) -> None:
    """Those with other columns than the first were left out, and so was what a prompt was about."""
    path = tmp_path / "x.yml"
    path.write_text(
        """\
base_model: org/base
datasets:
  - path: a.jsonl
    type: alpaca
  - path: b.jsonl
    type: {field_instruction: ask, field_input: about, field_output: reply}
  - path: talks.jsonl
    type: chat_template
    field_messages: turns
    message_property_mappings: {role: speaker, content: text}
micro_batch_size: 1
default_system: You are kind.
""",
        encoding="utf-8",
    )
    made = translated(path)
    assert made.values["demonstrations.path"] == [
        {"path": "a.jsonl", "format": "alpaca"},
        {"path": "b.jsonl", "format": "columns", "columns": {"prompt": "ask", "completion": "reply", "input": "about"}},
        {"path": "talks.jsonl", "columns": {"messages": "turns", "role": "speaker", "content": "text"}},
    ]
    assert made.values["demonstrations.system"] == "You are kind." and not made.left_out
    assert recipes.parse(made.to_yaml()).recipe.demonstrations.paths == ("a.jsonl", "b.jsonl", "talks.jsonl")
