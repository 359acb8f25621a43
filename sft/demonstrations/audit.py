"""What ``sft check`` found, as one noun: in figures for a program, in sentences for a person, each with what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from sft.demonstrations import splits, thoughts
from sft.demonstrations.both_sides import OnBothSides
from sft.demonstrations.conflicts import Handling, SeveralAnswers
from sft.demonstrations.demonstration import Demonstration, prompt_text
from sft.demonstrations.formats import Reading
from sft.demonstrations.splits import Leak
from sft.demonstrations.template_marks import TemplateMarks
from sft.demonstrations.weights import Amounts
from sft.errors import Problem, SplitError
from sft.recipes import Recipe
from sft.runs.tabular import Tabular

if TYPE_CHECKING:
    from sft.demonstrations.secrets import Finding

__all__ = ["NO_MODEL", "QUANTILES", "Audit", "Lengths"]

#: Stands for the model in the recipe around a file that is checked by itself.
NO_MODEL = "not-needed"
#: Percent -> what it is called.
QUANTILES = {0: "shortest", 50: "median", 90: "90 %", 99: "99 %", 100: "longest"}
#: A key of a recipe that a sentence names.
_KEY = re.compile(r"\b(?:model|demonstrations|split|adapter|training|fidelity|publish)\.[a-z_]+")


@dataclass(frozen=True, slots=True)
class Lengths:
    """Quantiles (percent -> value) of one kind of text, in ``words`` and ``characters``."""

    words: dict[str, int]
    characters: dict[str, int]


@dataclass(frozen=True, slots=True)
class Audit(Tabular):
    """What was read, and the findings. ``duplicates``: rows that repeat another word for word.

    ``splits``: split name -> count; ``undivided``: why no split could be made, if none could. ``several``: prompts
    with different completions. ``both_sides``: completions that stand in training and are held out too.
    ``few_groups``: why there are few groups, where there are.
    ``headline``: which score the completions ask for, where it is another than the recipe's. ``recipe``: what was
    checked, or the defaults around a file, whose model is :data:`NO_MODEL`. ``train``: what would be trained on, if the
    demonstrations can be divided. ``thinking``: completions with a thought before them. ``general``: the rows to replay
    as read, and ``amounts`` what is taken of them and of each source. ``start``: what is not known of the
    adapter that is gone on from.
    """

    path: str
    reading: Reading = field(repr=False)
    recipe: Recipe | None = field(repr=False)
    train: Sequence[Demonstration] = field(repr=False)
    prompts: int
    groups: int
    experts: dict[str, int]
    prompt_lengths: Lengths | None
    completion_lengths: Lengths | None
    duplicates: int
    several: SeveralAnswers
    handling: Handling
    both_sides: OnBothSides | None
    template_marks: TemplateMarks
    few_groups: str
    splits: dict[str, int]
    undivided: str
    leaks: tuple[Leak, ...]
    leaks_refused: bool
    headline: str = ""
    thinking: int = 0
    general: Reading | None = field(default=None, repr=False)
    amounts: Amounts | None = field(default=None, repr=False)
    start: str = ""

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Every complaint about a row, of the demonstrations or of those to replay."""
        return (*self.reading.problems, *(self.general.problems if self.general is not None else ()))

    def secrets(self) -> tuple[Finding, ...]:
        """Tokens, keys, passwords, numbers of people, e-mail addresses and home folders in any demonstration, held out
        or not, and in general rows: the report and the card show some of the held-out ones too.
        """
        from sft.demonstrations.secrets import in_demonstrations

        general = self.general.demonstrations if self.general is not None else ()
        return tuple(in_demonstrations([*self.reading.demonstrations, *general]))

    def table(self) -> list[dict[str, Any]]:
        """A row a demonstration, with the text of its prompt, and where it was read."""
        return [
            {
                "id": one.id,
                "prompt": prompt_text(one.prompt),
                "completion": one.completion,
                "expert": one.expert,
                "group": one.group,
                "file": one.source.file if one.source is not None else None,
                "line": one.source.line if one.source is not None else None,
            }
            for one in self.reading.demonstrations
        ]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; leaks as the addresses of their pairs."""
        read = self.reading
        return {
            "path": self.path,
            "format": read.format,
            "rows": read.rows,
            "demonstrations": len(read.demonstrations),
            "unrolled": read.unrolled,
            "rejected": len(read.rejected),
            **(
                {"amounts": {fate: count for fate, count in self.amounts.fates.items() if count}}
                if self.amounts
                else {}
            ),
            "problems": tuple(map(str, self.problems)),
            "ignored_columns": read.ignored,
            "notes": read.notes,
            **{name: getattr(self, name) for name in Audit.__slots__[4:-2]},
            "prompt_lengths": self.prompt_lengths and asdict(self.prompt_lengths),
            "completion_lengths": self.completion_lengths and asdict(self.completion_lengths),
            "several": asdict(self.several),
            "conflicts": self.several.conflicts,
            "handling": asdict(self.handling),
            "both_sides": self.both_sides and self.both_sides.to_dict(),
            "template_marks": self.template_marks.to_dict(),
            "leaks": [
                {
                    "source": leak.source.address,
                    "source_split": leak.source_split,
                    "held_out": leak.held_out.address,
                    "split": leak.split,
                    "kind": leak.kind,
                    "similarity": leak.similarity,
                }
                for leak in self.leaks
            ],
        }

    def to_text(self) -> str:
        """For a person: aligned lines, then each finding with what to do."""
        read = self.reading
        rejected = f", of them {len(read.rejected):,} rejected" if read.rejected else ""
        more = "more than rows because every expert turn of a dialogue is one"
        unrolled = f", {read.unrolled:,} {more}" if read.unrolled else ""
        rows: list[tuple[str, str]] = [
            ("rows", f"{read.rows:,}{rejected}"),
            ("demonstrations", f"{len(read.demonstrations):,}{unrolled}"),
            ("prompts", f"{self.prompts:,} different, in {self.groups:,} group{'s' if self.groups != 1 else ''}"),
        ]
        if set(self.experts) - {""}:
            named = [f"{name or '(none named)'} {count:,}" for name, count in list(self.experts.items())[:6]]
            more = f", and {len(self.experts) - 6:,} more" if len(self.experts) > 6 else ""
            rows.append(("experts", ", ".join(named) + more))
        for name, lengths in (("prompt", self.prompt_lengths), ("completion", self.completion_lengths)):
            if lengths is not None:
                rows += [(f"{name} words", _quantiles(lengths.words)), ("  characters", _quantiles(lengths.characters))]
        if self.thinking:
            mode = self.recipe.demonstrations.thoughts if self.recipe else None
            becomes = f"; {mode}: {thoughts.MODES[mode]}" if mode else ""
            rows.append(("thoughts", f"before {self.thinking:,} completions{becomes}"))
        if self.splits:
            rows.append(("split", ", ".join(f"{name} {count:,}" for name, count in self.splits.items())))
            rows += self._amounts()
        width = max(len(name) for name, _ in rows)
        lines = [
            f"{self.path} ({read.format.replace('_', '/')})",
            *(f"  {name:<{width}}  {text}" for name, text in rows),
        ]
        return "\n".join([*lines, *(f"\n{text}" for text in self._findings())])

    def _amounts(self) -> list[tuple[str, str]]:
        """What weights make of the training rows, and what is replayed beside them."""
        fates = self.amounts.fates if self.amounts is not None else {}
        rows = []
        if fates.get("thinned") or fates.get("repeated"):
            passes = f"{self.splits['train'] + fates['repeated']:,} rows an epoch: {fates['repeated']:,} passes more"
            rows.append(("weights", f"{passes}, and {fates['thinned']:,} rows fewer than were read"))
        if fates.get("replayed") and self.general is not None:
            kept = f", {fates['leaked']:,} too close to what is held out" if fates["leaked"] else ""
            rows.append(("replay", f"{fates['replayed']:,} general rows of {self.general.rows:,}{kept}"))
        return rows

    def _findings(self) -> list[str]:
        found = list(self.reading.notes)
        if self.general is not None:
            found += self.general.notes
        if self.reading.ignored:
            how = "with --column FIELD=NAME" if self._has_no_recipe() else "under demonstrations.columns"
            found.append(
                f"Columns that no demonstration uses: {', '.join(self.reading.ignored)}. If one of them matters, "
                f"name it {how} (expert: who wrote the completion; group: what must stay in one split; "
                "system: what is said before a prompt)."
            )
        if self.duplicates:
            rows = "row repeats" if self.duplicates == 1 else "rows repeat"
            found.append(
                f"{self.duplicates:,} {rows} another word for word; a run leaves repetitions out unless "
                "demonstrations.duplicates is keep."
            )
        found += self.several.in_words(self.handling, self.experts)
        if self.headline:
            found.append(self.headline)
        found += self.template_marks.in_words()
        if self.reading.demonstrations and (self.undivided or self.few_groups):
            groups = f"{self.groups:,} group{'s are' if self.groups != 1 else ' is'} few, and intervals are as wide as"
            found.append(self.undivided or f"{groups} if there were no more prompts: {self.few_groups}.")
        if self.leaks:
            shown = "".join(f"\n  {leak}" for leak in self.leaks[:5])
            more = f"\n  ... and {len(self.leaks) - 5:,} more" if len(self.leaks) > 5 else ""
            fate = "A run refuses them" if self.leaks_refused else "A run leaves them out of training"
            rows = "demonstration" if len(self.leaks) == 1 else "demonstrations"
            found.append(
                f"{len(self.leaks):,} {rows} would give held-out prompts away. {fate} "
                f"(split.near_duplicates).{shown}{more}"
            )
        if self.both_sides is not None and self.both_sides.count:
            found.append(str(self.both_sides))
        if self.start:
            found.append(self.start)
        found += self._keys_without_a_recipe(found)
        if self.reading.demonstrations and not self._is_faulty():
            found.append("Nothing to mend." if not self.reading.rejected else "Nothing else to mend.")
        return found

    def _keys_without_a_recipe(self, sentences: Sequence[str]) -> list[str]:
        """Where the keys go that ``sentences`` advise, for a file that no recipe names yet: a sentence, or nothing."""
        named = list(dict.fromkeys(_KEY.findall("\n".join(sentences)))) if self._has_no_recipe() else []
        if not named:
            return []
        keys = f"{named[0]} is a key" if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]} are keys"
        return [
            f"{keys} of a recipe: `sft recipes copy smollm2-lora recipe.yaml` makes one, in which this file is "
            "demonstrations.path."
        ]

    def _has_no_recipe(self) -> bool:
        return self.recipe is None or self.recipe.model.name == NO_MODEL

    def _is_faulty(self) -> bool:
        """Whether anything was found that somebody should look at."""
        mixed = self.handling.expert is None and self.several.conflicts
        shared = self.both_sides is not None and self.both_sides.count
        marks = self.template_marks.in_words()
        return bool(
            self.duplicates or mixed or self.leaks or self.undivided or self.few_groups or shared or marks or self.start
        )

    def demand(self, *, keep_going: bool = False) -> None:
        """Raise what would stop a run: rejected rows (unless ``keep_going``), no possible split, refused leaks."""
        if not keep_going:
            self.reading.demand()
            if self.general is not None:
                self.general.demand()
        if self.undivided:
            raise SplitError("; ".join([self.undivided, *self._keys_without_a_recipe([self.undivided])]).rstrip("."))
        if self.leaks and self.leaks_refused:
            raise splits.leak_error(self.leaks, shown=0)


def _quantiles(values: Mapping[str, int]) -> str:
    return ", ".join(f"{QUANTILES[int(q)]} {value:,}" for q, value in values.items())
