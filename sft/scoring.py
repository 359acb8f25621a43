"""``sft score``: the whole scorecard from completions that any system wrote, without a model and without torch.

A file has one row per prompt and system:

    prompt       text, or messages [{role, content}, ...]
    completion   what the system wrote; may be empty, which is counted
    reference    what an expert wrote; or ``references``, a list of texts
    system       who wrote the completion: tuned (the one that is judged, and the default), B0, B3, any other name
    id, group, expert (or ``experts``, one a reference), finished (false: cut at a length limit)

Rows of one prompt are put together: references need to be given once, and must agree where they are given again.
The copied prompt is worked out here, the nearest and the constant training completion where the training file is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sft import floors, formats, observing, records, sources, splits
from sft.cells import Cells, kind_of
from sft.comparing.comparisons import aligned
from sft.demonstrations import Demonstration, HeldOut, Message, Source, fingerprint, text_fault
from sft.errors import DemonstrationsError, Problem, RunError, SourceError, SplitError
from sft.evidence import bar_points
from sft.hashes import Digest
from sft.metrics import modules
from sft.observations import Completion
from sft.phrases import metric_name, system_name
from sft.probes import checkers
from sft.rows import Broken, rows_of
from sft.runs import Run, differences, write_jsonl
from sft.scorecards import Scorecard
from sft.typography import figure

__all__ = ["Answers", "read", "score", "to_text"]

#: The system that is judged.
JUDGED = "tuned"
#: Names of what is worked out here: from references and prompts; from the training file.
ALWAYS_OURS, OURS_WITH_TRAINING = ("E", "P", "expert"), ("R", "K")
#: Word-shingle similarity from which a training prompt nearly repeats a held-out one.
NEAR = 0.8

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")

Pairs = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Answers:
    """What a file says. ``asked``: one demonstration a prompt, with file and line; ``completions``: system -> id ->
    completion. ``stops_known``: whether every row says if its completion is finished.
    """

    asked: tuple[Demonstration, ...]
    items: tuple[HeldOut, ...]
    completions: Mapping[str, Mapping[str, Completion]]
    rows: int
    stops_known: bool


@dataclass(slots=True)
class _Gathered:
    """The rows of one prompt as they come in; lines for complaints. ``references``: system -> (text, expert)."""

    line: int
    id: str = ""
    group: str = ""
    references: dict[str, Pairs] = field(default_factory=dict)
    referred: dict[str, int] = field(default_factory=dict)
    completions: dict[str, tuple[str, bool, int]] = field(default_factory=dict)


def score(
    path: Path,
    *,
    train: Path | None = None,
    checker: str = "",
    bar: Mapping[str, float] | None = None,
    further: Sequence[str] = (),
    output: Path | None = None,
    fast: bool = False,
) -> tuple[Scorecard, Run | None]:
    """The scorecard of what ``path`` holds, and the run folder at ``output`` where one is asked for.

    ``train``: the demonstrations that the judged system learned from, for the shortcuts R and K, memorisation and
    contamination. ``checker``, ``bar``: as in a recipe; ``further``: its ``metrics``.
    ``fast`` leaves out corpus figures (BLEU, chrF++), half of the time that thousands of prompts take.
    Raises ``DemonstrationsError`` with every bad row,
    ``SourceError`` for a file that is unusable as a whole, ``SplitError`` for a held-out prompt in ``train``,
    ``UserError`` for a bar or checker that cannot be used, ``RunError`` for an ``output`` that holds something else.
    Where ``output`` holds what became of the same input, whole or cut short, it is made again.
    """
    bar_points(bar or {})  # said before anything is written
    if checker:
        checkers.load(checker)
    modules.demand(further)
    ours = ALWAYS_OURS + (OURS_WITH_TRAINING if train else ())
    answers = read(path, ours=ours)
    learned = _training(train, answers) if train else ()
    completions = dict(answers.completions) | {"P": floors.copied_prompt(answers.items)}
    if learned:
        completions |= {"R": floors.nearest(learned, answers.items), "K": floors.constant(learned, answers.items)}
    facts = {
        "split": "test",
        "profile": "fast" if fast else "full",
        "systems": list(completions),
        "bar": dict(bar or {}),  # as it was given: a share read twice would be another bar
        "metrics": list(further),
        "checker": checker,
        "conflicts": "keep",
        "near_threshold": NEAR,
        "seed": 0,
        "signature": {
            "source": "completions read from a file",
            "decoding": "not recorded",
            "stops": "as the file says" if answers.stops_known else "not recorded; taken as finished",
        },
    }
    parts = {"train": learned, "test": answers.asked}
    manifest = {
        "data": {
            "hash": splits.data_digest(parts),
            "rows": answers.rows,
            "paths": [str(path), *([str(train)] if train else [])],
        },
        "scored": {
            "completions": Digest.by("v1", _content_of(answers)),
            "training file": train is not None,
            "--checker": checker,
            "--bar": dict(bar or {}),
            "--metric": list(further),
            "--fast": fast,
        },
    }
    with _folder(output) as folder, _begun(folder, manifest) as run:
        with run.session():
            records.unseal(run, ("demonstrations.", *observing.GROWING, *observing.DERIVED))
            write_jsonl(
                run.demonstrations_path, (d.to_dict() | {"split": name} for name, part in parts.items() for d in part)
            )
            for system, written in completions.items():
                write_jsonl(run.completions_path(system), map(asdict, written.values()))
            observing.write_measurement(run, answers.items, facts)
            if not run.looks:  # the same figures again choose nothing
                run.look("test", "sft score")
            card = observing.remeasure(run)
        if output is not None:
            from sft import reports

            reports.render(run)
    return card, None if output is None else Run.open(output)


@contextmanager
def _folder(output: Path | None) -> Iterator[Path]:
    """Where the run goes: ``output``, or a folder that is gone afterwards, so that both ways say the same."""
    if output is not None:
        yield output
        return
    with TemporaryDirectory(prefix="sft-score-") as folder:
        yield Path(folder)


def _content_of(answers: Answers) -> str:
    """A hash of what the file says, whatever it is called and in whichever format."""
    written = {system: [asdict(one) for one in by_id.values()] for system, by_id in answers.completions.items()}
    return fingerprint([[asdict(item) for item in answers.items], written])


@contextmanager
def _begun(folder: Path, facts: Mapping[str, dict[str, Any]]) -> Iterator[Run]:
    """A new run in ``folder`` or, where the same input was scored there before, that run, to be made again."""
    if not (folder / "manifest.json").exists():
        with Run.create(folder, **facts) as run, _whole_or_not(run):
            yield run
        return
    with Run.open(folder, writing=True) as run:
        known = run.manifest.get("scored")
        if not isinstance(known, dict):
            raise RunError(f"{folder}: holds a run that was not made of these completions; name another folder")
        same = facts["data"]["hash"].is_of(run.manifest.get("data", {}).get("hash"))
        other = [*([] if same else ["references or training file"]), *differences(known, facts["scored"])]
        if other:
            raise RunError(
                f"{folder}: holds the scorecard of another input ({', '.join(other)}); name another folder, or remove "
                "this one"
            )
        yield run


@contextmanager
def _whole_or_not(run: Run) -> Iterator[None]:
    """A run folder that an error leaves half-written goes again: nobody would know what it holds."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            for path in run.path.iterdir():  # all ours: a new run begins in an empty folder
                path.unlink()
            run.path.rmdir()
        raise


