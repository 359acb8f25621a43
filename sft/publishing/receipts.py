"""The receipt, ``push.json`` in the run: what was published where, and verified."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sft.errors import RunError
from sft.files import read_json, write_json
from sft.publishing.plan import Plan
from sft.publishing.sending import Sent
from sft.runs import Run, now

__all__ = ["earlier_pushes", "write_receipt"]


def earlier_pushes(run: Run) -> list[dict[str, Any]]:
    """Every row so far. Raises ``RunError`` for a file that cannot be added to, before anything is sent."""
    path = run.path / "push.json"
    known = read_json(path) if path.exists() else {"pushes": []}
    rows = known.get("pushes") if isinstance(known, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise RunError(f"{path}: holds no receipts as this sft writes them; restore it from a copy, or move it away")
    return rows


def write_receipt(run: Run, plan: Plan, sent: Sent) -> dict[str, Any]:
    """Put on record in ``push.json`` what is where; one row for each endpoint, repository and branch."""
    row: dict[str, Any] = {
        "endpoint": plan.endpoint,
        "repo": plan.repo,
        "branch": plan.branch,
        "commit": sent.commit,
        "pull_request": sent.pull_request,
        "tag": plan.tag,
        "private": plan.private,
        "who": plan.who,
        "verified": now(),
        "weights": plan.weights,
        "base_model": plan.base_model,
        "base_revision": plan.base_revision,
        "content": plan.content,
        "files": {one.path: {"size": one.size, "sha256": one.sha256} for one in plan.files},
        "allowed": dict(plan.allowed),
    }
    kept = [one for one in earlier_pushes(run) if _place(one) != _place(row)]
    write_json(run.path / "push.json", {"schema_version": 1, "pushes": [*kept, row]})
    return row


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(key) for key in ("endpoint", "repo", "branch"))
