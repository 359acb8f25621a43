"""An OpenAI-compatible server (llama.cpp, vLLM, Ollama, TGI): asked with patience, several questions at once.

The key comes from whoever builds an :class:`Endpoint` and goes into one header; should a server repeat it, it is
taken out of what is read. A setting that a server refuses by name is left out from then on, and put on record.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import httpx2

from sft.errors import EndpointError
from sft.evaluation.answers import ListedModel, Refused, TryAgain, models, said, served
from sft.runs.patience import Patience, is_doubtful, is_loopback, seconds_asked
from sft.runs.records import Served

__all__ = ["KEY", "Endpoint", "Question", "ask_all"]

T = TypeVar("T")

#: The environment's variable that holds the key.
KEY = "OPENAI_API_KEY"
AGAIN = "run the same command again: it goes on where it was"


@dataclass(frozen=True, slots=True)
class Question:
    """One prompt for one route. ``messages`` for the chat route; ``ids`` and ``text``: the same, rendered by the run.

    ``max_tokens`` and ``temperature``: None is not sent. ``further``: settings of one kind of server, which has to take
    all of them; they come before ours. ``tools``: the functions that could be called, beside the messages.
    """

    id: str
    route: str
    messages: Sequence[Mapping[str, Any]]
    ids: Sequence[int]
    text: str
    max_tokens: int | None
    temperature: float | None = 0.0
    further: Mapping[str, Any] = field(default_factory=dict)
    tools: Sequence[Mapping[str, Any]] = ()


class Endpoint:
    """The server at ``url`` (``http://HOST:PORT``, with or without ``/v1``). A context manager; threads may share it.

    ``left_out``: settings that it refused, with its words. Raises ``EndpointError`` for an address that is none, or
    would send ``key`` in the clear.
    """

    def __init__(self, url: str, key: str = "", patience: Patience | None = None) -> None:
        self.root = _root_of(url)
        self.patience = patience or Patience()
        self.left_out: dict[str, str] = {}
        self._key = key
        self._tells = True
        if key and self.root.startswith("http:") and not is_loopback(self.root):
            raise EndpointError(f"{self.root}: http would send {KEY} in the clear; use https, or unset {KEY}")
        self._client = httpx2.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(self.patience.answer_seconds, connect=self.patience.connect_seconds),
            limits=httpx2.Limits(max_connections=None),
            trust_env=not is_loopback(self.root),  # a proxy would look for it on its own machine
        )

    def __repr__(self) -> str:
        return f"Endpoint({self.root!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    # -- questions ---------------------------------------------------------------------------------------------

    def models(self) -> list[ListedModel]:
        """The models it lists; none where it lists none. Raises ``EndpointError``."""
        try:
            return self._asked("GET", "/v1/models", None, models)
        except Refused:
            return []

    def version(self) -> str:
        """Of vLLM, which alone tells it there; "" for another kind of server. Raises ``EndpointError``."""
        try:
            return self._asked("GET", "/version", None, lambda found: str(found.get("version") or ""))
        except Refused:
            return ""

    def ask(self, model: str, question: Question) -> Served:
        """The answer; a refusal of this very prompt is an answer too. Raises ``EndpointError``."""
        while True:
            body = self._body(model, question)
            try:
                path = "/v1/chat/completions" if question.route == "chat" else "/v1/completions"
                return self._asked("POST", path, body, lambda found: served(question.id, found))
            except Refused as refusal:
                if question.further or not self._does_without(body, str(refusal)):
                    return Served(question.id, "", False, reason="refused", refused=str(refusal))

    def prompt_of(self, model: str, question: Question) -> str | list[int] | None:
        """What the server renders the messages to: text (llama.cpp), ids (vLLM); None where it does not tell."""
        for path, place in (("/apply-template", "prompt"), ("/tokenize", "tokens")) if self._tells else ():
            body: dict[str, Any] = {"model": model, "messages": list(question.messages)}
            if question.tools:
                body["tools"] = list(question.tools)
            try:
                found = self._once("POST", path, body).get(place)
            except (Refused, EndpointError, TryAgain):
                continue
            if isinstance(found, str) or (isinstance(found, list) and found and all(type(x) is int for x in found)):
                return found
        self._tells = False
        return None

    def _body(self, model: str, question: Question) -> dict[str, Any]:
        body: dict[str, Any] = {"model": model, "stream": False}
        if question.route == "chat":
            body |= {"messages": list(question.messages)}
            if question.tools:
                body["tools"] = list(question.tools)
        else:
            body |= {"prompt": question.text if "ids" in self.left_out else list(question.ids)}
        if question.temperature is not None and "temperature" not in self.left_out:
            body["temperature"] = question.temperature
        if question.max_tokens is not None:
            name = "max_completion_tokens" if "max_tokens" in self.left_out else "max_tokens"
            body[name] = question.max_tokens
        if "logprobs" not in self.left_out:
            body["logprobs"] = True if question.route == "chat" else 1
        return body | dict(question.further)

    def _does_without(self, body: Mapping[str, Any], said: str) -> bool:
        """Whether a setting of ``body`` that the refusal ``said`` is about can be left out, which it is from now on."""
        for name in ("logprobs", "temperature", "max_tokens"):
            if name in body and name in said:
                self.left_out[name] = said
                return True
        if isinstance(body.get("prompt"), list):  # a list of ids is no text to Ollama and TGI
            self.left_out["ids"] = said
            return True
        return False

    # -- one request -------------------------------------------------------------------------------------------

    def _asked(self, method: str, path: str, body: Any, read: Callable[[dict[str, Any]], T]) -> T:
        """What ``read`` makes of the answer, asked again after every doubt. Raises ``EndpointError``, ``Refused``."""
        why = ""
        for number in range(self.patience.tries):
            try:
                return read(self._once(method, path, body))
            except TryAgain as doubt:
                why, asked = doubt.why, doubt.retry_after
            if number + 1 < self.patience.tries:
                self.patience.pause(number, asked)
        times = "once" if self.patience.tries == 1 else f"{self.patience.tries} times"
        raise EndpointError(
            f"{self.root}: {path} does not answer as it should ({why}; asked {times}); see to the server, and {AGAIN}"
        )

    def _once(self, method: str, path: str, body: Any) -> dict[str, Any]:
        try:
            answer = self._client.request(method, self.root + path, json=body)
        except httpx2.ConnectError as error:
            raise TryAgain("no connection") from error
        except httpx2.TimeoutException as error:
            raise TryAgain(f"no answer in {self.patience.answer_seconds:.0f} s") from error
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            raise TryAgain("the connection was lost") from error
        code = answer.status_code
        text = answer.text.replace(self._key, "...") if self._key else answer.text
        if is_doubtful(code):
            raise TryAgain(f"answer {code}{said(text)}", seconds_asked(answer.headers))
        if code in (401, 403):
            raise EndpointError(
                f"{self.root}: does not take the key (answer {code}); set {KEY} to one that it takes"
                if self._key
                else f"{self.root}: asks for a key (answer {code}); put it into the environment as {KEY}"
            )
        if 300 <= code < 400:
            raise EndpointError(f"{self.root}: sends {path} elsewhere (answer {code}); name that address")
        if code == 404 and path not in ("/v1/models", "/version"):
            raise EndpointError(
                f"{self.root}: refuses {path} (answer 404{said(text)}); check the address, --served-model and --route"
            )
        if code >= 400:
            raise Refused(f"answer {code}{said(text)}")
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise TryAgain(
                f"answer {code} that is no JSON object" if text.strip() else f"answer {code} without content"
            )
        return found


def _root_of(url: str) -> str:
    """The address without ``/v1``. What is wrong with it is not repeated: there may be a password in it."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:
        sound = False
    if not sound or parts.username or parts.password or parts.query or parts.fragment:
        raise EndpointError(f"the address of the server is none; write http://HOST:PORT, and leave keys to {KEY}")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/v1').rstrip('/')}"


def ask_all(endpoint: Endpoint, model: str, questions: Sequence[Question], parallel: int) -> Iterator[Served]:
    """The answers as they come, ``parallel`` questions at a time. An error ends it, after all that had come by then.

    The threads are left behind when whoever asks is interrupted: none of them writes anything.
    """
    waiting: queue.SimpleQueue[Question] = queue.SimpleQueue()
    done: queue.SimpleQueue[Served | BaseException] = queue.SimpleQueue()
    over = threading.Event()
    for question in questions:
        waiting.put(question)

    def work() -> None:
        while not over.is_set():
            try:
                question = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                done.put(endpoint.ask(model, question))
            except BaseException as error:
                done.put(error)
                return

    for _ in range(min(parallel, len(questions))):
        threading.Thread(target=work, daemon=True).start()
    try:
        for _ in questions:
            one = done.get()
            if isinstance(one, BaseException):
                over.set()
                while not done.empty():
                    if isinstance(also := done.get(), Served):
                        yield also
                raise one
            yield one
    finally:
        over.set()
