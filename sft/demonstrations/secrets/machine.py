"""What this machine is known to hold: the values of its secret-looking variables, its home folder, its user."""

from __future__ import annotations

import getpass
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sft.runs.private import Bytes, Found, Hit, continues, hit_of, places

__all__ = ["Known", "known"]

_NAMES_OF_SECRETS = re.compile(
    r"(?:^|_)(?:TOKENS?|SECRETS?|\w*PASSWORD|PASSWD|PASSPHRASE|PASS|PWD|CREDENTIALS?|AUTH|APIKEY|KEYS?)(?:_|$)", re.I
)
#: Where such a name says where a secret is, or which, and not what it is.
_NAMES_OF_PLACES = re.compile(
    r"_(?:FILE|PATH|DIR|HOME|SOCK|SOCKET|URL|URI|HOST|NAME|ID|TYPE|MODE|TTL|ARN)$|^PWD$|^OLDPWD$|PUBLIC", re.I
)
#: Accounts that many machines have: to read of one says nothing of whoever pushes.
_ANYBODY = {
    "root", "user", "users", "admin", "administrator", "ubuntu", "debian", "fedora", "centos", "runner", "jovyan",
    "nobody", "docker", "vscode", "vagrant", "ec2-user", "azureuser", "guest", "default", "worker", "jenkins",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Known:
    """``secrets``: each as a file would write it, and as what it is found.

    ``homes``: the home folder in its ways of writing; ``user``: the user's name, empty where it says nothing.
    """

    secrets: tuple[tuple[bytes, Hit], ...]
    homes: tuple[bytes, ...]
    user: bytes

    def within(self, data: Bytes, *, text: bool) -> Iterator[Found]:
        """Each of it that is in ``data``."""
        for form, hit in self.secrets:
            for place in places(data, form):
                yield place, place + len(form), hit
        for home in self.homes:
            for place in places(data, home):
                if not continues(data, end := place + len(home)):
                    yield place, end, hit_of("this machine's home folder", home)
        if len(self.user) >= (5 if text else 6):
            for place in places(data, self.user):
                if not continues(data, place - 1) and not continues(data, end := place + len(self.user)):
                    yield place, end, hit_of("this machine's user name", self.user)


def known(environment: Mapping[str, str]) -> Known:
    """What to look for by its value. Of the process's own environment, the system is asked for what it leaves out."""
    home, user = environment.get("HOME", ""), environment.get("LOGNAME") or environment.get("USER", "")
    if environment is os.environ:
        with suppress(RuntimeError, OSError, KeyError, ImportError):  # an account without a home, or without a name
            home = home or str(Path.home())
        with suppress(OSError, KeyError, ImportError):
            user = user or getpass.getuser()
    secrets = [
        (form, hit_of(f"the value of {name}", value.strip().encode("utf-8", "surrogateescape")))
        for name, value in environment.items()
        if _NAMES_OF_SECRETS.search(name) and not _NAMES_OF_PLACES.search(name) and _opens_something(value.strip())
        for form in _forms(value.strip())
    ]
    homes = _forms(home.rstrip("/\\")) if len(re.findall(r"[/\\]+[^/\\]+", home)) > 1 else ()
    return Known(tuple(secrets), tuple(homes), b"" if user.lower() in _ANYBODY else user.encode())


def _opens_something(value: str) -> bool:
    """Long enough that no text has it by chance; no number, no word, no path."""
    if len(value) < 8 or value.isdigit() or (len(value) < 16 and re.fullmatch(r"[a-z]+|[A-Z]+", value)):
        return False
    with suppress(OSError, ValueError):  # no path at all
        return not (value.startswith(("/", "~")) and Path(value).expanduser().exists())
    return True


def _forms(value: str) -> list[bytes]:
    """How ``value`` stands in a file: as it is, and as JSON writes it."""
    forms = [value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]]
    return [form.encode("utf-8", "surrogateescape") for form in dict.fromkeys(forms)]
