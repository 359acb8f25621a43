"""Events -> where every item stands, per expert and as a whole. A fold: any beginning of the events is a valid state.

per expert     waiting -> opened -> draft -> submitted -> (reopened -> draft -> submitted), or skipped, or flagged
an item        open (fewer answers than wanted), done, flagged (shown to nobody else), contested (answers differ)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import combinations

from sft import metrics
from sft.demonstrations.demonstration import Message, text_fault
from sft.gathering.events import Event
from sft.gathering.items import Item, rank

__all__ = ["CONTESTED", "LEASE", "Answer", "Standing", "Task"]

#: How long an item that an expert has in hand is offered to nobody else, from the expert's last event on.
LEASE = timedelta(minutes=30)
#: chrF points below which two answers to an item differ so much that the item is contested.
CONTESTED = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What one expert submitted for one item. ``seconds``: active ones; ``n``: of the event; ``clone``: hash of the
    text that was shown, "" for none; ``prompt``: what the expert saw, own turns in a dialogue included.
    """

    item: Item
    expert: str
    text: str
    n: int
    at: str
    prompt: tuple[Message, ...]
    guidelines: str = ""
    clone: str = ""
    seconds: float = 0.0
    keys: int = 0
    pasted: int = 0
    judged: str = ""
    context: str = ""


@dataclass(slots=True)
class Task:
    """One expert on one item. ``spent``: window -> (active seconds, keys, pasted characters); ``last``: when last;
    ``window``: the one that wrote the text.
    """

    status: str = "waiting"
    rev: int = 0
    text: str = ""
    submitted: Event | None = None
    withdrawn: bool = False
    reason: str = ""
    judged: str = ""
    last: str = ""
    window: str = ""
    spent: dict[str, tuple[float, int, int]] = field(default_factory=dict)

    @property
    def has_answer(self) -> bool:
        """Whether there is an answer that counts."""
        return self.submitted is not None and not self.withdrawn


