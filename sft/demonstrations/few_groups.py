"""Too few groups to divide: why they are so few, and what helps.

Every prompt group goes whole to one split by its hash, so a handful may all fall on one side; and where rows are few
groups for a reason, more rows of the kind do not help.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sft.demonstrations import columns
from sft.demonstrations.demonstration import Demonstration
from sft.demonstrations.messages import opening, prompt_key

__all__ = ["cause", "joined", "refusal"]

#: So many groups are few, and a group of so many rows is large.
FEW, LARGE = 30, 10
#: A split is left empty less than once in 150 times with so many groups, over its share.
_ENOUGH = 5
_SEEDS, _HASHES = 1000, 200_000


def refusal(
    demonstrations: Sequence[Demonstration],
    shares: Mapping[str, float],
    empty: Sequence[str],
    home: Callable[[str, int], str],
) -> str:
    """Why the splits ``empty`` have nothing, as a sentence with a way out.

    ``shares``: split -> what was asked for; ``home``: the split of a group by a seed.
    """
    groups = set(columns.group_names(demonstrations))
    asked = {name: share for name, share in shares.items() if share > 0}
    count = f"{len(groups):,} different prompt group{'s' if len(groups) != 1 else ''}"
    text = (
        f"{count} left the {' and the '.join(empty)} split empty "
        f"(shares {', '.join(f'{name} {share:g}' for name, share in shares.items())}); "
    )
    if why := cause(demonstrations):
        return text + why
    enough = round(_ENOUGH / min(asked.values()))
    seeds = range(min(_SEEDS, _HASHES // len(groups)) if len(groups) >= len(asked) else 0)
    seed = next((seed for seed in seeds if {home(group, seed) for group in groups} == set(asked)), None)
    more = f"gather more demonstrations ({enough:,} groups or more)" if len(groups) < enough else "raise the share"
    return text + (more if seed is None else f"set split.seed: {seed}, with which each gets some, or {more}")


def cause(demonstrations: Sequence[Demonstration]) -> str:
    """Why there are few groups, and what to do, as a sentence; "" where there are many, or nothing explains them."""
    if len(np.unique(columns.labels(demonstrations, "group"))) >= FEW:
        return ""
    sizes = Counter(columns.group_names(demonstrations))
    group, count = max(sizes.items(), key=lambda item: item[1], default=("", 0))
    if count < max(LARGE, len(demonstrations) / 5):
        return ""
    members = [d for d in demonstrations if d.group == group]
    start = opening(members[0].prompt)
    said = " ".join(start[-1].text.split())
    shown = f"'{said[:60]}...'" if len(said) > 60 else f"'{said}'"
    if all(d.key == group for d in members):
        return (
            f"{count:,} of {len(demonstrations):,} rows have one prompt, {shown}, and a clone is judged on prompts it "
            "has not seen: write into each prompt what tells the rows apart, a subject or a title"
        )
    if prompt_key(start) == group:
        dialogues = len({d.source for d in members})
        return (
            f"{dialogues:,} dialogues open with {shown}, and dialogues that open alike are one group; give every "
            "dialogue a name of its own in a column 'group', or name the column that tells them apart "
            "(demonstrations.columns.group)"
        )
    return (
        f"{count:,} of {len(demonstrations):,} rows are of the group '{group[:60]}', and a group stays in one split; "
        "name a column with more different values (demonstrations.columns.group)"
    )


def joined(read: Sequence[Demonstration]) -> str:
    """Which row makes most of the groups of ``read`` one, and what to do, as a sentence; "" where none joins any."""
    groups: dict[tuple[str, str], dict[str, Demonstration]] = {}
    for d in read:
        groups.setdefault((d.key, d.completion), {}).setdefault(d.group, d)
    most = max(groups.values(), key=len, default={})
    if len(most) < 2:
        return ""
    first = min(most.values(), key=lambda d: d.source.line if d.source else 0)
    return (
        f"{first.address} stands in {len(most):,} groups, and groups with a row in common are one; give that row a "
        "group of its own wherever it stands, or leave it out"
    )
