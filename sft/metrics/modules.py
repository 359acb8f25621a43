"""Metrics of the ``evaluate`` library beside ours: any module, by name or path, one score for each prompt.

``evaluate`` takes seconds to import and computes one figure for a list, so a module is loaded when a recipe asks for it
(``fidelity.metrics``) and called once for each pair of texts: intervals need a score of every prompt. Ours are such
modules too, in the folders beside this file (``sft_chrf`` and so on).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module, metadata, resources
from numbers import Real
from pathlib import Path
from typing import Any

from sft.errors import UserError
from sft.metrics.overlap import METRICS

__all__ = ["demand", "label", "load", "module_path", "signatures"]

#: What a line of ``scores.jsonl``, or of a scorecard, holds beside our metrics: no module may be called so.
_TAKEN = (
    *("id", "cluster", "system", "characters", "expert_characters", "words", "finished", "empty", "chrf_max"),
    *("json", "checker", "json_max", "checker_max"),
    *("stop_rate", "empty_rate", "length_ratio"),
)


def demand(names: Sequence[str]) -> None:
    """Load every module. Raises ``UserError`` for one that cannot be used, or that is called as another figure is."""
    seen: dict[str, str] = {}
    for name in names:
        called = label(name)
        if called in METRICS or called in _TAKEN or called in seen:
            other = seen.get(called, "a figure that is always shown")
            raise UserError(f"fidelity.metrics: {name}: is called {called}, and so is {other}; rename the module")
        seen[called] = name
        load(name)


def signatures(names: Sequence[str]) -> dict[str, str]:
    """How the modules' figures come about, for a scorecard's signature; no path of this machine."""
    return {label(name): f"nrefs:mean|evaluate:{metadata.version('evaluate')}|one pair at a time" for name in names}


def module_path(name: str) -> Path:
    """Folder to hand to ``evaluate.load`` for our metric ``name``; raises ``KeyError`` for any other name."""
    if name not in METRICS:
        raise KeyError(name)
    return Path(str(resources.files(__package__).joinpath(f"sft_{name}")))


def label(name: str) -> str:
    """What a report calls the module ``name``: the last part of a path, and the key that was chosen."""
    module, key = _parts(name)
    short = Path(module).stem
    return f"{short}:{key}" if key else short


def _parts(name: str) -> tuple[str, str]:
    """Module and key of ``MODULE:KEY``; a path that is there may have a colon in it."""
    if Path(name).expanduser().exists():
        return name, ""
    module, _, key = name.rpartition(":")
    return (module, key) if module else (name, "")


@cache
def load(name: str) -> Callable[[str, str], float]:
    """``(prediction, reference) -> score``, in the module's own unit, by the ``evaluate`` module ``name``.

    ``name``: one of ours (``sft_chrf``), the path of a module, or a name that ``evaluate.load`` finds in its cache or
    on the hub; where the module gives several figures, ``NAME:KEY`` chooses one. Raises ``UserError`` for one that
    cannot be loaded, that does not compare texts, or that gives no single number.
    """
    module, key = _parts(name)
    # The library asks a host of its own for every name it is given, to count, and knows another word for offline.
    os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        os.environ.setdefault("HF_EVALUATE_OFFLINE", "1")
    evaluate: Any = import_module("evaluate")
    ours = module.removeprefix("sft_")
    where = str(module_path(ours)) if module == f"sft_{ours}" and ours in METRICS else str(Path(module).expanduser())
    try:
        metric = evaluate.load(where if Path(where).exists() else module)
    except Exception as error:  # whatever is wrong with somebody else's module, or with the way to it
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"fidelity.metrics: {name}: cannot be loaded by evaluate ({why}); give the path of a module, or load it "
            "once with the network on"
        ) from error
    listed = _takes_texts(metric, name)

    def score(prediction: str, reference: str) -> float:
        try:
            found = metric.compute(predictions=[prediction], references=[[reference] if listed else reference])
        except Exception as error:
            why = " ".join(str(error).split())[:200] or type(error).__name__
            raise UserError(f"fidelity.metrics: {name}: fails on a pair of texts ({why}); take it out") from error
        return _number(found, key or metric.name, name, chosen=bool(key))

    score("a text", "another text")  # what cannot be used is refused before anything is measured
    return score


def _takes_texts(metric: Any, name: str) -> bool:
    """Whether the references of ``metric`` are lists of texts. Raises ``UserError`` where it compares other things."""
    several = metric.info.features
    for features in several if isinstance(several, list) else [several]:
        if set(features) == {"predictions", "references"} and _is_text(features["predictions"]):
            references = features["references"]
            if _is_text(references):
                return False
            if _is_text(getattr(references, "feature", None)):
                return True
    raise UserError(f"fidelity.metrics: {name}: does not compare texts with texts; take it out, or name another module")


def _is_text(feature: Any) -> bool:
    return getattr(feature, "dtype", None) in ("string", "large_string")


def _number(found: Any, key: str, name: str, *, chosen: bool) -> float:
    """The one number in what a module returned."""
    numbers = {k: v for k, v in (found or {}).items() if isinstance(v, Real) and not isinstance(v, bool)}
    if key in numbers:
        return float(numbers[key])
    if len(numbers) == 1 and not chosen:
        return float(next(iter(numbers.values())))
    known = ", ".join(numbers) or "nothing that is a number"
    raise UserError(f"fidelity.metrics: {name}: gives {known}; choose one of them as {_parts(name)[0]}:KEY")
