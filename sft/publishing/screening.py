"""Secrets and paths of this machine, in every byte that would be sent and in what the clone was taught.

Every file is looked through as its reader sees it: texts of JSON as they were before it wrote their lines in one, the
recipe in the manifest line by line, its comments included.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import pwd
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft.demonstrations import stored
from sft.demonstrations.demonstration import Demonstration, Message, Source
from sft.demonstrations.secrets import Finding, in_demonstrations, secrets_in
from sft.errors import PublishError, RunError
from sft.publishing.places import forms_of, known_places, of_this_machine, paths_in
from sft.publishing.record import remarks
from sft.runs import sealed
from sft.runs.private import texts_in
from sft.runs.run import Run

if TYPE_CHECKING:
    from sft.publishing.staging import Staged

__all__ = ["reasons", "screen", "screen_data_set"]

#: Lines of findings at most; what to do about them stands below, and must be seen.
_SHOWN = 30
#: Words and word pieces, in which anything may stand beside anything.
_VOCABULARY = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model")


def reasons(said: Sequence[str], files: Sequence[Path] = ()) -> dict[str, str]:
    """``WHAT=REASON`` words, and lines of ``files``, as a mapping: WHAT is a finding's id, its kind, or its file.

    Raises ``PublishError`` for one without its reason, and for a file that cannot be read.
    """
    lines = [(text, f"--allow-finding {text.partition('=')[0]}") for text in said]
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise PublishError(f"--reviewed {file}: cannot be read ({why}); name a file of WHAT=REASON") from None
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip() and not line.lstrip().startswith("#"):
                lines.append((line.strip(), f"{file}:{number}"))
    found = {}
    for text, where in lines:
        key, sign, why = text.partition("=")
        if not (key and sign and why.strip()):
            raise PublishError(f"{where}: needs a reason; write --allow-finding {key or 'ID'}='REASON'")
        found[key.strip()] = why.strip()
    return found


def screen(staged: Staged, run: Run, token: str, allowed: Mapping[str, str]) -> dict[str, str]:
    """Look through all staged bytes; the findings that were allowed, as id -> what it is and why it may be.

    ``token``: the one that the push uses, wherever it came from. ``allowed``: as of :func:`reasons`. Raises
    ``PublishError`` with every other finding.
    """
    environment = dict(os.environ) | {"HF_TOKEN": token}
    sent = [one for file in staged.files for one in _in_file(staged, file.path, run, environment)]
    # What the clone may repeat, since it was trained on it.
    taught = [*_before_changes(run), *in_demonstrations(_as_trained_on(run), environment=environment)]
    record, left = _sorted_out([sent, taught], allowed)
    _refuse(run.path, left[0], left[1])
    return record


def _sorted_out(
    found: Sequence[Sequence[Finding]], allowed: Mapping[str, str]
) -> tuple[dict[str, str], list[list[Finding]]]:
    """The record of what is allowed, and what is left of each list. Raises ``PublishError`` for what allows nothing."""
    record, used = dict[str, str](), set[str]()
    left = [list[Finding]() for _ in found]
    for place, findings in enumerate(found):
        for one in findings:
            names = (one.id, one.what, re.sub(r"^an? |^the ", "", one.what), one.path, Path(one.path).name)
            fitting = [name for name in dict.fromkeys(names) if name in allowed]
            used |= {*fitting}
            if fitting:
                record.setdefault(one.id, f"{one.what} in {one.address}: {allowed[fitting[0]]}")
            else:
                left[place].append(one)
    if unknown := sorted(set(allowed) - used):
        raise PublishError(f"--allow-finding {unknown[0]}: there is no such finding; leave it out")
    return record, left


def screen_data_set(staged: Staged, place: Path, token: str, allowed: Mapping[str, str]) -> dict[str, str]:
    """As :func:`screen`, of a data set whose source is the folder ``place``: every text of every row, and the rest."""
    environment = dict(os.environ) | {"HF_TOKEN": token}
    found = list[Finding]()
    for name in (file.path for file in staged.files):
        data = (staged.folder / name).read_bytes()
        if name.endswith(".jsonl"):  # the texts, as they were before JSON wrote their lines in one
            rows = [json.loads(line) for line in data.split(b"\n") if line]
            found += in_demonstrations(
                (
                    Demonstration((Message("user", "?"),), "\n".join(texts_in(row)), source=Source(name, number))
                    for number, row in enumerate(rows, start=1)
                ),
                environment=environment,
            )
        else:
            found += secrets_in(name, data, environment=environment, people=True)
        found += paths_in(name, data, forms_of([place, *of_this_machine()]))
    record, left = _sorted_out([found], allowed)
    _refuse(place, left[0], [], mend="have the expert take the answer up again, or correct the guidelines")
    return record


def _refuse(place: Path, sent: Sequence[Finding], taught: Sequence[Finding], mend: str = "") -> None:
    """Raise ``PublishError`` where there is a finding: which, where, and what to do."""
    found = list(dict.fromkeys([*sent, *taught]))
    if not found:
        return
    lines = [str(one) for one in found[:_SHOWN]]
    if len(found) > _SHOWN:
        lines.append(f"... and {len(found) - _SHOWN:,} more")
    those, them, come = ("that", "it", "it comes") if len(found) == 1 else ("those", "them", "they come")
    if any(one.path.startswith("recipe in ") for one in found):
        mend = mend or "--no-comments publishes the recipe without its comments"
    ways = [f"take {them} out where {come} from" + (f" ({mend})" if mend else "")] if sent else []
    if taught:
        ways.append(f"mask {them} in the demonstrations (`sft check --secrets` names every row) and train again")
    lines.append(
        f"{place}: not to be published with {those} in it; {', and '.join(ways)}; or, where everybody may see "
        f"{them}, name its id, its kind or its file: --allow-finding ID=REASON"
    )
    raise PublishError("\n".join(lines))


def _in_file(staged: Staged, name: str, run: Run, environment: Mapping[str, str]) -> list[Finding]:
    path = staged.folder / name
    if not path.stat().st_size:
        return []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if name.endswith(".safetensors") or name in _VOCABULARY:
            found = secrets_in(name, data, environment=environment)
        elif name.endswith(".json"):
            found = [
                *_in_texts(name, json.loads(bytes(data)), environment),
                *secrets_in(name, data, environment=environment),
            ]
        else:
            found = secrets_in(name, data, environment=environment, people=True)
        if not name.endswith(".safetensors"):
            found += paths_in(name, bytes(data), known_places(run))
    return list({one.id: one for one in reversed(found)}.values())[::-1]


def _in_texts(name: str, value: Any, environment: Mapping[str, str]) -> list[Finding]:
    """Findings in the texts of the JSON ``value`` of the file ``name``; in the recipe that it holds, line by line."""
    found = list[Finding]()
    recipe = value.get("recipe") if isinstance(value, dict) else None
    if isinstance(recipe, dict) and isinstance(recipe.get("written"), str):
        text = recipe["written"]
        value = value | {"recipe": {key: part for key, part in recipe.items() if key != "written"}}
        where = f"recipe in {name}"
        data = text.encode("utf-8", "surrogatepass")
        found += secrets_in(where, data, environment=environment, people=True, settings=True)
        found += paths_in(where, data, ())
        found += _names_in(where, text, environment)
    texts = "\n".join(texts_in(value)).encode("utf-8", "surrogatepass")
    settings = name != "scorecard.json"
    more = secrets_in(name, texts, environment=environment, people=True, settings=settings)
    return [*found, *(replace(one, line=None) for one in more)]


def _names_in(where: str, text: str, environment: Mapping[str, str]) -> Iterator[Finding]:
    """The name of whoever pushes and of this machine, in remarks: in values of the recipe they were meant."""
    for what, name in _own_names(environment):
        for line, remark in remarks(text):
            if re.search(rf"(?i)(?<!\w){re.escape(name)}(?!\w)", remark):
                key = hashlib.sha256(f"{what}\0{name}".encode()).hexdigest()[:12]
                yield Finding(key, where, what, f"{name[:1]}\N{HORIZONTAL ELLIPSIS} ({len(name)} characters)", line)
                break


def _own_names(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    names = {environment.get(key, "") for key in ("DEBFULLNAME", "GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME")}
    with suppress(KeyError):
        names.add(pwd.getpwuid(os.getuid()).pw_gecos.partition(",")[0])
    for name in sorted(names):
        if " " in name.strip() and len(name) > 4:
            yield "the name of this machine's user", name.strip()
    host = socket.gethostname()
    if len(host) > 5 and re.search(r"[\d.-]", host) and host != "localhost.localdomain":
        yield "this machine's name", host


def _before_changes(run: Run) -> Iterator[Finding]:
    """Other demonstrations that the run went on from (``--allow-change``): learned, and not kept."""
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
        general = stored.general(run)
        recorded = sorted(sealed.value(run, run.split_path)["ids"].get("train", ()))
    except RunError as error:
        raise PublishError(f"{str(error).partition('; ')[0]}; {again}") from None
    if sorted(d.id for d in known["train"]) != recorded:
        raise PublishError(f"{path}: is not what was trained on; {again}")
    return [*known["train"], *general]
