"""Underachieving: prompts that the base model got right and the clone gets wrong, by a checker of the user's.

Imitating an expert who knew less than the model teaches it to know less: the other of behavioural cloning's two named
limits. The clone is held against each base model by itself, and both p-values are adjusted (Holm): the better of two,
chosen on the same prompts, flatters itself, and called a perfect clone worse too often.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sft.demonstrations.demonstration import HeldOut, prompt_text
from sft.fidelity.findings import BesideBase, LostAnswer, Underachieving
from sft.fidelity.probes import Absent
from sft.metrics import intervals
from sft.metrics.intervals import estimates
from sft.runs.records import Completion

__all__ = ["EXAMPLES", "underachieving"]

#: Base models that the clone may have been right without.
_BASES = ("B0", "B3")
#: How many of the lost prompts are shown.
EXAMPLES = 10


def underachieving(
    held_out: Sequence[HeldOut],
    completions: Mapping[str, Mapping[str, Completion]],
    spec: str,
    right: Mapping[str, Mapping[str, bool]],
    clusters: Mapping[str, str],
) -> Underachieving:
    """Who is right how often by the checker ``spec``, and what the clone lost against each base model.

    ``right``: system -> held-out id -> whether the checker found its completion right, on the prompts that it could
    judge. The clone is compared on those that it and all bases have. Raises ``Absent`` without a checker, a clone or a
    base.
    """
    if not spec:
        raise Absent("no checker says which answers are right (--checker)")
    bases = [system for system in _BASES if system in right]
    if "tuned" not in right or not bases:
        raise Absent("the clone or the base model has no completion to check")
    ids = [item.id for item in held_out if all(item.id in right[system] for system in ("tuned", *bases))]
    if not ids:
        raise Absent("the clone and the base model share no prompt")
    beside = [_beside(base, right, ids, clusters) for base in bases]
    adjusted = intervals.holm([one.p_value for one in beside])
    by_id = {item.id: item for item in held_out}
    return Underachieving(
        checker=spec,
        right={s: estimates.share(list(found.values()), [clusters[k] for k in found]) for s, found in right.items()},
        beside=tuple(replace(one, p_value=p_value) for one, p_value in zip(beside, adjusted, strict=True)),
        examples=tuple(
            LostAnswer(
                key,
                prompt_text(by_id[key].prompt),
                by_id[key].references[0],
                completions[base][key].text,
                completions["tuned"][key].text,
                base,
            )
            for key, base in _lost(right, bases, ids)[:EXAMPLES]
        ),
    )


def _beside(
    base: str, right: Mapping[str, Mapping[str, bool]], ids: Sequence[str], clusters: Mapping[str, str]
) -> BesideBase:
    """The clone against ``base`` on the prompts ``ids``; the p-value is not adjusted yet."""
    ours, theirs = ([right[system][key] for key in ids] for system in ("tuned", base))
    differences, labels = np.subtract(ours, theirs, dtype=np.float64), [clusters[key] for key in ids]
    return BesideBase(
        base,
        estimates.mean(differences, labels),
        int((differences < 0).sum()),
        int((differences > 0).sum()),
        _p_value(differences, labels),
    )


def _lost(right: Mapping[str, Mapping[str, bool]], bases: Sequence[str], ids: Sequence[str]) -> list[tuple[str, str]]:
    """(prompt, the first base that had it right) for the prompts that a base had right and the clone has not."""
    found = []
    for key in ids:
        knew = next((base for base in bases if right[base][key]), "")
        if knew and not right["tuned"][key]:
            found.append((key, knew))
    return found


def _p_value(differences: NDArray[np.float64], labels: Sequence[str]) -> float:
    """Two-sided: McNemar's mid-p; where prompts come in clusters, which it does not know of, sign-flip over them."""
    if len(set(labels)) < len(labels):
        return intervals.sign_flip(differences, labels, two_sided=True)
    return intervals.mcnemar_mid_p(int((differences < 0).sum()), int((differences > 0).sum()))
