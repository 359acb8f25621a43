"""What the operating system refused, told as one sentence, whichever library it was that asked."""

from __future__ import annotations

import errno
import os
import re

__all__ = ["system_refusal"]

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
