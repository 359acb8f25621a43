"""Settings of other trainers as those of a recipe: most by name, some in another form, some read together."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sft.recipes import engine_fields, foreign, forwarded, yaml_text
from sft.recipes.fields import section_keys

if TYPE_CHECKING:
    from sft.recipes.translation import Translation

__all__ = ["take"]

#: What each does where its configuration says nothing, as far as a recipe would do otherwise.
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "Axolotl": {"num_epochs": 1.0, "micro_batch_size": 1, "weight_decay": 0.0},
    "LLaMA-Factory": {
        "finetuning_type": "lora", "learning_rate": 5.0e-5, "num_train_epochs": 3.0, "lr_scheduler_type": "linear",
        "warmup_steps": 0, "cutoff_len": 2048,
    },
    "TRL": {"learning_rate": 2.0e-5, "num_train_epochs": 3.0, "lr_scheduler_type": "linear", "warmup_steps": 0},
}  # fmt: skip
_LORA_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "LLaMA-Factory": {"lora_rank": 8},
    "TRL": {"lora_r": 16, "lora_alpha": 32, "lora_dropout": 0.05},
}


def take(made: Translation, given: Mapping[str, Any]) -> None:
    """Take every setting that ``given`` has, and tell those that have no place; sources are read elsewhere."""
    fits_adapter = _method(made, given)
    defaults = {**_DEFAULTS[made.trainer], **(_LORA_DEFAULTS.get(made.trainer, {}) if fits_adapter else {})}
    homes = {_home(key) for key in given}
    unsaid = {key: value for key, value in defaults.items() if _home(key) not in homes}
    for key, value in {**unsaid, **given}.items():
        _take(made, key, value)
    rank = made.values.get("adapter.r")
    if made.trainer == "LLaMA-Factory" and isinstance(rank, int) and "adapter.lora_alpha" not in made.values:
        made.put("adapter.lora_alpha", 2 * rank, "lora_rank")
    if not fits_adapter:
        for key in [key for key in made.values if key.startswith("adapter.") and key != "adapter.method"]:
            made.values.pop(key)
    _schedule(made, given)


def _home(key: str) -> str:
    """The recipe's key for a key of theirs that means the same; "" where there is none."""
    if key in foreign.MOVED:
        return foreign.MOVED[key]
    if key in ("lora_alpha", "lora_dropout"):
        return f"adapter.{key}"
    if key in section_keys()["training"] or key in engine_fields.training_fields():
        return f"training.{key}"
    return ""


def _take(made: Translation, key: str, value: Any) -> None:
    """One setting: taken, or told."""
    if key in _HANDLED or key in _SOURCES:
        return
    if convert := _CONVERTED.get(key):
        convert(made, key, value)
    elif forwarded.is_secret(key):
        made.leave(key, "it is a credential; log in with `hf auth login`")
    elif (why := forwarded.REFUSED["training"].get(key)) is not None:
        if value not in (False, "no"):
            made.leave(key, why)
    elif home := _home(key):
        made.put(home, _number(value), key)
    elif why := foreign.pointer(key) or forwarded.RENAMED.get(key, ""):
        if value is not False:
            made.leave(key, why)
    else:
        made.leave(key, "nothing of that name is known here")


def _number(value: Any) -> Any:
    """``"2e-5"``, which YAML reads as text, as the number that was meant; names separated by commas stay text."""
    if isinstance(value, str) and (number := yaml_text.number_as_yaml(value)) is not None:
        return float(number)
    return value


# -- what is the same under another form --------------------------------------------------------------------


