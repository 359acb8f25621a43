"""What an export is made of: a file, a folder or a zip archive, as names that can be opened."""

from __future__ import annotations

import codecs
import hashlib
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO

from sft.demonstrations.file_kinds import BEGINNING
from sft.demonstrations.text_files import wide_encoding
from sft.errors import SourceError

__all__ = ["SourceFiles", "decoded", "larger"]

#: A member of an archive that unpacks to more than this many times its packed size, and is large, is no text.
_BOMB_RATIO, _BOMB_BYTES = 1000, 100_000_000
#: Encodings as mail and pages name them -> those that the same programs write.
_LARGER = {"iso8859-1": "cp1252", "iso8859-9": "cp1254", "gb2312": "gb18030", "gbk": "gb18030", "euc_kr": "cp949",
           "shift_jis": "cp932", "big5": "big5hkscs", "tis-620": "cp874"}  # fmt: skip


class SourceFiles:
    """The files of an export by their names, in one order on every machine.

    ``names``: relative, with ``/``, sorted; a file by itself has one, its own. ``read``: those that were read whole.
    Raises ``SourceError`` for what is not there, cannot be read, is an encrypted archive or an empty folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.read: set[str] = set()
        self._archive: zipfile.ZipFile | None = None
        self._unpacked: tuple[str, IO[bytes]] | None = None
        if not path.exists():
            raise SourceError(f"{path}: there is no such file or folder; check the path, it is read from {Path.cwd()}")
        try:
            if path.is_dir():
                self.names = tuple(sorted(_walked(path)))
            elif zipfile.is_zipfile(path):
                self._archive = zipfile.ZipFile(path)
                self.names = tuple(sorted(_members(path, self._archive)))
            else:
                self.names = (path.name,)
        except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
            raise SourceError(f"{path}: cannot be read ({_reason(error)}); check the file and its rights") from None
        if not self.names:
            raise SourceError(f"{path}: holds no files; name the export itself, a file, a folder or a zip archive")

    def close(self) -> None:
        """Let go of the archive, where it is one."""
        for one in (self._archive, self._unpacked and self._unpacked[1]):
            if one is not None:
                one.close()

    def matching(self, *patterns: str) -> list[str]:
        """Names whose last part matches one of ``patterns`` (``*.json``), case aside; of nothing that is hidden."""
        return [
            name
            for name in self.names
            if not any(part.startswith((".", "__MACOSX")) for part in name.split("/"))
            and any(fnmatch(name.rpartition("/")[2].lower(), pattern) for pattern in patterns)
        ]

    def address(self, name: str) -> str:
        """What a complaint calls the file: the path as it was given, and the name in it."""
        return str(self.path) if self.path.name == name and len(self.names) == 1 else f"{self.path}/{name}"

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """The bytes of ``name``, seekable. Raises ``SourceError`` where they cannot be read."""
        self.read.add(name)
        try:
            if self._archive is not None:
                yield self._unpack(self._archive, name)
            else:
                with (self.path / name if self.path.is_dir() else self.path).open("rb") as file:
                    yield file
        except (OSError, zipfile.BadZipFile, NotImplementedError, EOFError, zlib.error) as error:
            remedy = "export it again" if self._archive else "check the file and its rights"
            raise SourceError(f"{self.address(name)}: cannot be read ({_reason(error)}); {remedy}") from None

    def _unpack(self, archive: zipfile.ZipFile, name: str) -> IO[bytes]:
        """The member ``name`` as a file at its beginning: the last one is kept, for mail is read in pieces."""
        if self._unpacked is None or self._unpacked[0] != name:
            if self._unpacked is not None:
                self._unpacked[1].close()
            self._unpacked = "", TemporaryFile()  # noqa: SIM115  # closed with the next one, or with the whole
            with archive.open(name) as packed:
                shutil.copyfileobj(packed, self._unpacked[1], 1 << 20)
            self._unpacked = name, self._unpacked[1]
        self._unpacked[1].seek(0)
        return self._unpacked[1]

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """A path of ``name``, for readers of paths: of the archive's members one that is gone afterwards."""
        if self._archive is None:
            self.read.add(name)
            yield self.path / name if self.path.is_dir() else self.path
            return
        with TemporaryDirectory() as folder, self.open(name) as packed:
            plain = Path(folder, "member").with_suffix(Path(name).suffix)
            with plain.open("wb") as file:
                shutil.copyfileobj(packed, file, 1 << 20)
            yield plain

    def text(self, name: str) -> str:
        """The whole of ``name``, decoded; see :func:`decoded`."""
        with self.open(name) as file:
            return decoded(file.read())

    def head(self, name: str, size: int = 4096) -> str:
        """The beginning of ``name``, decoded: to recognise a format by."""
        with self.open(name) as file:
            found = decoded(file.read(size))
        self.read.discard(name)
        return found

    def sha256(self) -> str:
        """One hash of every file that was read, its name included."""
        whole = hashlib.sha256()
        for name in sorted(self.read):
            whole.update(name.encode("utf-8", "surrogateescape") + b"\0")
            with self.open(name) as file:
                while block := file.read(1 << 20):
                    whole.update(block)
        return whole.hexdigest()


def larger(encoding: str) -> str:
    """The encoding that programs write which name ``encoding``, where it has more characters, as browsers read it.

    Raises ``LookupError`` or ``ValueError`` for what names none.
    """
    name = codecs.lookup(encoding).name
    return _LARGER.get(name, name)


def decoded(data: bytes) -> str:
    """``data`` as UTF-8, in the wide encoding that its beginning shows, or else as Windows-1252, where every byte is a
    letter.
    """
    if wide := wide_encoding(data[:BEGINNING]):
        return data.decode(wide, "replace").removeprefix("\ufeff")
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.end == len(data) and error.reason == "unexpected end of data":  # cut within its last letter
            return data[: error.start].decode("utf-8")
        return data.decode("cp1252", "replace")


def _walked(folder: Path) -> Iterator[str]:
    for place, folders, files in os.walk(folder):  # links to folders are not followed: they may lead round
        if {"demonstrations.jsonl", "ledger.json"} <= set(files):  # an import or a run, not what it was made of
            folders.clear()
            continue
        for name in files:
            yield Path(place, name).relative_to(folder).as_posix()


def _members(path: Path, archive: zipfile.ZipFile) -> Iterator[str]:
    for info in archive.infolist():
        if info.flag_bits & 1:
            raise SourceError(f"{path}: is encrypted; unpack it with its password, and name the folder")
        if info.file_size > max(_BOMB_BYTES, _BOMB_RATIO * info.compress_size):
            raise SourceError(f"{path}: '{info.filename}' unpacks to {info.file_size:,} bytes; unpack it by hand first")
        if not info.is_dir():
            yield info.filename


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
