"""What a file is that is called something else: a workbook named .csv, a page of a login, a pointer of Git LFS."""

from __future__ import annotations

from pathlib import Path

from sft.errors import SourceError

__all__ = ["BEGINNING", "refuse_other_kinds"]

#: So many bytes of a file tell its kind.
BEGINNING = 64
#: What a file begins with -> what it is, and what to do.
_BINARY = {
    b"PK\x03\x04": ("is a zip archive, as Excel's workbooks are", "save the sheet as 'CSV UTF-8', or unpack it"),
    b"\xd0\xcf\x11\xe0": ("is a workbook of an old Excel", "save the sheet as 'CSV UTF-8'"),
    b"\x1f\x8b": ("is packed with gzip", "let its name end in .gz"),
    b"BZh": ("is packed with bzip2", "let its name end in .bz2"),
    b"\x28\xb5\x2f\xfd": ("is packed with zstd", "let its name end in .zst"),
    b"PAR1": ("is a Parquet file", "let its name end in .parquet"),
    b"ARROW1": ("is an Arrow file", "write it as Parquet or JSON Lines"),
    b"%PDF": ("is a PDF", "write what it says as JSON Lines"),
    b"SQLite format 3": ("is an SQLite database", "write the table as CSV or JSON Lines"),
}
_POINTER = b"version https://git-lfs.github.com/spec/"
_PAGES = (b"<!doctype html", b"<html", b"<?xml")


def refuse_other_kinds(path: Path, head: bytes, *, unpacked: bool = False) -> None:
    """Raise ``SourceError`` where ``head``, the first bytes of ``path`` unpacked, is no text of rows.

    ``unpacked``: whether they were packed; then what is packed within is packed twice.
    """
    what, remedy = next((said for mark, said in _BINARY.items() if head.startswith(mark)), ("", ""))
    begun = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if begun.startswith(_POINTER):
        what, remedy = "is a pointer of Git LFS and not the file itself", "fetch the file: git lfs pull"
    elif begun.startswith(_PAGES):
        what, remedy = "is a web page or XML, and no file of rows", "download the file itself; `sft import` reads pages"
    if unpacked and what.startswith("is packed"):
        what, remedy = f"{what} once more within", "unpack it once"
    if what:
        raise SourceError(f"{path}: {what}; {remedy}")
