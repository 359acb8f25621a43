"""Renderings kept from one session to the next: what was tokenized once is read from the cache.

A run is rendered when it is planned, trained, resumed and evaluated, by every process. Ids depend on nothing but the
tokenizer, the template, the code that renders and the texts, so a file named by the hash of these is as good as
rendering again, and a change of any of them names another file. The cache is never needed: one that cannot be read is
written anew, one that cannot be written costs a line on stderr.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sys
import zlib
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from sft.demonstrations.demonstration import Demonstration
from sft.policies.rendered import Rendered, divided
from sft.policies.rendering import Renderer
from sft.recipes.sources import cache_dir

AT_LEAST = 5_000  # demonstrations; fewer are rendered in about the time that finding them would take
AT_MOST_BYTES = 4 << 30  # of all files together; the ones used longest ago go first

#: Whose code the ids hang on: a number to be raised by hand would be forgotten.
_MODULES = (
    "rendering.py", "answers.py", "conversations.py", "encoding.py", "frame.py", "templates.py", "template_calls.py",
    "template_clock.py", "template_lists.py",
)  # fmt: skip

Pairs = list[tuple[Demonstration, Rendered]]


def render_all(
    renderer: Renderer,
    demonstrations: Sequence[Demonstration],
    *,
    max_length: int | None = None,
    too_long: Literal["refuse", "drop"] = "refuse",
    at_least: int = AT_LEAST,
    at_most_bytes: int = AT_MOST_BYTES,
) -> tuple[Pairs, Pairs]:
    """As :meth:`Renderer.render_all`, from the cache where the same was rendered before, and then kept there.

    Of several processes the first one of a machine writes; the others read what is there or render themselves.
    ``at_least``: fewer demonstrations are rendered without a look at the cache. ``at_most_bytes``: of all files there.
    """
    if len(demonstrations) < at_least:
        return renderer.render_all(demonstrations, max_length=max_length, too_long=too_long)
    key = _key(renderer, demonstrations)
    path = cache_dir() / "renderings" / f"{key}.safetensors"
    rows = _read(path, key, len(demonstrations))
    if rows is not None:
        return divided(demonstrations, rows, max_length=max_length, too_long=too_long)
    rows, problems = renderer.rows(demonstrations)
    found = divided(demonstrations, rows, problems, max_length=max_length, too_long=too_long)
    if os.environ.get("LOCAL_RANK", os.environ.get("RANK", "0")) == "0":
        try:
            _write(path, key, rows, at_most_bytes)
        except OSError as error:
            sys.stderr.write(f"rendered   not kept: {path.parent} cannot be written ({error.strerror or error})\n")
    return found


def _key(renderer: Renderer, demonstrations: Sequence[Demonstration]) -> str:
    """Hash of all that the ids depend on."""
    backend = renderer.tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    added = {index: repr(token) for index, token in renderer.tokenizer.added_tokens_decoder.items()}
    digest = hashlib.blake2b(digest_size=16)
    facts: list[Any] = [version("tokenizers"), version("transformers"), version("jinja2"), sys.byteorder]
    facts += [renderer.template, renderer.template_hash, list(renderer.end_of_turn), renderer.special_tokens, added]
    digest.update(json.dumps(facts).encode())
    for module in _MODULES:
        digest.update(files("sft.policies").joinpath(module).read_bytes())
    digest.update(backend.to_str().encode())
    for start in range(0, len(demonstrations), 1024):
        some = demonstrations[start : start + 1024]
        texts = [
            [[turn.to_dict() for turn in d.prompt], d.completion, d.thought, [call.to_dict() for call in d.calls]]
            for d in some
        ]
        digest.update(json.dumps(texts, ensure_ascii=False).encode())
    return digest.hexdigest()


def _read(path: Path, key: str, count: int) -> list[Rendered] | None:
    """The ``count`` rows on file; None where there is no such file, or it is not what was written."""
    try:
        with safe_open(path, framework="np") as file:
            facts = file.metadata() or {}
            ids, ends, contexts = (file.get_tensor(name) for name in ("ids", "ends", "contexts"))
        packed = ids.astype(np.int32, copy=False).tobytes()
        if facts.get("is") != _name(key, packed, ends, contexts) or len(ends) != count:
            return None
        stops = (ends * 4).tolist()
        starts = [0, *stops[:-1]]
        rows = [
            Rendered.of_packed(packed[start:stop], context)
            for start, stop, context in zip(starts, stops, contexts.tolist(), strict=True)
        ]
    except (OSError, SafetensorError, ValueError):
        return None
    with suppress(OSError):
        os.utime(path)
    return rows


def _name(key: str, packed: bytes, ends: np.ndarray, contexts: np.ndarray) -> str:
    """What the file says it is: of what it was rendered, and a checksum of what it holds."""
    return f"{key} {zlib.crc32(contexts.tobytes(), zlib.crc32(ends.tobytes(), zlib.crc32(packed))):08x}"


def _write(path: Path, key: str, rows: Sequence[Rendered], at_most_bytes: int) -> None:
    """Write the rows so that they are there whole or not at all; make room for them. Raises ``OSError``."""
    packed = b"".join([row.packed for row in rows])
    if len(packed) > at_most_bytes:
        return
    ends = np.cumsum(np.fromiter(map(len, rows), dtype=np.int64, count=len(rows)))
    contexts = np.fromiter((row.context for row in rows), dtype=np.int32, count=len(rows))
    tensors: dict[str, np.ndarray] = {"ids": np.frombuffer(packed, dtype=np.int32), "ends": ends, "contexts": contexts}
    whole = safetensors.numpy.save(tensors, metadata={"is": _name(key, packed, ends, contexts)})
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes(whole)
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink()
    _make_room(path, at_most_bytes)


def _make_room(newest: Path, at_most_bytes: int) -> None:
    """Take away the files used longest ago until the rest are small enough."""
    found = []
    for path in newest.parent.iterdir():
        with suppress(OSError):  # another process may take it away at this moment
            facts = path.stat()
            found.append((facts.st_mtime, facts.st_size, path))
    room = at_most_bytes
    for _, size, path in sorted(found, reverse=True):
        room -= size
        if room < 0 and path != newest:
            with suppress(OSError):
                path.unlink()
