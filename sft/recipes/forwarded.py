"""Keys that a recipe hands on to the trainer unmodelled: which may be given, which not, and why.

A name is good when the *installed* ``SFTConfig`` or ``LoraConfig`` has it (:mod:`sft.recipes.engine_fields`) and
the run does not depend on deciding it itself. Names that older releases took, or that people bring from
other tools, get the present name as the remedy instead of a guess by spelling.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sft.recipes import engine_fields
from sft.recipes.choices import not_among
from sft.recipes.complaints import Complaint, unknown

__all__ = ["REFUSED", "RENAMED", "complaints", "is_secret", "unknown_key"]

_PUBLISH = "the clone is published by a command of its own; see the publish section"
_RENDERED = "rows reach the trainer as ready token ids, rendered once for training and generation alike"
_PACKED = "write packing; packed demonstrations never see each other, and only training is packed"
_NO_PADDING = "rows stand in one line without padding wherever the model allows it"
_COMMAND = "the command decides this: sft train, sft evaluate"
_MEASURED = "agreement with the expert is measured after training, by sft evaluate"
_KEPT = "the checkpoint with the lowest validation loss is kept; see eval_strategy"
_LIGER = "the trainer has deprecated it and replaces the kernels by its own"
_OBJECT = "it takes a Python object, which a recipe cannot hold"
_COMPILED = "batches differ in length, and the model would be compiled anew for each of them"
_ONE_FORMAT = "the validation loss is computed in the number format of the fit; see bf16"
_QUIET = "the engine is kept quiet; the log, the ledger and the manifest say what happens"
_GATHERED = "the command joins the processes before the trainer is made"
_GPTQ = "it works on a base in GPTQ only; write method: qlora for one in NF4"
_OWN_LOSS = "it has a loss of its own beside the log loss, which is not added here"
_LAUNCHER = "it belongs into the configuration file of `accelerate launch`, as in recipes/accelerate"
_DATA_INIT = "an initialisation that needs a pass over data is not offered yet; use gaussian, pissa or olora"

#: section -> field of the trainer that a recipe may not set -> why, or what to use instead.
REFUSED: Mapping[str, Mapping[str, str]] = {
    "training": {
        "output_dir": "the run's folder is given on the command line",
        "resume_from_checkpoint": "a run is resumed on the command line",
        "ignore_data_skip": "a resumed run must see the rows it has not seen yet",
        "do_train": _COMMAND,
        "do_eval": _COMMAND,
        "do_predict": _COMMAND,
        "local_rank": "the launcher decides this; use `accelerate launch -m sft train`",
        "parallelism_config": _LAUNCHER,
        "fsdp": _LAUNCHER,
        "fsdp_config": _LAUNCHER,
        "deepspeed": _LAUNCHER,
        "push_to_hub": _PUBLISH,
        "hub_model_id": _PUBLISH,
        "hub_private_repo": _PUBLISH,
        "hub_strategy": _PUBLISH,
        "hub_always_push": _PUBLISH,
        "hub_revision": _PUBLISH,
        "model_init_kwargs": "the model section says how the model is loaded",
        "trust_remote_code": "write model.trust_remote_code",
        "chat_template_path": "write model.template",
        "dataset_text_field": _RENDERED,
        "dataset_kwargs": _RENDERED,
        "dataset_num_proc": _RENDERED,
        "remove_unused_columns": _RENDERED,
        "label_names": _RENDERED,
        "completion_only_loss": f"only the completion is ever supervised: {_RENDERED}",
        "assistant_only_loss": f"only the completion is ever supervised: {_RENDERED}",
        "truncation_mode": "a demonstration is never cut; see max_length and too_long",
        "eos_token": "the template's own end of turn is supervised and stopped at; see model.template",
        "pad_token": "padding is masked, so any token does; the tokenizer's own is used",
        "shuffle_dataset": "every epoch is shuffled already, by training.seed",
        "packing_strategy": _PACKED,
        "eval_packing": _PACKED,
        "padding_free": _NO_PADDING,
        "pad_to_multiple_of": "a batch is padded to its longest row",
        "use_cpu": "the machine decides this; set CUDA_VISIBLE_DEVICES= to keep off a GPU",
        "disable_tqdm": "the command shows the progress",
        "use_cache": "the cache is for generation; while fitting it lets rows see each other",
        "loss_type": "cloning is fitted by the log loss of the expert's completion",
        "label_smoothing_factor": "the trainer has deprecated it, and it costs a forward pass each step",
        "router_aux_loss_coef": "cloning is fitted by the log loss of the expert's completion, and by nothing else",
        "use_liger_kernel": _LIGER,
        "liger_kernel_config": _LIGER,
        "activation_checkpointing": "write gradient_checkpointing; it is handed on under the installed name",
        "activation_checkpointing_kwargs": "write gradient_checkpointing_kwargs",
        "torch_compile": _COMPILED,
        "torch_compile_backend": _COMPILED,
        "torch_compile_mode": _COMPILED,
        "accelerator_config": "the command deals rows out to processes, so that each is seen once in an epoch",
        "ddp_backend": f"{_GATHERED}: by NCCL on GPUs, by Gloo elsewhere",
        "ddp_timeout": _GATHERED,
        "dataloader_multiprocessing_context": "workers hand out ready rows; how they are started changes none of them",
        "dataloader_drop_last": "no row is left out; a last batch may be smaller, for the loss is a mean over tokens",
        "dataloader_in_order": "a run that goes on must see the rows it has not seen yet, so their order is the seed's",
        "length_column_name": "lengths are those of the rendered rows",
        "debug": "a loss or gradient that is not finite stops the run, and the step and the rows are named",
        "skip_memory_metrics": "every session's peak of memory is in the manifest",
        "include_num_input_tokens_seen": "the ledger counts the tokens of every row",
        "log_level": _QUIET,
        "log_level_replica": _QUIET,
        "log_on_each_node": _QUIET,
        "logging_nan_inf_filter": "a loss that is not finite must stop the run, not be hidden",
        "average_tokens_across_devices": "the loss must not depend on the number of processes",
        "auto_find_batch_size": "the batch would no longer be the one on record",
        "save_only_model": "a run cannot go on from weights alone: the learning rate would start again",
        "save_on_each_node": "all processes share the folder of the run, and the first one writes it",
        "enable_jit_checkpoint": "a run that is told to stop saves a checkpoint by itself",
        "restore_callback_states_from_checkpoint": "a run that goes on takes up what the checkpoint knows by itself",
        "save_strategy": "checkpoints follow eval_strategy and save_steps",
        "load_best_model_at_end": _KEPT,
        "metric_for_best_model": _KEPT,
        "greater_is_better": _KEPT,
        "bf16_full_eval": _ONE_FORMAT,
        "fp16_full_eval": _ONE_FORMAT,
        "eval_accumulation_steps": "validation keeps a sum of losses, and no predictions that could pile up",
        "prediction_loss_only": _MEASURED,
        "include_for_metrics": _MEASURED,
        "batch_eval_metrics": _MEASURED,
        "eval_do_concat_batches": _MEASURED,
        "eval_use_gather_object": _MEASURED,
    },
    "adapter": {
        "use_dora": "write method: dora",
        "use_rslora": "write method: rslora",
        "task_type": "the policy is a causal language model",
        "peft_type": "write method: lora, dora, rslora or qlora",
        "auto_mapping": "it is recorded when the adapter is saved",
        "peft_version": "it is recorded when the adapter is saved",
        "base_model_name_or_path": "write model.name",
        "revision": "write model.revision",
        "inference_mode": "the command decides this: sft train, sft evaluate",
        "fan_in_fan_out": "peft finds out by itself how each layer stores its weights",
        "use_qalora": _GPTQ,
        "qalora_group_size": _GPTQ,
        "layer_replication": "copies of a layer share its weights, so adapters on them cannot be merged",
        "lora_bias": "it is for adapters that were taken out of fitted weights, and not for fitting",
        "monteclora_config": _OWN_LOSS,
        "kasa_config": _OWN_LOSS,
        "runtime_config": _OBJECT,
        "megatron_config": _OBJECT,
        "megatron_core": _OBJECT,
        "eva_config": _DATA_INIT,
        "corda_config": _DATA_INIT,
        "lora_ga_config": _DATA_INIT,
        "loftq_config": _DATA_INIT,
        "arrow_config": "it joins adapters that exist already, and fits none",
        "alora_invocation_tokens": "generation would have to know the tokens too; not offered yet",
    },
}

_CALL = "it is no setting: the command builds it from the other sections"

#: Name that is not (or no longer) a field of the trainer -> where that setting is now.
RENAMED: Mapping[str, str] = {
    # Fields of earlier releases.
    "warmup_ratio": "write warmup_steps: 0.03, where a number below 1 is a share of the run",
    "group_by_length": "write train_sampling_strategy: group_by_length",
    "max_seq_length": "max_seq_length is now max_length",
    "overwrite_output_dir": "a run never overwrites another; give a new folder on the command line",
    "save_safetensors": "remove it: weights are always saved as safetensors",
    "logging_dir": "set the environment variable TENSORBOARD_LOGGING_DIR instead",
    "evaluation_strategy": "evaluation_strategy is now eval_strategy",
    "per_gpu_train_batch_size": "write per_device_train_batch_size",
    "per_gpu_eval_batch_size": "write per_device_eval_batch_size",
    "no_cuda": "set CUDA_VISIBLE_DEVICES= to keep off a GPU",
    "use_mps_device": "remove it: the device is found by itself",
    "adafactor": "write optim: adafactor",
    "fp16_opt_level": "write fp16: true or bf16: true",
    "fp16_backend": "write fp16: true or bf16: true",
    "half_precision_backend": "write fp16: true or bf16: true",
    "torchdynamo": _COMPILED,
    "jit_mode_eval": _COMPILED,
    "include_tokens_per_second": "the ledger counts the tokens of every row, log.jsonl the seconds",
    "include_inputs_for_metrics": _MEASURED,
    "dataset_batch_size": _RENDERED,
    "num_of_sequences": _PACKED,
    "chars_per_token": _PACKED,
    "neftune_alpha": "write neftune_noise_alpha",
    "push_to_hub_model_id": _PUBLISH,
    "push_to_hub_organization": _PUBLISH,
    # Arguments of the trainer, not of its configuration.
    "tokenizer": "the tokenizer comes with model.name, its template with model.template",
    "processing_class": "the tokenizer comes with model.name, its template with model.template",
    "train_dataset": "write demonstrations.path",
    "eval_dataset": "write split.validation",
    "data_collator": _CALL,
    "callbacks": "write early_stopping_patience to stop early",
    "peft_config": "the adapter section is the PEFT configuration",
    "optimizers": "write optim and lr_scheduler_type",
    "compute_metrics": _MEASURED,
    "compute_loss_func": "cloning is fitted by the log loss of the expert's completion",
    "preprocess_logits_for_metrics": _MEASURED,
    "formatting_func": "write demonstrations.format and demonstrations.columns",
    # What other tools call it.
    "lr": "write training.learning_rate",
    "epochs": "write training.num_train_epochs",
    "num_epochs": "write training.num_train_epochs",
    "batch_size": "write training.per_device_train_batch_size, or fidelity.batch_size for generation",
    "train_batch_size": "write training.per_device_train_batch_size",
    "micro_batch_size": "write training.per_device_train_batch_size",
    "sequence_len": "write training.max_length",
    "cutoff_len": "write training.max_length",
    "lr_scheduler": "write training.lr_scheduler_type",
    "early_stopping": "write training.early_stopping_patience: 2",
    "lora_r": "write adapter.r",
    "lora_rank": "write adapter.r",
    "rank": "write adapter.r",
    "alpha": "write adapter.lora_alpha",
    "dropout": "write adapter.lora_dropout",
    "lora_target_modules": "write adapter.target_modules",
    "lora_target_linear": "write adapter.target_modules: all-linear",
    "base_model": "write model.name, or publish.base_model for the model card",
    "model_name_or_path": "write model.name",
    "torch_dtype": "write model.dtype",
    "chat_template": "write model.template",
    "dataset": "write demonstrations.path",
    "datasets": "write demonstrations.path",
    "dataset_name": "write demonstrations.path: hub:OWNER/NAME",
    "val_set_size": "write split.validation",
    "train": "the training demonstrations are named in demonstrations.path",
    "load_in_4bit": "write adapter.method: qlora",
    "load_in_8bit": "a base in 8 bits is not offered; write adapter.method: qlora for one in 4",
    "quantization_config": "write adapter.method: qlora",
}

_SECRETS = ("token", "api_key", "apikey", "password", "secret", "use_auth_token", "auth_token", "access_token")


def is_secret(name: str) -> bool:
    """Whether ``name`` asks for a credential."""
    name = name.lower().replace("-", "_")
    return name in _SECRETS or name.endswith(("_token", "_api_key", "_password", "_secret"))


def complaints(section: str, extra: Mapping[str, Any], keys: Mapping[str, tuple[str, ...]]) -> Iterator[Complaint]:
    """What is wrong with the unmodelled keys ``extra`` of ``section`` (``training`` or ``adapter``).

    ``keys``: section -> its modelled keys, to tell a key that stands in the wrong section.
    """
    if not extra:
        return
    target = "SFTConfig" if section == "training" else "LoraConfig"
    read = engine_fields.training_fields if section == "training" else engine_fields.adapter_fields
    try:
        installed = read()
    except engine_fields.EngineNotReadable as error:
        for key in extra:
            yield Complaint((key,), f"cannot be checked: {error}", "install the package's requirements")
        return
    for key, value in extra.items():
        if (reason := REFUSED[section].get(key)) is not None:
            yield Complaint((key,), "cannot be set here", reason)
        elif key not in installed or is_secret(key):
            offered = [name for name in installed if name not in REFUSED[section] and not is_secret(name)]
            yield unknown_key(section, key, keys, (f"a field of the installed {target}", offered))
        elif not installed[key].accepts(value):
            if isinstance(value, str) and installed[key].choices:
                yield not_among((key,), value, f"a choice of the installed {target}", installed[key].choices)
            else:
                remedy = f"it takes {installed[key].expects}"
                yield Complaint((key,), f"has a value that {target} does not take", remedy)
        elif isinstance(value, int) and abs(value) >= 2**32:  # counted in C somewhere below
            yield Complaint((key,), f"is {value:.3g}", "give a number below 4294967296")
        elif isinstance(value, str) and dict in installed[key].kinds:  # a file's name, and the file would stay behind
            yield Complaint((key,), "is text", "write the mapping itself, {KEY: VALUE}")
    init = extra.get("init_lora_weights")
    if section == "adapter" and init in ("eva", "corda", "lora_ga", "loftq"):
        yield Complaint(("init_lora_weights",), f"is {init}", _DATA_INIT)


def unknown_key(
    section: str,
    key: str,
    keys: Mapping[str, tuple[str, ...]],
    further: tuple[str, list[str]] | None = None,
) -> Complaint:
    """The complaint about ``key``, which ``section`` does not have; the top level is the section ``""``.

    ``further``: what else the section takes, in words, and those names.
    """
    if is_secret(key):
        return Complaint((key,), "asks for a credential", "log in with `hf auth login`; never write one down")
    what = f"a key of {section}" if section else "a section of a recipe"
    if further is not None:
        what += f", nor {further[0]}"
    if (remedy := RENAMED.get(key)) is not None:
        return Complaint((key,), f"is not {what}", remedy)
    home = next((name for name, held in keys.items() if name != section and key in held), None)
    if home is not None:
        return Complaint((key,), f"is not {what}", f"write it under {home}:" if home else "write it unindented")
    return unknown((key,), what, [*keys.get(section, ()), *(further[1] if further else ())])
