"""Sending: one commit, and after every doubt a look at what became of it instead of a guess; then the proof.

The proof is every file downloaded at the commit, into an empty folder and cache, and hashed. A snapshot is none: the
client takes a file of the right size with another byte in it, and serves one from its cache while the hub answers
nothing but 401.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft.errors import Conflict, OtherContent, PublishError, RunError, Unavailable, Unsettled, Unverified
from sft.publishing.hub import Hub, RemoteFile, State
from sft.publishing.hub_answers import Doubt
from sft.publishing.plan import PushPlan, holds
from sft.publishing.staging import WEIGHTS, Staged
from sft.runs.atomic_files import read_json, scratch_in, write_json
from sft.runs.hashes import file_sha256
from sft.runs.run import now

__all__ = ["Sent", "earlier_pushes", "send", "tag", "verify", "write_receipt"]


@dataclass(frozen=True, slots=True)
class Sent:
    """Where the clone is now. ``pull_request``: its ref; None on a branch. ``made``: whether it took a commit."""

    commit: str
    pull_request: str | None
    made: bool


def send(plan: PushPlan, staged: Staged, hub: Hub, say: Callable[[str], None]) -> Sent:
    """Create what is missing and make the one commit of ``plan``; done once the branch holds it, whoever made it.

    Raises ``Conflict`` when the branch has moved to something else; ``Unavailable`` when patience ended and the branch
    is as it was; ``Unsettled`` when a commit may still land.
    """
    parent = plan.parent
    if plan.creates_repo:
        state = _create(plan, hub, say)
        if _is_ours(plan, staged, state.files):
            return Sent(str(state.commit), None, False)
        if set(state.files) - {".gitattributes", "README.md"}:
            raise _conflict(plan, state)
        parent = state.commit
    if plan.creates_branch:
        hub.branch(plan.repo, plan.branch)
    if plan.create_pr:
        known = _in_a_pull_request(plan, staged, hub, hub.pull_requests(plan.repo))
        if known is not None:
            return known
    return _commit(plan, staged, hub, parent, say)


def tag(plan: PushPlan, commit: str, hub: Hub) -> None:
    """Name ``commit`` as the plan says; it must not be the name of another one."""
    if plan.tag is None:
        return
    hub.tag(plan.repo, plan.tag, commit)
    at = hub.tags(plan.repo).get(plan.tag)
    if at is None:
        raise Unverified(
            f"{plan.repo}: the {_noun(plan)} is there as {commit[:12]}, and the hub lists no tag {plan.tag}, which it "
            "said it made; run the same command again"
        )
    if at != commit:
        raise OtherContent(
            f"{plan.repo}: the {_noun(plan)} is there as {commit[:12]}, and the tag {plan.tag} is at {at[:12]}; "
            "choose another"
        )


def _create(plan: PushPlan, hub: Hub, say: Callable[[str], None]) -> State:
    """Create the repository, and what it is then. Whoever was first, it must be as it was asked for."""
    for number in range(hub.patience.tries):
        why = ""
        try:
            hub.create(plan.repo, private=plan.private)
        except Doubt as doubt:
            why, asked = doubt.why, doubt.retry_after
            say(f"push      {why} while {plan.repo} was created; looking whether it is there")
        state = hub.look(plan.repo)
        if state is not None:
            if state.private != plan.private:
                seen = "private" if state.private else "public"
                raise OtherContent(f"{plan.repo}: was created meanwhile, as {seen}; nothing was sent")
            return state
        hub.patience.pause(number, asked if why else None)
    raise Unavailable(
        f"{hub.endpoint}: {plan.repo} cannot be created ({why or 'it is not there afterwards'}); run the same command "
        "again later"
    )


def _commit(plan: PushPlan, staged: Staged, hub: Hub, parent: str | None, say: Callable[[str], None]) -> Sent:
    add = {one.path: staged.folder / one.path for one in plan.files if one.state != "same"}
    title = "Demonstrations, gathered"
    if plan.base_model is not None:
        title = f"{'Adapter' if plan.weights == 'adapter' else 'Weights'} of a clone on {plan.base_model}"
    late = False
    for number in range(hub.patience.tries):
        try:
            commit, pull_request = hub.commit(
                plan.repo,
                add,
                plan.removed,
                parent=parent,
                branch=plan.branch,
                title=title,
                description=f"Pushed with sft push; content {plan.content}.",
                create_pr=plan.create_pr,
            )
            return Sent(commit, pull_request, True)
        except Doubt as doubt:
            last = doubt
            late = late or doubt.sent
            say(f"push      {doubt.why}; looking what {plan.repo} holds now")
            found = _looked_for(plan, staged, hub, parent, late=late)
            if found is not None:
                return found
            if number + 1 < hub.patience.tries:
                hub.patience.pause(number, doubt.retry_after)
    found = _looked_for(plan, staged, hub, parent, late=late)
    if found is not None:
        return found
    if late:
        raise Unsettled(
            f"{plan.repo}: no answer to the commit ({last.why}), and {plan.branch} is as it was, but it may still "
            "land; run the same command again in a while, which finds out"
        )
    raise Unavailable(
        f"{plan.repo}: the hub takes no commit ({last.why}); {plan.branch} is as it was, so run the same command again "
        "later"
    )


def _looked_for(plan: PushPlan, staged: Staged, hub: Hub, parent: str | None, *, late: bool) -> Sent | None:
    """As :func:`_found`; where the hub cannot be asked and a commit may have landed, that is what is said."""
    try:
        return _found(plan, staged, hub, parent)
    except Conflict:
        raise
    except PublishError as error:
        if not late:
            raise
        why = str(error).rpartition("; ")[0] or str(error)
        raise Unsettled(
            f"{plan.repo}: a commit was sent, and what became of it cannot be seen ({why}); run the same command again "
            "in a while, which finds out"
        ) from error


def _found(plan: PushPlan, staged: Staged, hub: Hub, parent: str | None) -> Sent | None:
    """What a look at the hub says of our commit: it is there, or (None) nothing has changed. Raises ``Conflict``."""
    if plan.create_pr:
        return _in_a_pull_request(plan, staged, hub, hub.pull_requests(plan.repo))
    state = hub.look(plan.repo, plan.branch)
    if state is None or state.commit is None:
        return None
    if _is_ours(plan, staged, state.files):
        return Sent(state.commit, None, True)
    if state.commit != parent:
        raise _conflict(plan, state)
    return None


def _conflict(plan: PushPlan, state: State) -> Conflict:
    return Conflict(
        f"{plan.repo}: somebody else's commit {str(state.commit)[:12]} is on {plan.branch} now, and nothing of ours; "
        f"look at it, and run the same command again if the {_noun(plan)} is to go on top of it"
    )


def _is_ours(plan: PushPlan, staged: Staged, files: Mapping[str, RemoteFile]) -> bool:
    """Whether a tree is exactly what the plan leads to."""
    expected = {one.path for one in staged.files} | set(plan.kept)
    others = set(files) - {".gitattributes"}  # the hub's own, made with the repository
    return others == expected - {".gitattributes"} and all(holds(files, one) for one in staged.files)


def _in_a_pull_request(plan: PushPlan, staged: Staged, hub: Hub, pulls: Mapping[str, str]) -> Sent | None:
    """The newest pull request that holds exactly what the plan leads to."""
    newest = sorted(pulls, key=lambda ref: int(ref.rpartition("/")[2]), reverse=True)[:10]
    for ref in newest:
        if _is_ours(plan, staged, hub.tree(plan.repo, pulls[ref])):
            return Sent(pulls[ref], ref, ref not in plan.pulls)
    return None


def verify(plan: PushPlan, staged: Staged, sent: Sent, hub: Hub, scratch: Path) -> None:
    """Download what was published, a file at a time, and compare it with what was staged. Raises ``Unverified``.

    ``scratch``: a folder to download into.
    """
    where = f"{plan.repo} at {sent.commit[:12]}"
    with scratch_in(scratch, "proof") as proof:
        cache, folder = proof / "cache", proof / "clone"
        folder.mkdir()
        try:
            listed = hub.tree(plan.repo, sent.commit, just_made=True)
            lost = [one.path for one in staged.files if not holds(listed, one)]
            if lost:
                raise Unverified(
                    f"{where}: the commit does not hold {lost[0]} as it was sent (a .gitignore there may name it); "
                    "delete that file or the repository, and push again"
                )
            for one in staged.files:
                got = hub.download(plan.repo, sent.commit, one.path, cache, just_made=True)
                if file_sha256(got) != one.sha256:
                    raise Unverified(
                        f"{where}: {one.path} as downloaded is not what was sent; run the same command again, and "
                        f"do not hand the {_noun(plan)} on before it says so"
                    )
                if not one.path.endswith(WEIGHTS):  # which are hashed, and are large
                    (folder / one.path).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(got, folder / one.path)
                shutil.rmtree(cache)
        except Unverified:
            raise
        except (PublishError, OSError, ValueError) as error:  # what the hub lists is not what it serves
            raise Unverified(
                f"{where}: the commit is there and could not be verified ({' '.join(str(error).split())[:300]}); run "
                "the same command again, which sends nothing twice"
            ) from error
        _load(folder, staged, where)


def _noun(plan: PushPlan) -> str:
    return "clone" if plan.base_model is not None else "data set"


def _load(folder: Path, staged: Staged, where: str) -> None:
    """Configuration and tokenizer by the libraries that will load them; of a data set its rows."""
    if staged.base is None:
        from sft.demonstrations import formats

        if formats.read(folder / "demonstrations.jsonl", held_out=True).rejected:
            raise Unverified(f"{where}: rows as downloaded are no demonstrations; run the same command again")
        return
    from peft import PeftConfig
    from transformers import AutoConfig, AutoTokenizer

    from sft.policies.weights import quiet_engine

    try:
        with quiet_engine():
            if staged.weights == "adapter":
                named = PeftConfig.from_pretrained(str(folder)).base_model_name_or_path
                if named != staged.base.id:
                    raise ValueError(f"it names {named} as its base")
            else:
                AutoConfig.from_pretrained(folder)
            AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # three libraries read these files, each with errors of its own
        raise Unverified(f"{where}: what was downloaded does not load ({type(error).__name__}: {error})") from error


def earlier_pushes(place: Path) -> list[dict[str, Any]]:
    """Every row so far, of the run or gathering at ``place``.

    Raises ``RunError`` for a file that cannot be added to, before anything is sent.
    """
    path = place / "push.json"
    known = read_json(path) if path.exists() else {"pushes": []}
    rows = known.get("pushes") if isinstance(known, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise RunError(f"{path}: holds no receipts as this sft writes them; restore it from a copy, or move it away")
    return rows


def write_receipt(place: Path, plan: PushPlan, sent: Sent) -> dict[str, Any]:
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
    kept = [one for one in earlier_pushes(place) if _place(one) != _place(row)]
    write_json(place / "push.json", {"schema_version": 1, "pushes": [*kept, row]})
    return row


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(key) for key in ("endpoint", "repo", "branch"))
