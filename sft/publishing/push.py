"""Publishing a clone, or what was gathered: staged, checked, planned, sent as one commit, verified, receipted.

:func:`push` is all of it for a run, :func:`push_data_set` for a gathering; repeated they do the same. The steps, each
in a module of its own: ``staging`` (with the base that the clone stands on),
``checks``, ``screening`` (secrets and paths of this machine), ``plan``, ``sending`` (with its proof and receipt).
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft.errors import OtherContent, PublishError, RunError, Unverified
from sft.publishing.hub import Hub, is_repository
from sft.publishing.plan import Asked, PushPlan, settle
from sft.publishing.room import demand_room
from sft.publishing.screening import reasons, screen, screen_data_set
from sft.publishing.sending import Sent, earlier_pushes, send, tag, verify, write_receipt
from sft.publishing.staging import WEIGHTS, Staged, base_of, described, ready, resolved_recipe, stage
from sft.runs.atomic_files import scratch_in
from sft.runs.run import Run

__all__ = ["Asked", "Filled", "Pushed", "push", "push_data_set"]

#: Of a branch or a tag: git's rules, and neither a ref's full name nor what reads as the id of a commit.
_NAME = re.compile(
    r"(?!refs/|HEAD$|[0-9a-f]{40}$|.*(?:\.\.|//|/\.|\.lock(?:/|$)|[./]$))[A-Za-z0-9][A-Za-z0-9_./-]{0,100}"
)


@dataclass(frozen=True, slots=True)
class Pushed:
    """The outcome. ``receipt``: as in ``push.json``; None after a dry run. ``made``: whether it took a commit."""

    plan: PushPlan
    receipt: Mapping[str, Any] | None
    made: bool

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        receipt = dict(self.receipt) if self.receipt is not None else None
        return {"plan": self.plan.to_dict(), "receipt": receipt, "made": self.made}


@dataclass(frozen=True, slots=True)
class Filled:
    """A data set in its folder. ``what``: it in a line; ``left_out``: what stays here, with the reason; ``notes``: for
    whoever reads the plan.
    """

    what: str
    left_out: Mapping[str, str]
    notes: tuple[str, ...]


def push(
    run: Run, asked: Asked, connect: Callable[[], Hub] | None = None, say: Callable[[str], None] = lambda _: None
) -> Pushed:
    """Publish the clone of ``run``; ``say`` gets a line now and then, the plan before anything is sent among them.

    Raises ``PublishError`` and the outcomes below it (``errors``), ``RunError`` for a run that is not ready.
    """
    repo, private = _wishes(run, asked)
    ready(run, merged=asked.merged)
    earlier_pushes(run.path)  # one that cannot be added to is found before anything is sent
    base = base_of(run, asked.base_model)
    hub = (connect or Hub)()
    demand_room(run, merged=asked.merged, gguf=asked.gguf)
    with _scratch(run.path) as scratch:
        folder = scratch / "staged"
        folder.mkdir()
        with hub:
            why = _no_examples(run, asked, hub)
        staged = stage(
            run,
            folder,
            base=base,
            repo=repo,
            merged=asked.merged,
            no_examples=why,
            with_remarks=asked.comments,
            gguf=asked.gguf,
        )
        allowed = screen(staged, run, hub.token, reasons(asked.allow, asked.allow_files))
        from sft.publishing.checks import check

        notes = check(staged, run)
        with hub:
            plan = settle(staged, hub, asked, repo=repo, private=private, allowed=allowed, notes=notes)
            if asked.dry_run:
                return Pushed(plan, None, False)
            say(plan.to_text())
            return _carried_out(run.path, plan, staged, hub, say)


def push_data_set(
    place: Path,
    asked: Asked,
    write: Callable[[Path], Filled],
    connect: Callable[[], Hub] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Pushed:
    """As :func:`push`, of the gathering at ``place``; ``write`` fills an empty folder with what is to be published."""
    _refuse_names(asked)
    if not asked.repo:
        raise PublishError(f"{place}: where to? Name OWNER/NAME")
    earlier_pushes(place)
    hub = (connect or (lambda: Hub(kind="dataset")))()
    with _scratch(place) as scratch:
        folder = scratch / "staged"
        folder.mkdir()
        made = write(folder)
        staged = Staged(folder, made.what, "data set", None, described(folder), dict(sorted(made.left_out.items())))
        allowed = screen_data_set(staged, place, hub.token, reasons(asked.allow, asked.allow_files))
        with hub:
            private = asked.private is not False
            plan = settle(staged, hub, asked, repo=asked.repo, private=private, allowed=allowed, notes=made.notes)
            if asked.dry_run:
                return Pushed(plan, None, False)
            say(plan.to_text())
            return _carried_out(place, plan, staged, hub, say)


@contextmanager
def _scratch(place: Path) -> Iterator[Path]:
    """A folder for what is staged and what is downloaded again: within ``place``, so that the next command clears it
    after a kill; of the system's where nothing can be written there, as of a run that is only looked at.
    """
    if os.access(place, os.W_OK):
        with scratch_in(place, "push") as folder:
            yield folder
    else:
        with tempfile.TemporaryDirectory(prefix="sft-push-") as name:
            yield Path(name)


def _carried_out(place: Path, plan: PushPlan, staged: Staged, hub: Hub, say: Callable[[str], None]) -> Pushed:
    if plan.nothing_to_send and plan.parent is not None:
        sent = Sent(plan.parent, None, False)
    else:
        sent = send(plan, staged, hub, say)
    for one in staged.files:  # sent: there is never room for more than one copy of the weights to be asked for
        if one.path.endswith(WEIGHTS):
            (staged.folder / one.path).unlink()
    say(f"push      verifying: {len(plan.files)} files at {sent.commit[:12]}, downloaded again")
    verify(plan, staged, sent, hub, staged.folder.parent)
    try:
        tag(plan, sent.commit, hub)
        return Pushed(plan, write_receipt(place, plan, sent), sent.made)
    except OtherContent:
        raise
    except (PublishError, RunError) as error:  # of which none may say now that nothing was sent
        why = str(error).rpartition("; ")[0] or str(error)
        raise Unverified(
            f"{plan.repo} at {sent.commit[:12]}: is there and verified, but what was to follow is not done ({why}); "
            "run the same command again, which sends nothing twice"
        ) from error


def _wishes(run: Run, asked: Asked) -> tuple[str, bool]:
    """Repository and visibility, of the command line or the recipe; names that the hub would not take are refused."""
    published = resolved_recipe(run.manifest).get("publish") or {}
    repo = asked.repo or published.get("hub_id")
    if not repo:
        raise PublishError(f"{run.path}: where to? Name OWNER/NAME, or write it into the recipe as publish.hub_id")
    _refuse_names(asked, str(repo))
    private = asked.private if asked.private is not None else bool(published.get("private", True))
    return str(repo), private


def _no_examples(run: Run, asked: Asked, hub: Hub) -> str:
    """Why no text of a demonstration is to be published; "" where some may: by word of the user, or of public data."""
    said = (resolved_recipe(run.manifest).get("publish") or {}).get("examples")
    if asked.examples is not None or said is not None:
        wanted = asked.examples if asked.examples is not None else bool(said)
        return "" if wanted else "--no-examples" if asked.examples is not None else "publish.examples: false"
    paths = [str(path) for path in (run.manifest.get("data") or {}).get("paths") or ()]
    published = resolved_recipe(run.manifest).get("publish") or {}
    sets = [path.removeprefix("hub:").partition(":")[0].partition("@")[0] for path in paths if path.startswith("hub:")]
    if not all(path.startswith(("data:", "hub:")) for path in paths):  # files of the user's own
        sets = list(published.get("datasets") or ())
        if not sets:
            return "the demonstrations are private; --examples, or publish.examples: true, shows some"
    for name in sets:
        if not hub.is_public_data(name):
            return f"{name} is not public on {hub.endpoint}; --examples, or publish.examples: true, shows some"
    return ""


def _refuse_names(asked: Asked, repo: str | None = None) -> None:
    """Raise ``PublishError`` for a repository, branch or tag that the hub would not take, and for what cannot be."""
    repo = repo or asked.repo
    if repo and ("/" not in repo or not is_repository(repo)):
        raise PublishError(
            f"{repo}: is no repository; write OWNER/NAME, of letters, digits, '-', '_' and '.', ending in none of '-', "
            "'.', '.git'"
        )
    for name, option in ((asked.branch, "--revision"), (asked.tag, "--tag")):
        if name is not None and not _NAME.fullmatch(name):
            raise PublishError(f"{option} {name}: is no name for it; use letters, digits, '-', '_', '.' and '/'")
    if asked.create_pr and asked.branch != "main":
        raise PublishError("--create-pr: asks for a change of the main branch; leave out --revision")
    if asked.create_pr and asked.tag is not None:
        raise PublishError("--tag: a pull request is not in a branch yet; tag it when it is merged")
