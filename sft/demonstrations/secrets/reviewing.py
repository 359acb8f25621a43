"""Findings before a person: which there are, where, and what is to be done about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sft.demonstrations.secrets.findings import Finding
from sft.errors import UserError

__all__ = ["demand", "to_text"]


def to_text(findings: Sequence[Finding], *, shown: int = 100) -> str:
    """How many of each kind, the most frequent first; then one line a finding, at most ``shown``."""
    if not findings:
        return "No secrets: no tokens, keys, e-mail addresses or home folders were found."
    kinds = Counter(one.what for one in findings)
    lines = [f"{_counted(findings)}: " + ", ".join(f"{what} ({count:,})" for what, count in kinds.most_common())]
    lines += [f"  {one}" for one in findings[:shown]]
    if len(findings) > shown:
        lines.append(f"  ... and {len(findings) - shown:,} more; --json has all of them")
    return "\n".join(lines)


def demand(name: str, findings: Sequence[Finding]) -> None:
    """Raise the ``UserError`` that says what to do about ``findings`` in what is called ``name``, if there are any."""
    if findings:
        each = "it" if len(findings) == 1 else "them"
        raise UserError(
            f"{name}: {_counted(findings)} in what a clone would learn by heart and may repeat; mask {each} or take "
            "the rows out, for `sft push` refuses a run that was trained on one unless it is told each finding's id "
            "and why everybody may see it: --allow-finding ID=REASON"
        )


def _counted(findings: Sequence[Finding]) -> str:
    return f"{len(findings):,} secret{'' if len(findings) == 1 else 's'}"
