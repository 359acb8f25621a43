"""Secrets and paths of this machine, in every byte that would be sent and in what the clone was taught."""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sft.errors import PublishError
from sft.publishing.places import known_places, paths_in
from sft.publishing.staging import Staged
from sft.runs import Run, read_jsonl

if TYPE_CHECKING:
    from sft.secret_scan import Finding

__all__ = ["reasons", "screen"]


def reasons(said: Sequence[str]) -> dict[str, str]:
    """``ID=REASON`` words as a mapping. Raises ``PublishError`` for one without its reason."""
    found = {}
    for text in said:
        key, sign, why = text.partition("=")
        if not (key and sign and why.strip()):
            raise PublishError(f"--allow-finding {key}: needs a reason; write --allow-finding {key or 'ID'}='REASON'")
        found[key] = why.strip()
    return found


def screen(staged: Staged, run: Run, token: str, allowed: Mapping[str, str]) -> dict[str, str]:
    """Look through all staged bytes; the findings that were allowed, as id -> what it is and why it may be.

    ``token``: the one that the push uses, wherever it came from. Raises ``PublishError`` with every other finding.
    """
    environment = dict(os.environ) | {"HF_TOKEN": token}
    found = [one for file in staged.files for one in _in_file(staged, file.path, run, environment)]
    found += _taught(run, environment)
    by_id = {one.id: one for one in reversed(found)}
    if unknown := sorted(set(allowed) - set(by_id)):
        raise PublishError(f"--allow-finding {unknown[0]}: there is no such finding; leave it out")
    refused = [one for one in found if one.id not in allowed]
    if refused:
        raise PublishError(
            "\n".join(
                [
                    *(str(one) for one in dict.fromkeys(refused)),
                    f"{run.path}: not to be published with {'that' if len(refused) == 1 else 'those'} in it; take it "
                    "out where it comes from, or, if it may be seen by everybody, add --allow-finding ID=REASON",
                ]
            )
        )
    return {key: f"{by_id[key].what} in {by_id[key].address}: {why}" for key, why in allowed.items()}


def _in_file(staged: Staged, name: str, run: Run, environment: Mapping[str, str]) -> list[Finding]:
    from sft.secret_scan import secrets_in

    path = staged.folder / name
    if not path.stat().st_size:
        return []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found = secrets_in(name, data, environment=environment)
        if not name.endswith(".safetensors"):
            found += paths_in(name, bytes(data), known_places(run))
    return found


def _taught(run: Run, environment: Mapping[str, str]) -> list[Finding]:
    """What the clone may repeat, since it was trained on it."""
    from sft.demonstrations import Demonstration
    from sft.secret_scan import in_demonstrations

    if not run.demonstrations_path.exists():
        return []
    rows = (row for row in read_jsonl(run.demonstrations_path) if row.get("split", "train") == "train")
    return in_demonstrations((Demonstration.from_dict(row) for row in rows), environment=environment)
