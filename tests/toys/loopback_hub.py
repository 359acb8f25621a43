"""A hub on this machine: the routes the real client uses, repositories in memory, and faults to switch on.

::

    with LoopbackHub() as hub:                       # 127.0.0.1, a free port
        hub.fault("commit", status(503), times=2)    # the next two requests of that kind
        hub.repos["me/clone"].head()                 # what whoever downloads it gets

Requests are kept in ``hub.requests`` as (kind, method, path without commit ids).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN, READ_TOKEN, OTHER_TOKEN = (f"hf_{letter}T7kQ2mZp9LxB4nVc8RdY1sGfH6jKe3Au" for letter in "wro")
#: token -> who-am-I
USERS: dict[str, dict[str, Any]] = {
    TOKEN: {"name": "me", "role": "write", "orgs": ["lab"]},
    READ_TOKEN: {"name": "me", "role": "read", "orgs": ["lab"]},
    OTHER_TOKEN: {"name": "other", "role": "write", "orgs": []},
}
ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n*.bin filter=lfs diff=lfs merge=lfs -text\n"

Answer = tuple[int, dict[str, str], bytes]


@dataclass(frozen=True)
class Commit:
    """One state of a repository: path -> bytes."""

    oid: str
    parent: str | None
    tree: dict[str, bytes]
    title: str = ""


@dataclass
class Repo:
    """A repository, of a data set where ``name`` begins with ``datasets/``: refs (``main``, branches, tags,
    ``refs/pr/1``) point into the commits.
    """

    name: str
    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def add(self, tree: Mapping[str, bytes], title: str = "", branch: str = "main") -> Commit:
        """A commit of the whole ``tree`` on ``branch``."""
        parent = self.refs.get(branch) or self.refs.get("main")
        seed = f"{self.name} {parent} {title} {len(self.commits)}"
        made = Commit(hashlib.sha1(seed.encode()).hexdigest(), parent, dict(tree), title)
        self.commits[made.oid] = made
        self.refs[branch] = made.oid
        return made

    def at(self, revision: str) -> Commit | None:
        """The commit that a branch, a tag or an id names."""
        oid = self.refs.get(revision) or self.tags.get(revision) or revision
        return self.commits.get(oid)

    def head(self, branch: str = "main") -> dict[str, bytes]:
        """The files on ``branch``, the hub's own ``.gitattributes`` left out."""
        return {k: v for k, v in self.commits[self.refs[branch]].tree.items() if k != ".gitattributes"}

    @property
    def pushes(self) -> int:
        """Commits beyond the one the hub makes itself."""
        return len(self.commits) - 1


@dataclass
class Fault:
    """What the next ``times`` requests of a kind meet, after ``after`` that are let through."""

    act: Callable[[Handler, Callable[[], Answer]], Answer | None]
    times: int
    after: int = 0


def status(code: int, *, html: bool = False, **headers: str) -> Any:
    """The hub answers ``code`` and does nothing."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if html:
        page = b"<html><body><h1>" + str(code).encode() + b" Bad Gateway</h1></body></html>"
        return lambda handler, serve: (code, named | {"Content-Type": "text/html"}, page)
    return lambda handler, serve: (code, named | {"Content-Type": "application/json"}, b'{"error": "planned"}')


def done_then(code: int) -> Any:
    """The hub does what was asked and answers ``code``, as a proxy in front of it does after its own time-out."""

    def act(handler: Handler, serve: Callable[[], Answer]) -> Answer:
        serve()
        return code, {"Content-Type": "text/html"}, b"<html>gateway time-out</html>"

    return act


def answer_lost(handler: Handler, serve: Callable[[], Answer]) -> None:
    """The hub does what was asked; the connection is cut before its answer."""
    serve()
    handler.cut()


def connection_cut(handler: Handler, serve: Callable[[], Answer]) -> None:
    """The connection is cut in the middle of the request."""
    handler.cut()


def stalled(seconds: float, *, lands: bool) -> Any:
    """No answer for ``seconds``; then, long after the client has given up, the request ``lands`` or is forgotten."""

    def act(handler: Handler, serve: Callable[[], Answer]) -> None:
        handler.body()  # it has arrived in full
        time.sleep(seconds)
        if lands:
            serve()
        handler.cut()

    return act


def meanwhile(happens: Callable[[], object]) -> Any:
    """Something else happens on the hub first."""

    def act(handler: Handler, serve: Callable[[], Answer]) -> Answer:
        happens()
        return serve()

    return act


def flipped_byte(handler: Handler, serve: Callable[[], Answer]) -> Answer:
    """One byte of the file is another; its length is right."""
    code, headers, body = serve()
    if code != 200 or not body:
        return code, headers, body
    middle = len(body) // 2
    return code, headers, body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    hub: LoopbackHub
    _body: bytes | None = None

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def body(self) -> bytes:
        """What came with the request."""
        if self._body is None:
            self._body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return self._body

    def cut(self) -> None:
        """End the connection without a word."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _any(self) -> None:
        self._body = None
        parts = urlsplit(self.path)
        kind, words = self.hub.route(self.command, unquote(parts.path))
        self.hub.note(kind, self.command, parts.path)

        def serve() -> Answer:
            self.body()
            user = USERS.get((self.headers.get("Authorization") or "").removeprefix("Bearer "))
            with self.hub.lock:
                return getattr(self.hub, f"_{kind}")(self, user, parse_qs(parts.query), *words)

        fault = self.hub.next_fault(kind)
        answer = fault.act(self, serve) if fault else serve()
        if answer is None:
            return
        self.body()
        code, headers, content = answer
        with contextlib.suppress(OSError):  # the client may have gone
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            if "Content-Length" not in headers:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = _any


