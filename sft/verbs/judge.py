"""Judging clones: a run's, whatever was trained elsewhere, completions of any system, and runs beside each other."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft.errors import RunError, UserError
from sft.verbs.fit import tell_trackers
from sft.verbs.opened import OpenedRun, open_run
from sft.verbs.quiet import at_work
from sft.verbs.served import ask_server, refuse_alone, refuse_beside
from sft.verbs.typed import as_typed

if TYPE_CHECKING:
    from sft.fidelity.comparison import Comparison
    from sft.fidelity.scorecard import Scorecard
    from sft.runs.run import Run

__all__ = ["compare", "evaluate", "score"]

#: What :func:`evaluate` is told of a clone that was trained elsewhere, and a run knows itself.
_ELSEWHERE = ("train", "base", "output", "max_prompts")


def evaluate(
    target: str | PathLike[str] | Run,
    *,
    split: str | None = None,
    profile: str | None = None,
    checker: str | None = None,
    headline: str | None = None,
    metrics: Sequence[str] = (),
    normalise: Sequence[str] = (),
    engine: str | None = None,
    served_model: str | None = None,
    held_out: str | PathLike[str] | None = None,
    train: str | PathLike[str] | None = None,
    base: str | None = None,
    output: str | PathLike[str] | None = None,
    max_prompts: int | None = None,
    endpoint: str | None = None,
    route: str | None = None,
    parallel: int | None = None,
    patience: float | None = None,
) -> OpenedRun:
    """Measure the clone of a run; with ``held_out`` any adapter or model on any file; with ``endpoint`` a server.

    ``target``: the run's folder; or with ``held_out``, a file of demonstrations, an adapter or model by path or hub id.
    ``split``: "test" or "validation". ``profile``: "fast", "standard", "full". ``checker``, ``headline``, ``metrics``,
    ``normalise``: as in a recipe's section fidelity. ``engine``: "transformers", "vllm" or the address of a vLLM, whose
    ``served_model`` is the clone. ``train``: what was learned from; ``base``: the base model; ``output``: the run's
    folder; ``max_prompts``: 200 unless given.

    ``endpoint``: http://HOST:PORT of an OpenAI-compatible server. It is asked for what the run was measured on, and the
    run's ``served`` says whether it writes the same, and if not, where and why. ``served_model``: the only one that it
    lists, unless given; ``route``: "chat" or "completions"; ``parallel``: prompts asked at once, 4 unless given;
    ``patience``: seconds to go on asking one that is starting, busy or failing, 60 unless given; ``output``: a folder
    for what it wrote, the run's unless given; ``max_prompts``: all unless given. A key is read from OPENAI_API_KEY.
    Raises ``UserError``.
    """
    folder = target.path if hasattr(target, "path") else target
    place = None if output is None else Path(output)
    if endpoint is not None:
        refuse_beside({
            "held_out": held_out, "train": train, "base": base, "split": split, "profile": profile, "checker": checker,
            "headline": headline, "metric": metrics, "normalise": normalise, "engine": engine,
        })  # fmt: skip
        found = ask_server(
            Path(folder), endpoint, model=served_model, route=route, parallel=parallel, patience=patience,
            output=place, max_prompts=max_prompts,
        )  # fmt: skip
        asked_run = open_run(found.run)
        asked_run.served = found
        return asked_run
    runs_already = (engine or "").startswith("http")
    refuse_alone({
        "served_model": None if runs_already else served_model, "route": route, "parallel": parallel,
        "patience": patience,
    })  # fmt: skip
    asked: dict[str, Any] = {"checker": checker, "headline": headline}
    asked |= {"normalise": tuple(normalise), "metrics": tuple(metrics)}
    asked = {name: value for name, value in asked.items() if value}
    by = (engine or "", served_model or "")
    if held_out is None:
        for name, value in zip(_ELSEWHERE, (train, base, output, max_prompts), strict=True):
            if value is not None:
                raise UserError(
                    f"--{name.replace('_', '-')}: goes with --held-out FILE; a run itself is measured as its recipe "
                    "says"
                )
        return _evaluate_run(Path(folder), split or "test", profile, asked, by)
    if split is not None:
        raise UserError("--split: a held-out file is no split of a run; leave out --split or --held-out")
    return _evaluate_elsewhere(
        fspath(folder), fspath(held_out), place, by, profile,
        train=None if train is None else fspath(train), base=base, max_prompts=max_prompts or 200, **asked,
    )  # fmt: skip


def _evaluate_elsewhere(
    target: str, held_out: str, place: Path | None, engine: tuple[str, str], profile: str | None, **asked: Any
) -> OpenedRun:
    with at_work(), as_typed(("headline", "checker", "metrics", "normalise")):
        from sft.evaluation import foreign
        from sft.reports.report import render
        from sft.runs.processes import is_main

        one, _ = foreign.evaluate(
            target,
            held_out,
            output=place or Path("runs") / f"{Path(target).name}-on-{Path(held_out).stem}",
            profile=profile or "standard",
            engine=engine,
            **asked,
        )
        if is_main():
            render(one)
    return open_run(one.path)


def _evaluate_run(
    folder: Path, split: str, profile: str | None, asked: Mapping[str, Any], engine: tuple[str, str]
) -> OpenedRun:
    from sft.demonstrations.stored import load_recipe
    from sft.runs.processes import is_main
    from sft.runs.run import Run

    try:
        opened = Run.open(folder, writing=is_main())
    except RunError as error:
        if (folder / "manifest.json").exists():
            raise
        raise RunError(f"{error}; what was trained elsewhere is judged with --held-out FILE") from None
    with at_work(), opened as one, as_typed(asked):
        if not one.resolved_recipe_path.exists():
            raise RunError(
                f"{one.path}: was not made by a recipe, so there is nothing to measure again; "
                f"compute its scorecard again with `sft report {one.path} --recompute`"
            )
        from sft.evaluation.evaluate import evaluate_clone, judged_by
        from sft.reports.report import render

        with one.session() if is_main() else contextlib.nullcontext():
            recipe = judged_by(load_recipe(one), asked)
            card = evaluate_clone(
                one,
                recipe,
                split=split,
                profile=profile,
                engine=engine,
                purpose=", ".join(["report", *(f"{name} {_in_words(value)}" for name, value in asked.items())]),
            )
        if is_main():
            render(one)
            tell_trackers(one, card, recipe)
    return open_run(folder)


def _in_words(value: str | tuple[str, ...]) -> str:
    return value if isinstance(value, str) else " ".join(value)


def score(
    completions: str | PathLike[str] | Iterable[Mapping[str, Any]],
    *,
    train: str | PathLike[str] | None = None,
    checker: str = "",
    bar: Mapping[str, float] | None = None,
    metrics: Sequence[str] = (),
    headline: str = "chrf",
    normalise: Sequence[str] = (),
    output: str | PathLike[str] | None = None,
    fast: bool = False,
) -> Scorecard:
    """The whole scorecard from completions of any system; needs no model.

    ``completions``: a file, a folder, a pattern, "-" for standard input; or the rows, or a data frame of them. A row
    has prompt, completion and reference (or references), and may have id, group, expert, finished, system
    (``sft score --help``). ``train``: demonstrations the judged system learned from. ``bar``: metric -> points to be
    cleared. ``output``: a folder for the run, which :func:`open_run` opens. ``fast`` leaves out corpus figures.
    Raises ``UserError``.
    """
    from sft.demonstrations.sources import standard_input
    from sft.verbs.completions import score_file

    called = ""
    with contextlib.ExitStack() as around:
        if not isinstance(completions, str | PathLike):
            path, called = around.enter_context(_on_file(completions)), "rows"
        elif fspath(completions) == "-":
            path, called = around.enter_context(standard_input()), "standard input"
        else:
            path = Path(completions)
        around.enter_context(as_typed(("bar", "headline", "checker", "metrics", "normalise")))
        return score_file(
            path,
            train=None if train is None else Path(train),
            checker=checker,
            bar=bar or {},
            further=metrics,
            headline=headline,
            normalise=normalise,
            output=None if output is None else Path(output),
            fast=fast,
            called=called,
        )[0]


@contextlib.contextmanager
def _on_file(rows: Any) -> Iterator[Path]:
    """Inside, a file that holds ``rows``, mappings or a data frame."""
    listed = rows.to_dict("records") if hasattr(rows, "to_dict") else list(rows)
    with tempfile.TemporaryDirectory(prefix="sft-rows-") as folder:
        path = Path(folder) / "rows.jsonl"
        try:
            text = "".join(json.dumps(dict(row), ensure_ascii=False) + "\n" for row in listed)
        except (TypeError, ValueError) as error:
            raise UserError(f"rows: are no mappings of text and numbers ({error}); give prompt, completion and "
                            "reference in each") from None  # fmt: skip
        path.write_text(text, encoding="utf-8")
        yield path


def compare(*runs: str | PathLike[str] | Run, output: str | PathLike[str] | None = None) -> Comparison:
    """Tell the clones of two runs or more apart, on the same held-out prompts; needs no model.

    ``output``: a file for the page, if one is wanted. Raises ``RunError``.
    """
    from sft.fidelity.compare import compare_runs
    from sft.runs.run import Run, write_text

    found = compare_runs([one if isinstance(one, Run) else Run.open(one) for one in runs])
    if output is not None:
        from sft.reports.compare_page import to_html

        write_text(Path(output), to_html(found))
    return found
