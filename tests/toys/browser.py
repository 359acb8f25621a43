"""A real browser for the tests of pages: Chromium without a window, spoken to over two pipes and no network."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
SECONDS = 120  # for one answer, on a machine with other things to do

#: The browser reads its commands from descriptor 3 and answers on 4; this puts the two pipes there.
START = """
import fcntl, os, sys
theirs, ours = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(theirs, 3)
os.dup2(ours, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def installed() -> str:
    """The browser's path; "" where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), "")


class Wire:
    """The two pipes of a browser: messages are JSON, each ended by a zero byte; ``events``: all that came unasked."""

    def __init__(self, commands: int, answers: int) -> None:
        self.commands, self.answers = commands, answers
        self.number, self.rest = 0, b""
        self.events: list[dict[str, Any]] = []

    def ask(self, method: str, session: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """The answer to one command. Raises ``RuntimeError`` where the browser refuses it, is silent or has ended."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if session and not method.startswith(("Browser.", "Target.", "SystemInfo.")):
            message["sessionId"] = session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self.number:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.answers], [], [], SECONDS)
            part = os.read(self.answers, 1 << 16) if ready else b""
            if not part:
                raise RuntimeError("the browser has ended" if ready else f"no answer in {SECONDS} seconds")
            self.rest += part
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)


class Browser:
    """One tab at a time, of any width, light or dark; ``context``: of another person's browser ("" is the first's)."""

    def __init__(self, wire: Wire, context: str = "") -> None:
        self.wire, self.context, self.session = wire, context, ""
        where = {"browserContextId": context} if context else {}
        self.target = self.ask("Target.createTarget", url="about:blank", **where)["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=self.target, flatten=True)["sessionId"]

    @property
    def events(self) -> list[dict[str, Any]]:
        """All that the browser has said unasked, of every tab."""
        return self.wire.events

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to one command. Raises ``RuntimeError`` where the browser refuses it, is silent or has ended."""
        return self.wire.ask(method, self.session, parameters)

    def watch(self) -> None:
        """From now on :meth:`requests` and :meth:`complaints` know of this tab."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    @contextmanager
    def beside(self, *, another: bool = False) -> Iterator[Browser]:
        """A second tab, watched; in the browser of ``another`` person, who shares no cookie and no storage."""
        context = self.ask("Target.createBrowserContext")["browserContextId"] if another else self.context
        tab = Browser(self.wire, context)
        tab.watch()
        try:
            yield tab
        finally:
            if another:
                self.ask("Target.disposeBrowserContext", browserContextId=context)
            else:
                tab.close()

    def close(self) -> None:
        """Close the tab, as its cross does; once closed nothing happens."""
        with suppress(RuntimeError):
            self.ask("Target.closeTarget", targetId=self.target)

    def show(self, path: Path, width: int, *, dark: bool) -> None:
        """Load ``path`` in a window of ``width`` CSS pixels, and wait until it is laid out."""
        self.look(width, dark=dark)
        address = path.resolve().as_uri()
        self.visit(address)
        if self.tell("location.href") != address:
            raise RuntimeError(f"{address} could not be loaded")

    def look(self, width: int, *, dark: bool) -> None:
        """From now on a window of ``width`` CSS pixels, dark or light."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])

    def visit(self, address: str) -> None:
        """Load ``address``, and wait until it is laid out."""
        self.ask("Page.navigate", url=address)
        loaded = 'document.readyState == "complete" ? done(1) : addEventListener("load", done)'
        self.tell(f"new Promise(done => {loaded}).then(() => document.fonts.ready).then(() => 1)")

    def requests(self) -> list[str]:
        """Addresses that pages have asked for so far, where ``Network.enable`` was asked for."""
        asked = (e["params"] for e in self.events if e.get("method") == "Network.requestWillBeSent")
        return [one["request"]["url"] for one in asked]

    def complaints(self) -> list[str]:
        """What pages have thrown or said on the console, or the browser has refused them; see :meth:`watch`."""
        kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        thrown = [json.dumps(e["params"]) for e in self.events if e.get("method") in kinds]
        entries = [e["params"]["entry"] for e in self.events if e.get("method") == "Log.entryAdded"]
        return thrown + [one["text"] for one in entries if one["source"] != "network"]

    def tell(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page, awaited where it is a promise."""
        answer = self.ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def picture(self, path: Path, *, height: int = 0) -> None:
        """Write what the page looks like, down to ``height`` CSS pixels or its end, as PNG."""
        width, end = self.tell("[innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": width, "height": height or end, "scale": 1}
        answer = self.ask("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(answer["data"]))


@contextmanager
def browser(path: str, profile: Path) -> Iterator[Browser]:
    """The browser at ``path``, started with an empty profile in ``profile`` and ended afterwards."""
    theirs, commands = os.pipe()
    answers, ours = os.pipe()
    command = [sys.executable, "-c", START, str(theirs), str(ours), path, "--headless", "--remote-debugging-pipe"]
    command += ["--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-background-networking"]
    command += ["--disable-component-update", "--disable-sync", f"--user-data-dir={profile}"]
    command += ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's sandbox refuses root
    quiet = subprocess.DEVNULL
    running = subprocess.Popen(command, pass_fds=(theirs, ours), stdin=quiet, stdout=quiet, stderr=quiet)
    os.close(theirs)
    os.close(ours)
    try:
        opened = Browser(Wire(commands, answers))
        yield opened
        opened.ask("Browser.close")
        running.wait(SECONDS)
    finally:
        if running.poll() is None:
            running.kill()
            running.wait()
        os.close(commands)
        os.close(answers)
