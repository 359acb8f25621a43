"""Who may speak to the page: this machine's own pages, with a link that was handed out, in small pieces of JSON.

Host is held to a list (a name that somebody else points at this machine is refused), POST to the page's own origin and
to JSON (no other page can send either), bodies to 1 MB; and every answer tells the browser to load nothing from
elsewhere, to run no script but ours, to keep no copy and to show the page in no frame.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["LARGEST", "Guard", "hosts"]

#: Bytes of a body.
LARGEST = 1_000_000
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def hosts(bound: str) -> frozenset[str]:
    """The names under which a page that listens on ``bound`` may be asked for."""
    return frozenset({"127.0.0.1", "localhost", "::1", bound.strip("[]").lower()})


class Guard:
    """The application ``app`` behind these rules. ``names``: of :func:`hosts`; ``any_address``: listens on all."""

    def __init__(self, app: ASGIApp, names: Collection[str], *, any_address: bool = False) -> None:
        self.app, self.names, self.any_address = app, names, any_address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        headers = Headers(scope=scope)
        if (refusal := self._refusal(scope["method"], headers)) is not None:
            status, sentence = refusal
            await JSONResponse({"error": sentence}, status)(scope, receive, guarded)
            return
        if scope["method"] != "POST":
            await self.app(scope, receive, guarded)
            return
        body, more = b"", True
        while more:  # read here, for a length that was not announced can be any
            part = await receive()
            body += part.get("body", b"")
            more = part.get("more_body", False)
            if len(body) > LARGEST:
                sentence = f"More than {LARGEST:,} bytes at once are not taken."
                await JSONResponse({"error": sentence}, 413)(scope, receive, guarded)
                return
        known: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return known.pop() if known else await receive()

        await self.app(scope, again, guarded)

    def _refusal(self, method: str, headers: Headers) -> tuple[int, str] | None:
        """Status and sentence for what is not answered."""
        host = headers.get("host", "")
        if not self._is_here(host):
            return 421, "This page is not to be had under that name; open the link that sft printed."
        if method not in ("GET", "HEAD", "POST"):
            return 405, "Only GET and POST are answered."
        if method == "POST":
            if urlsplit(headers.get("origin", "")).netloc.lower() != host.lower():
                return 403, "Only this page itself may send something."
            if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
                return 403, "Only JSON is taken."
            if int(length if (length := headers.get("content-length", "0")).isdigit() else 0) > LARGEST:
                return 413, f"More than {LARGEST:,} bytes at once are not taken."
        return None

    def _is_here(self, host: str) -> bool:
        """Whether ``host`` (of the header) names this machine; where all addresses are served, any address does."""
        name = (urlsplit(f"//{host}").hostname or "") if host.count("@") == 0 else ""
        if name in self.names:
            return True
        try:
            return self.any_address and bool(ipaddress.ip_address(name))
        except ValueError:
            return False
