"""Names that people bring from Axolotl, LLaMA-Factory, TRL and Unsloth: where each setting stands here, or why nowhere.

A name that a recipe does not know gets its pointer from here (:func:`pointer`) instead of a guess by spelling, and
:mod:`sft.recipes.translation` goes by the same lists when it makes a recipe of such a configuration.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["LEFT_OUT", "MOVED", "pointer"]


def _by_name(table: Mapping[str, str]) -> dict[str, str]:
    return {name: meaning for meaning, names in table.items() for name in names.split()}


#: Name elsewhere -> the key that it is here, with the same values or nearly so.
MOVED: Mapping[str, str] = _by_name({
    "model.name": "base_model model_name_or_path model_name",
    "model.revision": "revision_of_model model_revision",
    "model.dtype": "torch_dtype infer_dtype",
    "demonstrations.limit": "max_samples max_train_samples num_samples",
    "demonstrations.system": "default_system default_system_message system_prompt",
    "demonstrations.columns.messages": "field_messages",
    "demonstrations.columns.role": "message_field_role",
    "demonstrations.columns.content": "message_field_content",
    "demonstrations.columns.input": "field_input",
    "split.validation": "val_set_size val_size test_split_size eval_split_ratio",
    "adapter.r": "lora_r lora_rank",
    "adapter.target_modules": "lora_target lora_target_modules",
    "adapter.target_parameters": "lora_target_parameters",
    "adapter.modules_to_save": "lora_modules_to_save additional_target",
    "adapter.layers_to_transform": "peft_layers_to_transform",
    "adapter.layers_pattern": "peft_layers_pattern",
    "adapter.init_lora_weights": "peft_init_lora_weights",
    "adapter.trainable_token_indices": "peft_trainable_token_indices",
    "training.learning_rate": "lr",
    "training.num_train_epochs": "num_epochs epochs",
    "training.per_device_train_batch_size": "micro_batch_size",
    "training.per_device_eval_batch_size": "eval_batch_size",
    "training.max_length": "sequence_len cutoff_len max_seq_length",
    "training.packing": "sample_packing neat_packing",
    "training.lr_scheduler_type": "lr_scheduler",
    "training.optim": "optimizer",
    "training.eval_strategy": "evaluation_strategy",
    "training.seed": "random_state",
    "training.run_name": "wandb_name wandb_run_id mlflow_run_name swanlab_run_name",
})  # fmt: skip

_ROWS = "rows are read and rendered anew by every command, and kept in its cache"
_KERNELS = "the installed packages and the machine decide which kernels compute it"
_COMPLETIONS = (
    "the expert's completions are learned and nothing else; a turn that is not to be learned is marked in its row "
    "(weight: 0)"
)
_TOKENS = "the tokens are those of the model's own tokenizer"
_LAUNCHER = "it belongs into the configuration file of `accelerate launch`, as in recipes/accelerate"
_SFT = "cloning is supervised fine-tuning, and no preferences or rewards are learned"
_FOLDER = "the folder of a run is given on the command line: sft run RECIPE --output FOLDER"
_MEASURED = "agreement with the expert is measured after training; see the fidelity section"
_TRACKER = "write training.report_to: [wandb], or another tracker's name; its project is a variable of the environment"
_SERVED = "it says how a model is served or asked, which a recipe does not"
_TEMPLATE = "write model.template: auto for the tokenizer's own template, or the path of a .jinja file"
_SOURCE = "write demonstrations.path: hub:OWNER/NAME:SUBSET/SPLIT"
_HELD_OUT = "write split.test and split.validation: files, or shares of the demonstrations"
_METHOD = "write adapter.method: lora, dora, rslora, qlora or full"
_BASE = "a recipe starts from a base and a new adapter, and goes on with none"
_LOSS = "cloning is fitted by the log loss of the expert's completion"

#: Name elsewhere that is no key here -> where the setting stands, or why there is none.
LEFT_OUT: Mapping[str, str] = _by_name({
    _COMPLETIONS: "train_on_inputs train_on_prompt train_on_eos train_on_eot roles_to_train mask_history "
    "train_on_responses_only instruction_part response_part message_field_training",
    _ROWS: "dataset_prepared_path dataset_processes dataset_keep_in_memory preprocessing_num_workers overwrite_cache "
    "preprocessing_batch_size tokenized_path skip_prepare_dataset dataset_shard_num dataset_shard_idx "
    "cache_dir num_proc",
    "every file is read whole; write demonstrations.limit for fewer": "streaming dataset_streaming buffer_size",
    "write demonstrations.path with every file: each counts by its rows, or by a weight, [{path: FILE, weight: 2}]":
    "mix_strategy interleave_probs shuffle_merged_datasets dataset_mixer",
    "write demonstrations.duplicates: drop or keep": "dataset_exact_deduplication",
    _SOURCE: "dataset_train_split dataset_split dataset_config dataset_config_name dataset_subset dataset_dir",
    _HELD_OUT: "test_datasets dataset_test_split eval_on_each_dataset do_bench_eval",
    "write demonstrations.format and demonstrations.columns": "dataset_format message_property_mappings "
    "field_instruction field_output prompt_column response_column prompt_template",
    _TEMPLATE: "template chat_template_jinja chat_template_path_jinja tool_format eot_tokens",
    "write model.template_options: {enable_thinking: true}": "enable_thinking reasoning_effort",
    _METHOD: "use_peft use_lora finetuning_type full_finetuning peft_use_dora peft_use_rslora quantization_bit "
    "quantization_method lora_use_dora load_in_16bit",
    "qlora computes in NF4, quantised twice": "double_quantization quantization_type bnb_4bit_quant_type "
    "use_bnb_nested_quant bnb_config_kwargs",
    "write adapter.init_lora_weights: pissa": "pissa_init pissa_iter pissa_convert",
    "an adapter has one learning rate": "loraplus_lr_ratio loraplus_lr_embedding embedding_lr embedding_lr_scale "
    "lr_groups",
    "not offered; write adapter.method: full for every weight": "freeze_trainable_layers freeze_trainable_modules "
    "freeze_extra_modules unfrozen_parameters use_llama_pro use_galore use_apollo use_badam lisa_n_layers "
    "relora_steps relora",
    _BASE: "lora_model_dir adapter_name_or_path adapter_folder create_new_adapter merge_lora train_from_scratch "
    "auto_resume_from_checkpoints",
    "write training.save_steps and training.eval_steps: a number below 1 is a share of the run": "evals_per_epoch "
    "saves_per_epoch",
    "write training.lr_scheduler_type: cosine_with_min_lr and lr_scheduler_kwargs: {min_lr_rate: 0.1}":
    "cosine_min_lr_ratio cosine_constant_lr_ratio",
    "write training.gradient_checkpointing": "use_gradient_checkpointing disable_gradient_checkpointing "
    "use_reentrant_gc use_unsloth_gc",
    "write training.bf16: true": "pure_bf16 bfloat16",
    "write training.fp16: true": "float16",
    "not offered; write training.bf16: true": "fp8 fp8_backend",
    _KERNELS: "flash_attention flash_attn attn_implementation sdp_attention xformers_attention flex_attention "
    "eager_attention s2_attention shift_attn flash_attn_cross_entropy flash_attn_rms_norm flash_attn_fuse_qkv "
    "flash_attn_fuse_mlp use_unsloth enable_liger_kernel plugins liger_rope liger_rms_norm liger_glu_activation "
    "liger_swiglu liger_layer_norm liger_fused_linear_cross_entropy lora_mlp_kernel lora_qkv_kernel lora_o_kernel "
    "unsloth_cross_entropy_loss use_v1_kernels cut_cross_entropy low_cpu_mem_usage lora_on_cpu",
    "rows stand in one line without padding wherever the model allows it": "pad_to_sequence_len batch_flattening "
    "eval_sample_packing sample_packing_group_size sample_packing_bin_size multipack_real_batches",
    _TOKENS: "special_tokens tokens added_tokens_overrides add_tokens add_special_tokens resize_vocab "
    "resize_token_embeddings_to_32x tokenizer_type tokenizer_config tokenizer_use_fast use_fast_tokenizer "
    "split_special_tokens new_special_tokens_config",
    "the model's configuration says what it is": "model_type is_llama_derived_model is_mistral_derived_model "
    "is_qwen_derived_model is_falcon_derived_model base_model_config rope_scaling",
    _LAUNCHER: "deepspeed_config device_map max_memory gpu_memory_limit sequence_parallel_degree tensor_parallel_size "
    "context_parallel_size dp_shard_size quantization_device_map world_size fsdp_version",
    _SFT: "rl trl reward_model ref_model pref_beta pref_loss pref_ftx rl_beta kto_tag ppo_epochs orpo_alpha",
    _LOSS: "use_dft_loss use_eaft_loss label_smoothing loss_watchdog_threshold loss_watchdog_patience "
    "moe_aux_loss_coef",
    _FOLDER: "output_folder save_dir plot_loss",
    _MEASURED: "compute_accuracy predict_with_generate do_causal_lm_eval eval_causal_lm_metrics eval_table_size "
    "eval_max_new_tokens bench_dataset eval_num_beams max_new_tokens",
    _TRACKER: "wandb_project wandb_entity wandb_watch wandb_log_model wandb_mode use_wandb use_tensorboard "
    "use_mlflow mlflow_tracking_uri mlflow_experiment_name use_comet comet_project_name use_swanlab swanlab_project "
    "swanlab_mode",
    _SERVED: "infer_backend vllm_maxlen vllm_gpu_util fast_inference gpu_memory_utilization max_lora_rank temperature "
    "top_p gradio_title",
    "say so of the shell that starts the command": "hf_use_auth_token",
    "demonstrations are text": "image_max_pixels image_min_pixels video_maxlen video_fps media_dir processor_type "
    "freeze_vision_tower image_size",
    "remove it": "strict",
})  # fmt: skip


def pointer(name: str) -> str:
    """Where the setting that is called ``name`` elsewhere stands, or why nowhere; "" for a name nobody brings."""
    if name in LEFT_OUT:
        return LEFT_OUT[name]
    return f"write {MOVED[name]}" if name in MOVED else ""
