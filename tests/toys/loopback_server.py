"""A server on this machine that answers as OpenAI-compatible ones do, by heart, with faults to switch on.

::

    with LoopbackServer({"what colour?": "red"}) as server:      # 127.0.0.1, a free port
        server.fault(status(429, retry_after="0"), times=2)      # the next two questions
        server.bodies                                            # what was asked: (path, JSON)
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

__all__ = ["LoopbackServer", "answered", "cut", "slow", "status"]

Answer = tuple[int, dict[str, str], bytes]


def status(code: int, said: str = "planned", **headers: str) -> Any:
    """The server answers ``code``, with ``said`` as its reason."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda serve: (code, named, json.dumps({"error": {"message": said}}).encode())


def answered(body: bytes) -> Any:
    """The server answers 200, and these bytes."""
    return lambda serve: (200, {}, body)


def cut(serve: Callable[[], Answer]) -> None:
    """The connection ends without an answer."""


def slow(seconds: float) -> Any:
    """The answer takes its time."""

    def act(serve: Callable[[], Answer]) -> Answer:
        time.sleep(seconds)
        return serve()

    return act


@dataclass
class LoopbackServer:
    """``answers``: what the last message of a prompt says -> the answer: a text, or calls as they are given back.

    ``models``: what it lists, None where it lists nothing. ``key``: that it asks for. ``change``: of the answer to a
    body, as (text, finish reason); ``refuses``: words of a refusal of a body, or "".
    """

    answers: Mapping[str, Any]
    models: list[str] | None = field(default_factory=lambda: ["clone"])
    key: str = ""
    change: Callable[[dict[str, Any], str], tuple[str, str]] = lambda body, text: (text, "stop")
    refuses: Callable[[dict[str, Any]], str] = lambda body: ""
    elsewhere: str = "content"

    def __post_init__(self) -> None:
        self.bodies: list[tuple[str, dict[str, Any]]] = []
        self.most_at_once = self._now = 0
        self._faults: list[list[Any]] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._send(server.listed())

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._send(server.answer(self.path, self.headers.get("Authorization", ""), body))

            def _send(self, answer: Answer | None) -> None:
                if answer is None:
                    self.close_connection = True
                    self.connection.close()
                    return
                code, headers, content = answer
                with contextlib.suppress(OSError):  # whoever asked has left
                    self.send_response(code)
                    for name, value in {"Content-Length": str(len(content)), **headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(content)

            def log_message(self, *words: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.handle_error = lambda *words: None  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def fault(self, act: Any, times: int = 1_000_000, after: int = 0) -> None:
        """What the next ``times`` questions meet, after ``after`` that are let through."""
        with self._lock:
            self._faults.append([act, times, after])

    def mend(self) -> None:
        """No more faults; what was asked is forgotten."""
        with self._lock:
            self._faults.clear()
            self.bodies.clear()

    def listed(self) -> Answer:
        """The list of models."""
        if self.models is None:
            return 404, {}, b'{"detail": "Not Found"}'
        return 200, {}, json.dumps({"data": [{"id": name, "owned_by": "vllm"} for name in self.models]}).encode()

    def answer(self, path: str, authorization: str, body: dict[str, Any]) -> Answer | None:
        """To one question; None cuts the connection."""
        with self._lock:
            self.bodies.append((path, body))
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            act = self._next_fault()
        try:
            if self.key and authorization != f"Bearer {self.key}":
                return 401, {}, json.dumps({"error": f"Incorrect API key provided: {authorization}"}).encode()
            answer: Answer | None = act(lambda: self._plain(path, body)) if act else self._plain(path, body)
            return answer
        finally:
            with self._lock:
                self._now -= 1

    def _next_fault(self) -> Any:
        for one in self._faults:
            if one[2] > 0:
                one[2] -= 1
            elif one[1] > 0:
                one[1] -= 1
                return one[0]
        return None

    def _plain(self, path: str, body: dict[str, Any]) -> Answer:
        chat = path == "/v1/chat/completions"
        if not chat and path != "/v1/completions":
            return 404, {}, b'{"detail": "Not Found"}'
        said = self.refuses(body)
        if not chat and isinstance(body["prompt"], list):
            said = "prompt: expected a string"
        if said:
            return 400, {}, json.dumps({"error": {"message": said}}).encode()
        asked = body["messages"][-1]["content"] if chat else body["prompt"]
        text = next(text for prompt, text in self.answers.items() if prompt == asked or f"\n{prompt}<" in asked)
        elsewhere, reason = ("tool_calls", "tool_calls") if isinstance(text, list) else (self.elsewhere, "stop")
        if isinstance(text, str):
            text, reason = self.change(body, text)
        holder = {"message": {"role": "assistant", "content": None, elsewhere: text}} if chat else {"text": text}
        choice = {"index": 0, "finish_reason": reason, "logprobs": None} | holder
        return 200, {}, json.dumps({"choices": [choice]}).encode()
