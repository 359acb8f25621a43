"""What the operating system refuses is one sentence, whichever library it was that asked."""

from __future__ import annotations

import errno
import os

import pytest

from sft.runs.machine import system_refusal


class SafetensorError(Exception):
    """As safetensors spells it: the number of the error is in the text."""


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a/b"), "a/b: the disk is full; free some space"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full; free some space"),
        (OSError(errno.EDQUOT, "", "x"), "x: the disk quota is used up; free some space"),
        (OSError(errno.EROFS, "", "x"), "x: the disk is read-only; use a folder on another one"),
        (PermissionError(errno.EACCES, "", "x"), "x: no permission; change the rights, or use another folder"),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), "x: No such file; check the path"),
        (ConnectionError("hub\nunreachable"), "ConnectionError: hub unreachable"),
        (
            SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
            "weights cannot be written or read: the disk is full; free some space",
        ),
        (
            RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
            "a checkpoint cannot be written: the disk is full; free some space",
        ),
        (ValueError("os error 28"), None),
        (RuntimeError("size mismatch"), None),
    ],
)
def test_each_kind_has_its_words(error: Exception, sentence: str | None) -> None:
    assert system_refusal(error) == sentence


def test_the_cause_behind_an_error_counts() -> None:
    """Libraries wrap it: what the user must mend is underneath."""
    with pytest.raises(RuntimeError) as caught:
        try:
            raise OSError(errno.ENOSPC, "", "shard")
        except OSError as error:
            raise RuntimeError("could not save") from error
    assert system_refusal(caught.value) == "shard: the disk is full; free some space"
