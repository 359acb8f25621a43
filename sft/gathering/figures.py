"""What ``sft collect DIR --check`` says: how far a gathering is, how alike its experts write, which answers to look at.

Only answers written blind say how alike experts are: who began from the clone's text is like everybody who did.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from statistics import fmean, median, quantiles
from typing import Any

from sft import metrics
from sft.demonstrations.conflicts import majority
from sft.demonstrations.demonstration import Demonstration, Message, Source, folded, prompt_text
from sft.demonstrations.secrets import in_demonstrations
from sft.gathering.folder import HeldOutKeys
from sft.gathering.prompts import screened
from sft.gathering.state import Answer, Standing
from sft.metrics.estimate import Estimate, figure
from sft.runs.visible import plain

__all__ = ["Expert", "Figures", "by_expert", "figures"]

#: Share of an answer's characters that came by paste, and words for each active second, from which it is looked at.
PASTED, WORDS_PER_SECOND = 0.8, 20.0
#: Words of an answer below which none of that says anything.
SHORT = 5
#: Answers that are listed by name, at most.
_LISTED = 20


@dataclass(frozen=True, slots=True)
class Expert:
    """One expert's answers: how many, skipped, median active seconds and median words, and active minutes in all."""

    answers: int
    skipped: int
    flagged: int
    seconds: float
    words: float
    minutes: float


@dataclass(frozen=True, slots=True)
class Look:
    """An answer to look at, and why."""

    item: str
    expert: str
    why: str


@dataclass(frozen=True, slots=True)
class Figures:
    """``agreement``: chrF points of each expert's answer against the others', by item; ``same``: share of such items
    where two experts or more wrote the same; ``pairs`` of experts; ``apart``: expert -> agreement with the others less
    that of the others with each other, where it lies below 0. ``again``: an expert with herself, asked twice.
    """

    items: int
    states: dict[str, int]
    rounds: dict[int, int]
    experts: dict[str, Expert]
    seconds: tuple[float, float, float] | None
    words: tuple[float, float, float] | None
    agreement: Estimate | None
    same: Estimate | None
    pairs: dict[str, Estimate]
    apart: dict[str, Estimate]
    again: Estimate | None
    outvoted: int
    tied: int
    look: tuple[Look, ...]
    repeated_prompts: int
    held_out: int
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)

    def to_lines(self) -> list[str]:
        """One sentence each."""
        answers = sum(self.rounds.values())
        lines = [
            f"{self.items} items: " + ", ".join(f"{count} {state}" for state, count in self.states.items() if count),
            (f"{answers} answers" if answers != 1 else "1 answer")
            + (": " + ", ".join(f"{n} in round {number}" for number, n in self.rounds.items()) if answers else ""),
        ]
        for name, one in self.experts.items():
            lines.append(
                f"{plain(name)}: {one.answers} answers, {one.minutes:.0f} active minutes (median {one.seconds:.0f} s, "
                f"{one.words:.0f} words), {one.skipped} skipped, {one.flagged} flagged"
            )
        for what, three in (("active seconds", self.seconds), ("words", self.words)):
            if three is not None:
                lines.append(f"{what} an answer: median {three[1]:.0f}, quartiles {three[0]:.0f} and {three[2]:.0f}")
        lines += self._agreement()
        if self.outvoted or self.tied:
            lines.append(f"conflicts: majority would leave out {self.outvoted} answers ({self.tied} votes are tied)")
        if self.repeated_prompts:
            lines.append(f"prompts of experts' own that repeat another's: {self.repeated_prompts}")
        if self.held_out:
            lines.append(f"prompts of experts' own that are held out or nearly repeat what is: {self.held_out}")
        lines += [f"look at item {one.item} of {plain(one.expert)}: {one.why}" for one in self.look[:_LISTED]]
        if len(self.look) > _LISTED:
            lines.append(f"... and {len(self.look) - _LISTED} more answers to look at (--json has all)")
        return [*lines, *self.notes]

    def _agreement(self) -> list[str]:
        found = []
        if len(self.experts) < 2:
            found.append("agreement is unknown: one expert")
        elif self.agreement is None:
            found.append("agreement is unknown: no item was answered blind by two experts yet")
        else:
            found.append(f"agreement between experts: {_chrf(self.agreement)}; the same words: "
                         f"{figure(self.same, 'share')}")  # fmt: skip
            found += [f"  {plain(pair)}: {_chrf(one)}" for pair, one in self.pairs.items()]
        found += [
            f"{plain(name)} agrees with the others less than they do with each other: {figure(one, signed=True)} chrF "
            "points; read some answers together before the next round"
            for name, one in self.apart.items()
        ]
        if self.again is not None:
            found.append(f"experts with themselves, asked again: {_chrf(self.again)}")
        return found


