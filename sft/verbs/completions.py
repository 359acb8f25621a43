"""``sft score``: completions of any system, judged as a run of ours is; see ``fidelity.completions_file``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sft.demonstrations import splits
from sft.demonstrations.demonstration import Demonstration, prompt_key
from sft.errors import RunError
from sft.fidelity import floors, stored
from sft.fidelity.completions_file import (
    ALWAYS_OURS,
    FROM_A_FILE,
    JUDGED,
    NEAR,
    OURS_WITH_TRAINING,
    Answers,
    _content_of,
    _training,
    read,
)
from sft.fidelity.conventions import bar_points
from sft.fidelity.scorecard import Scorecard
from sft.fidelity.scoring import JSON, Scoring
from sft.runs import sealed
from sft.runs.hashes import Digest, differences, fingerprint
from sft.runs.looks import clones_judged
from sft.runs.records import Completion, TokenScores, as_row
from sft.runs.run import Run, write_jsonl


def score_file(
    path: Path,
    *,
    train: Path | None = None,
    checker: str = "",
    bar: Mapping[str, float] | None = None,
    further: Sequence[str] = (),
    headline: str = "chrf",
    normalise: Sequence[str] = (),
    output: Path | None = None,
    fast: bool = False,
    called: str = "",
) -> tuple[Scorecard, Run | None]:
    """The scorecard of what ``path`` holds, and the run folder at ``output`` where one is asked for.

    ``train``: the demonstrations that the judged system learned from, for the shortcuts R, RK, K and L, memorisation
    and contamination. ``checker``, ``bar``, ``headline``, ``normalise``: as in a recipe; ``further``: its
    ``metrics``.
    ``called``: what addresses and the record call ``path``, where it has no name of its own.
    ``fast`` leaves out corpus figures (BLEU, chrF++), half of the time that thousands of prompts take.
    Raises ``DemonstrationsError`` with every bad row,
    ``SourceError`` for a file that is unusable as a whole, ``SplitError`` for a held-out prompt in ``train``,
    ``UserError`` for a bar or checker that cannot be used, ``RunError`` for an ``output`` that holds something else.
    Where ``output`` holds what became of the same input, whole or cut short, it is made again.
    """
    bar_points(bar or {}, headline)  # said before anything is written
    given = dict(bar or {})  # kept as it was given: a share read twice would be another bar
    scoring = Scoring(headline, tuple(further), checker, tuple(normalise), leaves=JSON in given)
    scoring.demand()
    ours = ALWAYS_OURS + (OURS_WITH_TRAINING if train else ())
    answers = read(path, ours=ours, called=called)
    learned = _training(train, answers) if train else ()
    completions = dict(answers.completions) | {"P": floors.copied_prompt(answers.items)}
    if learned:
        completions |= floors.floor_completions(learned, answers.items)
    facts = _facts(answers, learned, completions, scoring) | {"profile": "fast" if fast else "full", "bar": given}
    parts = {"train": learned, "test": answers.asked}
    manifest = {
        "data": {
            "hash": splits.data_digest(parts),
            "rows": answers.rows,
            "paths": [called or str(path), *([str(train)] if train else [])],
        },
        "scored": {
            "completions": Digest.by("v1", _content_of(answers)),
            "training file": train is not None,
            "--checker": checker,
            "--bar": given,
            "--metric": list(further),
            **({"--headline": headline} if headline != "chrf" else {}),
            **({"--normalise": list(normalise)} if normalise else {}),
            "--fast": fast,
        },
    }
    # Without an output the folder is gone afterwards, so that both ways say the same. It lies in one of its own: what
    # is scored elsewhere at this time, or was when it was killed, is no neighbour.
    place = TemporaryDirectory(prefix="sft-score-") if output is None else nullcontext(str(output))
    with place as folder, _begun(Path(folder) / ("" if output else "run"), manifest) as run:
        with run.session():
            _write(run, parts, completions, answers.scores)
            judged = _clone_of(answers)
            if not run.looks:  # the same figures again choose nothing
                run.look("test", "sft score", judged)
            clones = clones_judged(run, "test", judged, [prompt_key(item.prompt) for item in answers.items])
            stored.write_measurement(run, answers.items, facts | {"clones": clones})
            card = stored.remeasure(run)
        if output is not None:
            from sft.reports.report import render

            render(run)
    return card, None if output is None else Run.open(output)


def _facts(
    answers: Answers, learned: Sequence[Demonstration], completions: Mapping[str, Mapping[str, Completion]], by: Scoring
) -> dict[str, Any]:
    """What a measurement of ours would have on file about ``completions``: system -> id -> text."""
    return {
        "split": "test",
        "systems": list(completions),
        "scored": list(answers.scores),
        "metrics": list(by.further),
        "checker": by.checker,
        "headline": by.headline,
        "normalise": list(by.normalise),
        "conflicts": "keep",
        "near_threshold": NEAR,
        "seed": 0,
        "floors": floors.demanded(learned, completions),
        "signature": {
            "source": FROM_A_FILE,
            "decoding": "not recorded",
            "stops": "as the file says" if answers.stops_known else "not recorded; taken as finished",
        },
    }


def _clone_of(answers: Answers) -> str:
    """What tells one judged system from another where its weights are not known: its texts."""
    texts = answers.completions[JUDGED]
    return Digest.by(
        "v1", fingerprint(sorted((prompt_key(i.prompt), texts[i.id].text) for i in answers.items if i.id in texts))
    )


def _write(
    run: Run,
    parts: Mapping[str, Sequence[Demonstration]],
    completions: Mapping[str, Mapping[str, Completion]],
    scores: Mapping[str, Mapping[str, TokenScores]],
) -> None:
    """Demonstrations, completions and how likely the expert's were found, in the place of what ``run`` had."""
    sealed.unseal(run, ("demonstrations.", *stored.GROWING, *stored.DERIVED))
    write_jsonl(run.demonstrations_path, (d.to_dict() | {"split": name} for name, part in parts.items() for d in part))
    for system, written in completions.items():
        write_jsonl(run.completions_path(system), map(as_row, written.values()))
    for system, found in scores.items():
        write_jsonl(run.token_scores_path(system), map(asdict, found.values()))


@contextmanager
def _begun(folder: Path, facts: Mapping[str, dict[str, Any]]) -> Iterator[Run]:
    """A new run in ``folder`` or, where the same input was scored there before, that run, to be made again."""
    if not (folder / "manifest.json").exists():
        with Run.create(folder, **facts) as run:
            try:
                yield run
            except BaseException:  # half-written it goes again: nobody would know what it holds
                with suppress(OSError):
                    for path in run.path.iterdir():  # all ours: a new run begins in an empty folder
                        path.unlink()
                    run.path.rmdir()
                raise
        return
    with Run.open(folder, writing=True) as run:
        known = run.manifest.get("scored")
        if not isinstance(known, dict):
            raise RunError(f"{folder}: holds a run that was not made of these completions; name another folder")
        same = facts["data"]["hash"].is_of(run.manifest.get("data", {}).get("hash"))
        other = [*([] if same else ["references or training file"]), *differences(known, facts["scored"])]
        if other:
            raise RunError(
                f"{folder}: holds the scorecard of another input ({', '.join(other)}); name another folder, or remove "
                "this one"
            )
        yield run
