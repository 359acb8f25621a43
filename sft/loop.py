"""The loop, step by step: gather demonstrations, fit the policy, measure the clone. One function per verb.

Every step leaves files in the run directory and can be repeated from them: what is there and still true is
reused, and said so. Under ``accelerate launch`` the first process decides and writes, the others follow.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft import formats, recipes, sources, splits
from sft.demonstrations import Demonstration, Message, fingerprint
from sft.errors import DemonstrationsError, RunError, UserError
from sft.ledger import Ledger
from sft.recipes import Recipe, Resolved
from sft.runs import Run, read_json, read_jsonl, write_json, write_jsonl, write_text
from sft.scorecards import Scorecard
from sft.splits import Leak, Splits

if TYPE_CHECKING:
    from sft.policies import Policy
    from sft.rendering import Renderer
    from sft.training import Fitted

__all__ = [
    "Conversation",
    "Gathered",
    "converse",
    "evaluate",
    "fit",
    "gather",
    "is_main",
    "load_recipe",
    "load_splits",
    "prepare",
    "renderer_of",
    "say",
    "trained_policy",
]


def is_main() -> bool:
    """Whether this is the process that decides and writes: the first one under a launcher, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0


def say(text: str) -> None:
    """One line of progress, on stderr, from the first process only."""
    if is_main():
        sys.stderr.write(text + "\n")


# -- gather -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Gathered:
    """Demonstrations as they will be used, with the fate of every row that was read."""

    splits: Splits
    ledger: Ledger
    rejected: tuple[formats.Rejected, ...]
    leaks: tuple[Leak, ...]


def gather(recipe: Recipe, *, keep_going: bool = False) -> Gathered:
    """Read, deduplicate, split, and look for leaks, as the recipe says.

    Raises ``DemonstrationsError`` with every problem of every file (unless ``keep_going``, which leaves those
    rows out and hands them back), ``SourceError`` or ``SplitError``.
    """
    section = recipe.demonstrations
    readings = [_read(recipe, path) for path in section.paths]
    ready_made = [
        _read(recipe, str(path)) for path in (recipe.split.validation, recipe.split.test) if isinstance(path, str)
    ]
    everything = readings + ready_made
    rejected = tuple(row for reading in everything for row in reading.rejected)
    if rejected and not keep_going:
        rows = sum(reading.rows for reading in everything)
        raise DemonstrationsError(
            [problem for reading in everything for problem in reading.problems],
            f"{len(rejected)} of {rows} rows cannot become demonstrations; mend them, or leave them out: --keep-going",
        )
    counts = {"invalid": len(rejected), "filtered": 0, "duplicate": 0}
    parts = [[d for reading in readings for d in reading.demonstrations]]
    parts += [list(reading.demonstrations) for reading in ready_made]
    for index, part in enumerate(parts):
        kept = [d for d in part if section.expert in (None, d.expert)]
        counts["filtered"] += len(part) - len(kept)
        if section.expert is not None and not kept:
            known = ", ".join(sorted({d.expert for d in part} - {""})) or "none is named"
            raise UserError(f"demonstrations.expert: nothing was written by {section.expert!r}; experts are {known}")
        if section.duplicates == "drop":
            before = len(kept)
            kept = list(splits.deduplicate(kept)[0])
            counts["duplicate"] += before - len(kept)
        if section.limit is not None and index == 0 and len(kept) > section.limit:
            counts["filtered"] += len(kept) - section.limit
            kept = sorted(kept, key=lambda d: fingerprint([d.id, d.key]))[: section.limit]
        parts[index] = kept
    if ready_made:
        placed = dict(zip(splits.NAMES, parts, strict=True))
    else:
        placed = splits.assign(
            parts[0], validation=_share(recipe.split.validation), test=_share(recipe.split.test), seed=recipe.split.seed
        )
    leaks = splits.find_leaks(placed, threshold=recipe.split.near_threshold)
    if recipe.split.near_duplicates == "allow":  # the same prompt on both sides is never allowed
        leaks = [leak for leak in leaks if leak.kind != "near-duplicate"]
    if leaks and recipe.split.near_duplicates != "remove":
        raise splits.leak_error(leaks)
    placed, leaked = splits.without_leaks(placed, leaks)
    made = Splits(*(tuple(placed[name]) for name in splits.NAMES))
    fates = counts | {
        "leaked": leaked,
        "trained": len(made.train),
        "validation": len(made.validation),
        "test": len(made.test),
    }
    ledger = Ledger(
        rows=sum(reading.rows for reading in everything),
        unrolled=sum(reading.unrolled for reading in everything),
        fates={fate: count for fate, count in fates.items() if count},
    )
    return Gathered(made, ledger, rejected, tuple(leaks))


