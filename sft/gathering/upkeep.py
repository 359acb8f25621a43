"""What keeps a gathering in order without a page: a damaged file mended, drafts dropped, answers written elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sft.errors import RunError, UserError
from sft.gathering.events import compacted, read_events, readable, write_events
from sft.gathering.export import chosen
from sft.gathering.folder import Gathering
from sft.runs.atomic_files import read_jsonl, write_jsonl

__all__ = ["compact", "repair", "write_elsewhere"]


def repair(path: Path) -> str:
    """Put a copy of ``events.jsonl`` without its bad lines in its place, and keep the damaged one beside it."""
    with Gathering.open(path, writing=True) as gathering:
        if not gathering.events_path.exists():
            raise RunError(f"{gathering.events_path}: is not there; restore it from a copy")
        found, passed = readable(gathering.events_path)
        if not passed:
            return f"{gathering.events_path}: nothing is wrong with it; it is as it was"
        if not found:
            raise RunError(f"{gathering.events_path}: has no line that is an event; restore it from a copy")
        damaged = gathering.events_path.with_name("events.damaged.jsonl")
        if damaged.exists():
            raise RunError(f"{damaged}: is there already from an earlier repair; move it away first")
        damaged.write_bytes(gathering.events_path.read_bytes())
        write_events(gathering.events_path, found)
        lines = ", ".join(map(str, passed[:10])) + (", ..." if len(passed) > 10 else "")
        return (
            f"{gathering.events_path}: {len(found)} events kept, {len(passed)} lines left out ({lines}); "
            f"the damaged file is {damaged.name}"
        )


def compact(path: Path) -> str:
    """Drop drafts that a later text of the same expert on the same item replaced; all else stays, byte for byte."""
    with Gathering.open(path, writing=True) as gathering:
        if not gathering.events_path.exists():
            raise RunError(f"{gathering.events_path}: is not there; restore it from a copy")
        events = read_events(gathering.events_path)
        kept = compacted(events)
        write_events(gathering.events_path, kept)
        return f"{gathering.events_path}: {len(events) - len(kept)} drafts dropped, {len(kept)} events kept"


def write_elsewhere(gathering: Gathering, path: Path, *, experts: Sequence[str], blind_only: bool, vote: bool) -> str:
    """Write the answers that are asked for to ``path``. Raises ``UserError`` where there is none, or no place."""
    if path.resolve().is_relative_to(gathering.path.resolve()):
        raise UserError(f"--export {path}: lies in the gathering, whose files are its own; name one elsewhere")
    rows = chosen(read_jsonl(gathering.demonstrations_path), experts=experts, blind_only=blind_only, vote=vote)
    if not rows:
        raise UserError(f"--export: {gathering.path} has no such answer; ask for others, or wait for some")
    write_jsonl(path, rows)
    return f"{path}: {len(rows)} demonstrations"