def _method(made: Translation, given: Mapping[str, Any]) -> bool:
    """What is fitted, from all the keys that say so; whether it is an adapter."""
    kind = str(
        given.get("adapter") or given.get("finetuning_type") or ("lora" if given.get("use_peft") else "")
    ).lower()
    if made.trainer == "LLaMA-Factory":
        kind = kind or "lora"
    four = given.get("load_in_4bit") is True or given.get("quantization_bit") == 4
    source = next((key for key in ("adapter", "finetuning_type", "use_peft") if key in given), "load_in_4bit")
    method = {"": "full", "full": "full", "lora": "lora", "qlora": "qlora"}.get(kind)
    if method is None:
        made.leave(source, f"{kind} is not offered; the recipe fits a LoRA adapter instead")
        method = "lora"
    if method == "lora" and four:
        method = "qlora"
    for mark, other in (("dora", "dora"), ("rslora", "rslora")):
        for key in (f"peft_use_{mark}", f"use_{mark}", f"lora_use_{mark}"):
            if given.get(key) is True and method != "full":
                if method != "lora":
                    made.leave(key, f"adapter.method is {method} already, and one at a time is offered")
                else:
                    method, source = other, key
    if given.get("load_in_8bit") is True or given.get("quantization_bit") == 8:
        key = "load_in_8bit" if "load_in_8bit" in given else "quantization_bit"
        made.leave(key, "a base in 8 bits is not offered, so the base is loaded in model.dtype; write adapter.method: "
                   "qlora for one in 4")  # fmt: skip
    made.put("adapter.method", method, source)
    return method != "full"


def _targets(made: Translation, key: str, value: Any) -> None:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    names = ["all-linear"] if value in (["all"], ["all-linear"], ["all_linear"]) else value
    made.put("adapter.target_modules", names[0] if names == ["all-linear"] else names, key)


def _all_linear(made: Translation, key: str, value: Any) -> None:
    if value is True and "adapter.target_modules" not in made.values:
        made.put("adapter.target_modules", "all-linear", key)


def _names(made: Translation, key: str, value: Any) -> None:
    names = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    made.put(foreign.MOVED[key], names, key)


