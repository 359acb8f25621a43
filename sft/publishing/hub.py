"""The hub behind its real client, with what the client leaves out: time-outs, patience, and one kind of error.

Every call either does what it says, raises a :class:`~sft.errors.PublishError`, or, where it is open what became of
it, :class:`Doubt`. Nothing here decides what to do about a doubt; ``publishing.sending`` does.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    RepoFile,
    constants,
    get_token,
    hf_hub_download,
    set_client_factory,
)
from huggingface_hub import errors as client_errors
from huggingface_hub.utils._http import default_client_factory
from huggingface_hub.utils._validators import validate_repo_id

from sft.errors import NoAccess, NotAHub, PublishError, Unavailable
from sft.publishing.hub_answers import Doubt, is_missing, meaning
from sft.runs.patience import Patience, is_loopback

__all__ = ["PATIENCE", "Hub", "RemoteFile", "State", "is_repository"]

T = TypeVar("T")


#: For every hub that is not given another.
PATIENCE = Patience()


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as the hub lists it. ``blob``: git's id; ``sha256``: of large files only."""

    size: int
    blob: str
    sha256: str | None


@dataclass(frozen=True, slots=True)
class State:
    """A branch of a repository at one moment. ``commit``: None in a repository without any."""

    name: str
    private: bool
    commit: str | None
    files: Mapping[str, RemoteFile] = field(default_factory=dict)
    branch_exists: bool = True


def _may_only_read(rights: Any) -> bool:
    """Whether a token's own list of rights, which the newer kind has, names none to write."""
    if not isinstance(rights, Mapping):
        return False
    named = [*(rights.get("global") or ()), *(p for one in rights.get("scoped") or () for p in one["permissions"])]
    return not any(str(right).endswith(".write") for right in named)


def is_repository(name: str) -> bool:
    """Whether a hub could have ``name``, OWNER/NAME or, of its first models, NAME; the client asks for no other."""
    try:
        validate_repo_id(name)
    except client_errors.HFValidationError:
        return False
    return True


