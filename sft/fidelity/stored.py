"""What measuring left in a run, written and read back, and the whole scorecard from it: no model is needed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from sft.demonstrations import stored
from sft.demonstrations.demonstration import Demonstration, HeldOut, prompt_text
from sft.demonstrations.near_duplicates import find_near, joined
from sft.errors import RunError, UserError
from sft.fidelity.conventions import FLOORS
from sft.fidelity.measure import measure
from sft.fidelity.observations import Observations
from sft.fidelity.probes.examples import corrections
from sft.fidelity.score_table import score_rows
from sft.fidelity.scorecard import EARLIER_FLOORS, Scorecard
from sft.fidelity.scoring import JSON, Scoring
from sft.runs import sealed
from sft.runs.records import Completion, ControlWindow, Forced, OwnPath, PromptValue, TokenScores
from sft.runs.run import Run, write_json, write_jsonl, write_text

__all__ = [
    "as_before_on_refusal",
    "damaged",
    "demand_untouched",
    "observe",
    "read_held_out",
    "read_measurement",
    "read_scorecard",
    "remeasure",
    "scoring_of",
    "write_measurement",
]

T = TypeVar("T")
_ROUND = re.compile(r"samples-\d+\.jsonl")

#: A validation loss that fell by more than this share at its last measurement was still falling; one that ended
#: higher than its lowest by more than the other has risen.
STILL_FALLING, HAS_RISEN = 0.005, 0.02


#: Beginnings of the names of files that a measurement adds rows to, and of those that it writes anew each time.
GROWING = (
    "completions-",
    "token-scores-",
    "samples-",
    "forced-",
    "own-path",
    "control-",
    "prompt-values",
    "departures-",
)
DERIVED = ("held-out.", "measurement.", "scores.", "scorecard.", "corrections.")


def write_measurement(run: Run, items: Sequence[HeldOut], facts: Mapping[str, Any]) -> None:
    """Write down which prompts were measured and how: ``held-out.jsonl`` and ``measurement.json``.

    ``facts``: split, profile, systems (whose completions count), scored (whose token scores do, if others), bar,
    metrics, checker, conflicts, near_threshold, seed, floors (that are asked for, measured or not), names (of systems,
    where they are not what ``SYSTEMS`` says), signature, agreement (of what vLLM wrote with what transformers writes).
    """
    sealed.unseal(run, DERIVED)
    write_jsonl(run.held_out_path, (item.to_dict() | {"address": item.address} for item in items))
    write_json(run.measurement_path, dict(facts))


def read_measurement(run: Run) -> dict[str, Any]:
    """How what was measured came about. Raises ``RunError`` where nothing was, or the file was altered."""
    if not sealed.there(run, run.measurement_path):
        raise RunError(f"{run.path}: nothing has been measured yet; run `sft evaluate {run.path}`")
    return sealed.value(run, run.measurement_path)


@contextmanager
def as_before_on_refusal(run: Run) -> Iterator[None]:
    """Inside, ``run`` is measured again; where that is refused, its scorecard stays, with all that it rests on.

    Unless another signature has taken the rows away that it was computed from.
    """
    before = {path: path.read_bytes() for path in run.path.iterdir() if path.name.startswith(DERIVED)}
    manifest = run.manifest
    try:
        yield
    except UserError:
        if run.scorecard_path in before and run.scorecard_path.exists():
            for path, content in before.items():
                write_text(path, content.decode())
            seals = {name: one for name, one in manifest.get("files", {}).items() if name.startswith(DERIVED)}
            known = {name: manifest[name] for name in ("looks", "held_out") if name in manifest}
            run.update_manifest(files=run.manifest.get("files", {}) | seals, **known)
        raise


def demand_untouched(run: Run) -> None:
    """Raise ``RunError`` where a row that a measurement would use again is damaged, or not as it was left."""
    for path in [run.log_path, *_grown(run)]:
        if path.exists():
            sealed.rows(run, path)


def _grown(run: Run) -> list[Path]:
    """Every file that measurements have added rows to."""
    return [path for path in sorted(run.path.glob("*.jsonl")) if path.name.startswith(GROWING) and not _is_part(path)]


def read_held_out(run: Run) -> list[HeldOut]:
    """The held-out prompts that were measured, those that are one observation in one cluster (``clusters.joined``).

    Raises ``RunError`` where none were measured, or the file was altered.
    """
    if not sealed.there(run, run.held_out_path):
        raise RunError(f"{run.path}: nothing has been measured yet; run `sft evaluate {run.path}`")
    return joined(_each(run, run.held_out_path, _held_out))


def read_scorecard(run: Run) -> Scorecard:
    """The scorecard of ``run``. Raises ``RunError`` where it has none, or one that this version does not write."""
    if not sealed.there(run, run.scorecard_path):
        raise RunError(f"{run.path} has no scorecard yet; write one with `sft evaluate {run.path}`")
    try:
        return Scorecard.from_dict(sealed.value(run, run.scorecard_path))
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) or "its shape"
        raise damaged(run, run.scorecard_path, f"{where} that is not as this sft writes it") from None


def damaged(run: Run, path: Path, what: str) -> RunError:
    """The refusal of a file of ``run`` that holds ``what`` it should not."""
    return RunError(f"{path}: holds {what}; measure the clone again with `sft evaluate {run.path}`")


def _held_out(row: Mapping[str, Any]) -> HeldOut:
    if not row["prompt"] or not row["references"] or len(row["references"]) != len(row["experts"]):
        raise ValueError("a held-out prompt has a turn or more, a reference or more, and an expert for each reference")
    return HeldOut.from_dict(dict(row))


def _each(run: Run, path: Path, make: Callable[[dict[str, Any]], T]) -> list[T]:
    """Every row of ``path`` as what it stands for; nothing where there is no file."""
    return sealed.made(run, path, make) if sealed.there(run, path) else []


def _is_part(path: Path) -> bool:
    """Whether ``path`` is one process's part of a file, left by a kill; the next measurement puts it in its place."""
    return ".rank-" in path.name


