"""The page that experts write on: routes, and the server in a thread of its own.

A request is turned into an action of the desk and waits for the disk; nothing else here knows what an answer is.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from sft.errors import RunError, UserError
from sft.gathering import pages
from sft.gathering.desk import Denied, Desk
from sft.gathering.folder import refuse_names
from sft.gathering.guard import Guard, hosts
from sft.metrics.text import nfc, paired
from sft.reports.text import differences
from sft.runs.visible import plain

__all__ = ["Page", "running"]

#: Ports that a gathering's own is taken from, so that a page finds its server again after a restart.
_PORTS = range(49_200, 65_000)


class Page:
    """A page that is being served. ``over``: set when the owner has closed the round."""

    def __init__(self, desk: Desk, address: str) -> None:
        self.desk, self.address = desk, address
        self.over = threading.Event()

    def link(self, token: str) -> str:
        """The link with this token."""
        return f"{self.address}/enter/{token}"


@contextmanager
def running(desk: Desk, *, host: str = "127.0.0.1", port: int | None = None) -> Iterator[Page]:
    """Inside, the page is served by a thread. ``port``: one of the folder's own unless given.

    At the end nothing more is taken, writes in flight are waited for, and ``desk`` is closed, as it is before an error.
    Raises ``UserError`` where the port is taken or the host is not this machine's.
    """
    try:
        listening = _bound(host, port, desk.gathering.path)
    except BaseException:
        desk.close()
        raise
    name = f"[{host}]" if ":" in host else "127.0.0.1" if host == "0.0.0.0" else host
    served = Page(desk, f"http://{name}:{listening.getsockname()[1]}")
    app = Guard(_App(served).starlette(), hosts(host), any_address=host in ("0.0.0.0", "::"))
    # uvicorn's own settings shut down every handler of the process, and absl's then closes the stream behind it.
    config = uvicorn.Config(app, log_config=None, log_level="error", access_log=False, lifespan="off",
                            timeout_graceful_shutdown=5, server_header=False, ws="none")  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="page", daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.should_exit = True
        thread.join()
        desk.close()
        listening.close()


def _bound(host: str, port: int | None, folder: Path) -> socket.socket:
    """A socket that listens. Without ``port`` the folder's own, or where that is taken any."""
    own = int(hashlib.sha256(str(folder.resolve()).encode()).hexdigest(), 16) % len(_PORTS)
    try:
        family = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][0]
    except OSError:
        raise UserError(f"--host {host}: is no address of this machine; leave it out for 127.0.0.1") from None
    for one in (port,) if port is not None else (_PORTS[own], 0):
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((host, one))
            found.listen(128)
            return found
        except (OSError, OverflowError) as error:
            found.close()
            why = getattr(error, "strerror", None) or str(error)
    raise UserError(f"--port {port} on {host}: cannot be listened on ({why}); leave --port out for a free one")


