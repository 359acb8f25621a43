"""What does not go together in a recipe: rules between keys, and values that the installed trainer does not know.

The trainer takes most of this and says nothing, or fails a minute in. Its choices are those of the installed packages
(:mod:`sft.recipes.engine_fields`). Which optimizer and which tracker read which key is as in transformers'
``trainer_optimizer`` and ``integration_utils``. What a key does nothing for on a machine or a model is known later:
:mod:`sft.recipes.requirements`, :mod:`sft.policies.policy`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sft.recipes import engine_fields, forwarded
from sft.recipes.complaints import Complaint, about, idle, not_among, twice, unknown
from sft.recipes.yaml_text import as_yaml

if TYPE_CHECKING:
    from sft.recipes.fields import Adapter, Fidelity, Model, Training

__all__ = [
    "POINTS", "SHARES", "of_adapter", "of_fidelity", "of_model", "of_training", "points_of_bar",
]  # fmt: skip

#: Metrics a bar may be set on: in points above 1 up to 100 (1 would be taken for a share), or as a share up to 1.
POINTS = ("chrf", "chrf2", "rouge_l", "token_f1", "edit_similarity")
SHARES = ("exact_match", "exact_match_normalised")

#: Schedules that need one of several keys, which their signatures do not say -> those keys, the usual one first.
_ONE_OF = dict.fromkeys(("cosine_with_min_lr", "cosine_warmup_with_min_lr"), ("min_lr_rate", "min_lr"))
#: A value to begin with, for the sentences that name a missing key.
_USUAL = {"min_lr_rate": "0.1", "num_decay_steps": "10"}
#: Schedules that follow the validation loss.
_FOLLOWING = ("reduce_lr_on_plateau", "greedy")
#: Forwarded numbers -> the least that means anything: the trainer takes less, and its libraries fail on it later.
_LEAST = {
    "adam_epsilon": 1e-45,
    **dict.fromkeys(("data_seed", "dataloader_num_workers", "eval_delay", "neftune_noise_alpha"), 0),
    **dict.fromkeys(("dataloader_prefetch_factor", "ddp_bucket_cap_mb", "per_device_eval_batch_size"), 1),
    **dict.fromkeys(("save_total_limit", "torch_empty_cache_steps"), 1),
}
_ADAM = ("adam_beta1", "adam_beta2", "adam_epsilon")
#: What the names of optimizers contain that read ``optim_args``; those of bitsandbytes fail on numbers in a text.
_WITH_ARGUMENTS = (
    "sgd", "adagrad", "rmsprop", "galore", "apollo", "ademamix", "grokadamw", "stable_adamw", "schedule_free",
    "adamw_anyprecision", "adamw_torch_4bit", "adamw_torch_8bit",
)  # fmt: skip
#: The same of those that read none of AdamW's settings, though some are named after it.
_NO_ADAM = ("galore", "grokadamw", "adafactor", "sgd", "adagrad", "rmsprop", "lomo")
#: Trackers that are told ``run_name``.
_NAMED = ("comet_ml", "dagshub", "mlflow", "swanlab", "trackio", "wandb")
_TRACKIO = "project trackio_space_id trackio_bucket_id"
#: Key of the adapter that holds keys of its own -> the class of peft that has them.
_NESTED = {"velora_config": "VeloraConfig", "use_bdlora": "BdLoraConfig"}


def of_model(model: Model) -> Iterator[Complaint]:
    """What is wrong with the section ``model``; so do the next three for theirs."""
    wheel = model.name.removeprefix("wheel:")
    if wheel != model.name and not all(wheel.partition("==")):
        yield about("name", "names a wheel without its version", "write wheel:NAME==VERSION")
    if model.template not in ("auto", "plain") and not model.template.endswith((".jinja", ".jinja2")):
        yield about("template", "is no template", "write auto, plain, or the path of a .jinja file")
    if model.revision is not None and wheel != model.name:
        yield about("revision", "has no meaning for a wheel", "pin the wheel's version in model.name", "name")


def of_fidelity(fidelity: Fidelity) -> Iterator[Complaint]:
    """See :func:`of_model`."""
    if "tuned" not in fidelity.systems:
        yield about("systems", "leaves out tuned, the clone itself", "add tuned")
    if not set(fidelity.systems) - {"tuned"}:
        yield about("systems", "has nothing to compare the clone with", "add B0, or R, K and P")
    yield from twice("systems", fidelity.systems, "system")
    yield from twice("metrics", fidelity.metrics, "metric")
    yield from twice("control", fidelity.control, "file")
    yield from twice("normalise", fidelity.normalise, "step")
    if fidelity.headline == "checker" and not fidelity.checker:
        message, remedy = "is checker, and nothing says which answers are right", "set fidelity.checker, or choose chrf"
        yield about("headline", message, remedy, "checker")
    task = ("json", fidelity.headline, *(["checker"] if fidelity.checker else []))
    known = list(dict.fromkeys((*POINTS, *SHARES, *task)))
    for metric, value in fidelity.bar.items():
        if isinstance(found := points_of_bar(metric, value, known), Complaint):
            yield found


def points_of_bar(metric: str, value: float, known: Sequence[str]) -> float | Complaint:
    """A user's bar on ``metric`` in points, or what is wrong with it; ``known``: metrics that a bar may be set on.

    What counts prompts is a share, ``exact_match: 0.95``, and 95 can only be meant as the same in points. All others
    are in points above 1: who writes ``chrf: 1`` means every point there is, or a bar that anything clears.
    """
    if metric not in known:
        return unknown(("bar", metric), "a metric", known)
    if metric in (*SHARES, "checker") and 0 < value <= 1:
        return 100.0 * value
    if 1 < value <= 100:
        return float(value)
    example = f"{value * 100:g}" if 0 < value <= 1 else "0.95" if metric in (*SHARES, "checker") else "60"
    return Complaint(("bar", metric), f"is {value:g}, not in points above 1 up to 100", f"write {example}")


def of_adapter(adapter: Adapter) -> Iterator[Complaint]:
    """See :func:`of_model`."""
    yield from forwarded.complaints("adapter", adapter.further)
    values, targets = dict(adapter), adapter.target_modules
    for key in _asked(values, "layers_to_transform", "layers_pattern"):
        if isinstance(targets, str):
            message, remedy = "has no meaning with target_modules as text", "list their names: [q_proj, v_proj]"
            yield about(key, message, remedy, "target_modules")
        elif key == "layers_pattern" and values.get("layers_to_transform") is None:
            message, remedy = "has no meaning without layers_to_transform", "name the layers there, or remove it"
            yield about(key, message, remedy, "layers_to_transform")
    for key, name in _NESTED.items():
        value = values.get(key)
        if value is not None and not isinstance(value, Mapping):
            yield about(key, "is no mapping of keys", f"write the fields of peft's {name}")
        elif value:
            try:
                known = engine_fields.class_fields("peft", name)  # peft passes over what it does not know
            except engine_fields.EngineNotReadable:
                continue  # that peft cannot be read is said of the key itself
            yield from (unknown((key, part), f"a field of peft's {name}", known) for part in value if part not in known)
    if any(target.rpartition(".")[2] == "lm_head" for target in ([targets] if isinstance(targets, str) else targets)):
        message = "names lm_head, where the trainer cannot fit an adapter"
        yield about("target_modules", message, "leave it out, or fit all of it with modules_to_save: [lm_head]")
    if adapter.method == "full":
        yield from (idle(key, "with method: full", "method") for key in values if key != "method")
    elif adapter.start_from is not None:
        whose = "with start_from, whose adapter has its own"
        yield from (idle(key, whose, "start_from") for key in values if key not in ("method", "start_from"))
        if adapter.method not in ("lora", "qlora"):
            message = f"is {adapter.method}, and what is fitted further is the adapter that start_from names"
            yield about("method", message, "leave it out; qlora loads the base in 4 bits", "start_from")


def of_training(training: Training) -> Iterator[Complaint]:
    """See :func:`of_model`."""
    yield from forwarded.complaints("training", training.further)
    yield from _without_effect(training)
    for key, least in _LEAST.items():
        value = training.further.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and value < least:
            remedy = f"give {least} or more" if least in (0, 1) else "give a number above 0"
            yield about(key, f"is {value}", remedy)
    told, usual = training.further.get("lr_scheduler_kwargs"), type(training).model_fields["lr_scheduler_type"].default
    try:
        if training.lr_scheduler_type != usual or told is not None:
            yield from _schedule(training.lr_scheduler_type, told, training.eval_strategy)
        if training.trackers != ("none",):
            yield from _trackers(training.trackers)
    except engine_fields.EngineNotReadable as error:
        yield about("report_to", f"cannot be checked: {error}", "install the package's requirements")
    if training.max_steps == 0:
        yield about("max_steps", "is 0, so nothing would be fitted", "write -1 for no limit")
    if training.packing and training.further.get("neftune_noise_alpha"):
        message = "and neftune_noise_alpha exclude each other: the noise is scaled by the length of a row"
        yield about("packing", message, "leave one of them out", "neftune_noise_alpha")
    if training.report_to == "all" or "all" in training.report_to:
        yield about("report_to", "is all, which may call services you forgot", "name the trackers")
    strategy, logging = training.eval_strategy, training.further.get("logging_strategy", "steps")
    if strategy == "steps" and not _is_multiple(training.save_steps, training.eval_steps):
        message = f"is {training.save_steps}, not a multiple of eval_steps ({training.eval_steps})"
        remedy = "save where the validation loss is measured, or leave save_steps out"
        yield about("save_steps", message, remedy, "eval_steps", "eval_strategy")
    if training.bf16 and training.further.get("fp16"):
        yield about("fp16", "and training.bf16 are both true", "keep one of the two", "bf16")
    unread = {"no": ("eval_steps", "early_stopping_patience"), "epoch": ("eval_steps", "save_steps")}
    for key in unread.get(strategy, ()):
        yield idle(key, f"with eval_strategy: {as_yaml(strategy)}", "eval_strategy")
    if logging != "steps":
        yield idle("logging_steps", f"with logging_strategy: {logging}", "logging_strategy")


def _asked(values: Mapping[str, Any], *keys: str) -> Iterator[str]:
    """Those of ``keys`` that ask for something: ``fp16: false`` holds everywhere."""
    yield from (key for key in keys if values.get(key) is not None and values[key] is not False)


def _without_effect(training: Training) -> Iterator[Complaint]:
    """Forwarded keys that the trainer takes and that do nothing beside the others."""
    values, trackers = dict(training), training.trackers
    optim, sampling = str(values.get("optim", "adamw_torch_fused")), values.get("train_sampling_strategy", "random")
    if sampling == "batch_rebalance":
        message = "is batch_rebalance, whose order is not that of training.seed and which repeats rows"
        yield about("train_sampling_strategy", message, "write group_by_length")
    read = () if any(part in optim for part in _NO_ADAM) else _ADAM[:2] if "lion" in optim else _ADAM
    unread = " ".join(key for key in _ADAM if key not in read)
    arguments = any(part in optim for part in _WITH_ARGUMENTS) and not optim.startswith("rmsprop_bnb")
    lowranked = any(part in optim for part in ("galore", "apollo"))
    by_length = sampling not in ("random", "batch_rebalance")  # draws rows of equal length by training.seed, no more
    no_loss, unmeasured = training.eval_strategy == "no", 'with eval_strategy: "no"'
    workers = "dataloader_persistent_workers dataloader_prefetch_factor"
    checkpointing, space = training.gradient_checkpointing, values.get("trackio_space_id")
    #: When it applies, keys, why they do nothing, and the key that decides it.
    rows = (
        (not values.get("dataloader_num_workers"), workers, "without workers", "dataloader_num_workers"),
        (not checkpointing, "gradient_checkpointing_kwargs", "without checkpointing", "gradient_checkpointing"),
        (no_loss, "eval_delay", unmeasured, "eval_strategy"),
        (no_loss and not values.get("eval_on_start"), "per_device_eval_batch_size", unmeasured, "eval_strategy"),
        (bool(unread), unread, f"with optim: {optim}", "optim"),
        (not arguments, "optim_args", f"with optim: {optim}, which takes none", "optim"),
        (not lowranked, "optim_target_modules", f"with optim: {optim}, which treats all weights alike", "optim"),
        (by_length, "data_seed", f"with train_sampling_strategy: {sampling}", "train_sampling_strategy"),
        ("trackio" not in trackers, _TRACKIO, "without trackio in report_to", "report_to"),
        (not space, "trackio_static_space_id", "without a Space to freeze", "trackio_space_id"),
        (
            not set(trackers) & set(_NAMED),
            "run_name",
            f"without a tracker that takes it ({', '.join(_NAMED)})",
            "report_to",
        ),
    )
    for applies, keys, why, other in rows:
        for key in _asked(values, *keys.split()) if applies else ():
            yield about(key, f"has no meaning {why}", f"remove it, or change {other}", other)


def _schedule(name: str, told: Any, eval_strategy: str) -> Iterator[Complaint]:
    known = engine_fields.schedules()
    if name not in known:
        yield not_among("lr_scheduler_type", name, "a schedule of the installed transformers", known)
        return
    if told is not None and not isinstance(told, Mapping):
        return  # its type has been complained of
    schedule, told = known[name], dict(told or {})
    if name in _FOLLOWING and eval_strategy == "no":
        message = f"is {name}, which follows the validation loss, and eval_strategy is no"
        yield about("lr_scheduler_type", message, "write eval_strategy: steps, or another schedule", "eval_strategy")
    for key in told:
        if not schedule.open_ended and key not in schedule.takes:
            remedy = f"it takes {', '.join(schedule.takes)}" if schedule.takes else "remove it"
            message = f"is nothing that the schedule {name} takes"
            yield Complaint(("lr_scheduler_kwargs", str(key)), message, remedy, (("lr_scheduler_type",),))
    needed = [key for key in schedule.needs if key not in told]
    one_of: tuple[str, ...] = _ONE_OF.get(name, ())
    given = [key for key in one_of if told.get(key) is not None]
    if needed or (one_of and not given):
        key = [*needed, *one_of][0]
        remedy = f"write for example lr_scheduler_kwargs: {{{key}: {_USUAL.get(key, '1')}}}"
        message = f"is {name}, which needs {' or '.join(needed or one_of)}"
        yield about("lr_scheduler_type", message, remedy, "lr_scheduler_kwargs")
    if len(given) > 1:
        yield about("lr_scheduler_kwargs", f"has both {' and '.join(given)}", "keep one of them", "lr_scheduler_type")


def _trackers(names: tuple[str, ...]) -> Iterator[Complaint]:
    known = engine_fields.trackers()
    if "none" in names and len(names) > 1:
        yield about("report_to", "names none beside others", "keep none, or the others")
    for name in names:
        if name not in known and name not in ("none", "all"):
            yield not_among("report_to", name, "a tracker of the installed transformers", known)


def _is_multiple(save: float | None, evaluate: float) -> bool:
    if save is None:
        return True
    scale = 1 if isinstance(save, int) else 1_000_000  # the trainer compares shares in millionths
    same_kind = isinstance(save, int) is isinstance(evaluate, int)
    return same_kind and round(save * scale) % max(1, round(evaluate * scale)) == 0
