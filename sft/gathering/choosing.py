"""Which prompts of a pool the expert is asked: at random, or by a rule that looks for what is hard or different.

Random is the default, for nothing better was shown (``docs/decisions.md``); whatever the rule, a share of the items is
drawn at random (*audit*), and what is said of the clone rests on those. Rules keep half of each stratum's random quota:
without it diversity asked nothing of a fifth of a pool and made the clone worse there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sft.demonstrations.messages import prompt_text
from sft.gathering.items import Item, drawn_first, marked, rank

__all__ = ["CHOICES", "draw"]

CHOICES = ("random", "diverse", "uncertain")
#: Strata of a pool without groups, and the share of each one's random quota that a rule has to keep.
STRATA, QUOTA = 8, 0.5


def draw(
    pool: Sequence[Item], count: int, *, choose: str, audit: float, blind: float, seed: int, scores: Mapping[str, float]
) -> list[Item]:
    """``count`` items of ``pool`` (all, where it has fewer), each with how it was drawn and how it will be shown.

    ``audit``: share drawn at random, all of them where ``choose`` is random; ``blind``: share written without the
    clone's text, drawn within each of the two parts. ``scores``: item -> the entropy of the clone's first token.
    """
    count = min(count, len(pool))
    at_random = drawn_first(pool, count if choose == "random" else round(audit * count), seed, "audit")
    rest = [one for one in pool if one.id not in at_random]
    by_rule = set(_by_rule(rest, count - len(at_random), choose, seed, scores))
    found: list[Item] = []
    for ids, drawn in ((at_random, "audit"), (by_rule, "chosen")):
        part = [replace(one, drawn=drawn, shown="drafted", score=scores.get(one.id)) for one in pool if one.id in ids]
        unseen = drawn_first(part, round(blind * len(part)), seed, f"blind {drawn}")
        found += marked(part, unseen, lambda one: replace(one, shown="blind"))
    return sorted(found, key=lambda one: rank(seed, "round", one.id))


def _by_rule(rest: Sequence[Item], count: int, choose: str, seed: int, scores: Mapping[str, float]) -> list[str]:
    """Ids in the rule's order, each stratum with half of its random quota at least."""
    if not count or not rest:
        return []
    features = _features(rest)
    ranked = sorted(range(len(rest)), key=lambda n: (-scores.get(rest[n].id, 0.0), rest[n].id))
    order = ranked if choose == "uncertain" else _k_centre(features, ranked[: max(count, len(rest) // 2)], count)
    order += [n for n in ranked if n not in set(order)]
    strata = _strata(rest, features, seed)
    sizes = Counter(strata)
    left = {name: int(np.ceil(QUOTA * count * size / len(rest))) for name, size in sizes.items()}
    kept = list[int]()
    for n in order:
        if left[strata[n]] > 0 and len(kept) < count:
            left[strata[n]] -= 1
            kept.append(n)
    chosen = set(kept)
    kept += [n for n in order if n not in chosen][: count - len(kept)]
    return [rest[n].id for n in kept]


def _features(items: Sequence[Item]) -> NDArray[np.float64]:
    """Character TF-IDF of the prompts in 64 dimensions, rows of length 1, shape (items, at most 64)."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [prompt_text(one.prompt) for one in items]
    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), max_features=20_000)
    counted = vectors.fit_transform(texts)
    size = min(64, min(counted.shape) - 1)
    if size < 1:
        return np.ones((len(items), 1))
    dense = TruncatedSVD(size, random_state=0).fit_transform(counted)
    return dense / np.maximum(np.linalg.norm(dense, axis=1, keepdims=True), 1e-12)


def _k_centre(features: NDArray[np.float64], among: Sequence[int], count: int) -> list[int]:
    """Of ``among`` the ``count`` that lie furthest from each other, greedily, from the first on (Gonzalez 1985)."""
    points = features[list(among)]
    taken, nearest = [0], 1 - points @ points[0]
    while len(taken) < min(count, len(among)):
        far = int(np.argmax(nearest))
        taken.append(far)
        nearest = np.minimum(nearest, 1 - points @ points[far])
        nearest[taken] = -1
    return [among[n] for n in taken]


def _strata(items: Sequence[Item], features: NDArray[np.float64], seed: int) -> list[str]:
    """The group of each item, where groups hold several; else clusters of the prompts' wording."""
    groups = [one.group for one in items]
    if all(groups) and len(set(groups)) <= len(items) / 5:
        return groups
    from sklearn.cluster import KMeans

    count = min(STRATA, len(items))
    return [str(n) for n in KMeans(count, n_init=1, random_state=seed).fit_predict(features)]
