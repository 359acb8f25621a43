"""Several processes meet before they talk: whether all have come, and through which network of a machine they talk.

Where a launcher of PyTorch's started them, its store on the first machine is up before any of them, so that is where
they meet. Their common library would wait half an hour for one that has ended, and takes for this machine's address
what its own name leads to: on Debian and its like that is 127.0.1.1, where no other machine finds it.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from sft.errors import UserError

if TYPE_CHECKING:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # public, and not in the stubs' exports

#: Seconds to wait for the launcher's store at the start; it was up before this process.
_START_SECONDS = 60.0
#: Seconds that processes wait for the last of them to start; as long as PyTorch itself waits.
MEETING_SECONDS = 1800
#: Seconds that a process has to say itself why it ends, when another has ended.
_OWN_WORD_SECONDS = 5.0
#: Through which network of the machine processes on CPUs talk; who has set it knows better.
INTERFACE = "GLOO_SOCKET_IFNAME"


def launchers_store(seconds: float) -> TCPStore:
    """The store of the launcher that started this process.

    Raises ``KeyError``, ``ValueError`` or ``RuntimeError`` where there is none, or none any more.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(address, port, is_master=False, timeout=timedelta(seconds=seconds))


def word_key() -> str:
    """Under what the store counts who has said why the run ends."""
    return _key("word")


def _key(what: str) -> str:
    """What the store calls something of this attempt of the launcher's."""
    return f"sft/{what}/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"


def meet() -> None:
    """Go on when all processes that the launcher started have come here; nothing where it has no store to meet at.

    Ends this one where another has ended instead, and said why. Raises ``UserError`` where one does not come.
    """
    if not _has_store():
        return
    rank, world, machine = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "GROUP_RANK"))
    store = launchers_store(_START_SECONDS)
    keys = [f"{_key('here')}/{number}" for number in range(world)]
    address = _towards(os.environ["MASTER_ADDR"])
    store.set(keys[rank], f"{machine} {address}")
    until = time.monotonic() + MEETING_SECONDS
    while not store.check(keys):
        if store.add(word_key(), 0):
            _point_to_the_other()
            raise SystemExit(2)
        if time.monotonic() > until:
            absent = next(number for number, key in enumerate(keys) if not store.check([key]))
            raise UserError(
                f"process {absent} of {world} has not come in {MEETING_SECONDS // 60} minutes; see on its machine why, "
                "and start all of them again"
            )
        time.sleep(0.2)
    if int(os.environ.get("LOCAL_WORLD_SIZE", world)) < world and INTERFACE not in os.environ:
        known = dict(store.get(key).decode().split(" ", 1) for key in keys)
        if _is_own(address):  # of the first machine, whose own name was given; the others know where they find it
            address = _towards(next((one for one in known.values() if not _is_own(one)), ""))
        _talk_through(address)


@contextmanager
def noticing_an_end() -> Iterator[None]:
    """Inside, this process ends where another has ended and said why, or the first machine's launcher has.

    For where their common library is made, which would wait half an hour for the other and hear nothing.
    """
    if not _has_store():
        yield
        return
    over, store = threading.Event(), launchers_store(_START_SECONDS)

    def watch() -> None:
        ended = False
        while not (ended or over.wait(1)):
            try:
                ended = store.add(word_key(), 0) > 0
            except RuntimeError:
                ended = True
        if ended and not over.wait(_OWN_WORD_SECONDS):
            _point_to_the_other()
            os._exit(2)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _has_store() -> bool:
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def _point_to_the_other() -> None:
    if os.environ.get("LOCAL_RANK") == "0":
        world = os.environ["WORLD_SIZE"]
        os.write(2, f"sft: another of the {world} processes has ended; it says why on its machine\n".encode())


def _talk_through(address: str) -> None:
    """Have processes on CPUs talk through the network in which this machine has ``address``; "" leaves it as it is."""
    import psutil

    for name, addresses in psutil.net_if_addrs().items():
        if address and any(one.address.partition("%")[0] == address for one in addresses):
            os.environ[INTERFACE] = name


def _is_own(address: str) -> bool:
    """Whether only this machine itself has ``address`` for it, or there is none."""
    return not address or ipaddress.ip_address(address).is_loopback


def _towards(host: str) -> str:
    """The address that this machine has in the network where it finds ``host``; "" where it finds none.

    Nothing is sent.
    """
    try:
        family, kind, number, _, place = socket.getaddrinfo(host, 1, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, number) as probe:
            probe.connect(place)
            return str(probe.getsockname()[0]).partition("%")[0]
    except OSError:
        return ""