def _made(
    kind: Callable[..., T], alike: Sequence[str] = (), **sequences: Sequence[Any]
) -> Callable[[dict[str, Any]], T]:
    """From a row to a ``kind`` of observation: keys that it does not know are left out, lists are tuples.

    ``sequences``: keys that may be missing, with what they are then. ``alike``: keys whose values run in
    parallel; raises ``ValueError`` where they do not.
    """
    names = {one.name for one in fields(kind)}  # type: ignore[arg-type]

    def make(row: dict[str, Any]) -> T:
        known = sequences | {name: value for name, value in row.items() if name in names}
        one = kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in known.items()})
        if len({len(known[name]) for name in alike if known[name]}) > 1:
            raise ValueError(f"{', '.join(alike)} are not of one length")
        return one

    return make


_completion = _made(Completion, ids=())
_token_scores = _made(TokenScores, ("nats", "ranks", "entropies", "confidences"), confidences=())
_own_path = _made(OwnPath, ("confidences", "hits"))
_prompt_value = _made(
    PromptValue,
    ("token_ends", "own_token_nats", "other_token_nats"),
    token_ends=(),
    own_token_nats=(),
    other_token_nats=(),
)


def _by_id(rows: Iterable[T], wanted: set[str]) -> dict[str, T]:
    return {row.id: row for row in rows if row.id in wanted}  # type: ignore[attr-defined]


def scoring_of(run: Run) -> Scoring:
    """How the clone of ``run`` was scored when it was measured. Raises ``RunError``."""
    return _scoring(read_measurement(run))


def _scoring(facts: Mapping[str, Any]) -> Scoring:
    return Scoring(
        facts.get("headline", "chrf"),
        tuple(facts.get("metrics") or ()),
        facts.get("checker") or "",
        tuple(facts.get("normalise") or ()),
        leaves=JSON in (facts.get("bar") or {}),
    )


def observe(run: Run) -> Observations:
    """Everything measured in ``run``, for the prompts of ``held-out.jsonl``. Raises ``RunError``."""
    items = read_held_out(run)
    facts = read_measurement(run)
    scoring = _scoring(facts)
    wanted = {item.id for item in items}
    systems = facts["systems"]
    completions = {s: _by_id(_each(run, _of(run, run.completions_path, s), _completion), wanted) for s in systems}
    scored = facts.get("scored", systems)  # the fast profile scores a base that writes nothing
    scores = {s: _by_id(_each(run, _of(run, run.token_scores_path, s), _token_scores), wanted) for s in scored}
    rounds = [path for path in run.path.glob("samples-*.jsonl") if _ROUND.fullmatch(path.name)]
    rounds.sort(key=lambda path: int(path.stem.rpartition("-")[2]))
    samples = [_by_id(_each(run, path, _completion), wanted) for path in rounds]
    parts = stored.parts(run)
    train = tuple(parts["train"])
    return Observations(
        held_out=items,
        completions={s: found for s, found in completions.items() if found},
        token_scores={s: found for s, found in scores.items() if found},
        train=train,
        samples=[one for one in samples if len(one) == len(items)],  # one cut short has the first prompts only
        forced=_forced(run, wanted),
        own_path=_by_id(_each(run, run.own_path_path, _own_path), wanted),
        control=_control(run),
        prompt_values=_each(run, run.prompt_values_path, _prompt_value),
        contaminated=_contaminated(run, items, parts, facts.get("near_threshold", 0.8)),
        checker=scoring.checker,
        metrics=scoring.further,
        headline=scoring.headline,
        normalise=scoring.normalise,
        curve=_curve(run),
        conflicts=facts.get("conflicts", "keep"),
        bar=facts.get("bar") or {},
        profile=facts.get("profile", "standard"),
        split=facts["split"],
        looks=run.times_looked(facts["split"]),
        clones=facts.get("clones", 1),
        seed=facts.get("seed", 0),
        floors=tuple(facts.get("floors") or (floor for floor in FLOORS if floor in {*EARLIER_FLOORS, *systems})),
        names=facts.get("names") or {},
        signature=(facts.get("signature") or {})
        | ({"agreement": agreed} if (agreed := facts.get("agreement")) else {}),
    )


