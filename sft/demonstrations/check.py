"""``sft check``: the contract, the ledger, duplicates, conflicts and leaks of a file or a recipe, without torch.

Needs no tokenizer: lengths are in words and characters. Every finding says what to do about it.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np

from sft import recipes
from sft.demonstrations import (
    columns,
    conflicts,
    few_groups,
    formats,
    headlines,
    readings,
    selection,
    splits,
    thoughts,
)
from sft.demonstrations.audit import NO_MODEL, QUANTILES, Audit, Lengths
from sft.demonstrations.both_sides import OnBothSides
from sft.demonstrations.conflicts import Handling
from sft.demonstrations.demonstration import Demonstration
from sft.demonstrations.earlier import unknown_before
from sft.demonstrations.formats import Reading
from sft.demonstrations.sources import standard_input
from sft.demonstrations.splits import Leak
from sft.demonstrations.template_marks import TemplateMarks
from sft.demonstrations.weights import Amounts, measured_out
from sft.errors import SourceError, SplitError
from sft.recipes import Recipe
from sft.recipes.requirements import refuse_unfit

__all__ = ["NO_MODEL", "Audit", "Lengths", "audit", "check_demonstrations"]


def audit(
    path: str,
    reading: Reading,
    *,
    parts: Mapping[str, Sequence[Demonstration]] | None = None,
    leaks: Sequence[Leak] = (),
    leaks_refused: bool = True,
    undivided: str = "",
    handling: Handling | None = None,
    headline: str = "",
    recipe: Recipe | None = None,
    thinking: int = 0,
    general: Reading | None = None,
    amounts: Amounts | None = None,
    start: str = "",
) -> Audit:
    """Look through what was read. ``parts`` and ``leaks``: the split a run would make, and what it finds in it.

    ``handling``: what the recipe makes of several experts; unless given, every answer is trained on. ``headline``: what
    there is to say of the score that the completions ask for. ``general``: the rows to replay, as read; ``amounts``:
    what weights and replay make of the rows. ``start``: what is not known of the adapter that is gone on from.
    """
    demonstrations = reading.demonstrations
    kept, repeated = splits.deduplicate(demonstrations)
    numbers, names = columns.by_expert(demonstrations)
    experts = {names[number]: count for number, count in enumerate(np.bincount(numbers).tolist()) if count}
    prompt_lengths, completion_lengths = _lengths(demonstrations)
    return Audit(
        path=path,
        reading=reading,
        recipe=recipe,
        train=(parts or {}).get("train", ()),
        prompts=len(np.unique(columns.labels(demonstrations, "key"))),
        groups=len(np.unique(columns.labels(demonstrations, "group"))),
        experts=dict(sorted(experts.items(), key=lambda item: (-item[1], item[0]))),
        prompt_lengths=prompt_lengths,
        completion_lengths=completion_lengths,
        duplicates=len(repeated),
        several=conflicts.SeveralAnswers.among(kept),
        handling=handling or Handling(),
        template_marks=TemplateMarks.among(demonstrations),
        few_groups=few_groups.cause(kept),
        both_sides=OnBothSides.among(splits.without_leaks(parts, leaks)[0]) if parts else None,
        splits={name: len(part) for name, part in (parts or {}).items()},
        undivided=undivided,
        leaks=tuple(leaks),
        leaks_refused=leaks_refused,
        headline=headline,
        thinking=thinking,
        general=general,
        amounts=amounts,
        start=start,
    )


def _lengths(demonstrations: Sequence[Demonstration]) -> tuple[Lengths | None, Lengths | None]:
    """Of the prompts, and of the completions."""
    counts = [array("q") for _ in range(4)]
    before: Sequence[str] = ()
    words = characters = 0
    for prompt, _, completion in columns.said(demonstrations):
        known = len(before)
        if known == 0 or len(prompt) <= known or prompt[:known] != before:  # else what a dialogue goes on with
            known = words = characters = 0
        before = prompt
        words += sum([len(part.split()) for part in prompt[known:]])
        characters += sum(map(len, prompt[known:]))
        counts[0].append(words)
        counts[1].append(characters)
        counts[2].append(len(completion.split()))
        counts[3].append(len(completion))
    if not counts[0]:
        return None, None

    def quantiles(values: array[int]) -> dict[str, int]:
        found = np.percentile(np.frombuffer(values, dtype=np.int64), list(QUANTILES), method="higher")
        return {str(q): int(value) for q, value in zip(QUANTILES, found, strict=True)}

    prompts, completions = [Lengths(quantiles(counts[at]), quantiles(counts[at + 1])) for at in (0, 2)]
    return prompts, completions


def check_demonstrations(
    target: str | Sequence[str],
    *,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    overrides: Sequence[str] = (),
    encoding: str | None = None,
    rejected: Path | None = None,
    refuse: Callable[[Recipe], None] = refuse_unfit,
) -> Audit:
    """Check ``target``: a recipe (a .yaml file or a shipped name), or files of demonstrations, folders, patterns,
    ``data:NAME``, ``hub:OWNER/NAME``; ``-`` is standard input.

    Files are divided as a recipe's defaults would. ``rejected``: where rows that cannot become
    demonstrations are written, with the reasons. ``refuse``: raises what training would say of a recipe.
    Raises ``SourceError`` or ``RecipeError``.
    """
    targets = [target] if isinstance(target, str) else list(target)
    with standard_input() if "-" in targets else nullcontext() as piped:
        named = [str(piped) if each == "-" else each for each in targets]
        recipe = _recipe(named, format, columns or {}, encoding, overrides, refuse)
        with formats.no_collection():
            return _looked_through(recipe, rejected, {str(piped): "standard input"} if piped else {})


def _looked_through(recipe: Recipe, rejected: Path | None, called: Mapping[str, str]) -> Audit:
    found = readings.read(recipe, called)
    reading = found.demonstrations
    paths = (*recipe.demonstrations.paths, *(file.path for file in recipe.split.files.values()))
    if rejected is not None:
        formats.write_rejected(rejected, found.whole.rejected)
    division, parts, amounts, undivided = None, None, None, ""
    removed = recipe.split.near_duplicates == "remove"
    thinking = int(columns.flagged(reading.demonstrations, columns.THOUGHT).sum())
    try:
        recipe, found = found.settled(recipe)
        reading = found.demonstrations
        division = selection.divide(recipe, found)
        undivided = headlines.refusal(
            recipe.fidelity.headline,
            recipe.fidelity.bar,
            columns.joined([division.parts["validation"], division.parts["test"]]),
        )
        without = splits.without_leaks(division.parts, division.leaks)[0]
        amounts = measured_out(recipe, found, without)
        parts = (without if removed else division.parts) | {"train": amounts.weighed.kept}
    except (SplitError, thoughts.Undecided) as error:
        undivided = str(error)
    return audit(
        ", ".join(called.get(path, path) for path in paths),
        reading,
        parts=parts,
        leaks=division.leaks if division else (),
        leaks_refused=not removed,
        undivided=undivided,
        handling=_handling(recipe, reading, division, parts),
        headline=headlines.suggestion(
            headlines.looked_at(reading.demonstrations), recipe.fidelity.headline, recipe.fidelity.checker
        ),
        recipe=recipe,
        thinking=thinking,
        general=found.general,
        amounts=amounts,
        start=unknown_before(recipe)[0],
    )


def _handling(
    recipe: Recipe,
    reading: Reading,
    division: selection.Division | None,
    parts: Mapping[str, Sequence[Demonstration]] | None,
) -> Handling:
    """What the recipe makes of several experts, or could make."""
    section = recipe.demonstrations
    several, _ = conflicts.answered_again(reading.demonstrations)
    differing = [same for same in several if len({d.completion for d in same}) > 1]
    disputed = {same[0].key for same in differing}
    if not disputed:
        return Handling(section.conflicts, section.expert)
    rows, _ = splits.deduplicate(columns.with_keys(reading.demonstrations, disputed))
    between = {same[0].key for same in differing if len({d.expert for d in same} - {""}) > 1}
    agreement = conflicts.conflicts(columns.with_keys(rows, between), section.conflicts)
    agreement = replace(agreement, prompts=len(np.unique(columns.labels(reading.demonstrations, "key"))))
    if section.expert is not None:
        others = selection.held_out_others(division.passed_over, parts) if division and parts else ()
        return Handling(
            expert=section.expert,
            others=len(others),
            others_prompts=len({d.prompt for d in others}),
            agreement=agreement,
        )
    if section.conflicts == "majority" and division is not None:
        return Handling("majority", None, division.outvoted, division.tied, agreement=agreement)
    fitted = rows
    if division is not None:
        fitted = columns.with_keys(columns.joined([division.parts[name] for name in ("train", "validation")]), disputed)
    ballots = conflicts.ballots(fitted)
    return Handling(
        section.conflicts,
        outvoted=sum(len(same) for answers in ballots for same in answers[1:]),
        tied=sum(len(answers) > 1 and len(answers[0]) == len(answers[1]) for answers in ballots),
        agreement=agreement,
    )


def _recipe(
    targets: Sequence[str],
    format: str,
    columns: Mapping[str, str],
    encoding: str | None,
    overrides: Sequence[str],
    refuse: Callable[[Recipe], None],
) -> Recipe:
    """The recipe named, or the defaults around files."""
    shipped = {name for name, _, _ in recipes.shipped()}
    for target in targets:
        if not (target.endswith((".yaml", ".yml")) or (target in shipped and not Path(target).exists())):
            continue
        if len(targets) > 1:
            raise SourceError(f"{target}: is a recipe; check it by itself, the files that it names are read with it")
        if columns or encoding or format != "auto":
            raise SourceError(f"{target}: is a recipe; set format, columns and encoding under demonstrations in it")
        recipe = recipes.resolve(target, overrides, to_follow=True).recipe
        refuse(recipe)
        return recipe
    if len(set(targets)) < len(targets):
        raise SourceError(f"{max(targets, key=targets.count)}: is named twice; name each file once")
    if format not in formats.FORMATS:
        raise SourceError(f"--format {format}: is no format; choose one of {', '.join(formats.FORMATS)}")
    if strangers := set(columns) - set(recipes.Columns.model_fields):
        known = ", ".join(recipes.Columns.model_fields)
        raise SourceError(f"--column {sorted(strangers)[0]}: is no field of a demonstration; fields are {known}")
    if overrides:
        raise SourceError(f"{targets[0]}: --set changes a recipe; check the recipe that names this file instead")
    if encoding and not recipes.is_encoding(encoding):
        raise SourceError(f"--encoding {encoding}: is no encoding of text; give one such as cp1252 or utf-16")
    for target in targets:
        if fault := recipes.fault_of_path(target):
            raise SourceError(fault)
    return recipes.of_files(NO_MODEL, targets, format=format, columns=dict(columns), encoding=encoding or None)
