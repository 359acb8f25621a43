"""What the operating system refused, told as one sentence, whichever library it was that asked."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sft.errors import RunError

__all__ = ["sentences", "system_refusal"]

#: errno -> what it means and what to do.
_REFUSALS = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EFBIG: "the file is larger than the disk or `ulimit -f` allows; raise the limit, or use another disk",
    errno.EROFS: "the disk is read-only; use a folder on another one",
    errno.EACCES: "no permission; change the rights, or use another folder",
    errno.EPERM: "no permission; change the rights, or use another folder",
    errno.EIO: "the disk failed; check it, or use another one",
}


#: What torch says in place of MemoryError, on a CPU and on an accelerator.
_NO_MEMORY = ("can't allocate memory", "CUDA out of memory", "MPS backend out of memory")


def system_refusal(error: BaseException) -> str | None:
    """What the operating system refused, as one sentence; None if ``error`` is not about that.

    Libraries that write with code of their own tell it in theirs: safetensors gives the number in its
    text, torch only finds that fewer bytes arrived than it wrote.
    """
    cause: BaseException | None = error
    while cause is not None:
        text = " ".join(str(cause).split())
        number = re.search(r"\(os error (\d+)\)", text)
        if isinstance(cause, OSError):
            where = f"{os.fspath(cause.filename)}: " if isinstance(cause.filename, str | os.PathLike) else ""
            why = f"{cause.strerror}; check the path" if cause.strerror else f"{type(cause).__name__}: {text[:300]}"
            return where + _REFUSALS.get(cause.errno or 0, why)
        if isinstance(cause, MemoryError) or any(said in text for said in _NO_MEMORY):
            return "memory ran out; free some, or ask for less at once: fewer rows, smaller batches, shorter texts"
        if number and type(cause).__name__ == "SafetensorError":
            known = int(number[1])
            return f"weights cannot be written or read: {_REFUSALS.get(known, os.strerror(known))}"
        if "inline_container.cc" in text and ("unexpected pos" in text or "failed writing" in text):
            return f"a checkpoint cannot be written: {_REFUSALS[errno.ENOSPC]}"
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return None


@contextmanager
def sentences(path: Path, *, reading: bool = False) -> Iterator[None]:
    """Turn an ``OSError`` about ``path`` into a ``RunError`` of one sentence."""
    try:
        yield
    except OSError as error:
        verb = "read" if reading else "written"
        match error.errno:
            case errno.ENOSPC | errno.EDQUOT:
                why = "the disk is full; free some space and try again (a run goes on with --resume)"
            case errno.EFBIG:
                why = "the file is larger than the disk or `ulimit -f` allows; raise the limit, or name another disk"
            case errno.EACCES | errno.EPERM | errno.EROFS:
                why = "no permission, or a read-only disk; name another folder, or change its permissions"
            case errno.EISDIR | errno.ENOTDIR:
                why = "a folder stands there, or a file where a folder should; name another file"
            case errno.ENOENT:
                why = "it is not there; check the folder's name, or redo the step that writes it"
            case _:
                why = f"{error.strerror or type(error).__name__}; check the disk and the folder's name"
        raise RunError(f"{path} cannot be {verb}: {why}") from error