def _share(part: float | str) -> float:
    assert not isinstance(part, str)  # a recipe has shares for both, or files for both
    return part


def _read(recipe: Recipe, reference: str) -> formats.Reading:
    section = recipe.demonstrations
    path = sources.resolve_demonstrations(reference)
    columns = {key: name for key, name in section.columns.model_dump().items() if name is not None}
    return formats.read(path, format=section.format, columns=columns)


def prepare(resolved: Resolved, folder: Path, *, resume: bool = False, keep_going: bool = False) -> Run:
    """The run directory with recipe, demonstrations, split and ledger in it; held for writing.

    A new run refuses a folder that holds something; with ``resume`` the recipe, the data and the split must be
    those on record, else ``RunError`` names what changed. Nothing is written unless everything was read.
    """
    recipe = resolved.recipe
    gathered = gather(recipe, keep_going=keep_going)
    split = splits.to_manifest(gathered.splits, seed=recipe.split.seed)
    facts: dict[str, dict[str, Any]] = {
        "recipe": {
            "written": resolved.written,
            "resolved": resolved.to_dict(),
            "origins": resolved.origins,
            "fingerprint": recipe.fingerprint(),
        },
        "data": {"hash": split["data_hash"], "rows": gathered.ledger.rows, "paths": list(recipe.demonstrations.paths)},
        "split": {"hash": fingerprint(split), "counts": {k: len(v) for k, v in gathered.splits.parts.items()}},
        "seeds": {"split": recipe.split.seed, "training": recipe.training.seed},
    }
    if resume and (folder / "manifest.json").exists():
        run = Run.open(folder, writing=True)
        about = ("name", "description", "publish")
        settings = {k: v for k, v in facts["recipe"]["resolved"].items() if k not in about}
        recorded = {k: v for k, v in run.manifest["recipe"]["resolved"].items() if k not in about}
        names = Run.changed({"recipe": recorded}, {"recipe": settings})
        if names:
            run.close()
            raise RunError(
                f"{folder}: was started with another {', '.join(names[:8])}; put it back, or start a new run "
                "in another folder"
            )
        try:
            run.refuse_changes({"data": facts["data"], "split": facts["split"]})
        except RunError:
            run.close()
            raise
        if run.split_path.exists() and run.demonstrations_path.exists() and run.ledger_path.exists():
            return run
    else:
        run = Run.create(folder, **facts)
    write_text(run.recipe_path, resolved.written)
    write_text(run.resolved_recipe_path, resolved.to_yaml())
    write_json(run.split_path, split)
    write_json(run.ledger_path, gathered.ledger.to_dict())
    if gathered.rejected:
        formats.write_rejected(run.rejected_path, gathered.rejected)
    write_jsonl(
        run.demonstrations_path,
        (d.to_dict() | {"split": name} for name, part in gathered.splits.parts.items() for d in part),
    )
    return run


def load_splits(run: Run) -> Splits:
    """The splits as the run recorded them. Raises ``RunError`` when its files are gone or were altered."""
    parts: dict[str, list[Demonstration]] = {"train": [], "validation": [], "test": []}
    try:
        for row in read_jsonl(run.demonstrations_path):
            parts[row["split"]].append(Demonstration.from_dict(row))
        made = Splits(*(tuple(part) for part in parts.values()))
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{run.demonstrations_path}: is not as it was written ({error}); restore it from a copy"
        ) from error
    splits.check_manifest(read_json(run.split_path), made)
    return made


def load_recipe(run: Run) -> Recipe:
    """The resolved recipe a run was made with."""
    return recipes.load(run.resolved_recipe_path)


def renderer_of(recipe: Recipe) -> Renderer:
    """The recipe's renderer; no weights are read."""
    from sft.policies import load_renderer

    model = recipe.model
    return load_renderer(model.name, model.revision, model.template, model.trust_remote_code)


# -- fit --------------------------------------------------------------------------------------------------


