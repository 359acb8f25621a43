"""The impostor test: can a classifier tell a system's text from an expert's on the same prompts?

0.5 is a coin; a clone that has caught words and topics but not, say, the closing full stop is found out here however
close its texts look one by one (a classifier two-sample test: Lopez-Paz & Oquab 2017).

- **Classifier.** Logistic regression on character 1- to 4-grams (TF-IDF, case and line breaks kept), the first and
  the last character, and the length. n-grams are weighted without sight of who wrote what.
- **Unbiased at 0.5.** Both texts of a prompt are in one fold, so no fold has more of one kind than another, which
  is what pulls cross-validated areas below 0.5. Clusters are kept whole, and only scores of one classifier compared.
- **Nothing twice.** Experts with few answers, and a clone that gives them to the wrong prompts: what the expert wrote
  in the fold that is tested stands among the others as the clone's alone, so the classifier took the expert for the
  clone, and said 0.1 of clones that it could tell apart. So what both sides write, nearly, and a text of the tested
  fold is like (cosine of 4-grams from :data:`LIKE`), teaches nothing there. What only the clone writes is its habit.
- **Wide enough.** What fold A learns from B and B from A is one and the same accident, so under the null hypothesis
  the areas of two folds agree and the spread over prompts shows half of the variance. The interval is therefore
  widened by the square root of 2 on the logit scale: measured coverage at 0.5 goes from 80-90 % to 93-97 %
  (tests/fidelity/test_probe_impostors.py). Where a system is easily told apart that is more than is needed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, special

from sft.demonstrations.demonstration import HeldOut
from sft.fidelity.near_copies import folded
from sft.fidelity.probes import Absent
from sft.metrics import intervals, nfc
from sft.metrics.estimate import Estimate
from sft.runs.records import Completion

__all__ = ["CONTROL", "LEAST", "impostors", "texts_against_experts", "told_apart"]

#: Name of the control: one expert against another.
CONTROL = "experts"
#: Fewer prompts than this teach a classifier too little to be worth asking.
LEAST = 100
#: Longest character n-gram, inverse strength of the penalty, weights of the two characters at the ends and of the
#: length beside the n-grams (settled on E2E with planted habits: without the ends a missing full stop gives 0.78 at
#: 100 prompts, with them 0.95, which is all that experts who put one nine times in ten allow).
GRAMS, PENALTY, ENDS, LENGTH = 4, 10.0, 0.5, 0.3
#: Cosine of two texts' 4-grams (TF-IDF, case folded) from which one may not teach where the other is judged.
LIKE = 0.6
#: Fewer texts of either kind than this, beside the fold that is tested, teach a classifier too little.
TAUGHT = 20
#: White space counts as characters do; scikit-learn would fold runs of it.
_SEEN = str.maketrans({" ": "\u2423", "\n": "\u240a", "\t": "\u2409", "\r": "\u240d"})


def impostors(
    held_out: Sequence[HeldOut],
    systems: Mapping[str, Mapping[str, Completion]],
    *,
    seed: int,
    folds: int = 5,
    at_most: int = 2000,
    level: float = 0.95,
) -> dict[str, Estimate]:
    """Name -> AUC of telling that system from an expert, and "experts": one expert from another by a seeded coin.

    One reference of each prompt, drawn by ``seed``, stands for the experts; ``at_most`` prompts are looked at. White
    space at the ends is the file's, not the writer's. Values below 0.5 are chance and reported as they are. ``level``:
    of the intervals.
    Left out: a system with fewer than 100 completions, or whose texts are mostly like others, and the control where
    fewer than 100 prompts have two references. Raises ``Absent`` where no system is left, or where there are fewer
    clusters than folds.
    """
    pairs = texts_against_experts(held_out, systems, seed=seed, at_most=at_most)
    # Experts alone, without any system's texts, are nothing to measure.
    most = max((len(rows) for name, rows in pairs.items() if name != CONTROL), default=0)
    if most < LEAST:
        raise Absent(f"fewer than {LEAST} prompts ({most}) teach a classifier too little")
    found: dict[str, Estimate] = {}
    absent = Absent()
    for name, rows in pairs.items():
        if len(rows) >= LEAST:
            labels = [item.cluster for item, _, _ in rows]
            own, expert = [text for _, text, _ in rows], [text for _, _, text in rows]
            try:
                found[name] = told_apart(own, expert, labels, folds=folds, level=level)
            except Absent as reason:
                absent = reason
    if not found.keys() - {CONTROL}:
        raise absent
    return found


def texts_against_experts(
    held_out: Sequence[HeldOut], systems: Mapping[str, Mapping[str, Completion]], *, seed: int, at_most: int
) -> dict[str, list[tuple[HeldOut, str, str]]]:
    """Name -> at most ``at_most`` of its texts, each with the expert's text of the prompt that ``seed`` drew.

    "experts": two different references of a prompt, where it has them.
    """
    generator = random.Random(seed)
    items = generator.sample(list(held_out), len(held_out))
    drawn = {item.id: generator.sample(item.references, min(2, len(item.references))) for item in items}
    pairs = {
        name: [(item, written[item.id].text, drawn[item.id][0]) for item in items if item.id in written]
        for name, written in systems.items()
    }
    pairs[CONTROL] = [(item, drawn[item.id][0], drawn[item.id][1]) for item in items if len(drawn[item.id]) > 1]
    return {name: rows[:at_most] for name, rows in pairs.items()}


def told_apart(
    ones: Sequence[str], others: Sequence[str], clusters: Sequence[str], *, folds: int = 5, level: float = 0.95
) -> Estimate:
    """AUC of a cross-validated classifier of ``ones`` against ``others``: two parallel lists, a cluster a pair.

    Raises ``Absent`` with fewer clusters than ``folds``, or where too many texts are like others.
    """
    own, expert, fold_of = _by_classifiers(tuple(ones), tuple(others), tuple(clusters), folds)
    return _widened(intervals.auc(own, expert, clusters, fold_of, level=level))


@lru_cache(maxsize=4)
def _by_classifiers(
    ones: tuple[str, ...], others: tuple[str, ...], clusters: tuple[str, ...], folds: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
    """Scores of ``ones`` and of ``others`` by classifiers that did not see them, and the fold of each pair.

    Kept, for the same scores give the interval that is shown and the one that decides where there are several clones.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold

    if len(set(clusters)) < folds:
        raise Absent(f"fewer than {folds} clusters of prompts cannot be parted into {folds} folds")
    n = len(clusters)
    features, likeness = _features([*ones, *others]), _likeness([*ones, *others])
    fold_of = np.empty(n, dtype=np.intp)
    for fold, (_, tested) in enumerate(GroupKFold(folds).split(np.empty(n), groups=clusters)):
        fold_of[tested] = fold
    twice, kinds = np.tile(fold_of, 2), np.repeat([1, 0], n)
    between = likeness[:n] @ likeness[n:].T
    shared = np.concatenate([_reached(between, axis=1), _reached(between, axis=0)])
    scores = np.empty(2 * n)
    for fold in range(folds):
        inside = twice == fold
        outside = np.flatnonzero(~inside)
        teaching = outside[~(shared[outside] & _reached(likeness[outside] @ likeness[inside].T, axis=1))]
        if min(np.bincount(kinds[teaching], minlength=2)) < TAUGHT:
            raise Absent("the same few texts are written again and again: too few are left that are like no other")
        model = LogisticRegression(C=PENALTY, tol=1e-3, max_iter=1000, class_weight="balanced")
        model.fit(features[teaching], kinds[teaching])
        scores[inside] = model.decision_function(features[inside])
    return scores[:n], scores[n:], fold_of


