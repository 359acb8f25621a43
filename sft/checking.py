"""``sft check``: the contract, the ledger, duplicates, conflicts and leaks of a file or a recipe, without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft import audit, formats, recipes, sources, splits
from sft.errors import SourceError, SplitError
from sft.formats import Reading
from sft.recipes import Recipe

__all__ = ["Finding", "check"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was read and what was found in it."""

    reading: Reading
    audit: audit.Audit

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return self.audit.to_dict()

    def to_text(self) -> str:
        """For a person."""
        return self.audit.to_text()

    def demand(self, *, keep_going: bool = False) -> None:
        """Raise the ``UserError`` that would stop a run, if there is one."""
        audit.demand(self.reading, self.audit, keep_going=keep_going)


def check(
    target: str,
    *,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    overrides: Sequence[str] = (),
    rejected: Path | None = None,
) -> Finding:
    """Check ``target``: a file of demonstrations, ``data:NAME``, or a recipe (a .yaml file or a shipped name).

    A file is divided as a recipe's defaults would. ``rejected``: where rows that cannot become
    demonstrations are written, with the reasons. Raises ``SourceError`` or ``RecipeError``.
    """
    recipe = _recipe(target, format, columns or {}, overrides)
    section = recipe.demonstrations
    names = {key: name for key, name in section.columns.model_dump().items() if name is not None}
    reading = formats.read_all(
        [sources.resolve_demonstrations(path) for path in section.paths], format=section.format, columns=names
    )
    if rejected is not None:
        formats.write_rejected(rejected, reading.rejected)
    kept = [d for d in reading.demonstrations if section.expert in (None, d.expert)]
    if section.duplicates == "drop":
        kept, _ = splits.deduplicate(kept)
    parts, leaks, undivided = _divided(recipe, kept, names)
    finding = audit.audit(
        ", ".join(section.paths),
        reading,
        parts=parts,
        leaks=leaks,
        leaks_refused=recipe.split.near_duplicates == "refuse",
        undivided=undivided,
    )
    return Finding(reading, finding)


def _divided(
    recipe: Recipe, kept: Sequence[Any], names: Mapping[str, str]
) -> tuple[dict[str, Sequence[Any]] | None, list[splits.Leak], str]:
    """The split a run would make, its leaks, and why there is none."""
    validation, test = recipe.split.validation, recipe.split.test
    parts: dict[str, Sequence[Any]]
    try:
        if isinstance(validation, str) or isinstance(test, str):
            made = [
                formats.read(path, format=recipe.demonstrations.format, columns=names).demand()
                for path in map(str, (validation, test))
            ]
            parts = dict(zip(splits.NAMES, [kept, *made], strict=True))
        else:
            parts = dict(splits.assign(kept, validation=validation, test=test, seed=recipe.split.seed))
    except SplitError as error:
        return None, [], str(error)
    return parts, splits.find_leaks(parts, threshold=recipe.split.near_threshold), ""


def _recipe(target: str, format: str, columns: Mapping[str, str], overrides: Sequence[str]) -> Recipe:
    """The recipe named, or the defaults around one file."""
    shipped = {name for name, _, _ in recipes.shipped()}
    if target.endswith((".yaml", ".yml")) or (target in shipped and not Path(target).exists()):
        if columns or format != "auto":
            raise SourceError(f"{target}: is a recipe; set demonstrations.format and demonstrations.columns in it")
        return recipes.load(target, overrides)
    if format not in formats.FORMATS:
        raise SourceError(f"--format {format}: is no format; choose one of {', '.join(formats.FORMATS)}")
    strangers = set(columns) - set(recipes.Columns.model_fields)
    if strangers:
        known = ", ".join(recipes.Columns.model_fields)
        raise SourceError(f"--column {sorted(strangers)[0]}: is no field of a demonstration; fields are {known}")
    section = recipes.Demonstrations(path=target, format=format, columns=recipes.Columns(**columns))  # type: ignore[arg-type]
    base = recipes.Recipe(model=recipes.Model(name="not-needed"), demonstrations=section)
    if not overrides:
        return base
    raise SourceError(f"{target}: --set changes a recipe; check the recipe that names this file instead")