def _chrf(one: Estimate) -> str:
    """The figure, of how many items, and why it has no interval where it has none."""
    items = "1 item" if one.n == 1 else f"{one.n} items"
    return f"chrF {figure(one)} on {items}" + (f" ({one.method})" if one.low is None else "")


def by_expert(state: Standing) -> dict[str, Expert]:
    """Every expert's answers so far."""
    answers = list(state.answers())
    found = {}
    for name in state.experts:
        own = [one for one in answers if one.expert == name]
        statuses = Counter(work.status for (_, who), work in state.works.items() if who == name)
        found[name] = Expert(
            len(own),
            statuses["skipped"],
            statuses["flagged"],
            median([one.seconds for one in own] or [0]),
            median([_words(one.text) for one in own] or [0]),
            sum(one.seconds for one in own) / 60,
        )
    return found


def figures(state: Standing, keys: HeldOutKeys | None = None) -> Figures:
    """Every figure of the gathering. ``keys``: what is held out; with it texts are looked through for secrets."""
    by_item = state.by_item()
    answers = [one for some in by_item.values() for one in some]
    blind = {name: [one for one in some if not one.clone] for name, some in by_item.items()}
    several = [some for some in blind.values() if len(some) > 1]
    own = [item for item in state.items.values() if item.only]
    known = Counter(item.key for item in state.items.values())
    vote = majority([_demonstration(one) for one in answers])
    return Figures(
        items=len(state.items),
        states=dict(sorted(Counter(state.status(state.items[name], some) for name, some in by_item.items()).items())),
        rounds=dict(sorted(Counter(one.item.round for one in answers).items())),
        experts=by_expert(state),
        seconds=_three([one.seconds for one in answers]),
        words=_three([_words(one.text) for one in answers]),
        agreement=_agreement(several),
        same=_same(several),
        pairs=_pairs(several),
        apart=_apart(several),
        again=_again(state),
        outvoted=len(vote.outvoted),
        tied=vote.tied,
        look=tuple(_to_look_at(answers, _secrets(answers) if keys is not None else frozenset())),
        repeated_prompts=sum(known[item.key] > 1 for item in own),
        held_out=len(screened(own, keys).refused) if keys is not None and own else 0,
    )


def _demonstration(one: Answer) -> Demonstration:
    return Demonstration(one.prompt, one.text, expert=one.expert, group=one.item.group)


def _words(text: str) -> int:
    return len(metrics.words(text))


def _three(values: Sequence[float]) -> tuple[float, float, float] | None:
    if len(values) < 2:
        return None
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return low, middle, high


def _label(some: Sequence[Answer]) -> str:
    return some[0].item.group or some[0].item.key


def _agreement(several: Sequence[Sequence[Answer]]) -> Estimate | None:
    """Each expert against the others, leaving that one out, a mean per item."""
    if not several:
        return None
    from sft.metrics.intervals import estimates  # with scipy, which takes a while

    scores = [fmean(metrics.chrf(a.text, b.text) for a, b in combinations(some, 2)) for some in several]
    return estimates.apart(estimates.points(scores, [_label(some) for some in several]))


