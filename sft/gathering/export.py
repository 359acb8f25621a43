"""The answers as demonstrations, each with how it came about, which is computed from the texts and never asked.

blind      written without having seen the clone's text
accepted   the clone's text as it stands
continued  the clone's text up to a point, then other words
edited     half of its characters or more are the clone's
rewritten  fewer
"""

from __future__ import annotations

import itertools
import json
import shlex
import sys
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from rapidfuzz.distance import Levenshtein

from sft import metrics
from sft.demonstrations.demonstration import Demonstration
from sft.errors import RunError
from sft.gathering.events import read_events
from sft.gathering.folder import Gathering, is_gathering
from sft.gathering.state import Standing
from sft.metrics.text import unspaced
from sft.runs.atomic_files import write_text
from sft.runs.hashes import fingerprint
from sft.runs.machine import sentences

__all__ = ["EDITED", "KEPT", "Derived", "chosen", "distance", "how", "kept_prefix", "refresh", "renew", "rows", "write"]

#: Character similarity (points) from which a text is the clone's, edited.
EDITED = 50.0
#: Characters of the clone's beginning that stand, at least, where a text continues it.
KEPT = 20
#: Words of a text up to which TER looks for words that only moved; beyond it takes minutes.
MOST_WORDS = 1_000


@lru_cache(maxsize=4096)
def how(clone: str | None, text: str) -> str:
    """How ``text`` came about; ``clone``: what was shown, None where nothing was."""
    if clone is None:
        return "blind"
    first, second = _plain(clone), _plain(text)
    if first == second:
        return "accepted"
    if _continues(first, second):
        return "continued"
    return "edited" if metrics.edit_similarity(text, clone) >= EDITED else "rewritten"


def _continues(clone: str, text: str) -> bool:
    """Whether ``text`` goes on from a beginning of ``clone`` in words of its own: of the rest, less than half stays."""
    kept = _shared(clone, text)
    if kept < KEPT:
        return False
    rest, own = clone[kept:], text[kept:]
    return bool(own) and (not rest or metrics.edit_similarity(own, rest) < EDITED)


def _shared(one: str, other: str) -> int:
    """Characters that both begin with."""
    apart = (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(apart, min(len(one), len(other)))


def kept_prefix(clone: str | None, text: str) -> int:
    """Characters of the clone's beginning that stand at the beginning of ``text``."""
    return 0 if clone is None else _shared(_plain(clone), _plain(text))


@lru_cache(maxsize=4096)
def distance(clone: str, text: str) -> tuple[float, float]:
    """sacreBLEU's TER of the clone's text against the final one: (edits, words of the final text).

    Scripts without spaces are cut into characters. Above :data:`MOST_WORDS` words no shifts are looked for.
    """
    if max(len(clone.split()), len(text.split())) > MOST_WORDS:
        return float(Levenshtein.distance(clone.split(), text.split())), float(len(text.split()))
    from sacrebleu.metrics.ter import TER

    asian = any(map(unspaced, clone + text))
    score = TER(normalized=asian, asian_support=asian).sentence_score(clone, [text])
    return float(score.num_edits), float(score.ref_length)


def _plain(text: str) -> str:
    """As a page hands it on: one kind of line end, composed letters."""
    return metrics.nfc(text.replace("\r\n", "\n").replace("\r", "\n"))


def rows(state: Standing, clones: Mapping[str, str], weights: Mapping[int, str], place: Path) -> list[dict[str, Any]]:
    """Every answer that counts as a row that ``formats`` reads, in the order of the items.

    ``clones``: item -> what the clone wrote; ``weights``: round -> the hash of the clone it corrects; ``place``: the
    gathering. Raises ``RunError`` where a text of the clone's that an expert saw is not there.
    """
    found = []
    for answer in state.answers():
        clone = clones.get(answer.item.id) if answer.clone else None
        if answer.clone and (clone is None or fingerprint(clone)[:16] != answer.clone):
            raise RunError(
                f"{place / f'clone-{answer.item.round}.jsonl'}: what the clone wrote for item {answer.item.id} "
                f"is gone, or another than {answer.expert} saw, so nobody can say how the answer came about; "
                "restore the file from a copy"
            )
        row: dict[str, Any] = {
            "prompt": [turn.to_dict() for turn in answer.prompt],
            "completion": answer.text,
            "expert": answer.expert,
        }
        if answer.item.group:
            row["group"] = answer.item.group
        row["gathered"] = {
            "item": answer.item.id,
            "round": answer.item.round,
            "how": how(clone, answer.text),
            "drawn": answer.item.drawn,
            "seconds": answer.seconds,
            "pasted": answer.pasted,
            "guidelines": answer.guidelines,
            "event": answer.n,
        }
        if clone is not None:
            edits, words = distance(clone, answer.text)
            row["gathered"] |= {
                "edits": {"ter": round(edits / max(1.0, words), 4), "characters": changed(clone, answer.text)},
                "kept_prefix": kept_prefix(clone, answer.text),
                "clone_hash": answer.clone,
            }
        if answer.item.round:
            row["gathered"]["weights_hash"] = weights.get(answer.item.round, "")
        found.append(row)
    return found


def changed(clone: str, text: str) -> int:
    """Characters that were changed, put in or taken out (Levenshtein)."""
    return int(Levenshtein.distance(_plain(clone), _plain(text)))


def write(gathering: Gathering, state: Standing) -> int:
    """Write ``demonstrations.jsonl`` from ``state`` where it is another; how many rows it has."""
    made = _text(gathering, state)
    if _there(gathering) != made.encode("utf-8"):
        write_text(gathering.demonstrations_path, made)
    return made.count("\n")


def _text(gathering: Gathering, state: Standing) -> str:
    """What ``demonstrations.jsonl`` holds by ``state``."""
    weights = {row["number"]: row.get("weights_hash", "") for row in gathering.settings.rounds}
    made = rows(state, gathering.clone_texts(), weights, gathering.path)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made)