class Hub:
    """One hub and who we are there. Use it as a context manager: inside, the client has our time-outs.

    ``endpoint`` and ``token``: what the environment and the login say, unless given. The token goes to the client only.
    ``kind``: of the repositories that are asked about.

    Raises ``PublishError`` for an address that would send the token in the clear, ``NoAccess`` offline or without one.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        token: str | None = None,
        patience: Patience | None = None,
        kind: Literal["model", "dataset"] = "model",
    ) -> None:
        self.kind = kind
        self.endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
        self.patience = patience or PATIENCE
        parts = urlsplit(self.endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
            raise PublishError("HF_ENDPOINT: is no address of a hub; write https://HOST, without a name or a password")
        if parts.scheme == "http" and not is_loopback(self.endpoint):
            raise PublishError(
                f"{self.endpoint}: http would send the token in the clear; use https, for http is for 127.0.0.1 only"
            )
        if constants.is_offline_mode():
            raise NoAccess("HF_HUB_OFFLINE=1 is set, so nothing can be pushed; unset it")
        #: To look for it in what is sent; it is shown nowhere.
        self.token = token or get_token() or ""
        if not self.token:
            raise NoAccess(f"{self.endpoint}: nobody is logged in; run `hf auth login`, or set HF_TOKEN")
        self._api = HfApi(endpoint=self.endpoint, token=self.token, library_name="sft")
        self._conflicting = 0
        self._commit_went_out = False

    def __repr__(self) -> str:
        return f"Hub({self.endpoint!r})"

    def __enter__(self) -> Self:
        set_client_factory(self._client)
        return self

    def __exit__(self, *_: object) -> None:
        set_client_factory(default_client_factory)

    def _client(self) -> httpx2.Client:
        """The library's own client, which waits for ever, with time-outs and without endless waits."""
        client = default_client_factory()
        client.timeout = httpx2.Timeout(self.patience.answer_seconds, connect=self.patience.connect_seconds)
        client.event_hooks["request"].append(self._note)
        client.event_hooks["response"].append(self._curb)
        return client

    def _note(self, request: httpx2.Request) -> None:
        """Before the commit itself goes out, nothing can land late."""
        self._commit_went_out = self._commit_went_out or "/commit/" in request.url.path

    def _curb(self, response: httpx2.Response) -> None:
        """What the client would obey without a limit: hours of Retry-After, and a retry of create_repo without end."""
        # By this header the client would wait for the whole of the window; in place of the other one it serves.
        limit = re.search(r"\br=0;t=(\d+)", response.headers.pop("ratelimit", ""))
        if limit and response.status_code == 429:
            response.headers.setdefault("retry-after", limit[1])
        asked = response.headers.get("retry-after", "")
        if asked.isdigit() and int(asked) > self.patience.longest_pause_seconds:
            response.headers["retry-after"] = str(int(self.patience.longest_pause_seconds))
            response.headers["x-asked-to-wait"] = asked
        if response.status_code == 409 and response.request.url.path == "/api/repos/create":
            response.read()
            if "conflicting operation" in response.text:
                self._conflicting += 1
                if self._conflicting >= self.patience.tries:
                    raise httpx2.ReadTimeout("the hub is busy with another request of this user")
                self.patience.pause(self._conflicting, None)

    # -- reading; asked again after a doubt ----------------------------------------------------------------

    def who(self) -> tuple[str, ...]:
        """Who the token belongs to, then the organisations that they may write for.

        Raises ``NoAccess`` where the hub does not accept the token, or takes it for reading only.
        """
        found = self._ask("whoami", lambda: self._api.whoami())
        if not isinstance(found, Mapping) or not isinstance(found.get("name"), str):
            raise NotAHub(f"{self.endpoint}: does not answer as a hub does; check HF_ENDPOINT")
        organisations = tuple(str(o["name"]) for o in found.get("orgs") or () if o.get("roleInOrg") != "read")
        about = (found.get("auth") or {}).get("accessToken") or {}
        if about.get("role") == "read" or _may_only_read(about.get("fineGrained")):
            raise NoAccess(f"{self.endpoint}: the token of {found['name']} may only read; use one that may write")
        return str(found["name"]), *organisations

    def look(self, repo: str, branch: str = "main") -> State | None:
        """``branch`` of ``repo`` as it is now; None where there is no such repository (or none we may see)."""

        def ask() -> State | None:
            try:
                about = self._api.repo_info(repo, revision=branch, repo_type=self.kind)
                there = True
            except client_errors.RevisionNotFoundError:
                about, there = self._api.repo_info(repo, repo_type=self.kind), False
            except client_errors.RepositoryNotFoundError as error:
                if error.response.status_code == 401 or isinstance(error, client_errors.GatedRepoError):
                    raise
                return None
            commit = str(about.sha) if about.sha else None
            files = self._tree(repo, commit) if commit else {}
            return State(str(about.id), bool(about.private), commit, files, there)

        return self._ask("the repository", ask)

    def exists(self, repo: str, revision: str | None = None) -> bool:
        """Whether the hub has ``repo``, at ``revision`` if one is given; a gated one, too, is there."""

        def ask() -> bool:
            try:
                self._api.model_info(repo, revision=revision)
            except client_errors.GatedRepoError:
                return True
            except (client_errors.RepositoryNotFoundError, client_errors.RevisionNotFoundError):
                return False
            return True

        return self._ask("the base model", ask)

    def is_public_data(self, name: str) -> bool:
        """Whether everybody can read the data set ``name``."""

        def ask() -> bool:
            try:
                about = self._api.dataset_info(name)
            except (client_errors.RepositoryNotFoundError, client_errors.RevisionNotFoundError):
                return False  # of a gated one too
            return not about.private and not about.gated

        return self._ask(f"the data set {name}", ask)

    def tags(self, repo: str) -> dict[str, str]:
        """Tag -> commit."""
        found = self._ask("the tags", lambda: self._api.list_repo_refs(repo, repo_type=self.kind))
        return {tag.name: tag.target_commit for tag in found.tags}

    def pull_requests(self, repo: str) -> dict[str, str]:
        """Open or closed pull request (``refs/pr/1``) -> its last commit."""
        ask = lambda: self._api.list_repo_refs(repo, include_pull_requests=True, repo_type=self.kind)  # noqa: E731
        found = self._ask("the pull requests", ask)
        return {one.ref: one.target_commit for one in found.pull_requests or ()}

    def tree(self, repo: str, commit: str, *, just_made: bool = False) -> dict[str, RemoteFile]:
        """Every file of ``repo`` at ``commit``; ``just_made``: one that not every server of the hub may know yet."""
        return self._ask("the list of files", lambda: self._tree(repo, commit), just_made=just_made)

    def _tree(self, repo: str, commit: str) -> dict[str, RemoteFile]:
        listed = self._api.list_repo_tree(repo, recursive=True, revision=commit, repo_type=self.kind)
        return {
            one.path: RemoteFile(one.size, one.blob_id, one.lfs.sha256 if one.lfs else None)
            for one in listed
            if isinstance(one, RepoFile)
        }

    def download(self, repo: str, commit: str, path: str, cache: Path, *, just_made: bool = False) -> Path:
        """``path`` at ``commit``, downloaded into the folder ``cache`` (empty: then surely from the hub).

        ``just_made``: as of :meth:`tree`.
        """
        told: Any = {"revision": commit, "cache_dir": cache, "endpoint": self.endpoint, "token": self.token,
                     "repo_type": self.kind}  # fmt: skip
        return Path(self._ask(path, lambda: hf_hub_download(repo, path, **told), just_made=just_made))

    def _ask(self, what: str, ask: Callable[[], T], failed: str = "had", *, just_made: bool = False) -> T:
        """``ask()``, again after every doubt, until patience ends. ``failed``: what it then cannot be.

        ``just_made``: that it is not there is a doubt, too. Raises ``NotAHub`` for answers that no hub gives.
        """
        for number in range(self.patience.tries):
            try:
                return self._once(ask, just_made=just_made)
            except Doubt as doubt:
                last = doubt
                if number + 1 < self.patience.tries:
                    self.patience.pause(number, doubt.retry_after)
        if last.malformed:
            raise NotAHub(
                f"{self.endpoint}: {what} cannot be {failed} ({last.why}); see whether HF_ENDPOINT names a hub, and no "
                "page to log in at stands before it"
            )
        harmless = "nothing was changed by that, so " if failed == "had" else ""
        raise Unavailable(
            f"{self.endpoint}: {what} cannot be {failed} ({last.why}); {harmless}run the same command again later"
        )

    # -- writing what may be written twice; asked again after a doubt ---------------------------------------

    def branch(self, repo: str, branch: str) -> None:
        """Create ``branch`` from the main one, if it is not there yet."""
        ask = lambda: self._api.create_branch(repo, branch=branch, exist_ok=True, repo_type=self.kind)  # noqa: E731
        self._ask(f"the branch {branch}", ask, failed="made")

    def tag(self, repo: str, tag: str, commit: str) -> None:
        """Name ``commit``, if there is no such tag yet."""
        told: Any = {"revision": commit, "exist_ok": True, "repo_type": self.kind}
        ask = lambda: self._api.create_tag(repo, tag=tag, **told)  # noqa: E731
        self._ask(f"the tag {tag}", ask, failed="made")

    # -- writing once; whoever calls looks what became of it -------------------------------------------------

    def create(self, repo: str, *, private: bool) -> None:
        """Create ``repo``, if it is not there yet, by whomever. Raises :class:`Doubt`."""
        self._conflicting = 0

        def ask() -> None:
            try:
                self._api.create_repo(repo, private=private, exist_ok=False, repo_type=self.kind)
            except client_errors.HfHubHTTPError as error:
                if error.response is None or error.response.status_code != 409:
                    raise

        self._once(ask)

    def commit(
        self,
        repo: str,
        add: Mapping[str, Path],
        remove: Sequence[str],
        *,
        parent: str | None,
        branch: str,
        title: str,
        description: str,
        create_pr: bool,
    ) -> tuple[str, str | None]:
        """One commit on top of ``parent``: its id, and the pull request's ref. Raises :class:`Doubt`."""
        operations: list[Any] = [CommitOperationAdd(path, str(file)) for path, file in add.items()]
        operations += [CommitOperationDelete(path) for path in remove]
        told: Any = {"commit_message": title, "commit_description": description, "create_pr": create_pr,
                     "repo_type": self.kind}  # fmt: skip
        self._commit_went_out = False
        try:
            made = self._once(
                lambda: self._api.create_commit(repo, operations, revision=branch, parent_commit=parent, **told)
            )
        except Doubt as doubt:
            doubt.sent = doubt.sent and self._commit_went_out
            raise
        return str(made.oid), made.pr_revision

    def _once(self, ask: Callable[[], T], *, just_made: bool = False) -> T:
        """``ask()``, its failures as a ``PublishError`` or as a :class:`Doubt`. ``just_made``: as of :meth:`tree`."""
        try:
            with warnings.catch_warnings():
                # Of how the client calls its own libraries, and of a card's metadata, which is checked before.
                warnings.simplefilter("ignore", DeprecationWarning)
                warnings.simplefilter("ignore", UserWarning)
                return ask()
        except Exception as error:
            if just_made and is_missing(error):
                raise Doubt("answer 404 right after the commit", sent=False) from error
            if (judged := meaning(error, self.endpoint, self.token)) is None:
                raise
            raise judged from error