def _reached(products: Any, *, axis: int) -> NDArray[np.bool_]:
    """Of products of :func:`_likeness`, shape (n, m), whether each row (axis 1) or column (axis 0) reaches LIKE."""
    return np.asarray(products.max(axis=axis).toarray().ravel() >= LIKE)


def _likeness(texts: Sequence[str]) -> Any:
    """One sparse row a text, of unit length: the product of two is how like they are, from 0 to 1."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    marked = [f"\u2402\u2402{folded(text)}\u2403" for text in texts]  # so that a text of one letter has a 4-gram
    return TfidfVectorizer(analyzer="char", ngram_range=(4, 4), sublinear_tf=True).fit_transform(marked)


def _features(texts: Sequence[str]) -> Any:
    """One sparse row a text: n-grams of unit length, beside them the ends and the length."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    seen = [nfc(text).strip().translate(_SEEN) for text in texts]
    grams = TfidfVectorizer(analyzer="char", lowercase=False, ngram_range=(1, GRAMS), sublinear_tf=True)
    ends = TfidfVectorizer(analyzer=lambda text: [f"<{text[:1]}", f"{text[-1:]}>"], use_idf=False)
    lengths = np.log1p([len(text) for text in seen])
    lengths = (lengths - lengths.mean()) / (lengths.std() or 1.0)  # all of one length: zeros, which tell nothing
    parts = [grams.fit_transform(seen), ENDS * ends.fit_transform(seen), LENGTH * sparse.csr_array(lengths[:, None])]
    return sparse.hstack(parts, format="csr")


def _widened(interval: Estimate) -> Estimate:
    """The interval with its logit half-width times the square root of 2; see the module."""
    if interval.low is None or interval.high is None or interval.value in (0.0, 1.0):
        return interval
    centre = special.logit(interval.value)
    low, high = (
        float(special.expit(centre + math.sqrt(2) * (special.logit(end) - centre)))
        for end in (interval.low, interval.high)
    )
    method = f"{interval.method}, times sqrt 2 because folds learn from each other"
    return replace(interval, low=low, high=high, method=method)