def _share(made: Translation, key: str, value: Any) -> None:
    value = _number(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1:
        made.put("split.validation", float(value), key)
    elif value:
        made.leave(key, "it is a number of rows, and split.validation is a share of them; 0.1 is taken")


def _warmup(made: Translation, key: str, value: Any) -> None:
    value = _number(value)
    if value or "training.warmup_steps" not in made.values:  # of a share and a number of steps, what is not 0 holds
        made.put("training.warmup_steps", value or 0, key)


def _code(made: Translation, key: str, value: Any) -> None:
    if value is True:
        made.put("model.trust_remote_code", True, key)


def _by_length(made: Translation, key: str, value: Any) -> None:
    if value is True:
        made.put("training.train_sampling_strategy", "group_by_length", key)


def _bf16(made: Translation, key: str, value: Any) -> None:
    if value in (True, "true", "full"):
        made.put("training.bf16", True, key)
    elif value is False and key == "bf16":
        made.put("training.bf16", False, key)


def _fp16(made: Translation, key: str, value: Any) -> None:
    if value is True:
        made.put("training.fp16", True, key)


def _checkpointing(made: Translation, key: str, value: Any) -> None:
    if key == "disable_gradient_checkpointing":
        made.put("training.gradient_checkpointing", value is not True, key)
    elif value:
        made.put("training.gradient_checkpointing", True, key)


def _min_lr(made: Translation, key: str, value: Any) -> None:
    made.put("training.lr_scheduler_type", "cosine_with_min_lr", key)
    made.put("training.lr_scheduler_kwargs", {"min_lr_rate": _number(value)}, key)


def _template(made: Translation, key: str, value: Any) -> None:
    if isinstance(value, str) and value.endswith((".jinja", ".jinja2")):
        made.put("model.template", value, key)
    elif value not in ("tokenizer_default", "auto", "default", "empty"):
        made.leave(
            key, "the tokenizer's own template is taken; another one is named by its .jinja file in model.template"
        )


def _pissa(made: Translation, key: str, value: Any) -> None:
    if value is True:
        made.put("adapter.init_lora_weights", "pissa", key)


def _hub_id(made: Translation, key: str, value: Any) -> None:
    if isinstance(value, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", value):
        made.put("publish.hub_id", value, key)


def _machine(made: Translation, key: str, value: Any) -> None:
    if value is True:
        made.leave(key, f"it holds for GPUs that can; write training.{key}: true on one")


def _packing(made: Translation, key: str, value: Any) -> None:
    if value is True:
        made.put("training.packing", True, key)


def _limit(made: Translation, key: str, value: Any) -> None:
    made.put("demonstrations.limit", value, key)
    made.notes.append(f"demonstrations.limit is {value} of all files together, where {key} was of each")


def _reports(made: Translation, key: str, value: Any) -> None:
    if value not in ("none", ["none"], "all", ["all"]):
        made.leave(key, "a tracker calls out; write training.report_to where its package is installed")


_CONVERTED: Mapping[str, Callable[[Translation, str, Any], None]] = {
    **dict.fromkeys(("lora_target", "lora_target_modules"), _targets),
    **dict.fromkeys(("additional_target", "lora_modules_to_save"), _names),
    **dict.fromkeys(("val_set_size", "val_size", "test_split_size"), _share),
    **dict.fromkeys(("bf16", "pure_bf16", "bfloat16"), _bf16),
    **dict.fromkeys(("fp16", "float16"), _fp16),
    **dict.fromkeys(
        ("gradient_checkpointing", "use_gradient_checkpointing", "disable_gradient_checkpointing", "use_unsloth_gc"),
        _checkpointing,
    ),
    **dict.fromkeys(("template", "chat_template", "chat_template_path"), _template),
    **dict.fromkeys(("sample_packing", "packing", "neat_packing"), _packing),
    "lora_target_linear": _all_linear,
    "warmup_ratio": _warmup,
    "warmup_steps": _warmup,
    "trust_remote_code": _code,
    "group_by_length": _by_length,
    "cosine_min_lr_ratio": _min_lr,
    "pissa_init": _pissa,
    "hub_model_id": _hub_id,
    "tf32": _machine,
    "max_samples": _limit,
    "report_to": _reports,
}
#: Read together with others: what is fitted, and how often is looked and saved.
_HANDLED = frozenset((
    "adapter", "finetuning_type", "use_peft", "load_in_4bit", "load_in_8bit", "quantization_bit", "peft_use_dora",
    "use_dora", "lora_use_dora", "peft_use_rslora", "use_rslora", "lora_use_rslora", "stage", "rl", "do_train",
    "evals_per_epoch", "saves_per_epoch", "eval_steps", "save_steps", "save_strategy", "eval_strategy",
    "evaluation_strategy", "overwrite_output_dir",
))  # fmt: skip
_SOURCES = frozenset((
    "dataset", "datasets", "dataset_dir", "dataset_name", "dataset_config", "dataset_train_split", "test_datasets",
    "eval_dataset", "dataset_test_split", "default_system", "default_system_message",
))  # fmt: skip


def _schedule(made: Translation, given: Mapping[str, Any]) -> None:
    """How often the validation loss is measured: a checkpoint is saved there too."""
    strategy = given.get("eval_strategy", given.get("evaluation_strategy"))
    strategy = "no" if strategy is False else strategy
    epochs = made.values.get("training.num_train_epochs", 1)
    steps, source = given.get("eval_steps"), "eval_steps"
    if not steps and isinstance(given.get("evals_per_epoch"), int):
        looks, source = given["evals_per_epoch"] * float(epochs), "evals_per_epoch"
        steps = round(1 / looks, 4) if looks > 1 else None
    if strategy in ("epoch", "no"):
        made.put("training.eval_strategy", "epoch" if strategy == "epoch" else "no", "eval_strategy")
    elif steps:
        made.put("training.eval_steps", _number(steps), source)
    for key in ("save_steps", "saves_per_epoch", "save_strategy"):
        if given.get(key) and given.get(key) not in (steps, strategy):
            made.leave(key, "a checkpoint is saved where the validation loss is measured; see training.eval_steps")
