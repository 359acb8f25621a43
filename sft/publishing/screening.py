"""Secrets and paths of this machine, in every byte that would be sent and in what the clone was taught."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sft.demonstrations import stored
from sft.demonstrations.demonstration import Demonstration, Message, Source
from sft.demonstrations.secrets import Finding, in_demonstrations, secrets_in
from sft.errors import PublishError, RunError
from sft.recipes.sources import cache_dir
from sft.runs import sealed
from sft.runs.private import texts_in, whole
from sft.runs.run import Run

if TYPE_CHECKING:
    from sft.publishing.staging import Staged

__all__ = ["known_places", "paths_in", "reasons", "screen", "screen_data_set"]

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
    # What the clone may repeat, since it was trained on it.
    taught = [*_before_changes(run), *in_demonstrations(_as_trained_on(run), environment=environment)]
    by_id = {one.id: one for one in reversed([*sent, *taught])}
    if unknown := sorted(set(allowed) - set(by_id)):
        raise PublishError(f"--allow-finding {unknown[0]}: there is no such finding; leave it out")
    left = [[one for one in found if one.id not in allowed] for found in (sent, taught)]
    _refuse(run.path, left[0], left[1])
    return {key: f"{by_id[key].what} in {by_id[key].address}: {why}" for key, why in allowed.items()}


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
        found += paths_in(name, data, _forms_of([place, *_of_this_machine()]))
    by_id = {one.id: one for one in reversed(found)}
    if unknown := sorted(set(allowed) - set(by_id)):
        raise PublishError(f"--allow-finding {unknown[0]}: there is no such finding; leave it out")
    _refuse(place, [one for one in found if one.id not in allowed], [],
            mend="have the expert take the answer up again, or correct the guidelines")  # fmt: skip
    return {key: f"{by_id[key].what} in {by_id[key].address}: {why}" for key, why in allowed.items()}


def _refuse(place: Path, sent: Sequence[Finding], taught: Sequence[Finding], mend: str = "") -> None:
    """Raise ``PublishError`` where there is a finding: which, where, and what to do."""
    found = list(dict.fromkeys([*sent, *taught]))
    if not found:
        return
    lines = [str(one) for one in found[:_SHOWN]]
    if len(found) > _SHOWN:
        lines.append(f"... and {len(found) - _SHOWN:,} more")
    those, them, come = ("that", "it", "it comes") if len(found) == 1 else ("those", "them", "they come")
    ways = [f"take {them} out where {come} from" + (f" ({mend})" if mend else "")] if sent else []
    if taught:
        ways.append(f"mask {them} in the demonstrations (`sft check --secrets` names every row) and train again")
    lines.append(
        f"{place}: not to be published with {those} in it; {', and '.join(ways)}; or, where everybody may see "
        f"{them}, add --allow-finding ID=REASON"
    )
    raise PublishError("\n".join(lines))


def _in_file(staged: Staged, name: str, run: Run, environment: Mapping[str, str]) -> list[Finding]:
    path = staged.folder / name
    if not path.stat().st_size:
        return []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if name == "scorecard.json":  # examples, as they were before JSON wrote their lines in one
            texts = "\n".join(texts_in(json.loads(bytes(data)))).encode("utf-8", "surrogatepass")
            found = [replace(one, line=None) for one in secrets_in(name, texts, environment=environment, people=True)]
        else:
            found = secrets_in(name, data, environment=environment, people=name == "README.md")
        if not name.endswith(".safetensors"):
            found += paths_in(name, bytes(data), known_places(run))
    return found


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


# -- paths of this machine ------------------------------------------------------------------------------------

#: Folders of people, wherever a file was written.
_PEOPLE = re.compile(
    rb"(?<![\w/.~%-])(?:/home/[^/\s\"'<>\\]+|/Users/[^/\s\"'<>\\]+|/root|[A-Za-z]:\\{1,2}Users\\{1,2}[^\\\s\"'<>]+"
    rb"|file://)[/\\]+[\w.+-]+"
)
#: A path from the root on, as a whole.
_ROOTED = re.compile(rb"(?<![\w/.~:%@+-])/[\w.@+-]+(?:/[\w.@+-]+)+")
#: Where every machine has the same files, so that to name one says nothing of this one.
_ANYWHERE = (b"bin", b"dev", b"etc", b"lib", b"lib64", b"opt", b"proc", b"sbin", b"sys", b"usr", b"var")
#: Words and word pieces, in which anything may stand beside anything.
_VOCABULARY = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model")


def known_places(run: Run) -> list[str]:
    """Folders and files of this machine that the run has to do with, longest first."""
    written = {text for text in texts_in(run.manifest) if _rooted(text)}
    return _forms_of([run.path, *map(Path, sorted(written)), *_of_this_machine()], written)


def _of_this_machine() -> list[Path]:
    """Folders that everything here has to do with."""
    named = [Path.cwd(), Path(tempfile.gettempdir()), cache_dir()]
    with suppress(RuntimeError):
        named.append(Path.home())
    for name in ("HF_HOME", "HF_HUB_CACHE", "VIRTUAL_ENV"):
        if os.environ.get(name):
            named.append(Path(os.environ[name]))
    return named


def _forms_of(named: Iterable[Path], written: Iterable[str] = ()) -> list[str]:
    """How the paths ``named`` may be written, with those ``written`` from the home folder on, longest first."""
    known = {text for text in written if text.startswith("~") and len(Path(text).parts) > 1}
    for path in named:
        with suppress(OSError, RuntimeError):
            for form in (path.expanduser(), path.expanduser().resolve()):
                if form.is_absolute() and len(form.parts) > 2:
                    known.add(str(form))
    return sorted(known, key=lambda text: (-len(text), text))


def _rooted(text: str) -> bool:
    """Whether ``text`` is a whole path from the root or the home folder on."""
    return text.startswith(("/", "~")) and "\n" not in text and len(text) < 4096


def paths_in(name: str, data: bytes, places: Iterable[str]) -> list[Finding]:
    """Every path of this machine, or in a person's folder, in the file ``name`` with the content ``data``.

    Also any other path that is there on this machine and not on every one; in configuration (``*.json`` but
    vocabularies), any value that as a whole is a path from the root on.
    """
    found: dict[bytes, str] = {}
    text = b"\0" not in data[:65536]

    def is_new(raw: bytes) -> bool:
        return not any(known in raw or raw in known for known in found)

    for place in places:
        if re.search(whole(place).encode("utf-8", "surrogateescape"), data):
            found[place.encode("utf-8", "surrogateescape")] = "a path of this machine"
    if text and name not in _VOCABULARY:
        for match in _PEOPLE.finditer(data):
            if is_new(match[0]):
                found[match[0]] = "a path in somebody's folder"
        for match in _ROOTED.finditer(data):
            if is_new(match[0]) and _is_there(match[0]):
                found[match[0]] = "a path of this machine"
        if name.endswith(".json") and name != "scorecard.json":
            for match in re.finditer(rb'": *"((?:~|[A-Za-z]:)?[/\\][^"\n]*[/\\][^"\n]*)"', data):
                if is_new(match[1]):
                    found[match[1]] = "a path from the root of a disk"
    return [
        Finding(
            id=hashlib.sha256(b"path\0" + raw).hexdigest()[:12],
            path=name,
            what=what,
            excerpt=_shown(raw),
            line=1 + data[: data.find(raw)].count(b"\n") if text else None,
        )
        for raw, what in sorted(found.items())
    ]


def _is_there(raw: bytes) -> bool:
    """Whether there is something at the path ``raw``, which may end with the full stop of a sentence."""
    if raw.split(b"/")[1] in _ANYWHERE:
        return False
    with suppress(OSError, ValueError):
        return Path(os.fsdecode(raw.rstrip(b"."))).exists()
    return False


def _shown(raw: bytes) -> str:
    """The first name and the last: the user knows it from them, and nobody else."""
    names = [part for part in re.split(r"[/\\]+", raw.decode("utf-8", "replace")) if part]
    return f"/{names[0]}/\N{HORIZONTAL ELLIPSIS}/{names[-1]}" if len(names) > 2 else "/".join(["", *names])
