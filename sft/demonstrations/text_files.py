"""Text files as numbered physical lines: what they are packed in, and how their characters are written."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from sft.demonstrations.file_kinds import BEGINNING, refuse_other_kinds
from sft.errors import SourceError

__all__ = ["PACKED", "Broken", "encoding_of", "lines_of", "opened", "unpacked_suffix", "wide_encoding"]


@dataclass(frozen=True, slots=True)
class Broken:
    """One row that cannot be read: its raw text, what is wrong with it, and what to do."""

    raw: str
    message: str
    remedy: str
    field: str = ""


def _zstd(path: Path) -> IO[bytes]:
    import pyarrow  # Python has no zstd of its own before 3.14

    return io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd"))


#: Ending of a packed file -> what opens it.
PACKED: dict[str, Callable[[Path], Any]] = {".gz": gzip.GzipFile, ".bz2": bz2.BZ2File, ".zst": _zstd}
#: What a file in a wide encoding begins with -> how it is called. NUL is no letter of any text.
_MARKS = {
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
#: Encodings of one byte a character, mostly for Latin letters, as Python names them.
_LATIN = {"cp1250", "cp1252", "cp1254", "cp437", "cp850", "iso8859-1", "iso8859-15", "iso8859-2", "mac-roman"}
_LETTER = re.compile(rb"[A-Za-z]")
_HIGH = re.compile(rb"[\x80-\xff]")


def unpacked_suffix(path: Path) -> str:
    """``.jsonl`` for ``x.jsonl.gz`` too, in small letters."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in PACKED else suffix


def opened(path: Path) -> IO[bytes]:
    """The bytes of ``path``, unpacked."""
    packed = PACKED.get(path.suffix.lower())
    return packed(path) if packed else path.open("rb")


def lines_of(path: Path, encoding: str = "") -> Iterator[tuple[int, str]]:
    r"""Numbered lines, decoded, cut at ``\n`` only: U+2028 and its kin may stand inside a completion.

    ``encoding``: how files that are not UTF-8 are written; "" where all of them are. Raises ``SourceError`` for a file
    that is neither, with the encoding that fits where one does, for a packed file that is damaged, and for a file that
    is no text. Lines of UTF-8 in a file of a Latin encoding are read as what they are: no such text looks like them.
    """
    try:
        yield from _decoded(path, encoding)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SourceError(f"{path}: cannot be unpacked ({error}); fetch or write it again") from None
    except OSError as error:
        if error.errno is None:  # a word of the packer's, not of the system's
            raise SourceError(f"{path}: cannot be unpacked ({error}); fetch or write it again") from None
        raise


def _decoded(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    with opened(path) as file:
        head = file.read(BEGINNING)
    refuse_other_kinds(path, head, unpacked=path.suffix.lower() in PACKED)
    if encoding and not _is_utf8(path):
        yield from _in_encoding(path, encoding)
        return
    if wide := wide_encoding(head):
        raise SourceError(f"{path}: is {wide[:6].upper()}, not UTF-8; {_ways_out(wide)}")
    with opened(path) as file:
        if head.startswith(b"\xef\xbb\xbf"):
            file.read(3)
        for number, raw in enumerate(file, 1):
            try:
                yield number, raw.decode("utf-8")
            except UnicodeDecodeError as error:
                if error.reason == "unexpected end of data" and error.end == len(raw):
                    yield number, raw[: error.start].decode("utf-8")  # cut inside the last character
                    continue
                byte = f"byte 0x{raw[error.start]:02x} at place {error.start + 1}"
                if _fits_cp1252(path):
                    what = f"is not UTF-8 ({byte}), and reads as Windows-1252"
                    raise SourceError(f"{path}:{number}: {what}; {_ways_out('cp1252')}") from None
                ways = "save the file again as UTF-8, or name its encoding in demonstrations.encoding"
                raise SourceError(f"{path}:{number}: is not UTF-8 ({byte}); {ways}") from None


def encoding_of(path: Path) -> str:
    """How a text file is written, as far as it can be told: "" for UTF-8, and where nobody can tell."""
    with opened(path) as file:
        head = file.read(BEGINNING)
    if wide := wide_encoding(head):
        return wide
    return "cp1252" if not _is_utf8(path) and _fits_cp1252(path) else ""


def wide_encoding(head: bytes) -> str:
    """Which encoding of two or four bytes a character the first bytes of a file are in; "" for none.

    Without a mark it is told by NULs, which are no letters: a text of single bytes has hardly one, while commas, quotes
    and line ends have them even between Chinese words.
    """
    if marked := next((name for mark, name in _MARKS.items() if head.startswith(mark)), ""):
        return marked
    nuls = head.count(0)
    if not nuls or (4 * nuls < len(head) and _begun(head, "utf-8")):
        return ""
    sides = ("le", "be") if head[1::2].count(0) >= head[::2].count(0) else ("be", "le")
    names = [f"utf-{width}-{side}" for width in (32, 16) for side in sides]
    return next((name for name in names if _is_text(_begun(head, name))), "")


def _is_text(begun: str) -> bool:
    return bool(begun) and all(letter.isprintable() or letter in "\t\r\n" for letter in begun)


def _begun(head: bytes, encoding: str) -> str:
    """The first bytes of a file as text, but for half a character at their end; "" where they are none."""
    with suppress(UnicodeDecodeError):
        return codecs.getincrementaldecoder(encoding)().decode(head)
    return ""


def _ways_out(encoding: str) -> str:
    return f"set demonstrations.encoding: {encoding} (to `sft check`, --encoding {encoding}), or save it again as UTF-8"


def _in_encoding(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    if codecs.lookup(encoding).name in _LATIN:
        yield from _in_latin(path, encoding)
        return
    number = 0
    with opened(path) as file, io.TextIOWrapper(file, encoding=encoding, newline="\n") as text:
        try:
            for number, line in enumerate(text, 1):
                yield number, line.removeprefix("\ufeff") if number == 1 else line
        except UnicodeError as error:
            place = f"after line {number:,}, " if number else ""
            raise SourceError(
                f"{path}: is neither UTF-8 nor {encoding} ({place}{error}); name the encoding that it is written in "
                "under demonstrations.encoding, or save it again as UTF-8"
            ) from None


def _in_latin(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    with opened(path) as file:
        for number, raw in enumerate(file, 1):
            try:
                yield number, raw.decode("utf-8").removeprefix("\ufeff" if number == 1 else "")
            except UnicodeDecodeError:
                try:
                    yield number, raw.decode(encoding)
                except UnicodeDecodeError as error:
                    raise SourceError(
                        f"{path}:{number}: is neither UTF-8 nor {encoding} ({error}); name the encoding that it is "
                        "written in under demonstrations.encoding, or save it again as UTF-8"
                    ) from None


def _is_utf8(path: Path) -> bool:
    """Whether all of the file is UTF-8 text: a file of another encoding never is, beyond ASCII."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with opened(path) as file:
        while chunk := file.read(1 << 20):
            if b"\x00" in chunk[:4]:
                return False
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError:
                return False
    return True


def _fits_cp1252(path: Path) -> bool:
    """Whether the file is Windows-1252 beyond doubt: every byte has a meaning there, and most letters are Latin."""
    letters = high = 0
    with opened(path) as file:
        while chunk := file.read(1 << 20):
            letters += len(_LETTER.findall(chunk))
            high += len(_HIGH.findall(chunk))
            try:
                chunk.decode("cp1252")
            except UnicodeDecodeError:
                return False
    return 2 * high <= letters