def _training(train: Path, answers: Answers) -> tuple[Demonstration, ...]:
    """The training demonstrations. Raises ``SplitError`` where a held-out prompt, or a group, is among them."""
    name = str(train)
    learned = formats.read(sources.resolve_demonstrations(name), name=name).demand()
    held: dict[tuple[str, str], Demonstration] = {}
    for d in answers.asked:
        held[("same group", d.group)] = held[("same prompt", d.key)] = d
    leaks = []
    for d in learned:
        kind = next((kind for kind in (("same prompt", d.key), ("same group", d.group)) if kind in held), None)
        if kind is not None:
            leaks.append(f"  {d.address} and {held[kind].address}: {kind[0]}")
    if leaks:
        shown = [*leaks[:10], *([f"  ... and {len(leaks) - 10} more"] if len(leaks) > 10 else [])]
        what = f"{len(leaks)} demonstration{'s' * (len(leaks) != 1)} of {name} give held-out prompts away"
        remedy = (
            "a clone is judged on what it did not learn from; leave these prompts out of the file that is scored, "
            "or name the training file that was used"
        )
        raise SplitError("\n".join([f"{what}:", *shown, remedy]))
    return learned


# -- reading ---------------------------------------------------------------------------------------------------


def read(path: Path, *, ours: Sequence[str] = ALWAYS_OURS) -> Answers:
    """Every row of ``path`` put together by prompt; ``ours``: systems that a file may not have.

    Raises ``DemonstrationsError`` with every problem, ``SourceError`` for a file that is unusable as a whole.
    """
    reader = _Reader(path, ours)
    for line, row in rows_of(path):
        reader.take(line, row)
    return reader.answers()