def _same(several: Sequence[Sequence[Answer]]) -> Estimate | None:
    if not several:
        return None
    from sft.metrics.intervals import estimates

    flags = [any(metrics.exact_match(a.text, b.text) for a, b in combinations(some, 2)) for some in several]
    return estimates.share([float(flag) for flag in flags], [_label(some) for some in several])


def _pairs(several: Sequence[Sequence[Answer]]) -> dict[str, Estimate]:
    """Every two experts on the items that both answered."""
    if not several:
        return {}
    from sft.metrics.intervals import estimates

    scores: dict[str, list[float]] = {}
    labels: dict[str, list[str]] = {}
    for some in several:
        for a, b in combinations(some, 2):
            name = " and ".join(sorted((a.expert, b.expert)))
            scores.setdefault(name, []).append(metrics.chrf(a.text, b.text))
            labels.setdefault(name, []).append(_label(some))
    return {name: estimates.apart(estimates.points(one, labels[name])) for name, one in sorted(scores.items())}


def _apart(several: Sequence[Sequence[Answer]]) -> dict[str, Estimate]:
    """Experts who agree with the others less than those do with each other, on items that three or more answered."""
    if not any(len(some) > 2 for some in several):
        return {}
    from sft.metrics.intervals import estimates

    found = {}
    for name in sorted({one.expert for some in several for one in some}):
        differences, labels = [], []
        for some in several:
            own = [one for one in some if one.expert == name]
            others = [one for one in some if one.expert != name]
            if own and len(others) > 1:
                mine = fmean(metrics.chrf(own[0].text, other.text) for other in others)
                theirs = fmean(metrics.chrf(a.text, b.text) for a, b in combinations(others, 2))
                differences.append(mine - theirs)
                labels.append(_label(some))
        if len(differences) > 1:
            gap = estimates.apart(estimates.mean(differences, labels))
            if gap.high is not None and gap.high < 0:
                found[name] = gap
    return found


def _again(state: Standing) -> Estimate | None:
    """An expert's first answer against the one to the same prompt later."""
    texts = {(one.item.id, one.expert): one for one in state.answers()}
    pairs = [
        (one, texts[one.item.again, one.expert])
        for one in texts.values()
        if one.item.again and (one.item.again, one.expert) in texts
    ]
    if not pairs:
        return None
    from sft.metrics.intervals import estimates

    scores = [metrics.chrf(a.text, b.text) for a, b in pairs]
    return estimates.apart(estimates.points(scores, [a.item.key for a, _ in pairs]))


def _to_look_at(answers: Sequence[Answer], secret: Collection[int]) -> Iterable[Look]:
    """Answers that may not be what an expert wrote for the prompt, each with the reason; ``secret``: their places."""
    counts = Counter((one.expert, folded(one.text)) for one in answers if _words(one.text) >= SHORT)
    for place, one in enumerate(answers):
        words = _words(one.text)
        if counts[one.expert, folded(one.text)] > 1:
            yield Look(one.item.id, one.expert, "is the same as the answer to another prompt")
        if words >= SHORT and folded(one.text) in folded(prompt_text(one.prompt)):
            yield Look(one.item.id, one.expert, "repeats the prompt")
        if one.pasted > PASTED * len(one.text) and words >= SHORT:
            yield Look(one.item.id, one.expert, f"{min(1, one.pasted / len(one.text)):.0%} of it was pasted")
        if one.seconds > 0 and words > WORDS_PER_SECOND * one.seconds and not one.clone:
            yield Look(one.item.id, one.expert, f"{words} words in {one.seconds:.0f} active seconds")
        if place in secret:
            yield Look(one.item.id, one.expert, "holds what looks like a secret (`sft check --secrets` says which)")


def _secrets(answers: Sequence[Answer]) -> frozenset[int]:
    """Places of answers that hold what looks like a token, a key, an address or a home folder."""
    asked = (Message("user", "?"),)
    texts = [Demonstration(asked, one.text, source=Source("", place)) for place, one in enumerate(answers)]
    found = in_demonstrations(texts)
    others = (address for one in found for address in one.others)
    return frozenset({one.line or 0 for one in found} | {int(address.rpartition(":")[2]) for address in others})
