"""``sft score``: the whole scorecard from completions that any system wrote, without a model and without torch.

A file has one row per prompt and system:

    prompt       text, or messages [{role, content}, ...]
    completion   what the system wrote; may be empty, which is counted
    reference    what an expert wrote; or ``references``, a list of texts
    system       who wrote the completion: tuned (the one that is judged, and the default), B0, B3, any other name
    id, group, expert (or ``experts``, one a reference), finished (false: cut at a length limit)
    nats, bytes  where a server tells how likely the system finds what an expert wrote: -log p of one reference of the
                 prompt (a number, or one a token), and the UTF-8 length of that reference

Rows of one prompt are put together: references need to be given once, and must agree where they are given again.
The copied prompt is worked out here, the shortcuts R, RK, K and L where the training file is given.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sft.demonstrations import formats, splits
from sft.demonstrations.cells import Cells
from sft.demonstrations.demonstration import Demonstration, HeldOut, Message, Source, text_fault
from sft.demonstrations.file_rows import Broken, rows_of
from sft.demonstrations.near_duplicates import joined
from sft.demonstrations.sources import files_of
from sft.demonstrations.text_files import unpacked_suffix
from sft.errors import DemonstrationsError, Problem, SourceError
from sft.runs.hashes import fingerprint
from sft.runs.records import Completion, TokenScores, as_row, kind_of

__all__ = ["FROM_A_FILE", "Answers", "read"]

#: What the signature of a scorecard calls its source.
FROM_A_FILE = "completions read from a file"
#: The system that is judged.
JUDGED = "tuned"
#: Names of what is worked out here: from references and prompts; from the training file.
ALWAYS_OURS, OURS_WITH_TRAINING = ("E", "P", "expert"), ("R", "RK", "K", "L")
#: Word-shingle similarity from which a training prompt nearly repeats a held-out one.
NEAR = 0.8

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")

Pairs = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Answers:
    """What a file says. ``asked``: one demonstration a prompt, with file and line; ``completions``: system -> id ->
    completion. ``scores``: system -> id -> how likely it finds what an expert wrote, as one sum.
    ``stops_known``: whether every row says if its completion is finished.
    """

    asked: tuple[Demonstration, ...]
    items: tuple[HeldOut, ...]
    completions: Mapping[str, Mapping[str, Completion]]
    scores: Mapping[str, Mapping[str, TokenScores]]
    rows: int
    stops_known: bool


@dataclass(slots=True)
class _Gathered:
    """The rows of one prompt as they come in; lines for complaints. ``references``: system -> (text, expert)."""

    file: str
    line: int
    id: str = ""
    group: str = ""
    references: dict[str, Pairs] = field(default_factory=dict)
    referred: dict[str, int] = field(default_factory=dict)
    completions: dict[str, tuple[str, bool, int]] = field(default_factory=dict)
    nats: dict[str, tuple[float, int, int]] = field(default_factory=dict)


def _content_of(answers: Answers) -> str:
    """A hash of what the file says, whatever it is called and in whichever format."""
    written = {system: [as_row(one) for one in by_id.values()] for system, by_id in answers.completions.items()}
    scores = {system: [asdict(one) for one in by_id.values()] for system, by_id in answers.scores.items()}
    return fingerprint([[item.to_dict() for item in answers.items], written, *([scores] if scores else [])])


def _training(train: Path, answers: Answers) -> tuple[Demonstration, ...]:
    """The training demonstrations. Raises ``SplitError`` where a held-out prompt, or a group, is among them."""
    name = str(train)
    learned = tuple(formats.read_source(name).demand())
    splits.refuse_learned(learned, answers.asked, name)
    return learned


# -- reading ---------------------------------------------------------------------------------------------------


def read(path: Path, *, ours: Sequence[str] = ALWAYS_OURS, called: str = "") -> Answers:
    """Every row of ``path`` (a file, a folder or a pattern) put together by prompt; ``ours``: systems that a file may
    not have. ``called``: what addresses call it, where that is not its path.

    Raises ``DemonstrationsError`` with every problem, ``SourceError`` for a file that is unusable as a whole.
    """
    found = files_of(str(path))
    reader = _RowsByPrompt(ours)
    for name, file in found.files:
        reader.file = called or name
        reader.cells_are_text = unpacked_suffix(file) in (".csv", ".tsv")
        for line, row in rows_of(file):
            reader.take(line, row)
    return reader.answers()


def _number(value: Any, *, parse: bool) -> Any:
    """A cell that holds a number or a list of them; None for an empty one. ``parse``: cells of the file are text."""
    if isinstance(value, str) and parse:
        with suppress(ValueError, RecursionError):
            value = json.loads(value) if value.strip() else None
    return None if value is None or value != value else value  # an empty cell of a table can be NaN


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


class _RowsByPrompt:
    """Takes one row after another of ``file``, and complains about all that is wrong before giving anything."""

    def __init__(self, ours: Sequence[str]) -> None:
        self.file, self.cells_are_text = "", False
        self.ours = ours
        self.problems: list[Problem] = []
        self.prompts: dict[tuple[Message, ...], _Gathered] = {}
        self.columns: dict[str, None] = {}
        self.rows = 0
        self.stops_known = True

    def _fault(self, line: int, file: str = "") -> Callable[[str, str, str], None]:
        path = file or self.file
        return lambda field, message, remedy: self.problems.append(Problem(path, line, field, message, remedy))

    def take(self, line: int, row: Any) -> None:
        """One row into the prompt it belongs to; complaints go to ``problems``."""
        self.rows += 1
        fault, known = self._fault(line), len(self.problems)
        if isinstance(row, Broken):
            fault(row.field, row.message, row.remedy)
            return
        if not isinstance(row, dict):
            fault("", f"is {kind_of(row)}, not an object with columns", "write the row as an object")
            return
        self.columns |= dict.fromkeys(row)
        cells = Cells(row, fault)
        asked = row.get("prompt")
        prompt = cells.messages("prompt", "") if isinstance(asked, list) else cells.plain(cells.text("prompt"), "")
        system = cells.optional("system", scalar=True) or JUDGED
        if not _NAME.fullmatch(system):
            fault("system", f"is {system[:40]!r}", "name it with letters, digits, '.', '_' and '-' only")
        elif system in self.ours:
            fault("system", f"is {system}, which is worked out by sft itself", "leave these rows out")
        text, finished = self._completion(cells, row), self._finished(cells, row)
        references, nats = self._references(cells), self._nats(cells, row)
        name, group = cells.optional("id", scalar=True), cells.optional("group", scalar=True)
        if len(self.problems) > known:
            return
        at = self.prompts.setdefault(prompt, _Gathered(self.file, line))
        for what, value in (("id", name), ("group", group)):
            other = getattr(at, what)
            if value and other not in ("", value):
                fault(what, f"is {value[:40]!r}, but {other[:40]!r} further up for the same prompt", "keep one")
            elif value:
                setattr(at, what, value)
        written = at.completions.setdefault(system, (text, finished, line))
        if written[:2] != (text, finished):
            fault(
                "completion",
                f"is not what {system} wrote for the same prompt on line {written[2]}",
                "keep one completion per prompt and system",
            )
        if nats is not None:
            told = at.nats.setdefault(system, (*nats, line))
            if told[:2] != nats:
                fault("nats", f"is not what line {told[2]} gives for {system}", "keep one figure per prompt and system")
        if references:
            at.referred.setdefault(system, line)
            pairs = at.references.setdefault(system, [])
            pairs += [pair for pair in dict.fromkeys(references) if pair not in pairs]

    def _completion(self, cells: Cells, row: Mapping[str, Any]) -> str:
        """What the system wrote: any text, also none at all."""
        value = row.get("completion")
        if isinstance(value, str) and (not value.strip() or text_fault(value).startswith("is blank")):
            return value
        if "completion" in row and value is None:
            cells.fault("completion", "is null", 'write "" where the system wrote nothing, or leave the row out')
            return ""
        return cells.text("completion")

    def _finished(self, cells: Cells, row: Mapping[str, Any]) -> bool:
        value = row.get("finished")
        # An empty cell of a table can be NaN, the one value that is not itself.
        if value is None or value != value or (isinstance(value, str) and not value.strip()):
            self.stops_known = False
            return True
        if isinstance(value, str) and self.cells_are_text:
            value = {"true": True, "1": True, "false": False, "0": False}.get(value.strip().lower(), value)
        if not isinstance(value, bool):
            remedy = "write true, or false where it was cut at a length limit"
            cells.fault("finished", f"is {str(value)[:40]!r}", remedy)
            return True
        return value

    def _nats(self, cells: Cells, row: Mapping[str, Any]) -> tuple[float, int] | None:
        """(sum of nats, bytes of the text that they are of) where the row has them."""
        found = {name: _number(row.get(name), parse=self.cells_are_text) for name in ("nats", "bytes")}
        if found == {"nats": None, "bytes": None}:
            return None
        values = found["nats"] if isinstance(found["nats"], list) else [found["nats"]]
        if not values or not all(_is_number(value) and value >= 0 for value in values):
            remedy = "write the sum of -log p over the expert's text, or the list of them by token, each 0 or more"
            cells.fault("nats", "is missing" if found["nats"] is None else f"is {str(found['nats'])[:40]!r}", remedy)
            return None
        size = found["bytes"]
        if not _is_number(size) or size != int(size) or size < 1:
            remedy = "write how many bytes of UTF-8 the expert's text has that nats are of"
            cells.fault("bytes", "is missing" if size is None else f"is {str(size)[:40]!r}", remedy)
            return None
        return math.fsum(values), int(size)

    def _references(self, cells: Cells) -> Pairs:
        """(text, expert) of every reference of the row."""
        parse = self.cells_are_text
        texts = [*cells.references("reference", parse=False), *cells.references("references", parse=parse)]
        experts = list(cells.references("experts", parse=parse))
        expert = cells.optional("expert", scalar=True)
        if experts and (expert or len(experts) != len(texts)):
            cells.fault(
                "experts",
                f"names {len(experts)} for {len(texts)} references" if not expert else "stands beside 'expert'",
                "name one expert for each reference, in the same order",
            )
            return []
        return list(zip(texts, experts or [expert] * len(texts), strict=True))

    def answers(self) -> Answers:
        """All of it; raises with every problem if there is one."""
        for needed in (("prompt",), ("completion",), ("reference", "references")):
            if self.columns and not self.columns.keys() & set(needed):
                found = ", ".join(map(repr, list(self.columns)[:12])).encode("utf-8", "backslashreplace").decode()
                raise SourceError(
                    f"{self.file}: no row has {' or '.join(map(repr, needed))} (columns found: {found}); "
                    "each row needs prompt, completion and reference"
                )
        asked = [d for prompt, at in self.prompts.items() if (d := self._demonstration(prompt, at)) is not None]
        homes: dict[str, str] = {}
        for d in asked:
            if homes.setdefault(d.id, d.address) != d.address:
                assert d.source is not None
                message = f"is {d.id[:40]!r}, as at {homes[d.id]} for another prompt"
                self._fault(d.source.line, d.source.file)("id", message, "give every prompt an id of its own, or none")
        if self.problems:
            bad = len({(problem.path, problem.line) for problem in self.problems})
            self.problems.sort(key=lambda problem: (problem.path, problem.line or 0))
            raise DemonstrationsError(self.problems, f"{bad} of {self.rows} rows cannot be scored")
        completions: dict[str, dict[str, Completion]] = {}
        scores: dict[str, dict[str, TokenScores]] = {}
        items = []
        for d, (prompt, at) in zip(asked, self.prompts.items(), strict=True):
            pairs = next(iter(at.references.values()))
            texts, experts = zip(*pairs, strict=True)
            items.append(HeldOut(d.id, prompt, texts, experts, d.group, address=d.address))
            for system, (text, finished, _) in at.completions.items():
                completions.setdefault(system, {})[d.id] = Completion(d.id, text, finished)
            for system, (nats, size, _) in at.nats.items():
                scores.setdefault(system, {})[d.id] = TokenScores(d.id, (nats,), (), (), size)
        if JUDGED not in completions:
            raise SourceError(
                f"{self.file}: no row has system '{JUDGED}', the one that is judged (found: {', '.join(completions)}); "
                f"call it {JUDGED}, or leave 'system' out of its rows"
            )
        return Answers(tuple(asked), tuple(joined(items)), completions, scores, self.rows, self.stops_known)

    def _demonstration(self, prompt: tuple[Message, ...], at: _Gathered) -> Demonstration | None:
        """The prompt with its references, which all systems' rows must agree on."""
        if not at.references:
            self._fault(at.line, at.file)(
                "reference", "is missing in every row of this prompt", "add what an expert wrote"
            )
            return None
        (first, pairs), *others = at.references.items()
        texts = [text for text, _ in pairs]
        for system, found in others:
            if sorted(texts) != sorted(text for text, _ in found):
                self._fault(at.referred[system], at.file)(
                    "reference",
                    f"is not what line {at.referred[first]} gives for the same prompt",
                    "give all systems' rows of a prompt the same references, or only one of them",
                )
        self._demand_sizes(at, texts)
        try:
            return Demonstration(
                prompt, texts[0], at.id, at.group, pairs[0][1], Source(at.file, at.line), tuple(texts[1:])
            )
        except ValueError as error:
            message = str(error).removeprefix("prompt ")
            self._fault(at.line, at.file)(
                "prompt", message, "put the turns in order: system, user, assistant, ..., user"
            )
            return None

    def _demand_sizes(self, at: _Gathered, texts: Sequence[str]) -> None:
        """Nats are of what the expert wrote, and of one text for all systems."""
        sizes = {len(text.encode()) for text in texts}
        first = next(iter(at.nats.values()), None)
        for system, (_, size, line) in at.nats.items():
            if size not in sizes:
                known = ", ".join(map(str, sorted(sizes)))
                message = f"is {size}, and no reference of this prompt has so many ({known})"
                self._fault(line)("bytes", message, f"let {system} score what the expert wrote, not its own completion")
            elif first is not None and size != first[1]:
                message = f"is {size}, and {first[1]} on line {first[2]} for the same prompt"
                self._fault(line)("bytes", message, "let all systems score the same reference")
