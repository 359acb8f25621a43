"""Measuring the clone: every system writes for the held-out prompts, and all of it is scored.

Completions and token scores are appended to files of the run as they come, each process its share, and are
reused as long as they were made under the same signature; so an interrupted evaluation goes on where it was.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import PartialState
from tqdm import tqdm

from sft import fidelity, floors
from sft.demonstrations import Demonstration, HeldOut, fingerprint, held_out
from sft.generation import complete, rank_and_world, score
from sft.observations import Completion, TokenScores
from sft.policies import Policy, context_length, default_device, load_policy, load_renderer
from sft.recipes import Recipe
from sft.rendering import Rendered, Renderer, census, few_shot_prompt
from sft.runs import Run, open_append, read_json, read_jsonl, write_json, write_jsonl
from sft.scorecards import Scorecard
from sft.splits import Splits

__all__ = ["all_processes", "choose_held_out", "evaluate", "policy_of"]

#: Systems that run a model, in the order they run: what the base has loaded serves both of its two.
POLICIES = ("B0", "B3", "tuned")
FLOORS_WITHOUT_MODEL = ("R", "K", "P")

#: Rows scored in one forward pass; more of them would mean more padding, not more speed.
SCORED_AT_ONCE = 8


def choose_held_out(demonstrations: Sequence[Demonstration], limit: int | None) -> list[HeldOut]:
    """At most ``limit`` held-out prompts, chosen and ordered by content, so that all runs take the same.

    One prompt of every group comes first, then a second one of each, and so on: prompts of one source tell
    less than as many of different ones, so this is where a limited number of them gives the narrowest interval.
    """
    ranked = sorted(held_out(demonstrations), key=lambda item: fingerprint([asdict(m) for m in item.prompt]))
    seen: Counter[str] = Counter()
    rounds = []
    for item in ranked:
        rounds.append(seen[item.cluster])
        seen[item.cluster] += 1
    order = sorted(range(len(ranked)), key=lambda place: (rounds[place], place))
    return [ranked[place] for place in order[:limit]]


def evaluate(
    run: Run, recipe: Recipe, splits: Splits, tuned: Path, *, split: str = "test", purpose: str = "report"
) -> Scorecard:
    """Let every system of the recipe write for the held-out prompts of ``split``, and score all of them.

    ``tuned``: folder of the clone's adapter or full model. Writes completions, token scores, ``scores.jsonl`` and
    ``scorecard.json`` into ``run``, and the look at the split into its manifest.
    """
    model = recipe.model
    renderer = load_renderer(model.name, model.revision, model.template, model.trust_remote_code)
    context = context_length(model.name, model.revision, model.trust_remote_code) or sys.maxsize
    # What the ledger counts as too long was not trained on either, and no policy could write it.
    fitting = renderer.render_all(splits.parts[split], max_length=context, too_long="drop")[0]
    items = choose_held_out([demonstration for demonstration, _ in fitting], recipe.fidelity.max_prompts)
    lengths = census(row for _, row in renderer.render_all(splits.train)[0]).completion
    max_new_tokens = recipe.fidelity.max_new_tokens or 2 * lengths["99"]
    experts = [Demonstration(item.prompt, item.references[0], id=item.id) for item in items]
    rendered = [row for _, row in renderer.render_all(experts)[0]]
    longest = max([max_new_tokens, *(len(row.completion_ids) for row in rendered)])
    shown = _shown(renderer, splits, items, context - longest)
    signature = {
        "template_hash": renderer.template_hash,
        "decoding": "greedy",
        "max_new_tokens": max_new_tokens,
        "b3_demonstrations": len(shown),
        "base": model.name,
        "split": split,
        "split_hash": run.manifest["split"]["hash"],
    }
    _keep_or_discard(run, signature | {"ids": fingerprint([item.id for item in items])})
    systems = [system for system in recipe.fidelity.systems if system not in FLOORS_WITHOUT_MODEL]
    written: dict[str, dict[str, Completion]] = {}
    scored: dict[str, dict[str, TokenScores]] = {}
    if "B3" in systems and not shown:
        _say(f"evaluate  left out: B3; beside the prompts no demonstration fits into the context of {context} tokens")
        systems.remove("B3")
    policy: Policy | None = None
    for system in sorted(systems, key=POLICIES.index):
        prompts = [few_shot_prompt(shown, item.prompt) if system == "B3" else item.prompt for item in items]
        ids = dict(zip([item.id for item in items], renderer.prompt_ids_all(prompts), strict=True))
        forced = {item.id: _after(ids[item.id], row.completion_ids) for item, row in zip(items, rendered, strict=True)}
        files = _files(run, system)
        if not any(_missing(path, ids) for path in files):
            _say(f"evaluate  reused: what {system} wrote for {len(ids)} prompts")
        elif policy is None or system == "tuned":
            policy = None  # let go of the other weights first
            policy = policy_of(recipe, tuned if system == "tuned" else None)
        room = {key: min(max_new_tokens, context - len(row)) for key, row in ids.items()}
        written[system], scored[system] = _run_system(
            files, system, policy, recipe.fidelity.batch_size, ids, forced, items, room
        )
    del policy
    if rank_and_world()[0] == 0:
        for floor, completions in floors.floor_completions(splits.train, items).items():
            if floor in recipe.fidelity.systems:
                written[floor] = completions
                write_jsonl(run.completions_path(floor), (asdict(c) for c in completions.values()))
        run.look(split, purpose)
        rows = fidelity.score_rows(items, written)
        card = fidelity.measure(
            items, written, scored, bar=recipe.fidelity.bar, signature=signature, split=split, rows=rows
        )
        write_jsonl(run.scores_path, rows)
        write_json(run.scorecard_path, card.to_dict())
    _wait_for_everyone()
    return Scorecard.from_dict(read_json(run.scorecard_path))


def _say(text: str) -> None:
    if rank_and_world()[0] == 0:
        sys.stderr.write(text + "\n")


def _files(run: Run, system: str) -> tuple[Path, Path]:
    return run.completions_path(system), run.token_scores_path(system)


def _shown(renderer: Renderer, splits: Splits, items: Sequence[HeldOut], longest: int) -> list[Demonstration]:
    """The demonstrations of B3: as many of the three as leave no prompt longer than ``longest`` tokens."""
    shown = floors.b3_demonstrations(splits.train)
    while shown:
        prompts = renderer.prompt_ids_all([few_shot_prompt(shown, item.prompt) for item in items])
        if max(map(len, prompts), default=0) <= longest:
            break
        shown.pop()
    return shown


def _after(prompt: Sequence[int], completion: Sequence[int]) -> Rendered:
    """An expert's completion after a prompt that need not be its own (the few-shot one)."""
    return Rendered((*prompt, *completion), (0,) * len(prompt) + (1,) * len(completion))


