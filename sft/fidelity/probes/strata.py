"""Where the clone is strong and where it is weak: parts of the held-out prompts, by what they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sft.demonstrations.demonstration import Demonstration, HeldOut
from sft.fidelity import floors
from sft.fidelity.findings import Stratum
from sft.fidelity.probes import Absent
from sft.fidelity.score_table import word_count
from sft.metrics.intervals import estimates

__all__ = ["AT_LEAST", "strata", "thirds"]

#: Prompts from which thirds say anything, and the fewest that make a part of their own.
AT_LEAST, IN_A_PART = 60, 10
#: Experts that make a part each; the rest are one part together.
EXPERTS = 8


def strata(
    held_out: Sequence[HeldOut],
    train: Sequence[Demonstration],
    scores: Mapping[str, Mapping[str, float]],
    floor: str,
    bits: Mapping[str, Mapping[str, float]] | None,
    sizes: Mapping[str, int],
    clusters: Mapping[str, str],
) -> tuple[Stratum, ...]:
    """Score, gain and bits saved in each third of the prompts by nearness to training and by length, and by expert.

    ``scores``: system -> id -> headline points, "tuned" and ``floor`` among them. ``bits``: "tuned" and one base ->
    id -> bits of the expert's completion, of ``sizes[id]`` bytes; None where no base was scored. Nearness is the
    cosine of character TF-IDF to the nearest training prompt, length that of the first reference in words; prompts
    that tie stay together, so a third may be merged with its neighbour. Experts part the prompts only where one alone
    answered each. Raises ``Absent`` with fewer than 60 scored prompts, or where nothing parts them.
    """
    items = [item for item in held_out if item.id in scores["tuned"]]
    if len(items) < AT_LEAST:
        raise Absent(f"{len(items)} prompts are too few to be parted; it takes {AT_LEAST}")
    parts: list[tuple[str, str, list[str]]] = []
    if train:
        # Of all prompts, as R asked, so that it is worked out once.
        nearness = floors.nearness_to_training(train, held_out)
        # Nearest first, so that both kinds of thirds run from easy to hard.
        found = thirds({item.id: -nearness[item.id] for item in items})
        parts += _labelled("distance to training", found, _NEAR, lambda low, high, place, last: _cosines(-high, -low))
    lengths = {item.id: float(word_count(item.references[0])) for item in items}
    parts += _labelled("expert's length", thirds(lengths), _LONG, _words)
    parts += [("expert", name, ids) for name, ids in _by_expert(items)]
    if not parts:
        raise Absent("the prompts differ neither in nearness to training, nor in length, nor in who answered them")
    return tuple(_stratum(by, label, ids, scores, floor, bits, sizes, clusters) for by, label, ids in parts)


#: What parts are called, by how many there are.
_NEAR = {2: ("nearer part", "further part"), 3: ("nearest third", "middle third", "furthest third")}
_LONG = {2: ("short", "long"), 3: ("short", "middle", "long")}

Third = tuple[float, float, list[str]]


def thirds(values: Mapping[str, float]) -> list[Third]:
    """Up to three parts (lowest value, highest value, ids) by rising value; ties are not torn, small parts not kept."""
    cuts = np.unique(np.quantile(list(values.values()), [1 / 3, 2 / 3], method="inverted_cdf"))
    groups: list[list[str]] = [[] for _ in range(cuts.size + 1)]
    for key, value in values.items():
        groups[int(np.searchsorted(cuts, value))].append(key)
    kept: list[list[str]] = []
    for ids in groups:
        if kept and (len(ids) < IN_A_PART or len(kept[-1]) < IN_A_PART):
            kept[-1] += ids
        else:
            kept.append(ids)
    return [(min(map(values.__getitem__, ids)), max(map(values.__getitem__, ids)), ids) for ids in kept]


def _labelled(
    by: str,
    found: Sequence[Third],
    names: Mapping[int, Sequence[str]],
    span: Callable[[float, float, int, bool], str],
) -> list[tuple[str, str, list[str]]]:
    """Parts with their names and ranges in words; none where all prompts are alike."""
    if len(found) < 2:
        return []
    return [
        (by, f"{names[len(found)][place]}: {span(low, high, place, place == len(found) - 1)}", ids)
        for place, (low, high, ids) in enumerate(found)
    ]


def _cosines(low: float, high: float) -> str:
    return f"{low:.2f} to {high:.2f} alike" if f"{low:.2f}" != f"{high:.2f}" else f"{low:.2f} alike"


def _words(low: float, high: float, place: int, last: bool) -> str:
    if place == 0:
        return f"up to {high:.0f} word{'s' if high != 1 else ''}"
    if last:
        return f"{low:.0f} words or more"
    return f"{low:.0f} to {high:.0f} words" if low < high else f"{low:.0f} words"


def _by_expert(items: Sequence[HeldOut]) -> list[tuple[str, list[str]]]:
    """Expert -> prompts answered by that expert alone, most prompts first; small parts are put together."""
    alone: dict[str, list[str]] = {}
    for item in items:
        if len(set(item.experts)) == 1 and item.experts[0]:
            alone.setdefault(item.experts[0], []).append(item.id)
    ranked = sorted(alone.items(), key=lambda part: (-len(part[1]), part[0]))
    large = [part for part in ranked if len(part[1]) >= IN_A_PART][:EXPERTS]
    small = ranked[len(large) :]
    rest = [key for _, ids in small for key in ids]
    if len(rest) >= IN_A_PART:
        name = small[0][0] if len(small) == 1 else f"{len(small)} further experts"
        large.append((name, rest))
    return large if len(large) > 1 else []


def _stratum(
    by: str,
    label: str,
    ids: Sequence[str],
    scores: Mapping[str, Mapping[str, float]],
    floor: str,
    bits: Mapping[str, Mapping[str, float]] | None,
    sizes: Mapping[str, int],
    clusters: Mapping[str, str],
) -> Stratum:
    tuned, least = scores["tuned"], scores.get(floor, {})
    both = [key for key in ids if key in least]
    gain = saved = None
    if both:
        gain = estimates.mean([tuned[key] - least[key] for key in both], [clusters[key] for key in both])
    base = next((name for name in bits or {} if name != "tuned"), None)
    if bits and base and "tuned" in bits:
        known = [key for key in ids if key in bits["tuned"] and key in bits[base] and sizes.get(key)]
        if known:
            saved = estimates.ratio(
                [bits[base][key] - bits["tuned"][key] for key in known],
                [sizes[key] for key in known],
                [clusters[key] for key in known],
            )
    score = estimates.points([tuned[key] for key in ids], [clusters[key] for key in ids])
    return Stratum(by, label, len(ids), score, gain, saved)
