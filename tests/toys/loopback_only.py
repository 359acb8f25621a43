"""The guard that keeps tests on this machine: no connection, datagram or name that leaves loopback, in any thread.

A library may swallow the error that the guard raises, or meet it in a thread whose failures nobody looks at; so every
breach is kept, and fails the test at its end all the same. Out of reach are libraries that have no use for Python's
sockets, and processes that tests start: of those that run Python it is demanded that their environment keeps the
hub's client here.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

__all__ = ["Guard", "LeavesLoopback", "is_here", "keeps_the_client_here"]


class LeavesLoopback(AssertionError):
    """A test tried to reach something outside this machine."""


def is_here(host: Any) -> bool:
    """Whether ``host``, a name or an address, is this machine; nothing, as of a server that listens, is too."""
    if isinstance(host, bytes | bytearray):
        host = host.decode("ascii", "replace")
    if host in (None, "", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def keeps_the_client_here(environment: Mapping[str, str]) -> bool:
    """Whether the hub's client can reach nothing but loopback in a process with this ``environment``."""
    endpoint = urlsplit(environment.get("HF_ENDPOINT", "")).hostname
    return environment.get("HF_HUB_OFFLINE") == "1" or (endpoint is not None and is_here(endpoint))


class Guard:
    """Watches over this process from :meth:`install` on, until :meth:`remove`."""

    def __init__(self) -> None:
        self._breaches: list[str] = []
        self._lock = threading.Lock()
        self._undo: list[Callable[[], None]] = []

    def install(self) -> None:
        """Put every way out under watch."""
        for name, place in (("connect", 0), ("connect_ex", 0), ("sendto", -1), ("sendmsg", 3)):
            self._replace(socket.socket, name, functools.partial(self._on_a_socket, place=place))
        for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr"):
            self._replace(socket, name, self._on_a_name)
        self._replace(subprocess.Popen, "__init__", self._on_a_process)

    def remove(self) -> None:
        """Leave everything as it was."""
        while self._undo:
            self._undo.pop()()

    def demand(self) -> None:
        """Raise :class:`LeavesLoopback` for every breach since the last time, whoever swallowed it then."""
        with self._lock:
            breaches, self._breaches = self._breaches, []
        if breaches:
            raise LeavesLoopback("\n".join(dict.fromkeys(breaches)))

    def _replace(self, owner: Any, name: str, watched: Callable[[Any], Any]) -> None:
        original, inherited = getattr(owner, name), name not in vars(owner)
        setattr(owner, name, functools.wraps(original)(watched(original)))
        self._undo.append(lambda: delattr(owner, name) if inherited else setattr(owner, name, original))

    def _breach(self, what: str) -> LeavesLoopback:
        with self._lock:
            self._breaches.append(what)
        return LeavesLoopback(what)

    def _on_a_socket(self, original: Any, place: int) -> Any:
        """``place``: of the address among the arguments."""

        def watched(one: socket.socket, *words: Any, **named: Any) -> Any:
            address = words[place] if place < len(words) else None
            if one.family in (socket.AF_INET, socket.AF_INET6) and address and not is_here(address[0]):
                raise self._breach(f"a test tried to reach {address[0]} port {address[1]}")
            return original(one, *words, **named)

        return watched

    def _on_a_name(self, original: Any) -> Any:
        def watched(host: Any, *words: Any, **named: Any) -> Any:
            if not is_here(host):
                raise self._breach(f"a test tried to look up {host!r}")
            return original(host, *words, **named)

        return watched

    def _on_a_process(self, original: Any) -> Any:
        def watched(one: Any, arguments: Any, *words: Any, **named: Any) -> None:
            given = named.get("env")
            if _is_python(arguments) and not keeps_the_client_here(os.environ if given is None else given):
                raise self._breach(
                    "a test started Python without HF_HUB_OFFLINE=1 or an HF_ENDPOINT on loopback in its environment"
                )
            original(one, arguments, *words, **named)

        return watched


def _is_python(arguments: Any) -> bool:
    program = arguments if isinstance(arguments, str | bytes | os.PathLike) else next(iter(arguments), "")
    return Path(os.fsdecode(program).partition(" ")[0]).name.startswith("python")