def fit(run: Run, recipe: Recipe, *, resume: bool = False) -> Fitted | None:
    """Render and train. Returns None when the run was trained already.

    The ledger learns of rows that are too long and of the tokens of every split; the manifest of the base,
    the template and the outcome.
    """
    if trained_policy(run) is not None:
        say(f"train     reused: {run.path} is trained already")
        return None
    from sft import policies, training
    from sft.sources import resolve_model

    made = load_splits(run)
    renderer = renderer_of(recipe)
    limit = recipe.training.max_length
    context = policies.context_length(recipe.model.name, recipe.model.revision)
    if context is not None and limit > context:
        limit = context
    rendered = {
        name: renderer.render_all(part, max_length=limit, too_long=recipe.training.too_long)
        for name, part in made.parts.items()
        if name != "test"
    }
    rendered["test"] = renderer.render_all(made.test)
    if is_main():
        _account(run, rendered)
        source = resolve_model(recipe.model.name, recipe.model.revision)
        base = {"name": recipe.model.name, "hub_id": source.hub_id, "revision": source.revision}
        if source.wheel is not None:
            base["sha256"] = source.wheel.wheel.sha256
        recorded = run.manifest
        facts = {"base": base, "template": {"hash": renderer.template_hash, "choice": recipe.model.template}}
        if resume and "template" in recorded:
            run.refuse_changes(facts)
        run.update_manifest(**facts)
    fitted = training.train(
        recipe, rendered["train"][0], rendered["validation"][0], renderer=renderer, run=run, resume=resume
    )
    if is_main():
        run.update_manifest(training=asdict(fitted))
    return fitted


def _account(run: Run, rendered: Mapping[str, tuple[list[Any], list[Any]]]) -> None:
    """Add to the ledger what rendering found: rows that are too long, and tokens by fate."""
    ledger = Ledger.from_dict(read_json(run.ledger_path))
    if ledger.tokens:  # a resumed run has been through here before
        return
    fate_of = {"train": "trained", "validation": "validation", "test": "test"}
    tokens: dict[str, dict[str, int]] = {}
    for name, (kept, longer) in rendered.items():
        fate = fate_of[name]
        if longer:
            ledger = ledger.moved(len(longer), source=fate, to="too_long")
        for key, rows in ((fate, kept), ("too_long", longer)):
            if rows:
                known = tokens.setdefault(key, {"prompt": 0, "completion": 0})
                known["prompt"] += sum(len(row.prompt_ids) for _, row in rows)
                known["completion"] += sum(len(row.completion_ids) for _, row in rows)
    write_json(run.ledger_path, Ledger(ledger.rows, ledger.unrolled, ledger.fates, tokens).to_dict())


def trained_policy(run: Run) -> Path | None:
    """The folder of the run's adapter or full model; None before training has finished."""
    for path, sign in ((run.adapter_path, "adapter_config.json"), (run.model_path, "config.json")):
        if (path / sign).is_file():
            return path
    return None


def demand_trained(run: Run) -> Path:
    """As :func:`trained_policy`; raises ``RunError`` before training has finished."""
    tuned = trained_policy(run)
    if tuned is None:
        raise RunError(f"{run.path}: is not trained yet; train it with `sft train RECIPE --output {run.path} --resume`")
    return tuned


# -- measure ----------------------------------------------------------------------------------------------


def evaluate(run: Run, recipe: Recipe, *, split: str = "test", purpose: str = "report") -> Scorecard:
    """Measure the run's clone on its held-out prompts. Raises ``RunError`` when the run is not trained."""
    tuned = demand_trained(run)
    from sft import measuring

    return measuring.evaluate(run, recipe, load_splits(run), tuned, split=split, purpose=purpose)


# -- talk -------------------------------------------------------------------------------------------------


class Conversation:
    """Turns with one policy; it sees all of them until told to forget."""

    def __init__(self, policy: Policy, max_new_tokens: int) -> None:
        self._policy = policy
        self._max_new_tokens = max_new_tokens
        self._turns: tuple[Message, ...] = ()

    def forget(self) -> None:
        """Begin anew."""
        self._turns = ()

    def say(self, text: str, hand_on: Callable[[str], None]) -> str:
        """The policy's answer to ``text``, handed on in pieces as it is written, and returned."""
        from sft.generation import stream

        turns = (*self._turns, Message("user", text))
        ids = self._policy.renderer.prompt_ids(turns)
        answer = stream(self._policy, ids, max_new_tokens=self._max_new_tokens, hand_on=hand_on)
        self._turns = (*turns, Message("assistant", answer)) if answer.strip() else self._turns
        return answer


def converse(run: Run, *, base: bool = False, max_new_tokens: int = 256) -> Conversation:
    """Load the run's clone (or its base model) to talk to. Raises ``RunError`` when it is not trained."""
    from sft.measuring import policy_of

    tuned = None if base else demand_trained(run)
    return Conversation(policy_of(load_recipe(run), tuned), max_new_tokens)
