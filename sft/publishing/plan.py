"""What a push would do, settled before anything is sent: readable by a person, and as JSON."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from sft.errors import NoAccess, OtherContent, PublishError
from sft.publishing.hub import Hub, RemoteFile, State
from sft.publishing.staging import PUBLISHABLE, Base, Staged, StagedFile, is_gguf_of, resolved_recipe
from sft.runs.visible import plain

__all__ = ["GATHERED", "Asked", "PlannedFile", "PushPlan", "holds", "settle"]

#: The file by which a pushed gathering is known again.
GATHERED = "sft_gathering.json"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user asks for. ``None``: what the recipe's section ``publish`` says.

    ``allow``: ``WHAT=REASON`` of findings that may be published all the same, and ``allow_files`` with such lines.
    ``examples``: whether texts of held-out demonstrations may stand in card and scorecard. ``comments``: whether those
    of the recipe are published. ``gguf``: kinds of GGUF files that go along.
    """

    repo: str | None = None
    private: bool | None = None
    branch: str = "main"
    create_pr: bool = False
    tag: str | None = None
    replace: bool = False
    base_model: str | None = None
    merged: bool = False
    dry_run: bool = False
    allow: Sequence[str] = ()
    allow_files: Sequence[Path] = ()
    examples: bool | None = None
    comments: bool = True
    gguf: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file to publish. ``state``: beside what the branch holds."""

    path: str
    size: int
    sha256: str
    state: Literal["new", "changed", "same"]


@dataclass(frozen=True, slots=True)
class PushPlan:
    """A push. ``parent``: the commit it goes on top of; None where there is none yet.

    ``what``: what is published, in words. ``base_model``: None for a data set.
    ``removed``: files of its kind on the branch that it no longer has; ``kept``: others, left as they are.
    ``examples``: what of the held-out demonstrations is in it. ``comments``: of the recipe, each with its line.
    ``rewritten``: where the record is not as in the run. ``servers``: which take it. ``left_out``: what stays here.
    ``pulls``: pull requests there were before. ``content``: hash of all files.
    """

    endpoint: str
    repo: str
    who: str
    private: bool
    creates_repo: bool
    branch: str
    creates_branch: bool
    create_pr: bool
    tag: str | None
    parent: str | None
    what: str
    weights: str
    base_model: str | None
    base_revision: str | None
    content: str
    files: tuple[PlannedFile, ...]
    removed: tuple[str, ...]
    kept: tuple[str, ...]
    left_out: Mapping[str, str]
    allowed: Mapping[str, str]
    notes: tuple[str, ...]
    pulls: Mapping[str, str]
    examples: tuple[str, ...] = ()
    comments: tuple[str, ...] = ()
    rewritten: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        """Where people find it."""
        return f"{self.endpoint}/{self.repo if self.base_model else f'datasets/{self.repo}'}"

    @property
    def nothing_to_send(self) -> bool:
        """Whether the branch holds all of it already."""
        return not self.removed and all(one.state == "same" for one in self.files)

    @property
    def bytes_to_send(self) -> int:
        """Size of what is new or changed."""
        return sum(one.size for one in self.files if one.state != "same")

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self) | {"nothing_to_send": self.nothing_to_send, "bytes_to_send": self.bytes_to_send}

    def to_text(self) -> str:
        """For a person."""
        seen = "private" if self.private else "public"
        where = f"{self.branch}{' (new)' if self.creates_branch else ''}"
        rows = [
            f"{self.repo} on {self.endpoint}, as {self.who}",
            f"  repository  {seen}, {'to be created' if self.creates_repo else 'there already'}",
            f"  goes to     {'a pull request on ' if self.create_pr else ''}{where}"
            + (f", on top of {self.parent[:12]}" if self.parent else "")
            + (f", then tagged {self.tag}" if self.tag else ""),
            f"  {'clone   ' if self.base_model else 'data set'}    {self.what}",
        ]
        width = max(len(one.path) for one in self.files)
        rows += [f"  {one.state:<11} {one.path:<{width}}  {_size(one.size):>9}  {one.sha256}" for one in self.files]
        rows += [f"  removed     {path}" for path in self.removed]
        rows += [f"  left there  {path}" for path in self.kept]
        rows += [f"  left out    {path} ({why})" for path, why in self.left_out.items()]
        rows += [f"  {'examples' if not place else '':<11} {line}" for place, line in enumerate(self.examples)]
        rows += [f"  served      {line}" for line in self.servers]
        rows += [f"  comment     {line}" for line in self.comments]
        rows += [f"  rewritten   {line}" for line in self.rewritten]
        rows += [f"  allowed     {what} ({key})" for key, what in self.allowed.items()]
        rows += [f"  note        {note}" for note in self.notes]
        rows.append("nothing to send" if self.nothing_to_send else f"one commit, {_size(self.bytes_to_send)} to send")
        return "\n".join(plain(row.replace("\n", " ")) for row in rows)  # names may come from anybody


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count:,} B"


def holds(files: Mapping[str, RemoteFile], one: StagedFile) -> bool:
    """Whether ``files`` on the hub have ``one``, by its hash."""
    there = files.get(one.path)
    if there is None:
        return False
    return there.sha256 == one.sha256 if there.sha256 else there.blob == one.blob


def settle(
    staged: Staged,
    hub: Hub,
    asked: Asked,
    *,
    repo: str,
    private: bool,
    allowed: Mapping[str, str],
    notes: Sequence[str],
) -> PushPlan:
    """Ask the hub what there is, and settle what a push to ``repo`` would do; nothing is written.

    Raises ``NoAccess`` where the token may not write there, ``OtherContent`` where the repository is not as asked.
    """
    mine = hub.who()
    state = hub.look(repo, asked.branch)
    owner = repo.partition("/")[0]
    if state is None:
        if owner not in mine:
            raise NoAccess(
                f"{repo}: is not there, and {mine[0]} cannot create it under {owner}; name one of {', '.join(mine)}"
            )
        if asked.create_pr:
            raise OtherContent(
                f"{repo}: is not there yet, so there is nothing to ask for with --create-pr; leave it out"
            )
    else:
        if owner not in mine and not asked.create_pr:
            raise NoAccess(
                f"{repo}: belongs to {owner}, and {mine[0]} cannot write there; ask for it with --create-pr, or name "
                f"a repository of {' or '.join(mine)}"
            )
        _refuse_other(staged, hub, state, repo, private=private, replace=asked.replace)
    notes = [*notes, *(_about_base(staged.base, hub) if staged.base is not None else ())]
    remote = state.files if state else {}
    files = tuple(PlannedFile(one.path, one.size, one.sha256, _state(remote, one)) for one in staged.files)
    strangers = sorted(set(remote) - {one.path for one in staged.files})
    ours = _of_a_clone if staged.base is not None else _of_a_data_set
    name = repo.rpartition("/")[2]
    removed = tuple(path for path in strangers if ours(path) or (staged.base is not None and is_gguf_of(name, path)))
    if asked.tag is not None and state is not None:
        at = hub.tags(repo).get(asked.tag)
        # A tag that is there already may only be the one of this very content.
        if at is not None and (at != state.commit or removed or any(one.state != "same" for one in files)):
            raise OtherContent(
                f"{repo}: has a tag {asked.tag} already, at {at[:12]}; choose another, for tags do not move"
            )
    return PushPlan(
        endpoint=hub.endpoint,
        repo=repo,
        who=mine[0],
        private=private,
        creates_repo=state is None,
        branch=asked.branch,
        creates_branch=asked.branch != "main" and (state is None or not state.branch_exists),
        create_pr=asked.create_pr,
        tag=asked.tag,
        parent=state.commit if state else None,
        what=staged.what,
        weights=staged.weights,
        base_model=staged.base.id if staged.base is not None else None,
        base_revision=staged.base.revision if staged.base is not None else None,
        content=staged.digest,
        files=files,
        removed=removed,
        kept=tuple(path for path in strangers if path not in removed),
        left_out=staged.left_out,
        allowed=allowed,
        notes=tuple(notes),
        pulls=hub.pull_requests(repo) if asked.create_pr else {},
        examples=tuple(staged.quoted.to_lines()),
        comments=tuple(f"recipe line {line}: {text}" for line, text in staged.remarks),
        rewritten=staged.rewritten,
        servers=tuple(one.to_text() for one in staged.servers),
    )


def _state(remote: Mapping[str, RemoteFile], one: StagedFile) -> Literal["new", "changed", "same"]:
    return "new" if one.path not in remote else "same" if holds(remote, one) else "changed"


def _of_a_clone(path: str) -> bool:
    """Whether ``from_pretrained`` would read it, or load it as a pickle: beside ours it would be a mixture."""
    return path in PUBLISHABLE or (
        "/" not in path and path.startswith(("model-", "pytorch_model-")) and path.endswith((".safetensors", ".bin"))
    )


def _of_a_data_set(path: str) -> bool:
    """Whether an earlier push of a gathering put it there."""
    return path in ("demonstrations.jsonl", "items.jsonl", GATHERED) or path.startswith("guidelines/")


def _refuse_other(staged: Staged, hub: Hub, state: State, repo: str, *, private: bool, replace: bool) -> None:
    if state.name != repo:
        raise OtherContent(f"{repo}: is called {state.name} now; push to it by that name")
    if state.private != private:
        there, option = ("private", "--private") if state.private else ("public", "--public")
        raise OtherContent(
            f"{repo}: is {there}, and {'private' if private else 'public'} was asked for; pushing would not change "
            f"that, so change it on the hub, or say {option}"
        )
    if not replace and (other := _other(staged, hub, state, repo)):
        what = "clone" if staged.base is not None else "data set"
        raise OtherContent(
            f"{repo}: {other}; push to another repository, or put this {what} in its place with --replace"
        )


def _other(staged: Staged, hub: Hub, state: State, repo: str) -> str:
    """What the branch holds that is not an earlier state of what is pushed; "" if nothing is."""
    if staged.base is None:
        return _other_data(staged, hub, state, repo)
    weights = sorted(path for path in state.files if path.endswith((".safetensors", ".bin", ".gguf", ".pt")))
    if not weights:
        return ""
    if "sft_manifest.json" not in state.files:
        return f"holds {weights[0]} of somebody else's making"
    there, here = _told(hub, state, repo, "sft_manifest.json"), _read(staged.folder / "sft_manifest.json")
    for key, what in (("base_model", "a clone on"), ("weights", "a clone as weights of the kind")):
        if there.get("published", {}).get(key) != here["published"][key]:
            return f"holds {what} {there.get('published', {}).get(key)}"
    name, known = (str(resolved_recipe(manifest).get("name") or "") for manifest in (here, there))
    same_data = _same_hash(there.get("data", {}).get("hash"), here.get("data", {}).get("hash"))
    if not same_data and (name != known or not name):
        return f"holds another clone, {known or 'without a name'}"
    return ""


def _same_hash(one: object, other: object) -> bool:
    """Whether two recorded hashes are the same; one by a release that named no rule is compared by its digits."""
    if isinstance(one, str) and isinstance(other, str) and (":" in one) != (":" in other):
        return one.rpartition(":")[2] == other.rpartition(":")[2]
    return one == other


def _other_data(staged: Staged, hub: Hub, state: State, repo: str) -> str:
    """As :func:`_other`, of a data set: another gathering, or files of somebody else's."""
    files = sorted(set(state.files) - {".gitattributes", "README.md", "LICENSE"})
    if not files:
        return ""
    if GATHERED not in files:
        return f"holds {files[0]} of somebody else's making"
    there, here = _told(hub, state, repo, GATHERED).get("id"), _read(staged.folder / GATHERED)["id"]
    return "" if there == here else f"holds another gathering, {there}"


def _told(hub: Hub, state: State, repo: str, name: str) -> dict[str, Any]:
    """What the JSON file ``name`` on the branch says."""
    with tempfile.TemporaryDirectory(prefix="sft-push-") as cache:
        return _read(hub.download(repo, str(state.commit), name, Path(cache)))


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _about_base(base: Base, hub: Hub) -> list[str]:
    """Notes on the base; a mistyped one is refused."""
    notes = [base.note] if base.note else []
    if not hub.exists(base.id, base.revision):
        if base.given:
            raise PublishError(f"--base-model {base}: {hub.endpoint} has no such model; correct the name")
        notes.append(f"{hub.endpoint} has no {base}, which whoever loads the adapter needs from somewhere")
    if base.revision is None:
        notes.append(f"the commit of {base.id} is not on record, so the adapter names none")
    return notes
