"""The clone at work for a gathering: what it writes for the items of a round, how sure it is, what editing it costs.

In batch, before a page opens; an interrupted round goes on where it was. By the same path as held-out completions.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sft.demonstrations.messages import Message
from sft.demonstrations.stored import load_splits
from sft.errors import RunError
from sft.evaluation.probe_inputs import SCORED_AT_ONCE, after
from sft.evaluation.shared_rows import fill
from sft.fidelity import stored
from sft.gathering.dialogue_turns import dialogue_id, held_out_dialogues
from sft.gathering.export import distance
from sft.gathering.items import Item, drawn_first
from sft.policies.generation import complete, score
from sft.policies.policy import Policy, load_policy, load_renderer
from sft.policies.rendering import census
from sft.policies.weights import config_of, context_length
from sft.recipes import Recipe
from sft.recipes.sources import source_of
from sft.runs.hashes import Digest, weights_hash
from sft.runs.records import Completion
from sft.runs.run import Run, demand_trained

__all__ = ["CloneAtWork", "Expected", "on_their_own_path", "replayed"]

#: Validation prompts that the clone writes for, to see what editing its texts would cost.
VALIDATION = 60


@dataclass(frozen=True, slots=True)
class Expected:
    """What to expect, from the validation split: TER of the clone's texts against the expert's, and how many of ``n``
    would have been right as they stand.
    """

    distance: float
    right: int
    n: int


@dataclass(slots=True)
class CloneAtWork:
    """The clone of a run, loaded when it is first asked. Raises ``RunError`` for one that is not trained, or is another
    than the one that was measured.
    """

    run: Run
    recipe: Recipe
    folder: Path = field(init=False)
    weights: Digest = field(init=False)
    _policy: Policy | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.folder = demand_trained(self.run)
        self.weights = weights_hash(self.folder)
        signature = stored.read_measurement(self.run).get("signature") if self.run.measurement_path.exists() else None
        known = (signature or {}).get("weights_hash")
        if known is not None and not self.weights.is_of(known):
            raise RunError(
                f"{self.run.path}: its weights are not those that were measured; measure them first: "
                f"sft evaluate {self.run.path}"
            )
        renderer = load_renderer(source_of(self.recipe.model), self.recipe)
        template = self.run.manifest.get("template", {}).get("hash")
        if template is not None and not renderer.template_hash.is_of(template):
            raise RunError(
                f"{self.run.path}: its template is another now ({renderer.template_hash}, it was trained with "
                f"{template}); put the model's tokenizer back as it was"
            )

    @property
    def policy(self) -> Policy:
        """The model, in memory from the first question on."""
        if self._policy is None:
            base = source_of(self.recipe.model)
            renderer = load_renderer(base, self.recipe)
            self._policy = load_policy(base, renderer, dtype=self.recipe.model.dtype, tuned=self.folder)
        return self._policy

    def write(self, path: Path, prompts: Mapping[str, tuple[Message, ...]]) -> dict[str, str]:
        """Greedy completions of ``prompts``, kept in ``path``; what is there already is not written again."""

        def make(todo: list[str]) -> Iterator[Completion]:
            ids = dict(zip(todo, self._ids([prompts[key] for key in todo]), strict=True))
            context = context_length(config_of(source_of(self.recipe.model))) or sys.maxsize
            longest = self._longest()
            room = {key: min(longest, context - len(own)) for key, own in ids.items()}
            if tight := [key for key, tokens in room.items() if tokens < 1]:
                raise RunError(f"{len(tight)} prompts fill the model's context of {context} tokens; shorten them")
            for most in sorted(set(room.values()), reverse=True):
                alike = {key: own for key, own in ids.items() if room[key] == most}
                size = self.recipe.fidelity.batch_size
                yield from complete(self.policy, alike, max_new_tokens=most, batch_size=size)

        rows = fill(path, "clone writes", list(prompts), make)
        return {row["id"]: row["text"] for row in rows}

    def entropies(self, items: Sequence[Item]) -> dict[str, float]:
        """Item -> entropy (nats) of the clone's first token."""
        stop = self.policy.renderer.end_of_turn[-1]
        ids = self._ids([one.prompt for one in items])
        rows = {one.id: after(own, [stop]) for one, own in zip(items, ids, strict=True)}
        found = score(self.policy, rows, dict.fromkeys(rows, 1), batch_size=SCORED_AT_ONCE)
        return {one.id: one.entropies[0] for one in found}

    def expected(self, path: Path) -> Expected | None:
        """What correcting it will cost, from at most :data:`VALIDATION` validation prompts; None without any."""
        rows = load_splits(self.run).validation
        asked = {d.id: d for d in rows if d.origin is None or not d.origin.drafted}
        items = [Item(d.id, d.prompt) for d in asked.values()]
        chosen = drawn_first(items, VALIDATION, 0, "expected")
        if not chosen:
            return None
        written = self.write(path, {key: asked[key].prompt for key in sorted(chosen)})
        self.run.look("validation", "correct", self.weights)
        pairs = [distance(text, asked[key].completion) for key, text in written.items()]
        right = sum(text.strip() == asked[key].completion.strip() for key, text in written.items())
        return Expected(math.fsum(e for e, _ in pairs) / max(1.0, math.fsum(w for _, w in pairs)), right, len(pairs))

    def _ids(self, prompts: Sequence[tuple[Message, ...]]) -> list[list[int]]:
        return self.policy.renderer.prompt_ids_all(list(prompts))

    def _longest(self) -> int:
        """New tokens at most: as it was measured, else as it would be."""
        if self.run.measurement_path.exists():
            signature = stored.read_measurement(self.run).get("signature") or {}
            if isinstance(known := signature.get("max_new_tokens"), int):
                return known
        if self.recipe.fidelity.max_new_tokens:
            return self.recipe.fidelity.max_new_tokens
        train = load_splits(self.run).train
        rows = self.policy.renderer.render_all(train)[0]
        return 2 * census(row for _, row in rows).completion["99"]