class _Reader:
    """Takes one row after another of one file, and complains about all that is wrong before giving anything."""

    def __init__(self, path: Path, ours: Sequence[str]) -> None:
        self.file = str(path)
        self.ours = ours
        self.cells_are_text = path.suffix.lower() in (".csv", ".tsv")
        self.problems: list[Problem] = []
        self.prompts: dict[tuple[Message, ...], _Gathered] = {}
        self.columns: dict[str, None] = {}
        self.rows = 0
        self.stops_known = True

    def _fault(self, line: int) -> Callable[[str, str, str], None]:
        return lambda field, message, remedy: self.problems.append(Problem(self.file, line, field, message, remedy))

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
        references = self._references(cells)
        name, group = cells.optional("id", scalar=True), cells.optional("group", scalar=True)
        if len(self.problems) > known:
            return
        at = self.prompts.setdefault(prompt, _Gathered(line))
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
                self._fault(d.source.line)("id", message, "give every prompt an id of its own, or none")
        if self.problems:
            bad = len({problem.line for problem in self.problems})
            self.problems.sort(key=lambda problem: problem.line or 0)
            raise DemonstrationsError(self.problems, f"{bad} of {self.rows} rows cannot be scored")
        completions: dict[str, dict[str, Completion]] = {}
        items = []
        for d, (prompt, at) in zip(asked, self.prompts.items(), strict=True):
            pairs = next(iter(at.references.values()))
            texts, experts = zip(*pairs, strict=True)
            items.append(HeldOut(d.id, prompt, texts, experts, d.group))
            for system, (text, finished, _) in at.completions.items():
                completions.setdefault(system, {})[d.id] = Completion(d.id, text, finished)
        if JUDGED not in completions:
            raise SourceError(
                f"{self.file}: no row has system '{JUDGED}', the one that is judged (found: {', '.join(completions)}); "
                f"call it {JUDGED}, or leave 'system' out of its rows"
            )
        return Answers(tuple(asked), tuple(items), completions, self.rows, self.stops_known)

    def _demonstration(self, prompt: tuple[Message, ...], at: _Gathered) -> Demonstration | None:
        """The prompt with its references, which all systems' rows must agree on."""
        if not at.references:
            self._fault(at.line)("reference", "is missing in every row of this prompt", "add what an expert wrote")
            return None
        (first, pairs), *others = at.references.items()
        texts = [text for text, _ in pairs]
        for system, found in others:
            if sorted(texts) != sorted(text for text, _ in found):
                self._fault(at.referred[system])(
                    "reference",
                    f"is not what line {at.referred[first]} gives for the same prompt",
                    "give all systems' rows of a prompt the same references, or only one of them",
                )
        try:
            return Demonstration(
                prompt, texts[0], at.id, at.group, pairs[0][1], Source(self.file, at.line), tuple(texts[1:])
            )
        except ValueError as error:
            message = str(error).removeprefix("prompt ")
            self._fault(at.line)("prompt", message, "put the turns in order: system, user, assistant, ..., user")
            return None


# -- writing ---------------------------------------------------------------------------------------------------


def to_text(card: Scorecard) -> str:
    """A compact scorecard for a terminal: every system's row, red guardrails, what was not measured."""
    gains = {gain.floor: figure(gain.estimate, signed=True) for gain in card.gains}
    names = [card.headline, "rouge_l", "exact_match"]
    rows = [["system", *map(metric_name, names), "clone's lead", "length", "stops", ""]]
    for system in card.systems:
        found = system.scores
        cells = [figure(found[name]) if name in found else "" for name in names]
        length = figure(found["length_ratio"], "ratio") if "length_ratio" in found else ""
        stops = figure(found["stop_rate"], "share") if "stop_rate" in found else ""
        name = system_name(system.system)
        lead = gains.get(system.system, "")
        rows.append([system.system, *cells, lead, length, stops, name if name != system.system else ""])
    groups = "" if card.clusters == card.n else f" in {card.clusters} groups"
    lines = [f"{card.n} held-out prompts{groups}; in brackets: 95 % intervals", "", *aligned(rows)]
    if str(card.signature.get("stops", "")).startswith("not recorded"):
        lines.append("stops: the file does not say which completions are finished; all are taken to be")
    red = [f"red: {rail.name} {figure(rail.value, 'share')}; {rail.meaning}" for rail in card.guardrails if rail.red]
    return "\n".join([*lines, *([""] if red else []), *red])