def policy_of(recipe: Recipe, tuned: Path | None) -> Policy:
    """The recipe's base policy, or its clone with the weights in ``tuned``."""
    model = recipe.model
    return load_policy(
        model.name,
        revision=model.revision,
        template=model.template,
        dtype=model.dtype,
        trust_remote_code=model.trust_remote_code,
        tuned=tuned,
    )


def _keep_or_discard(run: Run, made_with: Mapping[str, Any]) -> None:
    """What systems wrote is kept only under the signature it was made with; else it goes, scorecard included."""
    path = run.path / "completions.json"
    if rank_and_world()[0] == 0 and not (path.exists() and read_json(path) == made_with):
        for old in [*run.path.glob("completions-*.jsonl"), *run.path.glob("token-scores-*.jsonl")]:
            old.unlink()
        run.scorecard_path.unlink(missing_ok=True)
        write_json(path, made_with)
    _wait_for_everyone()


def _missing(path: Path, ids: Mapping[str, Any]) -> list[str]:
    done = {row["id"] for row in read_jsonl(path)} if path.exists() else set()
    return [key for key in ids if key not in done]


def _run_system(
    files: tuple[Path, Path],
    system: str,
    policy: Policy | None,
    batch_size: int,
    ids: Mapping[str, Sequence[int]],
    forced: Mapping[str, Rendered],
    items: Sequence[HeldOut],
    room: Mapping[str, int],
) -> tuple[dict[str, Completion], dict[str, TokenScores]]:
    """Whatever is still missing of one system, on all processes, and then all of it.

    ``policy``: None if nothing is missing. ``room``: the most new tokens for each prompt; where the context ends
    it is less than what others have.
    """
    sizes = {item.id: len(item.references[0].encode("utf-8")) for item in items}

    def write(todo: list[str]) -> Iterator[Completion]:
        assert policy is not None
        for most in sorted({room[k] for k in todo}, reverse=True):
            alike = {k: ids[k] for k in todo if room[k] == most}
            yield from complete(policy, alike, max_new_tokens=most, batch_size=batch_size)

    def force(todo: list[str]) -> Iterator[TokenScores]:
        assert policy is not None
        return score(policy, {k: forced[k] for k in todo}, sizes, batch_size=SCORED_AT_ONCE)

    completions = _fill(files[0], f"write {system}", ids, write)
    token_scores = _fill(files[1], f"score {system}", ids, force)
    sequences = ("nats", "ranks", "entropies")
    return (
        {row["id"]: Completion(**row) for row in completions},
        {row["id"]: TokenScores(**row | {key: tuple(row[key]) for key in sequences}) for row in token_scores},
    )


def _fill(
    main: Path, title: str, ids: Mapping[str, Any], make: Callable[[list[str]], Iterator[Any]]
) -> list[dict[str, Any]]:
    """Make what is missing of the file ``main``, each process its share, and return its rows in order of ``ids``.

    Every process appends to a file of its own; the first one takes the others' lines over, also those
    that an interrupted evaluation left behind.
    """
    rank, world = rank_and_world()
    own = main if rank == 0 else main.with_name(f"{main.stem}.rank-{rank}.jsonl")
    if rank == 0:
        _take_over(main)
    _wait_for_everyone()
    todo = _missing(main, ids)[rank::world]
    _wait_for_everyone()  # nobody writes before everybody has seen the same list
    if todo:
        bar = tqdm(total=len(todo), desc=title, unit="prompt", file=sys.stderr, disable=rank != 0)
        with bar, open_append(own) as file:
            for result in make(todo):
                file.append(asdict(result))
                bar.update()
    _wait_for_everyone()
    if rank == 0:
        _take_over(main)
    _wait_for_everyone()
    rows = {row["id"]: row for row in read_jsonl(main)}
    return [rows[key] for key in ids if key in rows]


def _take_over(main: Path) -> None:
    for other in sorted(main.parent.glob(f"{main.stem}.rank-*.jsonl")):
        with open_append(main) as file:
            for row in read_jsonl(other):
                file.append(row)
        other.unlink()


def all_processes() -> PartialState:
    """The processes that a launcher started, as a group that can wait for each other.

    Without ``cpu`` accelerate makes no group where there is no accelerator, and waits for nobody.
    """
    return PartialState(cpu=default_device().type == "cpu")


def _wait_for_everyone() -> None:
    if rank_and_world()[1] > 1:
        all_processes().wait_for_everyone()