_ROUTES: list[tuple[str, str, re.Pattern[str]]] = [
    (kind, method, re.compile(pattern))
    for kind, method, pattern in (
        ("whoami", "GET", r"/api/whoami-v2"),
        ("create_repo", "POST", r"/api/repos/create"),
        ("validate_yaml", "POST", r"/api/validate-yaml"),
        ("refs", "GET", r"/api/models/([^/]+/[^/]+)/refs"),
        ("info", "GET", r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?"),
        ("tree", "GET", r"/api/models/([^/]+/[^/]+)/tree/(refs/pr/\d+|[^/]+)(?:/(.+))?"),
        ("commits", "GET", r"/api/models/([^/]+/[^/]+)/commits/(.+)"),
        ("paths_info", "POST", r"/api/models/([^/]+/[^/]+)/paths-info/(.+)"),
        ("preupload", "POST", r"/api/models/([^/]+/[^/]+)/preupload/(.+)"),
        ("commit", "POST", r"/api/models/([^/]+/[^/]+)/commit/(.+)"),
        ("tag", "POST", r"/api/models/([^/]+/[^/]+)/tag/(.+)"),
        ("branch", "POST", r"/api/models/([^/]+/[^/]+)/branch/(.+)"),
        ("lfs_batch", "POST", r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch"),
        ("lfs_upload", "PUT", r"/lfs/([0-9a-f]{64})"),
        ("lfs_verify", "POST", r"/lfs/([0-9a-f]{64})/verify"),
        ("lfs_download", "GET", r"/lfs/([0-9a-f]{64})"),
        ("resolve", "HEAD", r"/([^/]+/[^/]+)/resolve/(refs/pr/\d+|[^/]+)/(.+)"),
        ("resolve", "GET", r"/([^/]+/[^/]+)/resolve/(refs/pr/\d+|[^/]+)/(.+)"),
    )
]


class LoopbackHub:
    """The hub; a context manager that serves. ``xet``: nothing here speaks Xet, so clients must have it disabled."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, str]] = []
        self.received: list[bytes] = []
        self.lock = threading.RLock()
        self._faults: dict[str, list[Fault]] = {}
        self._counter = itertools.count(1)
        handler = type("BoundHandler", (Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def endpoint(self) -> str:
        """Its address, for ``HF_ENDPOINT``."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def storage(self) -> str:
        """The same server under another name: large files come from another host than the hub, as in the world."""
        return self.endpoint.replace("127.0.0.1", "localhost")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    # -- what tests ask for

    def fault(self, kind: str, act: Any, *, times: int = 1, after: int = 0) -> None:
        """Let the next ``times`` requests of ``kind`` meet ``act``, once ``after`` of them went well."""
        self._faults.setdefault(kind, []).append(Fault(act, times, after))

    def put(self, name: str, files: Mapping[str, bytes], *, private: bool = True) -> Repo:
        """A repository with ``files`` in one commit, as if somebody had pushed it."""
        repo = self.repos[name] = Repo(name, private)
        repo.add({".gitattributes": ATTRIBUTES}, "initial commit")
        if files:
            repo.add({".gitattributes": ATTRIBUTES, **files}, "by somebody")
        for data in files.values():
            self.large[hashlib.sha256(data).hexdigest()] = data
        return repo

    def kinds(self) -> list[str]:
        """The kinds of all requests so far, in order."""
        return [kind for kind, _, _ in self.requests]

    def everything_received(self) -> bytes:
        """All bytes that ever came with a request, and all that repositories hold."""
        held = [data for repo in self.repos.values() for c in repo.commits.values() for data in c.tree.values()]
        return b"\n".join([*self.received, *self.large.values(), *held])

    # -- the machinery

    def note(self, kind: str, method: str, path: str) -> None:
        """Keep the request, ids of commits and files taken out of its path."""
        with self.lock:
            self.requests.append((kind, method, re.sub(r"[0-9a-f]{40,64}", "ID", unquote(path))))

    def next_fault(self, kind: str) -> Fault | None:
        """The fault whose turn it is."""
        with self.lock:
            for fault in self._faults.get(kind, []):
                if fault.after > 0:
                    fault.after -= 1
                    return None
                if fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    def route(self, method: str, path: str) -> tuple[str, tuple[str | None, ...]]:
        """The kind of a request, and the parts of its path; a data set's name begins with ``datasets/``."""
        plain = re.sub(r"^/api/datasets/|^/datasets/", lambda one: one[0].replace("datasets", "models", 1), path)
        plain = plain if plain == path or plain.startswith("/api/") else plain.removeprefix("/models")
        for kind, asked, pattern in _ROUTES:
            if asked == method and (found := pattern.fullmatch(plain)):
                name, *more = found.groups() or ("",)
                return kind, (f"datasets/{name}", *more) if plain != path else found.groups()
        return "unknown", (path,)

    def _repo(self, name: str, user: dict[str, Any] | None) -> Repo | None:
        repo = self.repos.get(name)
        return repo if repo and (not repo.private or _member(user, name)) else None

    # -- the routes; each is called as (handler, user, query, parts of the path)

    def _unknown(self, handler: Handler, user: Any, query: Any, path: str) -> Answer:
        return _json(404, {"error": f"no route {path}"})

    def _whoami(self, handler: Handler, user: Any, query: Any) -> Answer:
        if user is None:
            return _json(401, {"error": "Invalid credentials"}, {"X-Error-Message": "Invalid credentials"})
        orgs = [{"name": name, "type": "org", "roleInOrg": "write"} for name in user["orgs"]]
        token = {"displayName": "a token", "role": user["role"]}
        return _json(200, {"type": "user", "name": user["name"], "orgs": orgs, "auth": {"accessToken": token}})

    def _create_repo(self, handler: Handler, user: Any, query: Any) -> Answer:
        asked = json.loads(handler.body())
        name = f"{asked.get('organization') or (user or {}).get('name')}/{asked['name']}"
        name = f"datasets/{name}" if asked.get("type") == "dataset" else name
        if refusal := _may_write(user, name):
            return refusal
        if name in self.repos:
            return _json(409, {"error": "You already created this model repo", "url": f"{self.endpoint}/{name}"})
        self.put(name, {}, private=asked.get("visibility") == "private" or bool(asked.get("private")))
        return _json(200, {"url": f"{self.endpoint}/{name}", "name": name})

    def _validate_yaml(self, handler: Handler, user: Any, query: Any) -> Answer:
        content = json.loads(handler.body())["content"]
        if not content.startswith("---\n"):
            return _json(200, {"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]})
        return _json(200, {"errors": [], "warnings": []})

    def _info(self, handler: Handler, user: Any, query: Any, name: str, revision: str | None) -> Answer:
        repo = self._repo(name, user)
        if repo is None:
            return _no_repo(user)
        commit = repo.at(revision or "main")
        if commit is None:
            return _no_revision(revision)
        siblings = [{"rfilename": path} for path in commit.tree]
        plain = name.removeprefix("datasets/")
        about = {"_id": plain, "id": plain, "modelId": plain, "sha": commit.oid, "private": repo.private, "tags": []}
        about |= {"lastModified": "2026-01-01T00:00:00.000Z"}
        return _json(200, about | {"siblings": siblings, "downloads": 0, "likes": 0, "gated": False})

    def _refs(self, handler: Handler, user: Any, query: Any, name: str) -> Answer:
        repo = self._repo(name, user)
        if repo is None:
            return _no_repo(user)
        branches = [_ref(n, f"refs/heads/{n}", oid) for n, oid in repo.refs.items() if not n.startswith("refs/pr/")]
        pulls = [_ref(n, n, oid) for n, oid in repo.refs.items() if n.startswith("refs/pr/")]
        tags = [_ref(n, f"refs/tags/{n}", oid) for n, oid in repo.tags.items()]
        found = {"branches": branches, "converts": [], "tags": tags}
        return _json(200, found | ({"pullRequests": pulls} if query.get("include_prs") else {}))

    def _tree(self, handler: Handler, user: Any, query: Any, name: str, revision: str, path: str | None) -> Answer:
        repo = self._repo(name, user)
        if repo is None:
            return _no_repo(user)
        commit = repo.at(revision)
        if commit is None:
            return _no_revision(revision)
        inside = {p: data for p, data in sorted(commit.tree.items()) if path is None or p.startswith(f"{path}/")}
        if path is not None and not inside:
            return _no_entry(path)
        if query.get("recursive", ["false"])[0].lower() == "true":
            return _json(200, [_listed(p, data) for p, data in inside.items()])
        start = f"{path}/" if path else ""
        parts = {p: p.removeprefix(start).partition("/") for p in inside}
        folders = dict.fromkeys(f"{start}{first}" for first, deeper, _ in parts.values() if deeper)
        here = [_listed(p, inside[p]) for p, (_, deeper, _) in parts.items() if not deeper]
        return _json(200, [{"type": "directory", "path": p, "size": 0, "oid": "0" * 40} for p in folders] + here)

    def _commits(self, handler: Handler, user: Any, query: Any, name: str, revision: str) -> Answer:
        repo = self._repo(name, user)
        if repo is None:
            return _no_repo(user)
        found, commit = [], repo.at(revision)
        while commit is not None:
            date = "2026-01-01T00:00:00.000Z"
            found.append({"id": commit.oid, "title": commit.title, "message": "", "date": date, "authors": []})
            commit = repo.commits.get(commit.parent or "")
        return _json(200, found)

    def _paths_info(self, handler: Handler, user: Any, query: Any, name: str, revision: str) -> Answer:
        repo = self._repo(name, user)
        commit = repo.at(revision) if repo else None
        if commit is None:
            return _no_repo(user)
        asked = json.loads(handler.body())["paths"] if handler.body().startswith(b"{") else []
        return _json(200, [_listed(p, commit.tree[p]) for p in asked if p in commit.tree])

    def _preupload(self, handler: Handler, user: Any, query: Any, name: str, revision: str) -> Answer:
        repo = self._repo(name, user)
        if repo is None:
            return _no_repo(user)
        if refusal := _may_write(user, name, pull_request=bool(query.get("create_pr"))):
            return refusal
        commit = repo.at(revision)
        if commit is None:
            return _no_revision(revision)
        ignored = commit.tree.get(".gitignore", b"").decode().split()
        files = []
        for row in json.loads(handler.body())["files"]:
            path, there = row["path"], commit.tree.get(row["path"])
            mode = "lfs" if _is_large(path) else "regular"
            oid = None if there is None else (_sha256(there) if mode == "lfs" else _blob(there))
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": path in ignored, "oid": oid})
        return _json(200, {"files": files})

    def _lfs_batch(self, handler: Handler, user: Any, query: Any, name: str) -> Answer:
        if self._repo(name, user) is None:
            return _no_repo(user)
        objects = []
        for row in json.loads(handler.body())["objects"]:
            made: dict[str, Any] = {"oid": row["oid"], "size": row["size"]}
            if row["oid"] not in self.large:
                href = f"{self.storage}/lfs/{row['oid']}"
                made["actions"] = {"upload": {"href": href, "header": {}}, "verify": {"href": f"{href}/verify"}}
            objects.append(made)
        return _json(200, {"transfer": "basic", "objects": objects}, kind="application/vnd.git-lfs+json")

    def _lfs_upload(self, handler: Handler, user: Any, query: Any, oid: str) -> Answer:
        data = handler.body()
        if _sha256(data) != oid:
            return _json(400, {"error": "another content"})
        self.large[oid] = data
        return 200, {"ETag": f'"{oid}"'}, b""

    def _lfs_verify(self, handler: Handler, user: Any, query: Any, oid: str) -> Answer:
        return _json(200 if oid in self.large else 404, {})

    def _lfs_download(self, handler: Handler, user: Any, query: Any, oid: str) -> Answer:
        return 200, {"Content-Type": "application/octet-stream"}, self.large[oid]

    def _commit(self, handler: Handler, user: Any, query: Any, name: str, branch: str) -> Answer:
        repo, pull_request = self._repo(name, user), bool(query.get("create_pr"))
        if repo is None:
            return _no_repo(user)
        if refusal := _may_write(user, name, pull_request=pull_request):
            return refusal
        head = repo.at(branch)
        if head is None:
            return _no_revision(branch)
        rows = [json.loads(line) for line in handler.body().splitlines()]
        self.received.append(handler.body())
        about = rows[0]["value"]
        if about.get("parentCommit") not in (None, head.oid):
            return _json(412, {"error": "A commit has happened since. Please refresh and try again."})
        tree = dict(head.tree)
        for row in rows[1:]:
            path = row["value"]["path"]
            if row["key"] == "file":
                tree[path] = base64.b64decode(row["value"]["content"])
            elif row["key"] == "lfsFile":
                if row["value"]["oid"] not in self.large:
                    return _json(400, {"error": f"the content of {path} was not uploaded"})
                tree[path] = self.large[row["value"]["oid"]]
            elif row["key"] == "deletedFile":
                del tree[path]
        number = 1 + sum(ref.startswith("refs/pr/") for ref in repo.refs)
        where = f"refs/pr/{number}" if pull_request else branch
        if pull_request:
            repo.refs[where] = head.oid
        made = repo.add(tree, about["summary"], where)
        url = f"{self.endpoint}/{name}/discussions/{number}" if pull_request else None
        found = {"success": True, "commitOid": made.oid, "commitUrl": f"{self.endpoint}/{name}/commit/{made.oid}"}
        return _json(200, found | {"pullRequestUrl": url})

    def _tag(self, handler: Handler, user: Any, query: Any, name: str, revision: str) -> Answer:
        repo = self._repo(name, user)
        if repo is None:
            return _no_repo(user)
        if refusal := _may_write(user, name):
            return refusal
        tag, commit = json.loads(handler.body())["tag"], repo.at(revision)
        if commit is None:
            return _no_revision(revision)
        if tag in repo.tags:
            return _json(409, {"error": "Tag reference exists already"})
        repo.tags[tag] = commit.oid
        return _json(200, {})

    def _branch(self, handler: Handler, user: Any, query: Any, name: str, branch: str) -> Answer:
        repo = self._repo(name, user)
        if repo is None:
            return _no_repo(user)
        if refusal := _may_write(user, name):
            return refusal
        if branch in repo.refs:
            return _json(409, {"error": "Reference already exists"})
        asked = json.loads(handler.body() or b"{}")
        repo.refs[branch] = asked.get("startingPoint") or repo.refs["main"]
        return _json(200, {})

    def _resolve(self, handler: Handler, user: Any, query: Any, name: str, revision: str, path: str) -> Answer:
        repo = self._repo(name, user)
        if repo is None:
            return _no_repo(user)
        commit = repo.at(revision)
        if commit is None:
            return _no_revision(revision)
        data = commit.tree.get(path)
        if data is None:
            return _no_entry(path, commit.oid)
        headers = {"X-Repo-Commit": commit.oid, "Content-Type": "application/octet-stream"}
        if _is_large(path):
            oid = _sha256(data)
            self.large[oid] = data
            headers |= {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(data))}
            return 302, headers | {"ETag": f'"{oid}"', "Location": f"{self.storage}/lfs/{oid}"}, b""
        return 200, headers | {"ETag": f'"{_blob(data)}"', "Content-Length": str(len(data))}, data


def _is_large(path: str) -> bool:
    return path.endswith((".safetensors", ".bin", ".pt", ".gguf", ".model"))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _blob(data: bytes) -> str:
    """The id git gives to a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _listed(path: str, data: bytes) -> dict[str, Any]:
    row: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": _blob(data)}
    if _is_large(path):
        row["lfs"] = {"oid": _sha256(data), "size": len(data), "pointerSize": 134}
    return row


def _ref(name: str, ref: str, oid: str) -> dict[str, str]:
    return {"name": name, "ref": ref, "targetCommit": oid}


def _json(code: int, value: Any, headers: dict[str, str] | None = None, kind: str = "application/json") -> Answer:
    return code, {"Content-Type": f"{kind}; charset=utf-8"} | (headers or {}), json.dumps(value).encode()


def _member(user: dict[str, Any] | None, name: str) -> bool:
    return user is not None and name.removeprefix("datasets/").partition("/")[0] in (user["name"], *user["orgs"])


def _may_write(user: dict[str, Any] | None, name: str, *, pull_request: bool = False) -> Answer | None:
    if user is None:
        return _json(401, {"error": "Invalid username or password."})
    if user["role"] == "read" or not (pull_request or _member(user, name)):
        return _json(403, {"error": "You don't have the rights"}, {"X-Error-Message": "You don't have the rights"})
    return None


def _no_repo(user: Any) -> Answer:
    about = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
    return _json(401 if user is None else 404, {"error": "Repository not found"}, about)


def _no_revision(revision: str | None) -> Answer:
    about = {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"}
    return _json(404, {"error": f"Invalid rev id: {revision}"}, about)


def _no_entry(path: str, commit: str = "") -> Answer:
    about = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
    return _json(404, {"error": f"{path} does not exist"}, about | ({"X-Repo-Commit": commit} if commit else {}))