class _App:
    """The routes of one gathering."""

    def __init__(self, served: Page) -> None:
        self.served, self.desk = served, served.desk
        name = f"sft-{served.desk.gathering.settings.id}"
        self.cookies = {False: name, True: f"{name}-owner"}

    def starlette(self) -> Starlette:
        """The application."""
        routes = [
            Route("/enter/{token}", self.enter),
            Route("/", self.page(self.first, offering=True)),
            Route("/item/{name}", self.page(self.item)),
            Route("/list", self.page(self.list)),
            Route("/owner", self.page(self.owner, owner=True)),
            Route("/do", self.act(self.do), methods=["POST"]),
            Route("/changes", self.act(self.changes), methods=["POST"]),
            Route("/owner/do", self.act(self.own, owner=True), methods=["POST"]),
            Route("/favicon.ico", lambda _: Response(status_code=204)),
            Mount("/static", StaticFiles(packages=[("sft.gathering", "static")])),
        ]
        return Starlette(routes=routes)

    # Who asks.

    def who(self, request: Request, *, owner: bool) -> str | None:
        """Whose link the browser came with; "" is the ``owner``, who may be an expert in the same browser too."""
        holder = self.desk.gathering.holder(request.cookies.get(self.cookies[owner], ""))
        if holder is None or (holder == "") is not owner:
            return None
        return None if self.desk.state.experts.get(holder) is False else holder

    async def enter(self, request: Request) -> Response:
        """The link: from here on a cookie says who it is, and the address bar no longer does."""
        token = request.path_params["token"]
        holder = self.desk.gathering.holder(token)
        if holder is None:
            return self.unknown()
        answer = HTMLResponse(pages.onward("/owner" if holder == "" else "/"))
        answer.set_cookie(self.cookies[holder == ""], token, max_age=90 * 86_400, httponly=True, samesite="strict")
        return answer

    def unknown(self) -> Response:
        """For whoever has no link."""
        return HTMLResponse(pages.message("Your link is not known here", "Open the link that was printed when the "
                            "gathering was started, or ask its owner for a new one."), 403)  # fmt: skip

    def page(
        self, show: Callable[[Request, str], Response], *, owner: bool = False, offering: bool = False
    ) -> Callable[[Request], Awaitable[Response]]:
        """``show`` for whoever may see it. ``offering``: the item that comes next is taken in hand first."""

        async def answer(request: Request) -> Response:
            holder = self.who(request, owner=owner)
            if holder is None:
                return self.unknown()
            if offering:
                with suppress(RunError):  # a full disk: the item is shown all the same, and others may see it too
                    await asyncio.wrap_future(self.desk.offer(holder))
            try:
                with self.desk.lock:
                    return show(request, holder)
            except Denied as refusal:
                return HTMLResponse(pages.message("This item is not here", str(refusal)), refusal.code)

        return answer

    def act(
        self, what: Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]], *, owner: bool = False
    ) -> Callable[[Request], Awaitable[Response]]:
        """``what`` for whoever may do it; every refusal as JSON with its sentence."""

        async def answer(request: Request) -> Response:
            holder = self.who(request, owner=owner)
            if holder is None:
                return JSONResponse({"error": "Your link is not known here; open it again, or ask for a new one. "
                                     "Your text is kept in this browser."}, 403)  # fmt: skip
            try:
                body = await request.json()
                if not isinstance(body, dict):
                    raise Denied(400, "The body must be a JSON object.")
                return JSONResponse(await what(holder, body))
            except (ValueError, UnicodeDecodeError, RecursionError):
                return JSONResponse({"error": "The body is no JSON."}, 400)
            except Denied as refusal:
                return JSONResponse({"error": str(refusal), **refusal.more}, refusal.code)
            except RunError as error:
                return JSONResponse({"error": f"{error}. Your text is kept in this browser, and sent again."}, 507)

        return answer

    # What experts see and do.

    def first(self, request: Request, expert: str) -> Response:
        """The item that comes next: it is in this expert's hands when it is offered."""
        item = self.desk.state.next_for(expert)
        if item is None:
            return HTMLResponse(pages.nothing_left(self.desk, expert))
        return RedirectResponse(f"/item/{item.id}", 303)

    def item(self, request: Request, expert: str) -> Response:
        """One item. That it was seen goes into the events, nothing else that a GET does."""
        item = self.desk.item(request.path_params["name"], expert)
        self.desk.act(expert, "opened", {"item": item.id})
        return HTMLResponse(pages.item(self.desk, item, expert))

    def list(self, request: Request, expert: str) -> Response:
        """The expert's own items."""
        return HTMLResponse(pages.listed(self.desk, expert, request.query_params.get("q", "")))

    async def do(self, expert: str, body: dict[str, Any]) -> dict[str, Any]:
        """One action, answered when it is on the disk."""
        kind = str(body.get("kind"))
        if body.get("as", expert) != expert:
            raise Denied(403, f"This browser was opened with the link of {plain(expert)} meanwhile; open your own "
                         "again. Your text is kept in this browser.")  # fmt: skip
        action = self.desk.act(expert, kind, body)
        events = await asyncio.wrap_future(action.events)
        with self.desk.lock:
            state = self.desk.state
            name = events[0].item if kind == "asked" and events else str(body.get("item", ""))
            work, item = state.work(name, expert), state.items.get(name)
            judges = kind == "submitted" and item is not None and item.shown == "blind"
            stays = judges and item is not None and self.desk.clone_text(item, expert) is not None
            stays = stays or (kind == "submitted" and self.desk.gathering.settings.dialogues)
            return {
                "rev": action.rev,
                "state": work.status,
                "next": f"/item/{name}" if stays or kind in ("asked", "reopened") else "/",
                "guidelines": self.desk.guidelines[0],
                "done": self.desk.done(expert) if kind != "draft" else None,
            }

    async def changes(self, expert: str, body: dict[str, Any]) -> dict[str, Any]:
        """How a text differs from the clone's: [same | ins | del, words]; None where marks would not help."""
        with self.desk.lock:
            item = self.desk.item(str(body.get("item")), expert)
            clone = self.desk.clone_text(item, expert)
        if clone is None:
            return {"pieces": None}
        return {"pieces": await asyncio.to_thread(differences, clone, str(body.get("text", "")))}

    # What the owner sees and does.

    def owner(self, request: Request, _: str) -> Response:
        """Progress, agreement, what was flagged or contested, and the guidelines."""
        return HTMLResponse(pages.owner(self.desk))

    async def own(self, _: str, body: dict[str, Any]) -> dict[str, Any]:
        """One action of the owner."""
        kind, text = str(body.get("kind")), paired(str(body.get("text", ""))).strip()
        if kind == "cleared":
            await asyncio.wrap_future(self.desk.tell("cleared", item=str(body.get("item"))))
        elif kind == "guidelines":
            with self.desk.lock:
                self.desk.gathering.set_guidelines(text)
                self.desk.guidelines = self.desk.gathering.guidelines()
        elif kind == "joined":
            text = nfc(text)
            try:
                refuse_names([text])
            except UserError as error:
                raise Denied(422, str(error).replace("--expert ", "")) from None
            link = self.served.link(self.desk.gathering.invite(text))
            await asyncio.wrap_future(self.desk.tell("joined", expert=text))
            return {"link": link}
        elif kind == "left":
            if (name := str(body.get("expert"))) not in self.desk.state.experts:
                raise Denied(404, "There is no such expert here.")
            await asyncio.wrap_future(self.desk.tell("left", expert=name))
        elif kind == "closed":
            newest = max((one.round for one in self.desk.state.items.values()), default=0)
            await asyncio.wrap_future(self.desk.tell("closed", rev=newest))
            self.served.over.set()
        else:
            raise Denied(404, "There is no such action.")
        return {"next": "/owner"}
