"""What a recipe hands on to the trainer: which keys may be given unmodelled, which not, and why; and all as arguments.

A name is good when the *installed* ``SFTConfig`` or ``LoraConfig`` has it (:mod:`sft.recipes.engine_fields`) and
the run does not depend on deciding it itself. Names that older releases took, or that people bring from
other tools, get the present name as the remedy instead of a guess by spelling.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sft.recipes import engine_fields, foreign
from sft.recipes.complaints import Complaint, about, not_among, unknown

if TYPE_CHECKING:
    from sft.recipes.fields import Recipe, Section

__all__ = [
    "REFUSED", "RENAMED", "complaints", "is_secret", "lora_arguments", "training_arguments", "unknown_key",
]  # fmt: skip

_PUBLISH = "the clone is published by a command of its own; see the publish section"
_RENDERED = "rows reach the trainer as ready token ids, rendered once for training and generation alike"
_PACKED = "write packing; packed demonstrations never see each other, and only training is packed"
_COMMAND = "the command decides this: sft train, sft evaluate"
_MEASURED = "agreement with the expert is measured after training, by sft evaluate"
_KEPT = "the checkpoint with the lowest validation loss is kept; see eval_strategy"
_COMPILED = "batches differ in length, and the model would be compiled anew for each of them"
_QUIET = "the engine is kept quiet; the log, the ledger and the manifest say what happens"
_LAUNCHER = "it belongs into the configuration file of `accelerate launch`, as in recipes/accelerate"
_LOG_LOSS = "cloning is fitted by the log loss of the expert's completion"
_GATHERED = "the command joins the processes before the trainer is made"
_DATA_INIT = "an initialisation that needs a pass over data is not offered yet; use gaussian, pissa or olora"


def _by_name(table: Mapping[str, str]) -> dict[str, str]:
    """Each of the names in a table of reasons -> its reason."""
    return {name: why for why, names in table.items() for name in names.split()}


#: section -> field of the trainer that a recipe may not set -> why, or what to use instead.
REFUSED: Mapping[str, Mapping[str, str]] = {
    "training": _by_name({
        "the run's folder is given on the command line": "output_dir",
        "a run is resumed on the command line": "resume_from_checkpoint",
        "a resumed run must see the rows it has not seen yet": "ignore_data_skip",
        _COMMAND: "do_train do_eval do_predict",
        "the launcher decides this; use `accelerate launch -m sft train`": "local_rank",
        _LAUNCHER: "parallelism_config fsdp fsdp_config deepspeed",
        _PUBLISH: "push_to_hub hub_model_id hub_private_repo hub_strategy hub_always_push hub_revision",
        "the model section says how the model is loaded": "model_init_kwargs",
        "write model.trust_remote_code": "trust_remote_code",
        "write model.template": "chat_template_path",
        _RENDERED: "dataset_text_field dataset_kwargs dataset_num_proc remove_unused_columns label_names",
        f"only the completion is ever supervised: {_RENDERED}": "completion_only_loss assistant_only_loss",
        "a demonstration is never cut; see max_length and too_long": "truncation_mode",
        "the template's own end of turn is supervised and stopped at; see model.template": "eos_token",
        "padding is masked, so any token does; the tokenizer's own is used": "pad_token",
        "every epoch is shuffled already, by training.seed": "shuffle_dataset",
        _PACKED: "packing_strategy eval_packing",
        "rows stand in one line without padding wherever the model allows it": "padding_free",
        "a batch is padded to its longest row": "pad_to_multiple_of",
        "the machine decides this; set CUDA_VISIBLE_DEVICES= to keep off a GPU": "use_cpu",
        "the command shows the progress": "disable_tqdm",
        "the cache is for generation; while fitting it lets rows see each other": "use_cache",
        _LOG_LOSS: "loss_type",
        "the trainer has deprecated it, and it costs a forward pass each step": "label_smoothing_factor",
        f"{_LOG_LOSS}, and by nothing else": "router_aux_loss_coef",
        "the trainer has deprecated it and replaces the kernels by its own": "use_liger_kernel liger_kernel_config",
        "write gradient_checkpointing; it is handed on under the installed name": "activation_checkpointing",
        "write gradient_checkpointing_kwargs": "activation_checkpointing_kwargs",
        _COMPILED: "torch_compile torch_compile_backend torch_compile_mode",
        "the command deals rows out to processes, so that each is seen once in an epoch": "accelerator_config",
        f"{_GATHERED}: by NCCL on GPUs, by Gloo elsewhere": "ddp_backend",
        _GATHERED: "ddp_timeout",
        "workers hand out ready rows; how they are started changes none of them": "dataloader_multiprocessing_context",
        "no row is left out; a last batch may be smaller, for the loss is a mean over tokens": "dataloader_drop_last",
        "a run that goes on must see the rows it has not seen yet, so their order is the seed's": "dataloader_in_order",
        "lengths are those of the rendered rows": "length_column_name",
        "a loss or gradient that is not finite stops the run, and the step and the rows are named": "debug",
        "every session's peak of memory is in the manifest": "skip_memory_metrics",
        "the ledger counts the tokens of every row": "include_num_input_tokens_seen",
        _QUIET: "log_level log_level_replica log_on_each_node",
        "a loss that is not finite must stop the run, not be hidden": "logging_nan_inf_filter",
        "the loss must not depend on the number of processes": "average_tokens_across_devices",
        "the batch would no longer be the one on record": "auto_find_batch_size",
        "a run cannot go on from weights alone: the learning rate would start again": "save_only_model",
        "all processes share the folder of the run, and the first one writes it": "save_on_each_node",
        "a run that is told to stop saves a checkpoint by itself": "enable_jit_checkpoint",
        "a run that goes on takes up what the checkpoint knows by itself": "restore_callback_states_from_checkpoint",
        "checkpoints follow eval_strategy and save_steps": "save_strategy",
        _KEPT: "load_best_model_at_end metric_for_best_model greater_is_better",
        "the validation loss is computed in the number format of the fit; see bf16": "bf16_full_eval fp16_full_eval",
        "validation keeps a sum of losses, and no predictions that could pile up": "eval_accumulation_steps",
        _MEASURED: "prediction_loss_only include_for_metrics batch_eval_metrics "
        "eval_do_concat_batches eval_use_gather_object",
    }),
    "adapter": _by_name({
    "write method: dora": "use_dora",
        "write method: rslora": "use_rslora",
        "the policy is a causal language model": "task_type",
        "write method: lora, dora, rslora or qlora": "peft_type",
        "it is recorded when the adapter is saved": "auto_mapping peft_version",
        "write model.name": "base_model_name_or_path",
        "write model.revision": "revision",
        _COMMAND: "inference_mode",
        "peft finds out by itself how each layer stores its weights": "fan_in_fan_out",
        "it works on a base in GPTQ only; write method: qlora for one in NF4": "use_qalora qalora_group_size",
        "copies of a layer share its weights, so adapters on them cannot be merged": "layer_replication",
        "it is for adapters that were taken out of fitted weights, and not for fitting": "lora_bias",
        "it has a loss of its own beside the log loss, which is not added here": "monteclora_config kasa_config",
        "it takes a Python object, which a recipe cannot hold": "runtime_config megatron_config megatron_core",
        _DATA_INIT: "eva_config corda_config lora_ga_config loftq_config",
        "it joins adapters that exist already, and fits none": "arrow_config",
        "generation would have to know the tokens too; not offered yet": "alora_invocation_tokens",
    }),
}  # fmt: skip

#: Name that is not (or no longer) a field of the trainer, or what other tools call it -> where that setting is now.
RENAMED: Mapping[str, str] = _by_name({
    "write warmup_steps: 0.03, where a number below 1 is a share of the run": "warmup_ratio",
    "write train_sampling_strategy: group_by_length": "group_by_length",
    "max_seq_length is now max_length": "max_seq_length",
    "a run never overwrites another; give a new folder on the command line": "overwrite_output_dir",
    "remove it: weights are always saved as safetensors": "save_safetensors",
    "set the environment variable TENSORBOARD_LOGGING_DIR instead": "logging_dir",
    "evaluation_strategy is now eval_strategy": "evaluation_strategy",
    "write per_device_train_batch_size": "per_gpu_train_batch_size",
    "write per_device_eval_batch_size": "per_gpu_eval_batch_size",
    "set CUDA_VISIBLE_DEVICES= to keep off a GPU": "no_cuda",
    "remove it: the device is found by itself": "use_mps_device",
    "write optim: adafactor": "adafactor",
    "write fp16: true or bf16: true": "fp16_opt_level fp16_backend half_precision_backend",
    _COMPILED: "torchdynamo jit_mode_eval",
    "the ledger counts the tokens of every row, log.jsonl the seconds": "include_tokens_per_second",
    _MEASURED: "include_inputs_for_metrics compute_metrics preprocess_logits_for_metrics",
    _RENDERED: "dataset_batch_size",
    _PACKED: "num_of_sequences chars_per_token",
    "write neftune_noise_alpha": "neftune_alpha",
    _PUBLISH: "push_to_hub_model_id push_to_hub_organization",
    "the tokenizer comes with model.name, its template with model.template": "tokenizer processing_class bos_token "
    "unk_token sep_token cls_token mask_token",
    "write demonstrations.path": "train_dataset dataset datasets",
    "write split.validation": "eval_dataset val_set_size",
    "it is no setting: the command builds it from the other sections": "data_collator",
    "write early_stopping_patience to stop early": "callbacks",
    "the adapter section is the PEFT configuration": "peft_config",
    "write optim and lr_scheduler_type": "optimizers",
    _LOG_LOSS: "compute_loss_func",
    "write demonstrations.format and demonstrations.columns": "formatting_func",
    "write training.learning_rate": "lr",
    "write training.num_train_epochs": "epochs num_epochs",
    "write training.per_device_train_batch_size, or fidelity.batch_size for generation": "batch_size",
    "write training.per_device_train_batch_size": "train_batch_size micro_batch_size",
    "write training.max_length": "sequence_len cutoff_len",
    "write training.lr_scheduler_type": "lr_scheduler",
    "write training.early_stopping_patience: 2": "early_stopping",
    "write adapter.r": "lora_r lora_rank rank",
    "write adapter.lora_alpha": "alpha",
    "write adapter.lora_dropout": "dropout",
    "write adapter.target_modules": "lora_target_modules",
    "write adapter.target_modules: all-linear": "lora_target_linear",
    "write model.name, or publish.base_model for the model card": "base_model",
    "write model.name": "model_name_or_path",
    "write model.dtype": "torch_dtype",
    "write model.template": "chat_template",
    "write demonstrations.path: hub:OWNER/NAME": "dataset_name",
    "the training demonstrations are named in demonstrations.path": "train",
    "write adapter.method: qlora": "load_in_4bit quantization_config",
    "a base in 8 bits is not offered; write adapter.method: qlora for one in 4": "load_in_8bit",
})  # fmt: skip

_SECRETS = ("token", "api_key", "apikey", "password", "secret", "use_auth_token", "auth_token", "access_token")
#: What stands before ``_token`` in the names that tokenizers and processors give to tokens of a text. Whatever else
#: stands there is taken for the issuer of a credential.
_MARKS = frozenset((
    "bos", "eos", "unk", "sep", "pad", "cls", "mask", "image", "img", "audio", "video", "boi", "eoi", "bod", "eod",
    "eot", "start", "begin", "end", "stop", "break", "prefix", "suffix", "middle", "blank", "special",
))  # fmt: skip


def is_secret(name: str) -> bool:
    """Whether ``name`` asks for a credential; a token of a tokenizer (``eos_token``, ``image_start_token``) is none."""
    name = name.lower().replace("-", "_")
    if name.endswith("_token") and name.split("_")[-2] in _MARKS:
        return False
    return name in _SECRETS or name.endswith(("_token", "_api_key", "_password", "_secret"))


def complaints(section: str, further: Mapping[str, Any]) -> Iterator[Complaint]:
    """What is wrong with the unmodelled keys ``further`` of ``section`` (``training`` or ``adapter``)."""
    if not further:
        return
    target = "SFTConfig" if section == "training" else "LoraConfig"
    try:
        installed = engine_fields.training_fields() if section == "training" else engine_fields.adapter_fields()
    except engine_fields.EngineNotReadable as error:
        for key in further:
            yield about(key, f"cannot be checked: {error}", "install the package's requirements")
        return
    for key, value in further.items():
        if (reason := REFUSED[section].get(key)) is not None:
            yield about(key, "cannot be set here", reason)
        elif key not in installed or is_secret(key):
            offered = [name for name in installed if name not in REFUSED[section] and not is_secret(name)]
            yield unknown_key(section, key, f", nor a field of the installed {target}", offered)
        elif not installed[key].accepts(value) and isinstance(value, str) and installed[key].choices:
            yield not_among(key, value, f"a choice of the installed {target}", installed[key].choices)
        elif not installed[key].accepts(value):
            yield about(key, f"has a value that {target} does not take", f"it takes {installed[key].expects}")
        elif isinstance(value, int) and abs(value) >= 2**32:  # counted in C somewhere below
            yield about(key, f"is {value:.3g}", "give a number below 4294967296")
        elif isinstance(value, str) and dict in installed[key].kinds:  # a file's name, and the file would stay behind
            yield about(key, "is text", "write the mapping itself, {KEY: VALUE}")
    if section == "adapter" and (init := further.get("init_lora_weights")) in ("eva", "corda", "lora_ga", "loftq"):
        yield about("init_lora_weights", f"is {init}", _DATA_INIT)


def _engine_section(key: str) -> str:
    """The section that hands ``key`` on to the trainer, or ""."""
    with suppress(engine_fields.EngineNotReadable):
        if key in engine_fields.training_fields():
            return "training"
        return "adapter" if key in engine_fields.adapter_fields() else ""
    return ""


def unknown_key(section: str, key: str, nor: str = "", offered: Iterable[str] = ()) -> Complaint:
    """The complaint about ``key``, which ``section`` does not have; the top level is the section ``""``.

    ``nor``: what else the section takes, in words that go on after it; ``offered``: those names.
    """
    from sft.recipes.fields import section_keys  # whose rules are in part those above

    if is_secret(key):
        return about(key, "asks for a credential", "log in with `hf auth login`; never write one down")
    what = (f"a key of {section}" if section else "a section of a recipe") + nor
    keys = section_keys()
    home = next((name for name, held in keys.items() if name != section and key in held), None)
    refused = next((names[key] for names in REFUSED.values() if key in names), "")
    known = RENAMED.get(key) or foreign.pointer(key)
    if home == "demonstrations.path":
        return about(
            key, f"is not {what}", f"write it in an entry of demonstrations.path: [{{path: FILE, {key}: ...}}]"
        )
    if remedy := known or (f"write it {f'under {home}:' if home else 'unindented'}" if home is not None else refused):
        return about(key, f"is not {what}", remedy)
    if (engine := _engine_section(key)) not in ("", section):
        return about(key, f"is not {what}", f"write it under {engine}:")
    return unknown((key,), what, [*keys.get(section, ()), *offered])


# -- a recipe as keyword arguments for ``trl.SFTConfig`` and ``peft.LoraConfig``: plain dicts, no import of either -----
# Every value the project depends on is written out, because the trainer's own defaults differ between releases and
# several of them (bf16, gradient checkpointing, hidden NaN losses, trackers) act unasked.

#: Keys of the training section that are ours, or that are handed on in another form.
_NOT_FORWARDED = {
    "max_length", "too_long", "packing", "dialogues", "bf16", "gradient_checkpointing", "eval_strategy", "eval_steps",
    "save_steps", "early_stopping_patience", "report_to", "gradient_checkpointing_kwargs",
}  # fmt: skip


def training_arguments(recipe: Recipe, *, bf16: bool = False, validation: bool = True) -> dict[str, Any]:
    """Keyword arguments for ``trl.SFTConfig``, all but ``output_dir``.

    ``bf16``: whether this machine computes in bfloat16; taken where the recipe leaves it open.
    ``validation``: whether there is a validation split to choose the checkpoint on.

    Rows are handed over as ready ``input_ids`` and ``labels``, so everything that would render, cut or pack
    them is off, ``max_length`` included (the census has refused or dropped what is longer).
    ``early_stopping_patience`` is a callback's, and stays with the caller.
    """
    training = recipe.training
    evaluate = validation and training.eval_strategy != "no"
    given, extra = _plain(training, _NOT_FORWARDED), training.further
    names = engine_fields.training_fields()
    # transformers has renamed gradient checkpointing; the old name still works, with a warning.
    checkpointing = "activation" if "activation_checkpointing" in names else "gradient"
    arguments: dict[str, Any] = {
        "bf16": (bf16 and not extra.get("fp16", False)) if training.bf16 is None else training.bf16,
        f"{checkpointing}_checkpointing": training.gradient_checkpointing,
        "per_device_eval_batch_size": training.per_device_train_batch_size,
        "average_tokens_across_devices": True,
        "dataloader_drop_last": False,
        # What reaches the trainer is rendered already.
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "completion_only_loss": False,
        "assistant_only_loss": False,
        "max_length": None,
        "packing": False,
        "eval_packing": False,
        "padding_free": False,
        "use_cache": False,
        "loss_type": "nll",
        # The default balances a model's experts too, where the loss is TRL's own; ours knows nothing of it.
        "router_aux_loss_coef": 0.0,
        # A loss that is not finite is to be seen; nobody is called unasked.
        "logging_nan_inf_filter": False,
        "logging_strategy": "steps",
        "report_to": training.report_to if isinstance(training.report_to, str) else list(training.report_to),
        "push_to_hub": False,
        # The checkpoint with the lowest validation loss is the clone.
        "eval_strategy": training.eval_strategy if evaluate else "no",
        "save_strategy": "epoch" if training.eval_strategy == "epoch" else "steps",
        "save_total_limit": 2,
        "prediction_loss_only": True,
        "load_best_model_at_end": evaluate,
    }
    if evaluate:
        arguments |= {"metric_for_best_model": "eval_loss", "greater_is_better": False}
    if training.eval_strategy != "epoch":
        arguments["save_steps"] = training.eval_steps if training.save_steps is None else training.save_steps
        if evaluate:
            arguments["eval_steps"] = training.eval_steps
    if not validation:
        given.pop("eval_on_start", None)
    elif evaluate and recipe.adapter.start_from:
        arguments["eval_on_start"] = True  # whether a further fit is any better than what it began from
    if (options := extra.get("gradient_checkpointing_kwargs")) is not None:
        arguments[f"{checkpointing}_checkpointing_kwargs"] = options
    return arguments | given


def lora_arguments(recipe: Recipe) -> dict[str, Any] | None:
    """Keyword arguments for ``peft.LoraConfig``; None where every weight is fitted.

    Where ``adapter.start_from`` names one, they are those of nobody: that adapter has its own.
    """
    adapter = recipe.adapter
    if adapter.method == "full":
        return None
    return {
        "task_type": "CAUSAL_LM",
        "bias": "none",
        "use_dora": adapter.method == "dora",
        "use_rslora": adapter.method == "rslora",
    } | _plain(adapter, {"method", "start_from"})


def _plain(section: Section, left_out: set[str]) -> dict[str, Any]:
    """The keys of a section that go on as they are, lists as lists."""
    values = {key: value for key, value in dict(section).items() if key not in left_out}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
