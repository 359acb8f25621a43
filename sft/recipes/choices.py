"""Values of the trainer's keys that must be one of a few, or not below one: schedules, trackers, numbers.

The choices are those of the installed packages (:mod:`sft.recipes.engine_choices`), so that a name which only the
trainer would have refused, a minute in, is refused with the recipe.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sft.recipes import engine_choices, engine_fields
from sft.recipes.complaints import Complaint, nearest

__all__ = ["not_among", "of_training"]

#: Schedules that need one of several keys, which their signatures do not say -> those keys, the usual one first.
_ONE_OF = {
    "cosine_with_min_lr": ("min_lr_rate", "min_lr"),
    "cosine_warmup_with_min_lr": ("min_lr_rate", "min_lr"),
}
#: Schedules that follow the validation loss.
_FOLLOWING = ("reduce_lr_on_plateau", "greedy")
#: Forwarded numbers -> the least that means anything: the trainer takes less, and its libraries fail on it later.
_LEAST = {
    "adam_epsilon": 1e-45,
    "data_seed": 0,
    "dataloader_num_workers": 0,
    "dataloader_prefetch_factor": 1,
    "ddp_bucket_cap_mb": 1,
    "ddp_timeout": 1,
    "eval_delay": 0,
    "neftune_noise_alpha": 0,
    "per_device_eval_batch_size": 1,
    "router_aux_loss_coef": 0,
    "save_total_limit": 1,
    "torch_empty_cache_steps": 1,
}
#: A value to begin with, for the sentences that name a missing key.
_USUAL = {"min_lr_rate": "0.1", "num_decay_steps": "10"}


def not_among(loc: tuple[str, ...], value: str, what: str, known: Iterable[str]) -> Complaint:
    """The complaint about ``value`` at ``loc``, which is not ``what`` (as in ``a tracker``), with the nearest that is.

    What goes on where ``value`` ends comes first, as it is listed: by ``adamw`` people mean ``adamw_torch``.
    """
    known = tuple(known)
    longer = next((name for name in known if name.startswith(f"{value.lower()}_")), None)
    close = longer if longer is not None else nearest(value, known)
    remedy = f"did you mean {close}?" if close is not None else f"it takes one of {', '.join(known)}"
    return Complaint(loc, f"is {value!r:.80}, not {what}", remedy)


def of_training(training: Any) -> Iterator[Complaint]:
    """What is wrong with the schedule and the trackers of the section ``training``."""
    extra: Mapping[str, Any] = training.model_extra or {}
    for key, least in _LEAST.items():
        value = extra.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and value < least:
            remedy = f"give {least} or more" if least >= 1 or not least else "give a number above 0"
            yield Complaint((key,), f"is {value}", remedy)
    told = extra.get("lr_scheduler_kwargs")
    reports = (training.report_to,) if isinstance(training.report_to, str) else training.report_to
    try:
        if training.lr_scheduler_type != type(training).model_fields["lr_scheduler_type"].default or told is not None:
            yield from _schedule(training.lr_scheduler_type, told, training.eval_strategy)
        if reports != ("none",):
            yield from _trackers(reports)
    except engine_fields.EngineNotReadable as error:
        yield Complaint(("report_to",), f"cannot be checked: {error}", "install the package's requirements")


def _schedule(name: str, told: Any, eval_strategy: str) -> Iterator[Complaint]:
    known = engine_choices.schedules()
    kind, kwargs = ("lr_scheduler_type",), ("lr_scheduler_kwargs",)
    if name not in known:
        yield not_among(kind, name, "a schedule of the installed transformers", known)
        return
    if told is not None and not isinstance(told, Mapping):
        return  # its type has been complained of
    schedule, told = known[name], dict(told or {})
    if name in _FOLLOWING and eval_strategy == "no":
        yield Complaint(
            kind,
            f"is {name}, which follows the validation loss, and eval_strategy is no",
            "write eval_strategy: steps, or another schedule",
            (("eval_strategy",),),
        )
    for key in told:
        if not schedule.open_ended and key not in schedule.takes:
            offered = ", ".join(schedule.takes)
            remedy = f"it takes {offered}" if offered else "remove it"
            yield Complaint((*kwargs, str(key)), f"is nothing that the schedule {name} takes", remedy, (kind,))
    needed: list[str] = [key for key in schedule.needs if key not in told]
    one_of: tuple[str, ...] = _ONE_OF.get(name, ())
    given = [key for key in one_of if told.get(key) is not None]
    if needed or (one_of and not given):
        key = [*needed, *one_of][0]
        shown = " or ".join(needed or one_of)
        remedy = f"write for example lr_scheduler_kwargs: {{{key}: {_USUAL.get(key, '1')}}}"
        yield Complaint(kind, f"is {name}, which needs {shown}", remedy, (kwargs,))
    if len(given) > 1:
        yield Complaint(kwargs, f"has both {' and '.join(given)}", "keep one of them", (kind,))


def _trackers(reports: Iterable[str]) -> Iterator[Complaint]:
    known = engine_choices.trackers()
    where = ("report_to",)
    reports = tuple(reports)
    if "none" in reports and len(reports) > 1:
        yield Complaint(where, "names none beside others", "keep none, or the others")
    for name in reports:
        if name not in known and name not in ("none", "all"):
            yield not_among(where, name, "a tracker of the installed transformers", known)
