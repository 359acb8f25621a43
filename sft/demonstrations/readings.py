"""What the files of a recipe gave: a reading for each source, each file that is held out, and the general rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sft.demonstrations import formats, thoughts
from sft.demonstrations.message_fields import MessageRules
from sft.demonstrations.table import Scratch
from sft.errors import SourceError
from sft.recipes import Recipe
from sft.recipes.data_fields import SourceEntry

__all__ = ["Readings", "read"]

#: So many demonstrations are kept as objects; of more only as much as is looked at.
IN_MEMORY = 20_000


@dataclass(frozen=True, slots=True)
class Readings:
    """What a recipe's files gave: one reading for each of its sources, split -> that of its ready-made file, and that
    of the general rows.
    """

    training: list[formats.Reading]
    held_out: dict[str, formats.Reading]
    general: formats.Reading | None = None

    @property
    def demonstrations(self) -> formats.Reading:
        """All but the general rows, as one."""
        return formats.joined([*self.training, *self.held_out.values()])

    @property
    def whole(self) -> formats.Reading:
        """All of it as one."""
        general = [self.general] if self.general is not None else []
        return formats.joined([*self.training, *self.held_out.values(), *general])

    def settled(self, recipe: Recipe) -> tuple[Recipe, Readings]:
        """The recipe and what was read with thoughts decided, by the demonstrations alone. Raises ``Undecided``."""
        recipe, (training, held_out) = thoughts.settled(recipe, self.training, list(self.held_out.values()))
        general = self.general
        if general is not None and recipe.demonstrations.thoughts != "keep":
            general = thoughts.without(general)
        return recipe, Readings(training, dict(zip(self.held_out, held_out, strict=True)), general)


def read(
    recipe: Recipe, called: Mapping[str, str] | None = None, *, commits: Mapping[str, str] | None = None
) -> Readings:
    """The readings of the recipe's sources, of its ready-made files, and of its general rows. Raises ``SourceError``.

    ``called``: what addresses call a path that has no name of its own. ``commits``: reference -> the commit to take.
    """
    section = recipe.demonstrations
    sources, ready_made = section.sources, recipe.split.files

    def one(source: SourceEntry, **options: Any) -> formats.Reading:
        columns = source.columns.model_dump() if source.columns is not None else {}
        return formats.read_source(
            source.path,
            name=(called or {}).get(source.path),
            commit=(commits or {}).get(source.path, ""),
            format=source.format or "auto",
            columns={key: name for key, name in columns.items() if name is not None},
            encoding=section.encoding or "",
            **options,
        )

    rules = MessageRules(section.roles, section.neighbours, section.system or "")
    # What a checkpoint is chosen on is learned from too.
    scratch = Scratch()
    alone = len(sources) == 1
    training = [
        one(source, rules=rules, place=_place_of_columns(source, alone=alone), into=scratch) for source in sources
    ]
    held_out = {
        name: one(
            section.source(file),
            held_out=name == "test",
            rules=rules,
            place=f"split.{name}: {{path: {file.path}, columns: %s}}",
            into=scratch,
        )
        for name, file in ready_made.items()
    }
    if lacking := formats.joined([*training, *held_out.values()]).lacking:
        raise SourceError(lacking)
    general = None
    if (replay := section.replay) is not None:
        source = SourceEntry(path=replay.path, format=replay.format, columns=replay.columns)
        place = "demonstrations.replay.columns: %s"
        general = one(source, rules=replace(rules, system=""), place=place, general=True)
    if len(scratch) > IN_MEMORY:
        return Readings(training, held_out, general)
    in_memory = {name: _as_objects(reading) for name, reading in held_out.items()}
    return Readings([_as_objects(reading) for reading in training], in_memory, general)


def _as_objects(reading: formats.Reading) -> formats.Reading:
    return replace(reading, demonstrations=tuple(reading.demonstrations))


def _place_of_columns(source: SourceEntry, *, alone: bool) -> str:
    """Where a recipe names the columns of ``source``, so that no other's change."""
    return formats.COLUMNS if alone else f"demonstrations.path: [{{path: {source.path}, columns: %s}}, ...]"
