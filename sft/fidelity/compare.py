"""From the files of runs to a comparison: what may be compared, and how far every pair is apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from sft.demonstrations.demonstration import HeldOut, Message
from sft.errors import RunError
from sft.fidelity import stored
from sft.fidelity.comparison import Comparison, Contender, Pair
from sft.fidelity.conventions import LEVEL, direction
from sft.fidelity.scorecard import RUNGS, SYSTEMS, Scorecard
from sft.metrics import intervals
from sft.metrics.estimate import Estimate
from sft.metrics.intervals import estimates
from sft.runs import sealed
from sft.runs.hashes import fingerprint
from sft.runs.looks import clones_known
from sft.runs.run import Run
from sft.runs.visible import plain

__all__ = ["Side", "compare_runs", "paired"]

Prompt = tuple[Message, ...]


def compare_runs(runs: Sequence[Run], *, seed: int = 0) -> Comparison:
    """Every pair of ``runs``, paired prompt by prompt.

    Raises ``RunError`` for fewer than two runs, one named twice, one that was not measured, held-out prompts that
    differ, or scores computed in different ways.
    """
    sides, clusters = paired(runs)
    first = sides[0]
    count = math.comb(len(sides), 2)
    found = [_pair(a, b, clusters, count, seed) for a, b in combinations(sides, 2)]
    adjusted = intervals.holm([pair.p_value for pair in found])
    pairs = tuple(_judged(pair, p) for pair, p in zip(found, adjusted, strict=True))
    return Comparison(
        headline=first.card.headline,
        n=len(clusters),
        clusters=len(set(clusters.values())),
        contenders=tuple(side.contender() for side in sides),
        pairs=pairs,
        notes=tuple(_notes(sides, pairs, len(clusters))),
    )


def paired(runs: Sequence[Run]) -> tuple[list[Side], dict[Prompt, str]]:
    """What each of ``runs`` brings, and the group of every held-out prompt. Raises as :func:`compare_runs`."""
    if len(runs) < 2:
        raise RunError("comparing takes two runs or more; name the folders of at least two")
    places = [run.path.resolve() for run in runs]
    for run, place in zip(runs, places, strict=True):
        if places.count(place) > 1:
            raise RunError(f"{run.path}: is named twice; a run is not told apart from itself, name each once")
    sides = [Side(run, name) for run, name in zip(runs, _names(runs), strict=True)]
    first = sides[0]
    for other in sides[1:]:
        _refuse_other_metrics(first, other)
        _refuse_other_prompts(first, other)
    return sides, _joined_clusters(sides)


# -- one run -------------------------------------------------------------------------------------------------


class Side:
    """What one run brings: its scorecard, its held-out prompts, its clone's score and log loss by prompt."""

    def __init__(self, run: Run, name: str) -> None:
        self.run, self.name = run, name
        self.card = _scorecard(run)
        self.items: dict[Prompt, HeldOut] = {item.prompt: item for item in stored.read_held_out(run)}
        self.scores = self._scores()
        self.spent = self._spent()

    def _scores(self) -> dict[Prompt, float]:
        path, headline = self.run.scores_path, self.card.headline
        try:
            known = {row["id"]: row[headline] for row in sealed.rows(self.run, path) if row["system"] == "tuned"}
        except KeyError as error:
            raise stored.damaged(self.run, path, f"a row without {error}") from None
        scores = {
            prompt: float(known[item.id])
            for prompt, item in self.items.items()
            if isinstance(known.get(item.id), int | float)
        }
        if not scores:
            raise stored.damaged(self.run, path, "no score of the clone")
        return scores

    def _spent(self) -> dict[Prompt, tuple[float, int]]:
        """Prompt -> (bits, bytes) of the expert's completion under the clone, stop token included."""
        path = self.run.token_scores_path("tuned")
        if not sealed.there(self.run, path):
            return {}
        rows = sealed.rows(self.run, path)
        known = {row["id"]: (math.fsum(row["nats"]) / math.log(2), row["bytes"]) for row in rows}
        return {prompt: known[item.id] for prompt, item in self.items.items() if item.id in known}

    def contender(self) -> Contender:
        """The run's own row."""
        card = self.card
        tuned = card.scores_of("tuned")
        return Contender(
            name=self.name,
            path=str(self.run.path),
            score=tuned[card.headline],
            gain=card.gain,
            bits=next(iter(card.bits_per_byte.get("tuned", {}).values()), None),
            stop_rate=tuned.get("stop_rate"),
            rung=card.verdict.rung,
            looks=self.run.times_looked("test"),
            split=card.split,
            shortcut=card.names.get(card.gain.floor) or SYSTEMS.get(card.gain.floor, card.gain.floor),
        )


