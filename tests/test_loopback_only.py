"""The guard of the suite, guarded: what leaves loopback fails its test, swallowed or not, in threads and fixtures."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from loopback_only import is_here, keeps_the_client_here
from repository import TESTS

SUITE = """
import contextlib, os, socket, subprocess, sys, threading
import pytest

AWAY = ("192.0.2.1", 443)  # an address that is kept for documentation

def swallowed(act):
    with contextlib.suppress(Exception):
        act()

def in_a_thread(act):
    thread = threading.Thread(target=swallowed, args=(act,))
    thread.start()
    thread.join()

@pytest.fixture(scope="module")
def far():
    swallowed(lambda: socket.getaddrinfo("example.org", 443))

def test_bad_plain():
    socket.create_connection(AWAY, timeout=1)

def test_bad_connect():
    swallowed(lambda: socket.socket().connect(AWAY))

def test_bad_connect_ex():
    swallowed(lambda: socket.socket().connect_ex(AWAY))

def test_bad_datagram():
    with socket.socket(type=socket.SOCK_DGRAM) as one:
        swallowed(lambda: one.sendto(b"hello", AWAY))

def test_bad_name():
    swallowed(lambda: socket.getaddrinfo("huggingface.co", 443))

def test_bad_old_names():
    swallowed(lambda: socket.gethostbyname("huggingface.co"))

def test_bad_thread():
    in_a_thread(lambda: socket.getaddrinfo("huggingface.co", 443))

def test_bad_client():
    import urllib.request
    swallowed(lambda: urllib.request.urlopen("https://huggingface.co/api/models", timeout=1))

def test_bad_fixture(far):
    pass

def test_bad_process():
    bare = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    swallowed(lambda: subprocess.run([sys.executable, "-c", ""], env=bare))

def test_bad_process_of_another_hub():
    away = dict(os.environ) | {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "https://huggingface.co"}
    swallowed(lambda: subprocess.run([sys.executable, "-c", ""], env=away))

def test_good_loopback():
    for host in ("127.0.0.1", "localhost", None, b"localhost"):
        assert socket.getaddrinfo(host, 80)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()[:2]) as one:
        server.accept()[0].close()
        assert one.recv(1) == b""

def test_good_pair():
    left, right = socket.socketpair()
    left.sendmsg([b"hello"])
    assert right.recv(5) == b"hello"
    left.close(), right.close()

def test_good_process():
    assert subprocess.run([sys.executable, "-c", ""]).returncode == 0
    here = {"PATH": os.environ["PATH"], "HF_ENDPOINT": "http://127.0.0.1:1"}
    assert subprocess.run([sys.executable, "-c", ""], env=here).returncode == 0
"""


def test_whatever_leaves_loopback_fails_the_test_that_did_it(tmp_path: Path) -> None:
    """A suite of its own under our conftest: every bad test fails, by the guard's words; every good one passes."""
    (tmp_path / "test_suite.py").write_text(SUITE, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    ours = os.pathsep.join([str(TESTS), str(TESTS / "toys")])
    answer = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider", "-rA", "--tb=line", "."],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": ours}, capture_output=True, text=True,
    )  # fmt: skip
    outcomes = {name: how for how, name in re.findall(r"^(\w+) test_suite\.py::(\w+)", answer.stdout, re.MULTILINE)}
    wanted = {name: "FAILED" if "_bad_" in name else "PASSED" for name in re.findall(r"^def (test_\w+)", SUITE, re.M)}
    assert outcomes == wanted, answer.stdout
    assert answer.stdout.count("LeavesLoopback: a test tried to ") >= 9
    assert answer.stdout.count("LeavesLoopback: a test started Python without") >= 2


@pytest.mark.parametrize("host", [None, "", "localhost", "127.0.0.1", "127.8.9.1", "::1", b"localhost", "0.0.0.0"])
def test_here(host: str | bytes | None) -> None:
    assert is_here(host)


@pytest.mark.parametrize("host", ["huggingface.co", "localhost.example.org", "192.0.2.1", "10.0.0.1", "2001:db8::1"])
def test_elsewhere(host: str) -> None:
    assert not is_here(host)


def test_which_environments_keep_the_client_here() -> None:
    assert keeps_the_client_here({"HF_HUB_OFFLINE": "1"}) and keeps_the_client_here({"HF_ENDPOINT": "http://[::1]:80"})
    for away in ({}, {"HF_HUB_OFFLINE": "0"}, {"HF_ENDPOINT": "https://huggingface.co"}, {"HF_ENDPOINT": ""}):
        assert not keeps_the_client_here(away)
