"""Forwarded keys that do nothing beside the others of a recipe: each is refused with the reason.

The trainer takes them and says nothing. Which optimizer and which tracker read which key is as in transformers'
``trainer_optimizer`` and ``integration_utils``. What a key does nothing for on a machine or a model is known
later: :mod:`sft.recipes.situations`, :mod:`sft.policies.adapters`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sft.recipes import engine_fields
from sft.recipes.complaints import Complaint, unknown

__all__ = ["idle_in_adapter", "idle_in_training"]

_ADAM = ("adam_beta1", "adam_beta2", "adam_epsilon")
_WORKERS = ("dataloader_persistent_workers", "dataloader_prefetch_factor")
_TRACKIO = ("project", "trackio_space_id", "trackio_bucket_id")
#: Key of the adapter that holds keys of its own -> the class of peft that has them.
_NESTED = {"velora_config": "VeloraConfig", "use_bdlora": "BdLoraConfig"}
#: Trackers that are told ``run_name``.
_NAMED = ("comet_ml", "dagshub", "mlflow", "swanlab", "trackio", "wandb")
#: What the names of optimizers contain that read ``optim_args``.
_WITH_ARGUMENTS = (
    "sgd", "adagrad", "rmsprop", "galore", "apollo", "ademamix", "grokadamw", "stable_adamw", "schedule_free",
    "adamw_anyprecision", "adamw_torch_4bit", "adamw_torch_8bit",
)  # fmt: skip
#: The same of those that read none of AdamW's settings, though some are named after it.
_NO_ADAM = ("galore", "grokadamw", "adafactor", "sgd", "adagrad", "rmsprop", "lomo")


def _takes_arguments(optim: str) -> bool:
    # Those of bitsandbytes hand the numbers on as text, and fail on them.
    return any(part in optim for part in _WITH_ARGUMENTS) and not optim.startswith("rmsprop_bnb")


def _adam_keys(optim: str) -> tuple[str, ...]:
    """Those of AdamW's settings that ``optim`` reads."""
    if any(part in optim for part in _NO_ADAM):
        return ()
    return _ADAM[:2] if "lion" in optim else _ADAM


def _asked(values: Mapping[str, Any], keys: tuple[str, ...]) -> Iterator[str]:
    """Those of ``keys`` that ask for something."""
    yield from (key for key in keys if key in values and values[key] is not None and values[key] is not False)


def idle_in_training(values: Mapping[str, Any]) -> Iterator[Complaint]:
    """What the ``training`` section's keys mean nothing beside; ``values``: all of the section, defaults included."""
    optim = str(values.get("optim", "adamw_torch_fused"))
    sampling = values.get("train_sampling_strategy", "random")
    if sampling == "batch_rebalance":
        message = "is batch_rebalance, whose order is not that of training.seed and which repeats rows"
        yield Complaint(("train_sampling_strategy",), message, "write group_by_length")
    reasons: list[tuple[tuple[str, ...], str, str]] = []
    if not values.get("dataloader_num_workers"):
        reasons.append((_WORKERS, "without workers", "dataloader_num_workers"))
    if not values["gradient_checkpointing"]:
        reasons.append((("gradient_checkpointing_kwargs",), "without checkpointing", "gradient_checkpointing"))
    if values["eval_strategy"] == "no":
        reasons.append((("eval_delay",), 'with eval_strategy: "no"', "eval_strategy"))
        if not values.get("eval_on_start"):
            reasons.append((("per_device_eval_batch_size",), 'with eval_strategy: "no"', "eval_strategy"))
    unread = tuple(key for key in _ADAM if key not in _adam_keys(optim))
    reasons.append((unread, f"with optim: {optim}", "optim"))
    if not _takes_arguments(optim):
        reasons.append((("optim_args",), f"with optim: {optim}, which takes none", "optim"))
    if not any(part in optim for part in ("galore", "apollo")):
        reasons.append((("optim_target_modules",), f"with optim: {optim}, which treats all weights alike", "optim"))
    if sampling not in ("random", "batch_rebalance"):
        # Equal lengths are drawn in another order by training.seed, and nothing else is drawn.
        reasons.append((("data_seed",), f"with train_sampling_strategy: {sampling}", "train_sampling_strategy"))
    trackers = (values["report_to"],) if isinstance(values["report_to"], str) else values["report_to"]
    if "trackio" not in trackers:
        reasons.append((_TRACKIO, "without trackio in report_to", "report_to"))
    if not values.get("trackio_space_id"):
        reasons.append((("trackio_static_space_id",), "without a Space to freeze", "trackio_space_id"))
    if not set(trackers) & set(_NAMED):
        reasons.append((("run_name",), f"without a tracker that takes it ({', '.join(_NAMED)})", "report_to"))
    for keys, why, other in reasons:
        for key in _asked(values, keys):
            yield Complaint((key,), f"has no meaning {why}", f"remove it, or change {other}", ((other,),))


def idle_in_adapter(values: Mapping[str, Any]) -> Iterator[Complaint]:
    """The same of the ``adapter`` section."""
    for key in _asked(values, ("layers_to_transform", "layers_pattern")):
        if isinstance(values["target_modules"], str):
            message, remedy = "has no meaning with target_modules as text", "list their names: [q_proj, v_proj]"
            yield Complaint((key,), message, remedy, (("target_modules",),))
        elif key == "layers_pattern" and values.get("layers_to_transform") is None:
            message, remedy = "has no meaning without layers_to_transform", "name the layers there, or remove it"
            yield Complaint((key,), message, remedy, (("layers_to_transform",),))
    for key, name in _NESTED.items():
        value = values.get(key)
        if value is not None and not isinstance(value, Mapping):
            yield Complaint((key,), "is no mapping of keys", f"write the fields of peft's {name}")
        elif value:
            try:
                known = engine_fields.class_fields("peft", name)  # peft passes over what it does not know
            except engine_fields.EngineNotReadable:
                continue  # that peft cannot be read is said of the key itself
            yield from (unknown((key, part), f"a field of peft's {name}", known) for part in value if part not in known)