def _scorecard(run: Run) -> Scorecard:
    card = stored.read_scorecard(run)
    if card.headline not in card.scores_of("tuned"):
        raise stored.damaged(run, run.scorecard_path, "no score of the clone")
    return card


def _names(runs: Sequence[Run]) -> list[str]:
    """What the runs are called: the recipe's name, the folder's where recipes share one, else the path."""
    folders = [run.path.resolve().name for run in runs]
    recipes = [str(run.resolved_recipe.get("name") or folder) for run, folder in zip(runs, folders, strict=True)]
    for names in (recipes, folders):
        if len(set(names)) == len(names):
            return [plain(name) for name in names]
    return [plain(str(run.path)) for run in runs]


# -- may they be compared? -------------------------------------------------------------------------------------


def _refuse_other_metrics(first: Side, other: Side) -> None:
    """Two scorecards can be compared only where their numbers came about in one way."""
    ways = [_way(side.card) for side in (first, other)]
    if ways[0] != ways[1]:
        raise RunError(
            f"{first.run.path} is judged by {ways[0]}, {other.run.path} by {ways[1]}; judge one as the other is, with "
            "`sft evaluate RUN --headline SCORE --normalise STEP`, or `sft score` for completions"
        )
    known = [side.card.signature.get("metrics") for side in (first, other)]
    mine, theirs = (value if isinstance(value, dict) else {} for value in known)
    unlike = sorted(name for name in mine.keys() & theirs.keys() if mine[name] != theirs[name])
    if first.card.headline not in mine.keys() & theirs.keys():
        unlike = [first.card.headline]
    if unlike:
        raise RunError(
            f"{first.run.path} and {other.run.path}: {', '.join(unlike)} was not computed in the same way, so the "
            "scores cannot be compared; recompute both with `sft report RUN --recompute`"
        )


def _way(card: Scorecard) -> str:
    """The headline, and what is set aside before it is computed."""
    aside = card.signature.get("normalise") or ()
    return card.headline + (f" with {' and '.join(sorted(aside))} set aside" if aside else "")


def _refuse_other_prompts(first: Side, other: Side) -> None:
    """Paired means the same prompts, and the same completions of the experts to be held against."""
    only = [len(a.items.keys() - b.items.keys()) for a, b in ((first, other), (other, first))]
    both = first.items.keys() & other.items.keys()
    unlike = sum(sorted(first.items[prompt].references) != sorted(other.items[prompt].references) for prompt in both)
    if not any(only) and not unlike:
        return
    parts = [
        f"{count} of {len(side.items)} prompts are only in {side.run.path}"
        for count, side in zip(only, (first, other), strict=True)
        if count
    ]
    parts += [f"{unlike} of {len(both)} shared prompts have other references"] if unlike else []
    raise RunError(
        f"{first.run.path} and {other.run.path} were judged on different held-out sets: {', '.join(parts)}; judge "
        "both on one file with `sft evaluate RUN --held-out FILE`"
    )


def _joined_clusters(sides: Sequence[Side]) -> dict[Prompt, str]:
    """Prompt -> group. Where the runs group the prompts differently, groups that overlap become one: prompts
    that anybody knows to belong together are not independent."""
    root: dict[tuple[int, str], tuple[int, str]] = {}

    def top(label: tuple[int, str]) -> tuple[int, str]:
        # Union-find with path halving (Tarjan & van Leeuwen 1984): a label that is no root is hung one step higher.
        while root.setdefault(label, label) != label:
            root[label] = label = root[root[label]]
        return label

    for prompt, item in sides[0].items.items():
        for number, side in enumerate(sides):
            root[top((number, side.items[prompt].cluster))] = top((0, item.cluster))
    return {prompt: fingerprint(top((0, item.cluster))) for prompt, item in sides[0].items.items()}