def _of(run: Run, path_of: Callable[[str], Path], system: str) -> Path:
    """The file of ``system``; its name comes out of a file and may be none."""
    try:
        return path_of(system)
    except ValueError as error:
        raise damaged(run, run.measurement_path, f"a system of no name ({error})") from None


def _forced(run: Run, wanted: set[str]) -> dict[str, list[Forced]]:
    found = {}
    for path in sorted(run.path.glob("forced-*.jsonl")):
        rows = [row for row in _each(run, path, _made(Forced)) if row.id in wanted] if not _is_part(path) else []
        if rows:
            found[path.stem.partition("-")[2]] = rows
    return found


def _control(run: Run) -> dict[str, list[ControlWindow]]:
    found = {}
    for policy in ("base", "tuned"):
        rows = _each(run, run.control_path(policy), _made(ControlWindow))
        if rows:
            found[policy] = rows
    return found


def _contaminated(
    run: Run, items: Sequence[HeldOut], parts: Mapping[str, Sequence[Demonstration]], threshold: float
) -> frozenset[str] | None:
    """Held-out prompts of which a near-duplicate was left in training; None where training is not known.

    A split that refused or removed near-duplicates has none: looking again without the rows that went would draw the
    line between what a prompt says and what all prompts say (``near_duplicates``) in another place, and find others.
    """
    train = parts["train"]
    if not train:
        return None
    if run.resolved_recipe.get("split", {}).get("near_duplicates") in ("refuse", "remove"):
        return frozenset()
    everything = {prompt_text(d.prompt) for part in parts.values() for d in part}
    everything |= {prompt_text(item.prompt) for item in items}
    asked = [prompt_text(item.prompt) for item in items]
    learned = list(dict.fromkeys(prompt_text(d.prompt) for d in train))
    near = find_near(asked, learned, threshold, corpus=sorted(everything))
    return frozenset(items[pair.row].id for pair in near)


def _curve(run: Run) -> str:
    """How the validation loss ended: "falling", "rose", "flat", or "" where it was not measured twice."""
    if not sealed.there(run, run.log_path):
        return ""
    rows = sealed.rows(run, run.log_path)
    # A resumed run logs the steps after its checkpoint again: the last word on a step counts.
    known = {row["step"]: row["eval_loss"] for row in rows if isinstance(row.get("eval_loss"), int | float)}
    losses = [known[step] for step in sorted(known) if step]
    if len(losses) < 2:
        return ""
    lowest = min(losses)
    if losses[-1] > lowest * (1 + HAS_RISEN):
        return "rose"
    return "falling" if losses[-1] == lowest and losses[-1] < losses[-2] * (1 - STILL_FALLING) else "flat"


def remeasure(run: Run) -> Scorecard:
    """The whole scorecard from the files of ``run``.

    Writes ``scores.jsonl``, ``scorecard.json`` and ``corrections.jsonl``. Raises ``RunError`` where nothing was
    measured or a file was altered, ``UserError`` where nothing can be said.
    """
    observed = observe(run)
    rows = score_rows(observed.held_out, observed.completions, observed.scoring)
    card = measure(observed, rows)
    sealed.unseal(run, DERIVED[2:])
    write_jsonl(run.scores_path, rows)
    write_jsonl(run.corrections_path, corrections(observed.held_out, card.examples, run.path.resolve().name))
    write_json(run.scorecard_path, card.to_dict())
    sealed.seal(run, _what_it_rests_on(run))
    return card


def _what_it_rests_on(run: Run) -> list[Path]:
    """Every file that the scorecard was computed from, and those that hold it."""
    given = [run.demonstrations_path, run.split_path, run.others_path, run.log_path]
    return [*given, run.held_out_path, run.measurement_path, *_grown(run), run.scores_path, run.scorecard_path]
