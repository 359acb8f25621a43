"""``sft import``: an export becomes a folder of demonstrations, a card and an account of every record.

Deterministic and without a model: the same export and the same words give the same bytes. The folder is there whole or
not at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from shutil import rmtree
from typing import Any

from sft.demonstrations.demonstration import Demonstration, Message, Source, folded
from sft.demonstrations.formats import Rejected, write_rejected
from sft.demonstrations.ledger import IMPORT_FATES, Ledger
from sft.demonstrations.personal import Finder, finder
from sft.errors import Problem, RunError, UserError
from sft.gathering.card import card, counted
from sft.gathering.dialogues import Candidate, candidates
from sft.gathering.imports.sources import importer_of
from sft.gathering.records import Importer, ImportOptions, Record, Said, Unread, Written
from sft.gathering.source_files import SourceFiles
from sft.metrics.text import words
from sft.runs.atomic_files import appear, making, write_json, write_jsonl, write_text
from sft.runs.hashes import fingerprint

__all__ = ["Imported", "import_writing"]

#: What an import consists of; a folder that holds anything else is nobody's to overwrite.
_FILES = {"demonstrations.jsonl", "README.md", "ledger.json", "rejected.jsonl"}


@dataclass(frozen=True, slots=True)
class Imported:
    """What was written. ``personal``: what stands for personal data in the rows -> how often.

    ``repeated``: rows whose prompt an earlier one has. ``torn``: places of records that have lost letters, which were
    cut in the middle.
    """

    path: Path
    kind: str
    expert: str
    groups: int
    ledger: Ledger
    personal: dict[str, int]
    repeated: int
    torn: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self) | {"path": str(self.path), "demonstrations": self.ledger.fates.get("written", 0)}

    def to_text(self) -> str:
        """What was made of how much, what became of the rest, and what to do next."""
        of = f" of {self.expert}" if self.expert else ""
        rows = counted(self.ledger.fates.get("written", 0), "demonstration")
        lines = [
            f"{self.path}: {rows}{of} in {counted(self.groups, 'group')}, from {counted(self.ledger.rows, 'record')} "
            f"({self.kind})",
            *(f"  {count:>9,}  {IMPORT_FATES[fate]}" for fate, count in self.ledger.fates.items()),
        ]
        if self.personal:
            lines.append("Personal data: " + ", ".join(f"{count:,} {mask}" for mask, count in self.personal.items()))
        if self.repeated:
            lines.append(f"Prompts repeat: {self.repeated:,}; a recipe needs split.near_duplicates: remove")
        if self.torn:
            shown = ", ".join(self.torn[:3]) + (", ..." if len(self.torn) > 3 else "")
            lines.append(
                f"Letters were cut in the middle, and left out, in {counted(len(self.torn), 'record')}: {shown}"
            )
        file = self.path / "demonstrations.jsonl"
        return "\n".join([*lines, f"What it is made of: {self.path / 'README.md'}. Next: sft check {file} --secrets"])


def import_writing(source: Path, output: Path, options: ImportOptions, *, overwrite: bool = False) -> Imported:
    """Read the export at ``source`` and write the folder ``output``; ``overwrite``: in the place of an earlier import.

    Raises ``UserError`` of one sentence: where the source cannot be read or is not recognised, it is not said who the
    expert is, nothing is left to write, or something stands at ``output`` already.
    """
    _refuse_taken(output, overwrite)
    look = finder(options.region, options.names) if options.personal != "keep" else lambda text: []
    look = lru_cache(4096)(look)  # a turn stands in the prompts of several that follow
    with closing(SourceFiles(source)) as files:
        importer = importer_of(files, options.kind)
        records = list(importer.records(files, options))
        read, sha256 = len(files.read), files.sha256()
    own, expert, names = _whose(source, records, importer, options)
    made = _Made(options, look, expert, importer.name)
    made.take(records, own)
    ledger = made.ledger(len(records))
    if not made.rows:
        raise UserError(_nothing(source, ledger, made.rejected))
    personal = dict(sorted(made.personal.items()))
    repeated = len(made.rows) - len(made.prompts)
    text = card(
        importer, options, ledger, title=output.name, expert=expert, groups=len(made.groups), files=read,
        sha256=sha256, personal=personal, names=names, repeated=repeated, torn=len(made.torn),
    )  # fmt: skip
    with making(output) as scratch:
        whole = scratch / "whole"
        whole.mkdir()
        write_jsonl(whole / "demonstrations.jsonl", made.rows)
        write_text(whole / "README.md", text)
        write_json(whole / "ledger.json", ledger.to_dict())
        if made.rejected:
            write_rejected(whole / "rejected.jsonl", made.rejected)
        _put(whole, output)
    return Imported(output, importer.name, expert, len(made.groups), ledger, personal, repeated, tuple(made.torn))


def _nothing(source: Path, ledger: Ledger, rejected: Sequence[Rejected]) -> str:
    """Why no demonstration came of an export: what became of its records, and the first complaint."""
    fates = ((count, IMPORT_FATES[fate].partition(" (")[0]) for fate, count in ledger.fates.items())
    became = ", ".join(f"{count:,} {meaning}" for count, meaning in fates) or "it is empty"
    first = f"; the first complaint: {rejected[0].problems[0]}" if rejected else ""
    return f"{source}: holds nothing that becomes a demonstration ({became}); nothing was written{first}"


def _refuse_taken(output: Path, overwrite: bool) -> None:
    if not output.exists() and not output.is_symlink():
        return
    there = {path.name for path in output.iterdir()} if output.is_dir() else {""}
    if not there and not output.is_symlink():
        return
    if not overwrite:
        raise RunError(f"{output}: is there already; name another folder with --output, or write over it: --overwrite")
    if output.is_symlink() or not there <= _FILES or "ledger.json" not in there:
        other = sorted(there - _FILES)[:1]
        what = f" ('{other[0]}' is not sft import's)" if other and other[0] else ""
        raise RunError(f"{output}: is no folder that sft import wrote{what}; name another folder with --output")


def _put(whole: Path, output: Path) -> None:
    """Let ``whole`` appear as ``output``; what was there is kept beside it until then, and is gone afterwards."""
    before = output.with_name(f"{output.name}.before")
    if output.is_dir() and not any(output.iterdir()):
        output.rmdir()
    elif output.exists():
        rmtree(before, ignore_errors=True)
        output.rename(before)
    try:
        appear(whole, output)
    except OSError:
        with suppress(OSError):
            before.rename(output)
        raise
    rmtree(before, ignore_errors=True)


# -- who the expert is -----------------------------------------------------------------------------------------------

Authored = Said | Written


def _whose(
    source: Path, records: Sequence[Record], importer: Importer, options: ImportOptions
) -> tuple[Callable[[Authored], bool], str, tuple[str, ...]]:
    """Whether a record is the expert's; what the expert is called; and the names that were meant."""
    authored = [one for one in records if not isinstance(one, Unread) and one.people and one.people[0]]
    counts = Counter(one.people[0] for one in authored if not one.fate)
    if options.me and (authored or importer.needs_me):
        known = {folded(name) for one in authored for name in one.people}
        if unknown := [name for name in options.me if folded(name) not in known]:
            lost = [one for one in records if isinstance(one, Unread)]
            unread = f"; {counted(len(lost), 'record')} cannot be read (it {lost[0].message})" if lost else ""
            raise UserError(f"--me {unknown[0]}: wrote nothing in {source}; {_found(counts)}{unread}")
        wanted = {folded(name) for name in options.me}
        shown = next(one.people[0] for one in authored if _is_of(one, wanted))
        return (lambda one: _is_of(one, wanted)), options.expert or _called(shown), options.me
    if options.me:
        return (lambda one: True), options.expert or _called(options.me[0]), ()
    if any(one.mine for one in authored):
        mine = next(one.people[0] for one in authored if one.mine)
        return (lambda one: one.mine), options.expert or _called(mine), (mine,)
    if len(counts) == 1:
        (only,) = counts
        return (lambda one: True), options.expert or _called(only), (only,)
    if counts:
        raise UserError(
            f"{source}: who is the expert? {_found(counts)}; say which with --me (several times for several names)"
        )
    return (lambda one: True), options.expert, ()


