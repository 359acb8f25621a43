"""Correction rounds: what the expert is asked of a clone, and the run that learns from the answers.

Round k corrects the clone of round k - 1. What is held out is frozen by round 0: the validation and test rows of the
first run are those of every later one, and no prompt of theirs is ever asked.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sft.demonstrations.demonstration import Demonstration
from sft.demonstrations.messages import prompt_text
from sft.demonstrations.splits import Splits
from sft.demonstrations.stored import load_recipe, load_splits
from sft.errors import RunError, UserError
from sft.gathering import choosing
from sft.gathering.dialogue_rounds import ask_dialogues, dialogues_in
from sft.gathering.dialogue_turns import dialogues_of
from sft.gathering.fixed_parts import by_their_sources, lost_rows, recipe_of_parts, write_parts
from sft.gathering.folder import Gathering, HeldOutKeys
from sft.gathering.items import rank
from sft.gathering.prompts import read_prompts, screened
from sft.recipes import Recipe
from sft.runs.atomic_files import read_jsonl
from sft.runs.hashes import fingerprint, weights_hash
from sft.runs.run import Run, demand_trained, now

__all__ = ["ask", "learning", "next_round", "parent_of", "round_of", "seeds_of", "siblings", "union", "write_union"]

#: Prompts of a pool whose first token a rule looks at, at most; drawn where there are more.
SCORED = 2_000


def round_of(run: Run) -> int:
    """Which round made the run's clone; 0 for demonstrations alone."""
    return int(run.manifest.get("round") or 0)


def parent_of(run: Run) -> Path | None:
    """The folder of the run whose clone was corrected; None for round 0."""
    known = run.manifest.get("parent")
    return (run.path / known["run"]).resolve() if isinstance(known, dict) else None


def held_out_keys(run: Run, recipe: Recipe, splits: Splits) -> HeldOutKeys:
    """What may never be asked: the prompts and groups of the run's validation and test rows."""
    rows = (*splits.validation, *splits.test)
    return HeldOutKeys(
        frozenset(d.key for d in rows),
        frozenset(d.group for d in rows),
        tuple(sorted({prompt_text(d.prompt) for d in rows})),
        recipe.split.near_threshold,
        run.path.name,
    )


# -- asking --------------------------------------------------------------------------------------------------


def next_round(gathering: Gathering, run: Run) -> dict[str, Any] | None:
    """What is on record of the round that corrects the clone of ``run``; None where it was not begun."""
    number = round_of(run) + 1
    return next((row for row in gathering.settings.rounds if row["number"] == number), None)


def ask(
    gathering: Gathering,
    run: Run,
    recipe: Recipe,
    *,
    pool: Path | None,
    count: int,
    choose: str,
    audit: float,
    blind: float,
) -> Iterator[str]:
    """Draw the items of the next round, let the clone write for them, and put all of it on record; lines to be said.

    ``pool``: a file of prompts; None replays the user's turns of the training dialogues, and a pool of dialogues those
    of dialogues that the clone has not seen. An interrupted round goes on where it was. Raises ``UserError``.
    """
    from sft.gathering.clone import CloneAtWork

    clone, splits, number = CloneAtWork(run, recipe), load_splits(run), round_of(run) + 1
    gathering.freeze(held_out_keys(run, recipe, splits))
    known = next_round(gathering, run)
    if known is not None and not clone.weights.is_of(known["weights_hash"]):
        raise _another_clones(gathering, run, number)
    if (expected := clone.expected(gathering.path / f"validation-{number}.jsonl")) is not None:
        yield (f"Editing this clone's texts into the expert's would change {expected.distance:.0%} of the words; "
               f"{expected.right} of {expected.n} validation answers are right as they stand.")  # fmt: skip
        if expected.distance > 0.5:
            yield ("Most answers will be rewritten: `sft collect` costs the experts the same and cannot anchor them "
                   "to the clone's words.")  # fmt: skip
    facts = known or {
        "number": number,
        "run": os.path.relpath(run.path.resolve(), gathering.path.resolve()),
        "weights_hash": str(clone.weights),
        "recipe_hash": recipe.fingerprint(),
        "template_hash": run.manifest.get("template", {}).get("hash"),
        "chosen_by": choose,
        "audit": audit,
        "blind": blind,
        "decoding": "greedy",
        "when": now(),
    }
    if known is None:
        gathering.settings.rounds.append(facts)
    found = dialogues_of(splits.train)
    if pool is not None and found:
        found = yield from dialogues_in(pool, gathering, found, number)
    drawn = any(one.round == number for one in gathering.items())
    if pool is None and not found and not drawn:
        raise UserError(
            f"{run.path}: was trained on single turns; name prompts that nobody has answered: --prompts FILE"
        )
    if found:
        yield from ask_dialogues(gathering, clone, found, facts, count)
    else:
        if not drawn and pool is not None:
            yield from _draw(gathering, clone, splits, facts, pool, count)
        clone.write(gathering.clone_path(number), {i.id: i.prompt for i in gathering.items() if i.round == number})
    run.look("pool", "correct", str(clone.weights))
    gathering.save()


