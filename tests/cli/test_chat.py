"""``sft chat`` as a person meets it: a process of its own on a real terminal, and lines that a script pipes into it."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import forked_python
import pytest
from repository import ROOT
from toy_fits import SMALL, WORDS

from sft.cli import main

pytestmark = pytest.mark.engine

SYSTEM = "You are the expert."
CONTEXT = 512


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A trained toy; its demonstrations all have one system message."""
    folder = tmp_path_factory.mktemp("chat")
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as file:
        for n in range(60):
            words = " ".join(WORDS[(n * k + n) % len(WORDS)] for k in range(1, 6))
            file.write(json.dumps({"prompt": f"{n}: {words}?", "completion": words, "system": SYSTEM}) + "\n")
    settings = {"model.name": tiny_model, "split.near_duplicates": "allow", "fidelity.max_prompts": 4}
    settings |= {f"training.{key}": value for key, value in SMALL.items()}
    recipe = f"model:\n  name: x\ndemonstrations:\n  path: {folder}/rows.jsonl\n  columns: {{system: system}}\n"
    (folder / "recipe.yaml").write_text(recipe, encoding="utf-8")
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    assert main(["train", str(folder / "recipe.yaml"), "--output", str(folder / "run"), *words]) == 0
    return folder / "run"


class Terminal:
    """A ``sft chat`` on a terminal of its own."""

    def __init__(self, *words: str) -> None:
        self.master, slave = pty.openpty()
        settings = termios.tcgetattr(slave)
        settings[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, settings)
        self.process = forked_python.Popen(
            [sys.executable, "-m", "sft", "chat", *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env=os.environ | {"TERM": "xterm", "PYTHONPATH": str(ROOT)},
        )
        os.close(slave)
        self.seen = ""

    def until(self, sign: str | Callable[[str], bool], seconds: float = 180) -> str:
        """What came since the last call, up to ``sign``."""
        reached = (lambda text: sign in text) if isinstance(sign, str) else sign
        fresh, end = "", time.monotonic() + seconds
        while not reached(fresh):
            assert time.monotonic() < end, f"not seen {sign!r} in {fresh!r}"
            ready, _, _ = select.select([self.master], [], [], 1)
            try:
                piece = os.read(self.master, 4096).decode() if ready else ""
            except OSError:  # the other side is gone
                piece = ""
                if not reached(fresh):
                    raise AssertionError(f"it ended without {sign!r}: {fresh!r}") from None
            fresh += piece
        self.seen += fresh
        return fresh

    def types(self, text: str) -> None:
        os.write(self.master, text.encode())

    def status(self) -> int:
        """The exit status; what is still written is read away."""
        end = time.monotonic() + 120
        while self.process.poll() is None and time.monotonic() < end:
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.master, 4096).decode()
                except OSError:
                    break
        return self.process.wait(30)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)


@pytest.fixture
def terminal(run: Path) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def opens(*words: str) -> Terminal:
        opened.append(Terminal(str(run), *words))
        return opened[-1]

    yield opens
    for one in opened:
        one.close()


def test_a_conversation_on_a_terminal(terminal: Callable[..., Terminal]) -> None:
    """Commands are followed and never sent, pasted lines are one message, Ctrl-D leaves."""
    chat = terminal("--max-new-tokens", "4")
    begun = chat.until("you> ")
    assert f"system message: {SYSTEM}" in begun and "/help" in begun
    chat.types("/sytem Be brief.\n")
    assert "/sytem: is no command, and was not sent" in chat.until("you> ")
    chat.types("/system Be brief.\n")
    assert "system message: Be brief." in chat.until("you> ")
    chat.types("/system -\n")
    assert "system message: none" in chat.until("you> ")
    chat.types("/new\n")
    assert "a new conversation" in chat.until("you> ")
    chat.types("/help\n")
    assert "/system TEXT" in chat.until("you> ")
    chat.types("\x1b[200~the expert\nwrote a short\nanswer\x1b[201~\n")  # as a terminal pastes
    after = chat.until("you> ")
    chat.types("/help\n")  # three messages would have had two more prompts before this one is answered
    after += chat.until(lambda text: "/system TEXT" in text and text.endswith("you> "))
    assert after.count("you> ") == 2
    chat.types("\x04")
    assert chat.status() == 0 and "Traceback" not in chat.seen


def test_ctrl_c_stops_the_answer_and_not_the_program(terminal: Callable[..., Terminal]) -> None:
    """It ended the program with the conversation in it."""
    chat = terminal("--base", "--max-new-tokens", "100000")
    chat.until("you> ")
    chat.types("hello there\n")
    chat.until(lambda text: text.count("\r\n") > 5)  # this toy answers in line feeds, up to the context's end
    chat.types("\x03")
    stopped = chat.until("you> ")
    assert "stopped; Ctrl-C once more leaves" in stopped and "is full" not in stopped
    assert chat.process.poll() is None
    chat.types("/new\n")
    chat.until("you> ")
    time.sleep(0.5)  # Python's input() misses a signal between its prompt and its wait, which no person hits
    chat.types("\x03")  # the first since a line
    hint = chat.until("you> ")
    assert "Ctrl-C once more leaves" in hint and "stopped" not in hint
    time.sleep(0.5)
    chat.types("\x03")
    assert chat.status() == 130 and "Traceback" not in chat.seen


def piped(run: Path, text: bytes, *words: str) -> subprocess.CompletedProcess[bytes]:
    return forked_python.run(
        [sys.executable, "-m", "sft", "chat", str(run), *words],
        input=text,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=300,
    )


def test_a_full_context_is_one_sentence(run: Path) -> None:
    """It was filled past its end without a word: positions that the model was never built for."""
    done = piped(run, b"hello\n" + b"hello " * 600 + b"\n", "--base", "--max-new-tokens", "100000")
    said = done.stderr.decode()
    assert done.returncode == 2 and "Traceback" not in said
    assert f"(the answer is cut: the model's context of {CONTEXT} tokens is full; /new begins anew)" in said
    assert re.search(rf"sft: the conversation is \d+ tokens long with this message, .*ends at {CONTEXT}; .*/new", said)


def test_lines_between_fences_are_one_message_and_a_bad_line_ends_a_script(run: Path) -> None:
    done = piped(
        run, b'"""/etc is\na folder"""\n"""\none\n\ntwo\n"""\n/etc/passwd?\n/quit\nnever\n', "--max-new-tokens", "4"
    )
    assert done.returncode == 2 and b"/quit: is no command, and was not sent" in done.stderr
    assert done.stderr.count(b"(the answer is ") == 3  # cut, or empty
    broken = piped(run, b"\xff\xfe\n")
    assert broken.returncode == 2 and b"is not UTF-8" in broken.stderr and b"Traceback" not in broken.stderr