# -- pairs -----------------------------------------------------------------------------------------------------


def _pair(a: Side, b: Side, clusters: Mapping[Prompt, str], pairs: int, seed: int) -> Pair:
    """How far two clones are apart; ``pairs``: how many such questions are asked at once."""
    both = [prompt for prompt in clusters if prompt in a.scores and prompt in b.scores]
    if not both:
        raise RunError(f"{a.run.path} and {b.run.path} share no scored prompt; run `sft evaluate` for both")
    differences = [a.scores[prompt] - b.scores[prompt] for prompt in both]
    labels = [clusters[prompt] for prompt in both]
    # At the level of Holm's first step: what any of the pairs would have needed.
    visible = intervals.smallest_visible_gain(differences, labels, level=1 - LEVEL / pairs, two_sided=True)
    return Pair(
        first=a.name,
        second=b.name,
        difference=estimates.mean(differences, labels),
        bits=_bits_apart(a, b, clusters),
        p_value=intervals.sign_flip(differences, labels, seed=seed, two_sided=True),
        adjusted=1.0,
        smallest_visible=visible,
        closer="",
        differs=_differs(a.run, b.run),
    )


def _bits_apart(a: Side, b: Side, clusters: Mapping[Prompt, str]) -> Estimate | None:
    """Bits per byte of ``a`` minus those of ``b``, on prompts where both were scored on the same text."""
    both = [
        prompt
        for prompt in clusters
        if prompt in a.spent and prompt in b.spent and a.items[prompt].references[0] == b.items[prompt].references[0]
    ]
    kinds = [side.card.bits_per_byte.get("tuned", {}).keys() for side in (a, b)]
    if not both or kinds[0] != kinds[1]:  # with the stop token, or as somebody else summed them up
        return None
    apart = [a.spent[prompt][0] - b.spent[prompt][0] for prompt in both]
    sizes = [a.spent[prompt][1] for prompt in both]
    return estimates.ratio(apart, sizes, [clusters[prompt] for prompt in both])


def _judged(pair: Pair, adjusted: float) -> Pair:
    """``pair`` with its verdict: the adjusted test tells the two apart, and the interval agrees."""
    closer = {1: pair.first, -1: pair.second, 0: ""}[direction(pair.difference, adjusted)]
    return replace(pair, adjusted=adjusted, closer=closer)


def _differs(a: Run, b: Run) -> tuple[str, ...]:
    """Keys of the resolved recipes that differ, but for what a run is called; nothing where either has no recipe."""
    if not (a.resolved_recipe and b.resolved_recipe):
        return ()
    first, second = (
        {key: value for key, value in run.resolved_recipe.items() if key not in ("name", "description")}
        for run in (a, b)
    )
    return tuple(Run.changed(first, second))


def _notes(sides: Sequence[Side], pairs: Iterable[Pair], n: int) -> list[str]:
    """What a careful reader has to know besides."""
    notes = []
    judged = set[str]().union(*(clones_known(side.run, side.card.split) for side in sides))
    for side in sides:
        if side.card.clones < len(judged) and side.card.verdict.rung != RUNGS[0]:
            notes.append(
                f"{side.name}: its verdict allows for {side.card.clones} clone{'s' * (side.card.clones > 1)} on these "
                f"prompts, and these runs know of {len(judged)}; for so many a lead over a shortcut counts only at "
                f"{100 * (1 - LEVEL / len(judged)):.4g} %."
            )
        missing = n - len(side.scores)
        if missing:
            notes.append(f"{side.name}: {missing} of {n} prompts are unscored and left out of its pairs.")
        if side.card.split != "test":
            notes.append(
                f"{side.name}: judged on the {side.card.split} split; what was chosen on it can flatter the clone."
            )
        looks = side.run.times_looked("test")
        if looks > 1:
            notes.append(
                f"{side.name}: the test split has been looked at {looks} times; if anything was chosen by those "
                "looks, its score is too good to be true."
            )
    for pair in pairs:
        if pair.differs:
            more = f" and {len(pair.differs) - 6} more" if len(pair.differs) > 6 else ""
            notes.append(f"{pair.first} and {pair.second} differ in {', '.join(pair.differs[:6])}{more}.")
    return notes