def _is_of(one: Authored, wanted: set[str]) -> bool:
    return not one.people or not one.people[0] or any(folded(name) in wanted for name in one.people)


def _found(counts: Mapping[str, int]) -> str:
    if not counts:
        return "no names were found in it"
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{name!r} ({count:,})" for name, count in most[:12])
    return f"found were {shown}" + (f" and {len(most) - 12:,} more" if len(most) > 12 else "")


def _called(name: str) -> str:
    """What a card calls the expert: no address and no telephone number."""
    name = name.partition("@")[0]
    return name if any(map(str.isalpha, name)) else "the expert"


# -- what becomes of each record --------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Made:
    """Rows as they are made, and the fate of every record and every further row of one."""

    options: ImportOptions
    look: Finder
    expert: str
    kind: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    groups: set[str] = field(default_factory=set)
    personal: Counter[str] = field(default_factory=Counter)
    fates: Counter[str] = field(default_factory=Counter)
    seen: set[str] = field(default_factory=set)
    prompts: set[str] = field(default_factory=set)
    torn: list[str] = field(default_factory=list)

    def ledger(self, records: int) -> Ledger:
        """The account; raises ``ValueError`` where a record has no fate or two."""
        fates = {fate: self.fates[fate] for fate in IMPORT_FATES if self.fates[fate]}
        return Ledger(records, sum(self.fates.values()) - records, fates)

    def take(self, records: Sequence[Record], own: Callable[[Authored], bool]) -> None:
        """Give every record its fate, and every candidate its row."""
        said: list[Said] = []
        files: dict[tuple[object, ...], str] = {}
        for one in records:
            if isinstance(one, Unread):
                self._reject(one.place, one.message, one.remedy, one.raw, "invalid")
            elif self.options.since and (one.at is None or one.at < self.options.since):
                self.fates["old"] += 1
            elif one.fate:
                self.fates[one.fate] += 1
            elif isinstance(one, Written):
                self._written(one, own)
            else:  # a message that two exports of a chat have; what one export has twice was said twice
                key = (one.chat, one.thread, one.people[0], one.at, one.text)
                if files.setdefault(key, one.place.file) != one.place.file:
                    self.fates["duplicate"] += 1
                    continue
                said.append(one)
                if not own(one):
                    self.fates["others"] += 1
        for each in candidates(said, own, self.options):
            self.fates["joined"] += each.records - 1
            self.fates[self._fate(each)] += 1

    def _written(self, one: Written, own: Callable[[Authored], bool]) -> None:
        if not own(one):
            self.fates["others"] += 1
            return
        for pair in one.pairs:
            turns = (("user", pair.prompt),) if pair.prompt.strip() else ()
            each = Candidate(one.place, turns, pair.completion, one.group, others=pair.others)
            fate = self._fate(each)
            self.fates[fate] += 1
            if one.torn and fate == "written":
                self.torn.append(f"{one.place.file}:{one.place.line}")
        if not one.pairs:
            self.fates["unprompted"] += 1

    def _fate(self, each: Candidate) -> str:
        if not each.turns:
            return "unprompted"
        if self.options.mask_others and each.others:
            return "masked"
        if len(words(each.completion)) < self.options.min_words:
            return "short"
        turns, (completion,), found = self._looked_through(each)
        if found and self.options.personal == "refuse":
            what = ", ".join(f"{count} {mask}" for mask, count in sorted(found.items()))
            row = {"prompt": list(each.turns), "completion": each.completion}
            self._reject(each.place, f"holds personal data ({what})", "mask it: --personal mask", row, "")
            return "personal"
        group = fingerprint([self.kind, each.group.encode("utf-8", "backslashreplace").decode("utf-8")])[:16]
        try:
            made = Demonstration(
                tuple(Message(role, text) for (role, _), text in zip(each.turns, turns, strict=True)),
                completion,
                group=group,
                expert=self.expert,
            )
        except ValueError as error:
            row = {"prompt": list(each.turns), "completion": each.completion}
            self._reject(each.place, str(error), "mend the source or leave it out", row, "")
            return "invalid"
        if made.id in self.seen:
            return "duplicate"
        self.seen.add(made.id)
        self.groups.add(group)
        self.prompts.add(made.key)
        self.personal.update(found)
        self.rows.append(_row(made))
        return "written"

    def _looked_through(self, each: Candidate) -> tuple[list[str], list[str], Counter[str]]:
        """Texts of the prompt and the completion with personal data masked, and what was found."""
        found: Counter[str] = Counter()
        texts = []
        for text in (*(text for _, text in each.turns), each.completion):
            for start, end, mask in reversed(self.look(text) if _is_sound(text) else []):
                text = text[:start] + mask + text[end:]
                found[mask] += 1
            texts.append(text)
        return texts[:-1], texts[-1:], found

    def _reject(self, place: Source, message: str, remedy: str, raw: object, fate: str) -> None:
        self.rejected.append(Rejected(place.line, raw, (Problem(place.file, place.line, "", message, remedy),)))
        if fate:
            self.fates[fate] += 1


def _is_sound(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def _row(made: Demonstration) -> dict[str, Any]:
    """As ``formats`` reads it: a prompt of one turn is text, a dialogue its messages."""
    row = made.to_dict()
    prompt = row["prompt"][0]["content"] if len(row["prompt"]) == 1 else row["prompt"]
    return {"prompt": prompt, "completion": made.completion, "group": made.group} | (
        {"expert": made.expert} if made.expert else {}
    )