def _another_clones(gathering: Gathering, run: Run, number: int) -> RunError:
    return RunError(
        f"{gathering.path}: round {number} corrects another clone than that of {run.path}; each clone is corrected in "
        "a gathering of its own, or by the next round: --into"
    )


def _draw(
    gathering: Gathering, clone: Any, splits: Splits, facts: dict[str, Any], pool: Path, count: int
) -> Iterator[str]:
    """Items from a pool of prompts, written down before anything is written for them."""
    keys, seed, number = gathering.held_out(), gathering.settings.seed, facts["number"]
    found, repeated = read_prompts(pool, round=number)
    fresh = screened(found, keys)
    if repeated:
        yield f"{repeated} rows of {pool} repeat another's prompt."
    if fresh.refused:
        yield fresh.in_words(keys) + "."
    answered = {d.key for d in splits.train} | {one.key for one in gathering.items()}
    left = [one for one in fresh.items if one.key not in answered]
    if passed := len(fresh.items) - len(left):
        yield f"{passed} prompts were answered already and are not asked again."
    if not left:
        raise UserError(f"{pool}: has no prompt that may be asked; name other prompts")
    if len(left) < count:
        yield f"{pool} has {len(left)} prompts that may be asked, fewer than {count}: all of them are."
    scores: dict[str, float] = {}
    if facts["chosen_by"] != "random":
        left = sorted(left, key=lambda one: rank(seed, "pool", one.id))[:SCORED]
        scores = clone.entropies(left)
    drawn = choosing.draw(left, count, choose=facts["chosen_by"], audit=facts["audit"], blind=facts["blind"], seed=seed,
                          scores=scores)  # fmt: skip
    gathering.save()  # before the items: who is killed in between draws the same ones again
    gathering.add(drawn)
    shown, audit = (sum(ok) for ok in zip(*((i.shown == "blind", i.drawn == "audit") for i in drawn), strict=True))
    yield (
        f"Round {number}: {len(drawn)} items, {audit} of them drawn at random; {shown} are written blind, before the "
        "clone's text is seen."
    )
    yield (
        "Corrections of whole answers are new demonstrations for prompts of your choice: worth what as many new "
        "demonstrations are worth, and less where the expert leaves the clone's words standing. What is gained is a "
        "measured acceptance."
    )


# -- learning ------------------------------------------------------------------------------------------------


def rows_of_rounds(gathering: Gathering, last: int) -> list[Demonstration]:
    """What the rounds 1 to ``last`` gave, as on file."""
    return [d for d in _rows(gathering) if d.origin is not None and 0 < d.origin.round <= last]


def _rows(gathering: Gathering) -> list[Demonstration]:
    """All that was gathered, each with the line that a complaint is to name."""
    path = gathering.demonstrations_path
    known = [row | {"id": "", "source": {"file": str(path), "line": n}} for n, row in enumerate(read_jsonl(path), 1)]
    return [Demonstration.from_dict(row) for row in known]


