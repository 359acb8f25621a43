"""What an expert may do with an item, and what it makes of the state: one transaction of the log each, or a refusal."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from sft.demonstrations.demonstration import text_fault
from sft.gathering import export
from sft.gathering.events import Event, Fields, Log
from sft.gathering.folder import Gathering
from sft.gathering.items import Item, item_id
from sft.gathering.prompts import LONGEST, screened
from sft.gathering.state import Task
from sft.metrics.text import paired
from sft.runs.atomic_files import open_append
from sft.runs.hashes import fingerprint

__all__ = ["JUDGEMENTS", "Action", "Denied", "Desk"]

#: What an expert may say of the clone's text after writing blind.
JUDGEMENTS = ("yes", "with small changes", "no")
_LONGEST_REASON = 1_000


class Denied(Exception):
    """An action that is not carried out: the status of the answer, the sentence, and what else the page needs."""

    def __init__(self, code: int, sentence: str, **more: Any) -> None:
        super().__init__(sentence)
        self.code, self.more = code, more


@dataclass(slots=True)
class Action:
    """What somebody does. ``events``: when they are on the disk, none where all of it is on file already.

    ``rev``: the revision that the item's text had with it, whatever another window has written since.
    """

    events: Future[list[Event]]
    rev: int = 0


class Desk:
    """A gathering that is open for experts: its state, and the thread that writes. Close it in the end."""

    def __init__(self, gathering: Gathering) -> None:
        self.gathering = gathering
        self.lock = threading.RLock()
        self._open = ExitStack()
        self.clones = gathering.clone_texts()
        self._derived = export.Derived(gathering)
        self.keys = gathering.held_out()
        self.guidelines = gathering.guidelines()
        self.state = gathering.state()
        self.state.closed = set()  # who opens the page again after a round was closed wants more
        file = self._open.enter_context(open_append(gathering.events_path))
        self._log = Log(file, last=self.state.last, apply=self._apply, reload=self._reload, idle=self.export,
                        lock=self.lock)  # fmt: skip
        for name in gathering.experts():
            if name and name not in self.state.joined:
                self.tell("joined", expert=name)

    def _apply(self, event: Event) -> None:
        self.state.apply(event)

    def _reload(self) -> None:
        closed, self.state = self.state.closed, self.gathering.state()
        self.state.closed = closed

    def export(self) -> None:
        """Write ``demonstrations.jsonl``; what somebody has changed in it by hand meanwhile is kept, and told."""
        with self.lock:
            said = self._derived.write(self.state)
        if said:
            sys.stderr.write(f"sft: {said}\n")

    def close(self) -> None:
        """Write what waits, and the demonstrations."""
        self._log.close()
        self._open.close()
        self.export()

    # -- what a page may show ------------------------------------------------------------------------------------

    def item(self, name: str, expert: str) -> Item:
        """The item, if ``expert`` is asked it. Raises :class:`Denied`."""
        found = self.state.items.get(name)
        if found is None or found.only not in ("", expert):
            raise Denied(404, "There is no such item for you; go on from the list.")
        flagged = self.state.flags.get(name)
        if flagged is not None and flagged[0] != expert:
            raise Denied(404, "This item was flagged, and is shown to nobody until the owner clears it.")
        return found

    def clone_text(self, item: Item, expert: str) -> str | None:
        """What the clone wrote, where ``expert`` may see it: above a drafted item, and after a blind answer."""
        work = self.state.work(item.id, expert)
        if item.id not in self.clones or self.state.is_taken_over(item, expert):
            return None
        return self.clones[item.id] if item.shown == "drafted" or work.submitted is not None else None

    def done(self, expert: str) -> int:
        """How many answers of the expert's own count."""
        return sum(who == expert for _, who in self.state.lengths)

    # -- what an expert does -------------------------------------------------------------------------------------

    def act(self, expert: str, kind: str, body: Mapping[str, Any]) -> Action:
        """Queue what ``expert`` does. The error of its events is :class:`Denied`, or ``RunError`` from the disk."""
        makes = getattr(self, f"_{kind}") if kind in _ACTIONS else None
        if makes is None:
            raise Denied(404, f"There is no action {kind[:40]!r}.")
        action = Action(Future())

        def transaction() -> list[Fields]:
            made = [{"kind": kind, "expert": expert, **_spent(body), **fields} for fields in makes(expert, body)]
            name = made[0].get("item", "") if made else str(body.get("item", ""))
            action.rev = (made[0].get("rev", 0) if made else 0) or self.state.work(name, expert).rev
            return made

        action.events = self._log.do(transaction)
        return action

    def offer(self, expert: str) -> Future[list[Event]]:
        """Queue that ``expert`` opens the item that comes next, which is thereby offered to nobody else meanwhile."""

        def transaction() -> list[Fields]:
            item = self.state.next_for(expert)
            found = [] if item is None else self._opened(expert, {"item": item.id})
            return [{"kind": "opened", "expert": expert, **fields} for fields in found]

        return self._log.do(transaction)

    def tell(self, kind: str, **fields: Any) -> Future[list[Event]]:
        """Queue an event that nobody can refuse: who joined or left, what the owner cleared or closed."""
        return self._log.do(lambda: [{"kind": kind, **fields}])

    def _opened(self, expert: str, body: Mapping[str, Any]) -> list[Fields]:
        item = self.item(_text(body, "item"), expert)
        known = self.state.work(item.id, expert).status in ("waiting", "skipped")
        return [{"item": item.id}] if known else []

    def _draft(self, expert: str, body: Mapping[str, Any]) -> list[Fields]:
        item, work, text = self._written(expert, body)
        if text == work.text and work.status in ("draft", "submitted"):
            return []
        if work.status == "submitted":
            raise Denied(409, "This item was submitted meanwhile, in another window.", text=work.text, rev=work.rev,
                          state=work.status)  # fmt: skip
        self._refuse_older(work, body)
        return [{"item": item.id, "text": text, "rev": work.rev + 1}]

    def _submitted(self, expert: str, body: Mapping[str, Any]) -> list[Fields]:
        clone = self.clone_text(self.item(_text(body, "item"), expert), expert)
        if body.get("accept") is True:
            if clone is None:
                raise Denied(404, "There is no text of the clone to accept here.")
            body = {**body, "text": clone}
        item, work, text = self._written(expert, body)
        if work.status == "submitted" and work.text == text:
            return []
        if fault := text_fault(body.get("text", "")):
            raise Denied(422, f"The answer {fault}; write one, or skip the item. Your text is kept.")
        self._refuse_older(work, body)
        context = "expert" if body.get("context") == "expert" and item.dialogue else ""
        return [{"item": item.id, "text": text, "rev": work.rev + 1, "guidelines": self.guidelines[0],
                 "clone": fingerprint(clone)[:16] if clone is not None else "", "context": context}]  # fmt: skip

    def _skipped(self, expert: str, body: Mapping[str, Any]) -> list[Fields]:
        item = self.item(_text(body, "item"), expert)
        if self.state.work(item.id, expert).status == "submitted":
            raise Denied(409, "This item is submitted; reopen it first, from the list.")
        return [{"item": item.id, "reason": _text(body, "reason")[:_LONGEST_REASON]}]

    def _flagged(self, expert: str, body: Mapping[str, Any]) -> list[Fields]:
        reason = _text(body, "reason")[:_LONGEST_REASON]
        if not reason.strip():
            raise Denied(422, "Say in a few words what is wrong with the item; others then know.")
        return [{"item": self.item(_text(body, "item"), expert).id, "reason": reason}]

    def _reopened(self, expert: str, body: Mapping[str, Any]) -> list[Fields]:
        item = self.item(_text(body, "item"), expert)
        work = self.state.work(item.id, expert)
        return [{"item": item.id, "rev": work.rev + 1}] if work.status in ("submitted", "skipped", "flagged") else []

    def _withdrawn(self, expert: str, body: Mapping[str, Any]) -> list[Fields]:
        item = self.item(_text(body, "item"), expert)
        return [{"item": item.id}] if self.state.work(item.id, expert).has_answer else []

    def _judged(self, expert: str, body: Mapping[str, Any]) -> list[Fields]:
        item, verdict = self.item(_text(body, "item"), expert), _text(body, "reason")
        if item.shown != "blind" or self.clone_text(item, expert) is None:
            raise Denied(404, "There is nothing to judge here.")
        if verdict not in JUDGEMENTS:
            raise Denied(422, f"Say one of: {', '.join(JUDGEMENTS)}.")
        return [{"item": item.id, "reason": verdict}]

    def _guidelines_seen(self, expert: str, body: Mapping[str, Any]) -> list[Fields]:
        seen = self.guidelines[0]
        return [{"guidelines": seen}] if seen and self.state.read.get(expert) != seen else []

    def _asked(self, expert: str, body: Mapping[str, Any]) -> list[Fields]:
        text, parent = _text(body, "text"), _text(body, "parent")
        settings = self.gathering.settings
        if not (settings.dialogues if parent else settings.own_prompts):
            raise Denied(404, "This gathering takes no prompts of your own.")
        if fault := text_fault(text):
            raise Denied(422, f"The prompt {fault}; write one.")
        self._refuse_long(text)
        made = Event(0, "", "asked", expert=expert, text=text, parent=parent)
        if parent and not self.state.work(self.item(parent, expert).id, expert).has_answer:
            raise Denied(409, "Submit your answer first; then the user goes on.")
        item = self.state.asked(made)
        name = item_id(item.prompt, item.round, expert)
        if name in self.state.items:
            return []
        if screened([item], self.keys).refused:
            raise Denied(422, f"This prompt, or one much like it, is held out in {self.keys.run}; ask another.")
        return [{"item": name, "text": text, "parent": parent}]

    def _written(self, expert: str, body: Mapping[str, Any]) -> tuple[Item, Task, str]:
        """Item, work and text of a draft or an answer."""
        item, text = self.item(_text(body, "item"), expert), _text(body, "text")
        if item.round in self.state.closed:
            raise Denied(409, "The round was closed by its owner; your text is kept in this browser.")
        self._refuse_long(text)
        return item, self.state.work(item.id, expert), text

    @staticmethod
    def _refuse_long(text: str) -> None:
        if len(text) > LONGEST:
            raise Denied(422, f"The text has {len(text):,} characters, more than {LONGEST:,}; shorten it. "
                          "It is kept in this browser.")  # fmt: skip

    @staticmethod
    def _refuse_older(work: Task, body: Mapping[str, Any]) -> None:
        """Refuse what was written without having seen the newest revision, unless the same window wrote that one."""
        if body.get("rev") != work.rev and work.text and work.window != _text(body, "window"):
            raise Denied(409, "Another window has written this item meanwhile; choose which text stands.",
                          text=work.text, rev=work.rev, state=work.status)  # fmt: skip


#: What an expert's page may ask for.
_ACTIONS = (
    "opened", "draft", "submitted", "skipped", "flagged", "reopened", "withdrawn", "judged", "guidelines_seen", "asked",
)  # fmt: skip


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name, "")
    if not isinstance(value, str):
        raise Denied(400, f"{name} must be text.")
    return paired(value)


def _spent(body: Mapping[str, Any]) -> Fields:
    """Time, keys and pasted characters as the page counted them, and the window they were counted in."""
    found: Fields = {"window": _text(body, "window")[:32]}
    for name, kind in (("seconds", float), ("wall_seconds", float), ("keys", int), ("pasted", int)):
        value = body.get(name, 0)
        if type(value) not in (int, float) or not 0 <= value < 1e9:
            raise Denied(400, f"{name} must be a number from 0 on.")
        found[name] = round(kind(value), 1) if kind is float else kind(value)
    return found