def replayed(
    clone: CloneAtWork, path: Path, dialogues: Mapping[str, tuple[Message, ...]], items: Mapping[str, Item]
) -> list[Item]:
    """An item for each turn of each dialogue: the user's turns as they were, the clone's own ones in between.

    That is DAgger with beta 0 (Ross, Gordon & Bagnell 2011): the expert is asked in the states that the clone comes
    to. ``items``: dialogue -> how its items were drawn and are shown.
    """
    made: list[Item] = []
    open_ = {name: list[Message]() for name in dialogues}
    rest = {name: [turn for turn in turns if turn.role != "assistant"] for name, turns in dialogues.items()}
    turn = 0
    while open_:
        asked: dict[str, Item] = {}
        for name in list(open_):
            while rest[name] and rest[name][0].role in ("system", "tools"):
                open_[name].append(rest[name].pop(0))
            if not rest[name]:
                del open_[name]
                continue
            open_[name].append(rest[name].pop(0))
            one = items[name]
            key = f"{one.id}-{turn}"
            asked[name] = Item(key, tuple(open_[name]), group=name, round=one.round, drawn=one.drawn, shown=one.shown,
                               dialogue=one.id, turn=turn)  # fmt: skip
        known = clone.write(path, {one.id: one.prompt for one in asked.values()}) if asked else {}
        for name, one in asked.items():
            made.append(one)
            open_[name].append(Message("assistant", known[one.id] if known[one.id].strip() else "…"))
        turn += 1
    return made


def on_their_own_path(run: Run, recipe: Recipe) -> None:
    """Let the clone of ``run`` answer the held-out dialogues with its own turns in the context; nothing without any.

    The users' turns are as they were. Teacher-forced, with the expert's turns before it, a clone is never seen in the
    states that its own mistakes lead to.
    """
    dialogues = held_out_dialogues(run)
    items = {name: Item(dialogue_id(name), turns[:-1]) for name, turns in dialogues.items()}
    if dialogues:
        replayed(CloneAtWork(run, recipe), run.own_dialogues_path, dialogues, items)
        run.look("test", "own path")