def union(run: Run, gathering: Gathering, *, plain: bool) -> tuple[Splits, int]:
    """What the next clone learns from, with the held-out rows of ``run``; and how many rows are new.

    The run's own training rows but for earlier corrections, and the answers of all rounds so far; with ``plain`` as
    many answers that were written blind for prompts drawn at random in their place, those of the audit first.
    Raises ``UserError`` where this round has none, or with ``plain`` too few, and ``RunError`` where the round
    corrects another clone.
    """
    known, number = load_splits(run), round_of(run) + 1
    base = [d for d in known.train if d.origin is None or d.origin.round == 0]
    corrections = rows_of_rounds(gathering, number)
    if not any(d.origin is not None and d.origin.round == number for d in corrections):
        raise UserError(
            f"{gathering.path}: nothing was submitted in round {number}; correct first: sft correct {run.path} --into "
            f"{gathering.path} --prompts FILE"
        )
    facts = next_round(gathering, run)
    if facts is not None and not weights_hash(demand_trained(run)).is_of(facts["weights_hash"]):
        raise _another_clones(gathering, run, number)
    kept = {d.id for d in base}
    times = {one: count for one, count in known.times.items() if one in kept}
    if not plain:
        return Splits((*base, *corrections), known.validation, known.test, times=times), len(corrections)
    # Behind the clone's own turns a blind answer is a correction of where they led to, and no plain demonstration.
    led = {one.id for one in gathering.items() if one.dialogue and one.turn}
    found = [d for d in corrections if d.origin is not None and d.origin.drawn == "audit" and not d.origin.drafted]
    blind = [d for d in found if d.origin is not None and d.origin.item not in led]
    there = {d.key for d in (*base, *known.validation, *known.test, *blind)}
    more = [d for d in _rows(gathering) if d.origin is not None and d.origin.round == 0 and d.key not in there]
    more.sort(key=lambda d: rank(gathering.settings.seed, "plain", d.id))
    taken = [*blind, *more][: len(corrections)]
    if len(taken) < len(corrections):
        missing = len(corrections) - len(taken)
        raise UserError(
            f"--plain: the control needs {len(corrections)} blind answers to random prompts, and {gathering.path} has "
            f"{len(taken)}; gather {missing} more of the same experts: sft collect POOL --into {gathering.path}"
        )
    return Splits((*base, *taken), known.validation, known.test, times=times), len(taken)


def write_union(gathering: Gathering, made: Splits) -> Path:
    """The folder in the gathering that holds the rows of ``made``; see :func:`write_parts`."""
    return write_parts(gathering.path / "unions", made)


def _begun(folder: Path, gathering: Gathering) -> tuple[Path, int] | None:
    """The union that the run at ``folder`` began with, and its new rows: it goes on with that, whatever came since."""
    if not (folder / "manifest.json").exists():
        return None
    known = Run.open(folder).manifest.get("parent")
    if not isinstance(known, dict) or "union" not in known:
        return None
    return gathering.path / "unions" / known["union"], int(known["new_rows"])


@contextmanager
def learning(
    run: Run, gathering: Gathering, folder: Path, *, plain: bool, seed: int, resume: bool
) -> Iterator[tuple[Run, Recipe]]:
    """Inside, the run at ``folder``, begun or gone on with, that learns from the union, and its recipe."""
    from sft.training.start import begin

    begun = _begun(folder, gathering) if resume else None
    if begun is None:
        made, new = union(run, gathering, plain=plain)
        begun = write_union(gathering, made), new
    place, new = begun
    resolved = recipe_of_parts(load_recipe(run), place, folder.name, seed=seed)
    with by_their_sources(place), begin(resolved, folder, resume=resume) as one:
        carried = load_splits(one)
        if lost := lost_rows(load_splits(run), carried):
            raise RunError(f"{folder}: {lost} held-out rows cannot be carried over from {run.path} (calls or "
                           "thoughts of their own); correct clones of plain text")  # fmt: skip
        one.update_manifest(
            round=round_of(run) + 1,
            parent={
                "run": os.path.relpath(run.path.resolve(), one.path.resolve()),
                "split_hash": run.manifest["split"]["hash"],
                "gathering": os.path.relpath(gathering.path.resolve(), one.path.resolve()),
                "arm": "plain" if plain else "corrected",
                "seed": seed,
                "new_rows": new,
                "union": place.name,
                "answers_hash": fingerprint(sorted(d.content_hash for d in carried.train)),
            },
        )
        yield one, resolved.recipe


def siblings(folder: Path, count: int) -> list[Path]:
    """The folders of ``count`` runs that differ in the seed alone, the first at ``folder``."""
    return [folder, *(folder.with_name(f"{folder.name}-seed-{n}") for n in range(1, count))]


def seeds_of(run: Run) -> list[Run]:
    """The run and those beside it that differ from it in the seed alone."""
    found, arm = [run], _arm(run)
    for path in sorted(run.path.parent.glob(f"{run.path.name}-seed-*")):
        one = Run.open(path) if (path / "manifest.json").exists() else None
        if one is not None and one.scorecard_path.exists() and _arm(one) == arm:
            found.append(one)
    return found


def _arm(run: Run) -> str:
    """Whether the run learned from corrections or, as a control, from plain answers; "" for round 0."""
    return str((run.manifest.get("parent") or {}).get("arm") or "")
