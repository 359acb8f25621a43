"""Secrets and paths of this machine, in every byte that would be sent and in what the clone was taught."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sft.demonstrations import stored
from sft.errors import PublishError, RunError
from sft.publishing.places import known_places, paths_in
from sft.publishing.staging import Staged
from sft.runs import sealed
from sft.runs.private import texts_in
from sft.runs.run import Run

if TYPE_CHECKING:
    from sft.demonstrations.demonstration import Demonstration
    from sft.demonstrations.secrets import Finding

__all__ = ["reasons", "screen"]

#: Lines of findings at most; what to do about them stands below, and must be seen.
_SHOWN = 30


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
    sent = [one for file in staged.files for one in _in_file(staged, file.path, run, environment)]
    taught = _taught(run, environment)
    by_id = {one.id: one for one in reversed([*sent, *taught])}
    if unknown := sorted(set(allowed) - set(by_id)):
        raise PublishError(f"--allow-finding {unknown[0]}: there is no such finding; leave it out")
    _refuse(run, *([one for one in found if one.id not in allowed] for found in (sent, taught)))
    return {key: f"{by_id[key].what} in {by_id[key].address}: {why}" for key, why in allowed.items()}


def _refuse(run: Run, sent: Sequence[Finding], taught: Sequence[Finding]) -> None:
    """Raise ``PublishError`` where there is a finding: which, where, and what to do."""
    found = list(dict.fromkeys([*sent, *taught]))
    if not found:
        return
    lines = [str(one) for one in found[:_SHOWN]]
    if len(found) > _SHOWN:
        lines.append(f"... and {len(found) - _SHOWN:,} more")
    those, them, come = ("that", "it", "it comes") if len(found) == 1 else ("those", "them", "they come")
    ways = [f"take {them} out where {come} from"] if sent else []
    if taught:
        ways.append(f"mask {them} in the demonstrations (`sft check --secrets` names every row) and train again")
    lines.append(
        f"{run.path}: not to be published with {those} in it; {', and '.join(ways)}; or, where everybody may see "
        f"{them}, add --allow-finding ID=REASON"
    )
    raise PublishError("\n".join(lines))


def _in_file(staged: Staged, name: str, run: Run, environment: Mapping[str, str]) -> list[Finding]:
    from sft.demonstrations.secrets import secrets_in

    path = staged.folder / name
    if not path.stat().st_size:
        return []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if name == "scorecard.json":  # examples, as they were before JSON wrote their lines in one
            texts = "\n".join(texts_in(json.loads(bytes(data)))).encode("utf-8", "surrogatepass")
            found = [replace(one, line=None) for one in secrets_in(name, texts, environment=environment, mail=True)]
        else:
            found = secrets_in(name, data, environment=environment, mail=name == "README.md")
        if not name.endswith(".safetensors"):
            found += paths_in(name, bytes(data), known_places(run))
    return found


def _taught(run: Run, environment: Mapping[str, str]) -> list[Finding]:
    """What the clone may repeat, since it was trained on it."""
    from sft.demonstrations.secrets import in_demonstrations

    return [*_before_changes(run), *in_demonstrations(_as_trained_on(run), environment=environment)]


def _before_changes(run: Run) -> Iterator[Finding]:
    """Other demonstrations that the run went on from (``--allow-change``): learned, and not kept."""
    from sft.demonstrations.secrets import Finding

    for change in run.changes:
        step, old = change.get("step") or 0, str(change.get("from"))
        if change.get("what") == "data.hash" and step > 0:
            what = f"until step {step} it was trained on other demonstrations, which are not here to be looked through"
            key = hashlib.sha256(f"data\0{old}".encode()).hexdigest()[:12]
            yield Finding(key, str(run.manifest_path), what, f"hash {old[:12]}\N{HORIZONTAL ELLIPSIS}")


def _as_trained_on(run: Run) -> list[Demonstration]:
    """The training demonstrations of ``run``, none of them masked or taken out afterwards: the weights know them still.

    Raises ``PublishError`` where they are not what was trained on.
    """
    path = run.demonstrations_path
    again = "restore it from a copy, or mask the rows in your own data and train again"
    if not path.exists():
        raise PublishError(f"{path}: is not there, so that nobody can see what the clone may repeat; {again}")
    try:
        known = stored.parts(run)
        recorded = sorted(sealed.value(run, run.split_path)["ids"].get("train", ()))
    except RunError as error:
        raise PublishError(f"{str(error).partition('; ')[0]}; {again}") from None
    if sorted(d.id for d in known["train"]) != recorded:
        raise PublishError(f"{path}: is not what was trained on; {again}")
    return known["train"]
