"""Handing a clone on: to other programs as files, and to a hub."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft.errors import UserError
from sft.runs.run import Run
from sft.runs.tabular import Tabular
from sft.verbs.quiet import quiet

if TYPE_CHECKING:
    from sft.publishing.export import Gguf, GgufAdapter, Merged
    from sft.publishing.push import Asked, Pushed

__all__ = ["Exported", "Published", "export", "push"]


@dataclass(frozen=True, slots=True)
class Exported(Tabular):
    """What was written. ``files``: "merged", "gguf" or "gguf_adapter" -> what it is, and how far from the clone."""

    files: Mapping[str, Merged | Gguf | GgufAdapter]

    def to_text(self) -> str:
        """A line for each, with its size and its deviation from the run's clone."""
        return "\n".join(one.to_text() for one in self.files.values())

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {name: one.to_dict() for name, one in self.files.items()}

    def table(self) -> list[dict[str, Any]]:
        """A row for each."""
        return [{"kind": name} | one.to_dict() for name, one in self.files.items()]


@dataclass(frozen=True, slots=True)
class Published(Tabular):
    """A push: ``outcome`` holds its plan and, unless it was a dry run, its receipt."""

    outcome: Pushed

    def to_text(self) -> str:
        """After a dry run the plan, else where it is and at which commit."""
        done = self.outcome
        if done.receipt is None:
            return done.plan.to_text()
        where = done.receipt["pull_request"] or done.plan.branch
        was = "" if done.made else " (it was there already, nothing was sent)"
        return f"{done.plan.address}: {where} is at {done.receipt['commit']}, verified{was}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return self.outcome.to_dict()

    def table(self) -> list[dict[str, Any]]:
        """A row a file: path, size in bytes, sha256, and its state beside what the branch held."""
        return [
            {"path": one.path, "size": one.size, "sha256": one.sha256, "state": one.state}
            for one in self.outcome.plan.files
        ]


def export(
    run: str | PathLike[str] | Run,
    *,
    merged: str | PathLike[str] | None = None,
    gguf: str | PathLike[str] | None = None,
    outtype: str | None = None,
    gguf_adapter: str | PathLike[str] | None = None,
) -> Exported:
    """The clone in shapes that other programs load, each read back and compared with the run's.

    ``merged``: a new or empty folder for whole weights. ``gguf``: a new file for llama.cpp and Ollama, its matrices of
    ``outtype`` ("f32", "f16", "bf16", "q8_0", or, by llama.cpp's own quantiser and with what is lost by it, "q6_k",
    "q5_k_m", "q4_k_m"; "f16" unless given). ``gguf_adapter``: a new file for the adapter alone. Raises ``UserError``.
    """
    if merged is None and gguf is None and gguf_adapter is None:
        raise UserError("sft export: what into? Name a folder with --merged DIR, or a file with --gguf FILE")
    if outtype is not None and gguf is None:
        raise UserError("sft export: --outtype is of a GGUF file; name one with --gguf FILE")
    one = run if isinstance(run, Run) else Run.open(run)
    made: dict[str, Merged | Gguf | GgufAdapter] = {}
    with quiet():
        from sft.publishing.export import export_gguf, export_gguf_adapter, export_merged

        if merged is not None:
            made["merged"] = export_merged(one, Path(merged))
        if gguf is not None:
            made["gguf"] = export_gguf(one, Path(gguf), outtype or "f16")
        if gguf_adapter is not None:
            made["gguf_adapter"] = export_gguf_adapter(one, Path(gguf_adapter))
    return Exported(made)


def push(
    target: str | PathLike[str] | Run,
    repo: str | None = None,
    *,
    private: bool | None = None,
    branch: str = "main",
    create_pr: bool = False,
    tag: str | None = None,
    replace: bool = False,
    base_model: str | None = None,
    merged: bool = False,
    dry_run: bool = False,
    allow: Sequence[str] = (),
    allow_files: Sequence[str | PathLike[str]] = (),
    examples: bool | None = None,
    comments: bool = True,
    gguf: Sequence[str] = (),
    license: str | None = None,
    name_experts: bool = False,
    with_held_out: bool = False,
    say: Callable[[str], None] = print,
) -> Published:
    """Publish the clone of a run, or what was gathered: planned, looked through, sent as one commit, verified.

    ``target``: a run, or a gathering's folder. ``repo``: OWNER/NAME on the hub, the recipe's ``publish.hub_id`` unless
    given. ``private``: for its owner only, unless the recipe or False says otherwise. ``dry_run``: show the plan, and
    send nothing. ``allow``: ``WHAT=REASON`` of findings to publish all the same, WHAT a finding's id, kind or file;
    ``allow_files``: files with such lines. ``examples``: whether texts of held-out demonstrations may stand in card and
    scorecard (unless said here or in the recipe: only those of public data); ``comments``: whether the recipe's
    comments are published; ``gguf``: kinds of GGUF files to send along, in the same commit. These, ``base_model`` and
    ``merged`` are for a run; ``license``, ``name_experts`` and ``with_held_out`` for a gathering. ``say`` gets the plan
    before anything is sent, then a line now and then. The token comes from ``hf auth login`` or HF_TOKEN, and from
    nowhere else.
    Raises ``PublishError`` and the outcomes below it (``sft push --help``).
    """
    with quiet():
        from sft.publishing import push as publishing

        asked = publishing.Asked(
            repo, private, branch, create_pr, tag, replace, base_model, merged, dry_run, allow,
            allow_files=tuple(map(Path, allow_files)), examples=examples, comments=comments, gguf=tuple(gguf),
        )  # fmt: skip
        folder = target.path if isinstance(target, Run) else Path(target)
        if (folder / "gathering.json").is_file():
            for name, given in (("merged", merged), ("base_model", base_model)):
                _refuse(given, name, "a run; a gathering has no weights")
            for name, given in (
                ("examples", examples),
                ("no_examples", examples is False),
                ("no_comments", not comments),
            ):
                _refuse(given, name, "a run; a gathering is published as it is")
            return Published(_push_gathering(folder, asked, license, name_experts, with_held_out, say))
        for name, given in (("name_experts", name_experts), ("with_held_out", with_held_out), ("license", license)):
            _refuse(given, name, "a gathering; a run's recipe says it (publish)")
        one = target if isinstance(target, Run) else Run.open(folder)
        return Published(publishing.push(one, asked, say=say))


def _push_gathering(
    folder: Path, asked: Asked, licence: str | None, named: bool, with_held_out: bool, say: Callable[[str], None]
) -> Pushed:
    """What experts wrote, as a data set."""
    from sft.gathering.data_set import write_data_set
    from sft.gathering.folder import Gathering
    from sft.publishing.push import Filled, push_data_set

    gathering = Gathering.open(folder)

    def write(place: Path) -> Filled:
        made = write_data_set(
            gathering, place, repo=str(asked.repo), licence=licence, named=named, with_held_out=with_held_out
        )
        return Filled(made.what, made.left_out, made.notes)

    return push_data_set(gathering.path, asked, write, say=say)


def _refuse(given: object, name: str, whose: str) -> None:
    if given:
        raise UserError(f"--{name.replace('_', '-')}: is for {whose}; leave it out")
