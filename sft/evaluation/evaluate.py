"""Measuring the clone: every system writes for the held-out prompts, and all that a scorecard needs is written down.

Rows are appended to files of the run as they come, each process its share, and are reused as long as they were
made under the same signature, whatever the profile and however many prompts; so an interrupted evaluation goes on
where it was, and a larger one adds to a smaller one. The base's work comes first: the clone takes its weights over.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from sft.demonstrations.demonstration import Demonstration, HeldOut, held_out, prompt_key
from sft.demonstrations.splits import Splits
from sft.demonstrations.stored import load_others, load_splits
from sft.errors import UserError
from sft.evaluation import engines
from sft.evaluation.record import RowsToMake, Subject, record
from sft.fidelity import floors, floors_file, stored
from sft.fidelity.conventions import FLOORS
from sft.fidelity.scorecard import PROFILES, Scorecard
from sft.fidelity.scoring import JSON, Scoring
from sft.policies import rendering_cache
from sft.policies.policy import load_renderer
from sft.policies.rendering import Renderer, census, few_shot_prompt
from sft.policies.starting import start_of
from sft.policies.weights import config_of, context_length
from sft.recipes import Fidelity, Recipe
from sft.recipes.sources import source_of
from sft.runs import sealed
from sft.runs.hashes import Digest, fingerprint, weights_hash
from sft.runs.looks import clones_judged
from sft.runs.processes import rank_and_world, wait_for_everyone
from sft.runs.records import Completion, as_row
from sft.runs.run import Run, demand_trained, write_jsonl

__all__ = ["Subject", "choose_held_out", "evaluate", "evaluate_clone", "judged_by", "measure"]

#: Held-out prompts of the fast profile, at most.
FAST_PROMPTS = 100
#: Systems whose completions are worked out anew each time.
_SHORTCUTS = ("R", "RK", "K", "L", "P")
#: Shortcut -> the one that it comes with where a recipe names systems.
_COMPANIONS = {"RK": "R", "L": "K"}
#: What is written by whoever writes, beside completions.
_OF_THE_CLONE = ("departures-", "samples-", "forced-", "own-path")
#: What B3 is where its demonstrations are chosen for each prompt.
_NEAREST_SHOWN = "base model, the three nearest demonstrations in the prompt"


def choose_held_out(
    demonstrations: Sequence[Demonstration], limit: int | None, others: Sequence[Demonstration] = ()
) -> list[HeldOut]:
    """At most ``limit`` held-out prompts, chosen and ordered by content, so that all runs take the same.

    One prompt of every group comes first, then a second one of each, and so on: prompts of one source tell
    less than as many of different ones, so this is where a limited number of them gives the narrowest interval.
    ``others``: what experts wrote whom the clone was not fitted to.
    """
    ranked = sorted(held_out(demonstrations, others), key=lambda item: fingerprint([m.to_dict() for m in item.prompt]))
    seen: Counter[str] = Counter()
    rounds = []
    for item in ranked:
        rounds.append(seen[item.cluster])
        seen[item.cluster] += 1
    order = sorted(range(len(ranked)), key=lambda place: (rounds[place], place))
    return [ranked[place] for place in order[:limit]]


def judged_by(recipe: Recipe, fidelity: Mapping[str, Any]) -> Recipe:
    """``recipe`` with other settings of ``fidelity``; what cannot be used of them :func:`measure` refuses."""
    return recipe.model_copy(update={"fidelity": recipe.fidelity.model_copy(update=dict(fidelity))})


def evaluate(
    run: Run,
    recipe: Recipe,
    splits: Splits,
    tuned: Path,
    *,
    split: str = "test",
    purpose: str = "report",
    profile: str | None = None,
    engine: tuple[str, str] = ("", ""),
    others: Sequence[Demonstration] = (),
) -> Scorecard:
    """Measure the clone in ``tuned`` (an adapter's or a full model's folder) on the held-out prompts of ``split``.

    See :func:`measure`. Raises ``UserError``.
    """
    base = source_of(recipe.model)
    renderer = load_renderer(base, recipe)
    start = start_of(run, recipe, base)
    facts = {"weights_hash": weights_hash(tuned)} | ({"start": start.weights} if start is not None else {})
    folder = start.folder if start is not None else None
    held_out = splits.parts[split]
    subject = Subject(recipe, base, renderer, tuned, splits.train, held_out, others, facts=facts, start=folder)
    return measure(run, subject, split=split, purpose=purpose, profile=profile, engine=engine)


def measure(
    run: Run,
    subject: Subject,
    *,
    split: str = "test",
    purpose: str = "report",
    profile: str | None = None,
    engine: tuple[str, str] = ("", ""),
) -> Scorecard:
    """Make every observation that is still missing, on all processes, and the scorecard from all of them.

    ``profile``: how much (``scorecards.PROFILES``), the recipe's unless given. *fast*: at most 100 prompts, only the
    clone writes. *standard*: the base writes too, and the probes that cost little. *full*: two rounds of samples
    or more, and prefix forcing. ``engine``: who writes, "transformers", "vllm" or the address of a vLLM that runs, and
    what that calls the clone; "" for the recipe's, and for its only one. The look at ``split`` goes into the manifest.
    Raises ``UserError``.
    """
    settings = subject.recipe.fidelity
    profile = profile or settings.profile
    if profile not in PROFILES:
        raise UserError(f"fidelity.profile: {profile!r} is none of {', '.join(PROFILES)}")
    scoring = _scoring(settings)
    scoring.demand()  # what cannot be used is refused before anything is written
    elsewhere = floors_file.read(settings.floors_from) if settings.floors_from else None
    writer = engines.find(engine[0] or settings.engine, subject.recipe.model.dtype, engine[1])
    work = _plan(subject, profile)
    scoring.demand_of(work.items)
    given = {elsewhere.name: elsewhere.completions(work.items)} if elsewhere is not None else {}
    signature = {
        "template_hash": subject.renderer.template_hash,
        "decoding": "greedy",
        "max_new_tokens": work.max_new_tokens,
        "b3_demonstrations": _shown_in_words(work, settings.few_shot),
        "base": subject.recipe.model.name if subject.tuned is not None else None,
        "split": split,
        "split_hash": run.manifest["split"]["hash"],
        "samples": {"temperature": 1.0, "seed": settings.seed},
        "control": {name: Digest.by("v1", fingerprint(text)) for name, text in work.control.items()},
        **({"floors_from": _content_of(given)} if given else {}),
        **({"engine": writer.name} if writer is not None else {}),
        **subject.facts,
    }
    facts = {
        "split": split,
        "profile": profile,
        "systems": [],  # whose completions count
        "scored": [],  # whose token scores do
        "bar": settings.bar,
        "metrics": list(settings.metrics),
        "checker": scoring.checker,
        "headline": scoring.headline,
        "normalise": list(scoring.normalise),
        "conflicts": subject.recipe.demonstrations.expert or subject.recipe.demonstrations.conflicts,
        "near_threshold": subject.recipe.split.near_threshold,
        "seed": settings.seed,
        "floors": [*floors.demanded(subject.train), *given],
        "names": dict.fromkeys(given, floors_file.FROM_ELSEWHERE)
        | ({"B3": _NEAREST_SHOWN} if settings.few_shot == "nearest" else {}),
        "signature": signature,
    }
    first = rank_and_world()[0] == 0
    with stored.as_before_on_refusal(run) if first else nullcontext():
        _keep_or_discard(run, work.items, facts)
        systems, scored, agreement = record(run, subject, work, profile, writer)
        if first:
            made = _floors(subject, work) | given
            for floor, completions in made.items():
                write_jsonl(run.completions_path(floor), map(as_row, completions.values()))
            judged = str(subject.facts.get("weights_hash", ""))
            run.look(split, purpose, judged)
            clones = clones_judged(run, split, judged, [prompt_key(item.prompt) for item in work.items])
            facts |= {"systems": [*systems, *made], "scored": scored, "clones": clones, "agreement": agreement}
            stored.write_measurement(run, work.items, facts)
            stored.remeasure(run)
    wait_for_everyone()
    return stored.read_scorecard(Run.open(run.path))


# -- what there is to do --------------------------------------------------------------------------------------


def _scoring(settings: Fidelity) -> Scoring:
    metrics, normalise = tuple(settings.metrics), tuple(settings.normalise)
    return Scoring(settings.headline, metrics, settings.checker or "", normalise, leaves=JSON in settings.bar)


def _plan(subject: Subject, profile: str) -> RowsToMake:
    settings, renderer = subject.recipe.fidelity, subject.renderer
    control = _control_texts(settings.control)
    context = context_length(config_of(subject.base)) or sys.maxsize
    # What the ledger counts as too long was not trained on either, and no policy could write it.
    fitting = renderer.render_all(subject.held_out, max_length=context, too_long="drop")[0]
    if not fitting:
        raise UserError(
            f"every held-out demonstration is longer than the model's context of {context} tokens; shorten them"
        )
    limit = settings.max_prompts
    if profile == "fast":
        limit = min(FAST_PROMPTS, limit or FAST_PROMPTS)
    items = choose_held_out([demonstration for demonstration, _ in fitting], limit, subject.others)
    train = rendering_cache.render_all(renderer, subject.train)[0]
    # Lengths of held-out completions are known to nobody but this measurement: they serve where training is unknown.
    lengths = census(row for _, row in train or fitting).completion
    max_new_tokens = settings.max_new_tokens or 2 * lengths["99"]
    first = [item.demonstration() for item in items]
    experts = {demonstration.id: row for demonstration, row in renderer.render_all(first)[0]}
    longest = max([max_new_tokens, *(len(row.completion_ids) for row in experts.values())])
    return RowsToMake(
        items=items,
        prompts={key: list(row.prompt_ids) for key, row in experts.items()},
        experts=experts,
        train=train,
        shown=_shown(renderer, subject.train, items, context - longest, settings.few_shot),
        context=context,
        max_new_tokens=max_new_tokens,
        control=control,
    )


def _control_texts(paths: Sequence[str]) -> dict[str, str]:
    """Name -> text of the plain control texts; the file's name, or its path where two have one name."""
    names = Counter(Path(path).name for path in paths)
    found = {}
    for path in paths:
        try:
            text = Path(path).expanduser().read_bytes().decode("utf-8-sig")
        except (OSError, RuntimeError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise UserError(f"fidelity.control: {path}: cannot be read ({why}); name a plain text file") from None
        except UnicodeDecodeError:
            raise UserError(f"fidelity.control: {path}: is not UTF-8 text; save it as UTF-8") from None
        if len(text.split()) < 2:
            raise UserError(f"fidelity.control: {path}: has no text to predict; name a file with a page or more")
        found[Path(path).name if names[Path(path).name] == 1 else path] = text
    return found


def _shown(
    renderer: Renderer, train: Sequence[Demonstration], items: Sequence[HeldOut], longest: int, few_shot: str
) -> dict[str, list[Demonstration]]:
    """By prompt, the demonstrations of B3: as many of the three as leave no prompt longer than ``longest`` tokens.

    Fixed ones are as many before every prompt; of the nearest, the least like the prompt go first, prompt by prompt.
    """
    if not train:
        return {item.id: [] for item in items}
    if few_shot == "fixed":
        shown = floors.b3_demonstrations(train)
        while shown:
            prompts = renderer.prompt_ids_all([few_shot_prompt(shown, item.prompt) for item in items])
            if max(map(len, prompts), default=0) <= longest:
                break
            shown.pop()
        return {item.id: shown for item in items}
    found = floors.b3_nearest(train, items)
    long = list(items)
    while long:
        prompts = renderer.prompt_ids_all([few_shot_prompt(found[item.id], item.prompt) for item in long])
        long = [item for item, ids in zip(long, prompts, strict=True) if len(ids) > longest and found[item.id]]
        for item in long:
            found[item.id].pop(0)
    return found


def _shown_in_words(work: RowsToMake, few_shot: str) -> int | str:
    """How many demonstrations B3 is shown, for the signature; and how they are chosen."""
    if few_shot == "fixed":
        return max(map(len, work.shown.values()), default=0)
    counts = [len(shown) for shown in work.shown.values()]
    most = max(counts, default=0)
    fewer = sum(count < most for count in counts)
    return f"{most} nearest" + (f", fewer before {fewer} prompts" if fewer else "")


def _keep_or_discard(run: Run, items: Sequence[HeldOut], facts: Mapping[str, Any]) -> None:
    """What was made under another signature goes, scorecard included; what a change does not touch stays."""
    only = {
        "b3_demonstrations": ("completions-B3", "token-scores-B3"),
        "samples": ("samples-",),
        "control": ("control-",),
        "floors_from": (),
        "start": ("completions-start", "token-scores-start"),
        "engine": ("completions-tuned", "completions-start", "completions-B", *_OF_THE_CLONE),
    }
    if rank_and_world()[0] == 0:
        on_file = run.measurement_path.exists()
        recorded = stored.read_measurement(run).get("signature") if on_file else None
        present = facts["signature"]
        changed = set(Run.changed(recorded or {}, present))
        parts = {name.partition(".")[0] for name in changed}
        if changed or recorded is None:
            everything = recorded is None or parts - only.keys()
            _discard(run, stored.GROWING if everything else [stem for part in parts for stem in only[part]])
            stored.write_measurement(run, items, facts)
        stored.demand_untouched(run)
        # What is added to stays known as far as it goes, and what is made anew has no seal until it is whole.
        anew = [*_SHORTCUTS, *(floor for floor in facts["floors"] if floor not in FLOORS)]
        sealed.unseal(run, [*stored.DERIVED, *(f"completions-{floor}." for floor in anew)])
        sealed.let_grow(run, [*stored.GROWING, run.log_path.name])
    wait_for_everyone()


def _discard(run: Run, stems: Sequence[str]) -> None:
    """Remove the files whose names begin so, and what was computed from them."""
    sealed.unseal(run, [*stems, *stored.DERIVED])
    for stem in stems:
        for old in run.path.glob(f"{stem}*.jsonl"):
            old.unlink()
    for path in (run.scorecard_path, run.scores_path, run.corrections_path):
        path.unlink(missing_ok=True)


def _floors(subject: Subject, work: RowsToMake) -> dict[str, dict[str, Completion]]:
    """The shortcuts that need no model, as far as training is known."""
    if subject.train:
        found = floors.floor_completions(subject.train, work.items)
    else:
        found = {"P": floors.copied_prompt(work.items)}
    asked = subject.recipe.fidelity.systems
    return {floor: made for floor, made in found.items() if _COMPANIONS.get(floor, floor) in asked}


def _content_of(given: Mapping[str, Mapping[str, Completion]]) -> dict[str, str]:
    """Floor -> a hash of its completions, for the signature."""
    return {
        name: Digest.by("v1", fingerprint([as_row(one) for one in completions.values()]))
        for name, completions in given.items()
    }


def evaluate_clone(
    run: Run,
    recipe: Recipe,
    *,
    split: str = "test",
    profile: str | None = None,
    engine: tuple[str, str] = ("", ""),
    purpose: str = "report",
) -> Scorecard:
    """Measure the run's clone on its held-out prompts. Raises ``RunError`` when the run is not trained.

    ``recipe``: the run's, or one that is :func:`judged_by` other settings. ``profile``, ``engine``: see
    :func:`measure`.
    """
    tuned = demand_trained(run)
    return evaluate(
        run,
        recipe,
        load_splits(run),
        tuned,
        split=split,
        purpose=purpose,
        profile=profile,
        engine=engine,
        others=load_others(run),
    )