class Standing:
    """Where everything stands after the events so far. ``answers``: wanted of each item; ``seed``: of the order.

    ``lengths``: (item, expert) -> characters of the answer that counts, kept so that no page reckons through them all.
    """

    def __init__(self, items: Iterable[Item], *, answers: int = 1, seed: int = 0, in_order: bool = False) -> None:
        self.items: dict[str, Item] = {}
        self.answers_wanted, self.seed, self.in_order = answers, seed, in_order
        self.works: dict[tuple[str, str], Task] = {}
        self.lengths: dict[tuple[str, str], int] = {}
        self.experts: dict[str, bool] = {}
        self.joined = set[str]()
        self.read: dict[str, str] = {}
        self.flags: dict[str, tuple[str, str]] = {}
        self.closed: set[int] = set()
        self.last = 0
        self._turns: dict[str, dict[int, str]] = {}
        self._order = list[Item]()
        for item in items:
            self._add(item)

    def _add(self, item: Item) -> None:
        self.items[item.id] = item
        self._order = []
        if item.dialogue:
            self._turns.setdefault(item.dialogue, {})[item.turn] = item.id

    def apply(self, event: Event) -> None:
        """Take one event over."""
        self.last = event.n
        if event.kind in ("joined", "left"):
            self.experts[event.expert] = event.kind == "joined"
            self.joined.add(event.expert)
        elif event.kind == "guidelines_seen":
            self.read[event.expert] = event.guidelines
        elif event.kind == "closed":
            self.closed = set(range(event.rev + 1))
        elif event.kind == "cleared":
            self.flags.pop(event.item, None)
            for (item, _), one in self.works.items():
                if item == event.item and one.status == "flagged":
                    one.status = "waiting"
        elif event.kind == "asked":
            with suppress(ValueError):  # an answer that shows nothing, as no page lets it be
                self._add(replace(self.asked(event), id=event.item))
        elif event.item in self.items:  # of an item that is no longer there nothing can be said
            self._work(event)
            key = event.item, event.expert
            if (work := self.works[key]).has_answer and work.submitted is not None:
                self.lengths[key] = len(work.submitted.text or "")
            else:
                self.lengths.pop(key, None)

    def asked(self, event: Event) -> Item:
        """The item that an expert makes: a prompt of one's own, or what the user says next."""
        turn = Message("user", event.text or "?")
        parent = self.items.get(event.parent)
        if parent is None:
            return Item(
                event.item, (turn,), only=event.expert, round=max((i.round for i in self.items.values()), default=0)
            )
        done = self.work(parent.id, event.expert)
        written = Message("assistant", done.submitted.text if done.submitted and done.submitted.text else done.text)
        prompt = (*self.prompt(parent, event.expert), written, turn)
        opening = parent.dialogue or parent.id
        return replace(parent, prompt=prompt, group=parent.group or opening, dialogue=opening,
                       turn=parent.turn + 1, only=event.expert, shared=False, reference="")  # fmt: skip

    def _work(self, event: Event) -> None:
        work = self.works.setdefault((event.item, event.expert), Task())
        work.last = event.at
        if event.window:
            before = work.spent.get(event.window, (0.0, 0, 0))
            spent = event.seconds, event.keys, event.pasted
            work.spent[event.window] = tuple(map(max, before, spent))  # type: ignore[assignment]
        if event.kind in ("judged", "withdrawn"):
            work.judged = event.reason if event.kind == "judged" else work.judged
            work.withdrawn = work.withdrawn or event.kind == "withdrawn"
            return
        if event.kind == "opened" and work.status not in ("waiting", "skipped"):
            return
        work.rev = event.rev or work.rev
        if event.text is not None:
            work.text, work.window = event.text, event.window
        if event.kind == "flagged":
            self.flags[event.item] = (event.expert, event.reason)
        if event.kind == "reopened" and self.flags.get(event.item, ("", ""))[0] == event.expert:
            del self.flags[event.item]
        if event.kind == "submitted":
            work.submitted, work.withdrawn = event, False
        work.reason = event.reason
        work.status = event.kind

    # -- what is asked -------------------------------------------------------------------------------------------

    def work(self, item: str, expert: str) -> Task:
        """The expert's work on the item; that nobody has begun is waiting."""
        return self.works.get((item, expert)) or Task()

    def prompt(self, item: Item, expert: str) -> tuple[Message, ...]:
        """What ``expert`` sees: where one took a dialogue over, the expert's own turns stand from there on."""
        if not item.dialogue or item.only:
            return item.prompt
        turns, taken = list(item.prompt), False
        places = [place for place, turn in enumerate(turns) if turn.role == "assistant"]
        for number, place in enumerate(places):
            work = self.work(self._turns[item.dialogue].get(number, ""), expert)
            if work.submitted is None or text_fault(work.submitted.text):
                continue
            taken = taken or work.submitted.context == "expert"
            if taken:
                turns[place] = Message("assistant", str(work.submitted.text))
        return tuple(turns)

    def is_taken_over(self, item: Item, expert: str) -> bool:
        """Whether the expert took the dialogue over before this turn, so that the clone's text no longer fits."""
        return item.prompt != self.prompt(item, expert)

    def wanted(self, item: Item) -> int:
        """How many answers are wanted: of a shared item every expert's."""
        if item.only:
            return 1
        return max(self.answers_wanted, sum(self.experts.values()) if item.shared else 0)

    def order(self) -> list[Item]:
        """The items in the order they are asked in; the turns of a dialogue one after another."""

        def place(one: Item) -> tuple[int, bool, str, int]:
            return (
                one.round,
                bool(one.again),
                "" if self.in_order else rank(self.seed, one.dialogue or one.id),
                one.turn,
            )

        self._order = self._order or sorted(self.items.values(), key=place)
        return self._order

    def next_for(self, expert: str, now: datetime | None = None) -> Item | None:
        """The item that ``expert`` is asked next: one's own unfinished ones first, then what nobody else has in hand.

        Skipped items come back from the expert's own list only. None where nothing is left for now.
        """
        now = now or datetime.now(UTC)
        waiting = list[Item]()
        for item in self.order():
            work = self.works.get((item.id, expert))
            status = "waiting" if work is None else work.status
            if status in ("submitted", "skipped", "flagged") or item.only not in ("", expert):
                continue
            if item.round in self.closed or item.id in self.flags:
                continue
            if status == "waiting":
                waiting.append(item)
            elif self._comes_now(item, expert):
                return item
        comes = (item for item in waiting if self._comes_now(item, expert))
        return next((item for item in comes if self._is_free(item, expert, now)), None)

    def _comes_now(self, item: Item, expert: str) -> bool:
        """Whether what comes before it is done: the turns of its dialogue, and the item that it repeats."""
        if item.again and not self.work(item.again, expert).has_answer:
            return False
        before = (self._turns.get(item.dialogue, {}).get(number, "") for number in range(item.turn))
        return all(self.work(one, expert).status in ("submitted", "reopened", "skipped") for one in before if one)

    def _is_free(self, item: Item, expert: str, now: datetime) -> bool:
        """Whether answers of ``item`` are wanted that nobody else has in hand. A lease is a hint, nothing more."""
        taken = 0
        for other in self.experts:
            work = self.work(item.id, other)
            if other == expert:
                continue
            # The clock may have been set back since: what comes from the future is held no longer than the rest.
            in_hand = work.status in ("opened", "draft") and abs(now - datetime.fromisoformat(work.last)) < LEASE
            taken += work.has_answer or in_hand
        return taken < self.wanted(item)

    # -- what was answered ---------------------------------------------------------------------------------------

    def answers(self) -> Iterator[Answer]:
        """Every answer that counts, by item and by expert in the order they joined."""
        experts = list(dict.fromkeys([*self.experts, *(expert for _, expert in self.works)]))
        for item in self.items.values():
            for expert in experts:
                work = self.works.get((item.id, expert))
                if work is not None and work.has_answer:
                    yield self._answer(item, expert, work)

    def _answer(self, item: Item, expert: str, work: Task) -> Answer:
        event = work.submitted
        assert event is not None
        spent = list(work.spent.values())
        return Answer(
            item=item,
            expert=expert,
            text=event.text or "",
            n=event.n,
            at=event.at,
            prompt=self.prompt(item, expert),
            guidelines=event.guidelines,
            clone=event.clone,
            seconds=round(math.fsum(seconds for seconds, _, _ in spent), 1),
            keys=sum(keys for _, keys, _ in spent),
            pasted=sum(pasted for _, _, pasted in spent),
            judged=work.judged,
            context=event.context,
        )

    def status(self, item: Item, answers: Sequence[Answer]) -> str:
        """Where the item as a whole stands, with its ``answers``."""
        if item.id in self.flags:
            return "flagged"
        if any(metrics.chrf(a.text, b.text) < CONTESTED for a, b in combinations(answers, 2)):
            return "contested"
        return "done" if len(answers) >= self.wanted(item) else "open"

    def by_item(self) -> dict[str, list[Answer]]:
        """Item -> its answers that count."""
        found: dict[str, list[Answer]] = {name: [] for name in self.items}
        for answer in self.answers():
            found[answer.item.id].append(answer)
        return found
