"""What the hub's answers mean, and their absence: one kind of error, or a doubt."""

from __future__ import annotations

import json
import re

import httpx2
from huggingface_hub import errors as client_errors

from sft.errors import NoAccess, PublishError
from sft.runs.patience import is_doubtful, seconds_asked
from sft.runs.visible import plain

__all__ = ["Doubt", "is_missing", "meaning"]


class Doubt(Exception):
    """The hub's answer, or its absence, leaves open what became of a request.

    ``sent``: whether the request may have reached the hub and still take effect. ``retry_after``: seconds it asked for.
    ``malformed``: an answer came, and none that a hub gives.
    """

    def __init__(self, why: str, *, sent: bool, retry_after: float | None = None, malformed: bool = False) -> None:
        self.why, self.sent, self.retry_after, self.malformed = why, sent, retry_after, malformed
        super().__init__(why)


_NO_ROOM = re.compile(
    r"(?i)quota|storage limit|storage.{0,20}exceed|exceed.{0,40}(?:storage|limit)|\b(?:413|507)\b|no space left"
)
_EXPIRED = re.compile(r"(?i)expired|RequestTimeTooSkewed")


def meaning(error: BaseException, endpoint: str, token: str) -> Exception | None:
    """What a failure of the client means; None for what is none of the hub's."""
    if type(error) is RuntimeError and error.__cause__ is not None:  # the client's word for a failed upload
        return meaning(error.__cause__, endpoint, token)
    if isinstance(error, client_errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        return meaning(error.__cause__, endpoint, token)
    if isinstance(error, client_errors.OfflineModeIsEnabled):
        return NoAccess("HF_HUB_OFFLINE=1 is set, so nothing can be pushed; unset it")
    if isinstance(error, client_errors.HfHubHTTPError) and error.response is not None:
        return _meaning_of_answer(error.response, endpoint, token)
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return Doubt("no connection", sent=False)
    if isinstance(error, httpx2.TransportError | httpx2.TooManyRedirects):
        lost = "no answer in time" if isinstance(error, httpx2.TimeoutException) else "the connection was lost"
        return Doubt(lost, sent=True)
    if isinstance(error, json.JSONDecodeError):  # a proxy's page instead of the hub's answer
        return Doubt("an answer that is not the hub's", sent=True, malformed=True)
    if "xet-write-token" in str(error) or "xet-read-token" in str(error):
        return PublishError(
            f"{endpoint}: does not speak Xet, which the client uses where it can; set HF_HUB_DISABLE_XET=1"
        )
    if isinstance(error, ValueError) and "LFS batch API returned errors" in str(error):
        said = " ".join(str(error).partition("errors:")[2].replace(token, "...").split())[:300]
        if _NO_ROOM.search(said):
            return NoAccess(f"{endpoint}: has no room for it ({said}); make room there, or push elsewhere")
        return PublishError(f"{endpoint}: takes no large file ({said}); make room there, or push elsewhere")
    if isinstance(error, ValueError) and "metadata in README.md" in str(error):
        said = " ".join(str(error).split())[:300]
        return PublishError(
            f"README.md: the hub refuses the card's metadata ({said}); correct the section publish of the recipe"
        )
    if isinstance(error, LookupError | TypeError | AttributeError | ValueError | RecursionError):
        # The client reads an answer, and what it looks for is not there: of these it makes errors of Python alone.
        return Doubt("an answer that no hub gives", sent=True, malformed=True)
    return None


def is_missing(error: BaseException) -> bool:
    """Whether the hub has answered that there is no such thing."""
    if isinstance(error, client_errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        return is_missing(error.__cause__)
    return isinstance(error, client_errors.HfHubHTTPError) and getattr(error.response, "status_code", 0) == 404


def _meaning_of_answer(answer: httpx2.Response, endpoint: str, token: str) -> Exception:
    code = answer.status_code
    asked = f"{answer.request.method} {answer.request.url.path}"
    if code in (402, 413, 507) or (code == 403 and _NO_ROOM.search(_said(answer, token))):
        said = _said(answer, token)
        return NoAccess(
            f"{endpoint}: has no room for it (answer {code}{said and f': {said}'}); make room there, or push elsewhere"
        )
    if code in (400, 401, 403) and "/api/" not in asked and _EXPIRED.search(_said(answer, token)):
        return Doubt("the address for the upload has expired", sent=False)  # asked again, the hub gives another
    if code == 501:
        return PublishError(
            f"{endpoint}: has no {asked} (answer 501: {_said(answer, token)}); leave out the option that asks for it, "
            "such as --create-pr"
        )
    if is_doubtful(code):
        hours = answer.headers.get("x-asked-to-wait")
        why = f"answer {code}" + (f", which asks to wait for {hours} s" if hours else "")
        return Doubt(why, sent=code >= 500 or code == 408, retry_after=seconds_asked(answer.headers))
    if code == 401:
        return NoAccess(
            f"{endpoint}: does not accept the token (answer 401); log in again with `hf auth login`, or set "
            "another HF_TOKEN"
        )
    if code == 403:
        said = _said(answer, token)
        return NoAccess(f"{endpoint}: refuses (answer {code}{said and f': {said}'}); use a token that may write there")
    return PublishError(f"{endpoint}: refuses {asked} (answer {code}: {_said(answer, token)})")


def _said(answer: httpx2.Response, token: str) -> str:
    """The hub's own words, cut short, and without the token should they repeat it."""
    try:
        text = answer.headers.get("x-error-message") or answer.text
    except httpx2.StreamError:  # a download's answer is not read
        return "no reason"
    return plain(" ".join(text.replace(token, "...").split()))[:200]