def _there(gathering: Gathering) -> bytes | None:
    """What ``demonstrations.jsonl`` holds now; None where there is none."""
    path = gathering.demonstrations_path
    with sentences(path, reading=True):
        return path.read_bytes() if path.exists() else None


def renew(gathering: Gathering, state: Standing) -> list[str]:
    """Write ``demonstrations.jsonl`` from ``state``; what becomes of changes made in it by hand, as sentences.

    A row is changed that no answer was written for, or whose completion is not its answer's: the file is kept beside
    the new one. An answer whose row is gone stands in it again, and that is said, for it is left out on the page.
    """
    said = _changed_by_hand(gathering, state) if gathering.demonstrations_path.exists() else []
    write(gathering, state)
    return said


class Derived:
    """``demonstrations.jsonl`` while a page is served, written again and again: no change made by hand meanwhile is
    lost. Build one right after :func:`renew`.
    """

    def __init__(self, gathering: Gathering) -> None:
        self.gathering = gathering
        self._ours = _there(gathering)

    def write(self, state: Standing) -> str:
        """Write the file from ``state``; where it is another than was written last, that one is kept beside it, and a
        sentence says so.
        """
        path, found, said = self.gathering.demonstrations_path, _there(self.gathering), ""
        if found is not None and self._ours is not None and found != self._ours:
            kept = _put_aside(path, found)
            said = (
                f"{path}: was changed by hand while the page was open: kept in {kept.name}, for the file is made of "
                f"{self.gathering.events_path.name}; correct answers on the page"
            )
        made = _text(self.gathering, state)
        self._ours = made.encode("utf-8")
        if found != self._ours:
            write_text(path, made)
        return said


def _put_aside(path: Path, raw: bytes) -> Path:
    """The file beside ``path`` that holds ``raw``, what was made of it by hand; no earlier one is written over."""
    for number in itertools.count(1):
        kept = path.with_name(f"demonstrations.by-hand{f'-{number}' if number > 1 else ''}.jsonl")
        with sentences(kept):
            if kept.exists() and kept.read_bytes() == raw:
                return kept
            if not kept.exists():
                kept.write_bytes(raw)
                return kept
    raise AssertionError("numbers do not end")


def _changed_by_hand(gathering: Gathering, state: Standing) -> list[str]:
    path, said = gathering.demonstrations_path, []
    texts = {event.n: event.text for event in read_events(gathering.events_path) if event.kind == "submitted"}
    with sentences(path, reading=True):
        raw = path.read_bytes()
    found = {line: _event_of(line, texts) for line in raw.split(b"\n") if line.strip()}
    if changed := sum(event is None for event in found.values()):
        kept = _put_aside(path, raw)
        rows = "1 row was" if changed == 1 else f"{changed} rows were"
        said.append(
            f"{path}: is made of {gathering.events_path.name}, and {rows} changed by hand: kept in {kept.name}. "
            f"Correct answers on the page: sft collect {shlex.quote(str(gathering.path))}"
        )
    elif gone := len({answer.n for answer in state.answers()} - set(found.values())):
        answers = "1 answer was not in it and stands" if gone == 1 else f"{gone} answers were not in it and stand"
        said.append(
            f"{path}: is made of {gathering.events_path.name}, and {answers} there again. To leave an answer out, "
            f"withdraw it in the list of the page: sft collect {shlex.quote(str(gathering.path))}"
        )
    return said


def _event_of(line: bytes, texts: Mapping[int, str | None]) -> int | None:
    """The event of which ``line`` is the row, with the text of its answer among ``texts``; None for any other line."""
    try:
        row = json.loads(line)
        event = row["gathered"]["event"]
        return int(event) if texts[event] == row["completion"] else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def refresh(path: Path) -> None:
    """Bring the demonstrations of the gathering at ``path`` up to date; nothing where ``path`` is none."""
    if is_gathering(path):
        gathering = Gathering.open(path)
        for said in renew(gathering, gathering.state()):
            sys.stderr.write(f"sft: {said}\n")


def chosen(
    found: Iterable[Mapping[str, Any]], *, experts: Collection[str] = (), blind_only: bool = False, vote: bool = False
) -> list[Mapping[str, Any]]:
    """Of the rows those of some experts, those written blind, or of each prompt those that most experts agree on."""
    kept = [
        row
        for row in found
        if (not experts or row["expert"] in experts) and (not blind_only or row["gathered"]["how"] == "blind")
    ]
    if not vote:
        return kept
    made = [Demonstration.from_dict(dict(row) | {"id": str(place)}) for place, row in enumerate(kept)]
    from sft.demonstrations.conflicts import majority  # with numpy, which an expert need not wait for

    standing = {int(one.id) for one in majority(made).kept}
    return [row for place, row in enumerate(kept) if place in standing]
