"""Pictures of every screen that experts and the owner see, for docs/collecting.md: invented people, the real page.

    python docs/screens.py            # all of them, into docs/collecting/; takes Chromium and half a minute
    python docs/screens.py FOLDER     # elsewhere

Each screen twice wide (1200 and 390 CSS pixels), light and dark.
"""

from __future__ import annotations

import base64
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "toys")]

from browser import Browser, browser, installed  # noqa: E402
from gatherings import Client, gathering, served  # noqa: E402

from sft.demonstrations.messages import Message  # noqa: E402
from sft.gathering.folder import Gathering  # noqa: E402
from sft.gathering.items import Item, item_id  # noqa: E402
from sft.runs.atomic_files import write_jsonl  # noqa: E402

__all__ = ["HEIGHTS", "SCREENS", "pictures"]

#: Width -> height of the window.
HEIGHTS = {1200: 800, 390: 844}
#: Screen -> what docs/collecting.md says of it.
SCREENS = {
    "blind": "An item that is written blind",
    "judge": "The clone's text, after a blind answer",
    "drafted": "A draft of the clone above an empty text",
    "changes": "What the expert changed of it",
    "dialogue": "A dialogue that the clone has led so far",
    "list": "The expert's own items",
    "keys": "Keys",
    "owner": "The owner's screen",
    "nothing-left": "Nothing left",
    "unknown": "A link that is not known",
}
ASKED = (
    "A reader asks why the ferry is late on Mondays. What do we answer?",
    "Somebody wants their money back for a ticket that was used. What do we answer?",
    "Is the harbour café open in winter?",
    "How does one bring a bicycle on board?",
    "A dog ate the ticket. What now?",
    "The 10:40 did not come, and nobody said why. What do we answer?",
)
CLONE = "Thank you for your message. The ferry is late on Mondays because of the market; please allow ten minutes more."
GUIDELINES = "1. Answer in two sentences at most.\n2. Say what we know, and no more.\n3. Never promise a date.\n"


def filled(folder: Path) -> Gathering:
    """Round 0, answered in part by two invented people; round 1 with drafts of a clone, and a dialogue."""
    prompts = [(Message("user", text),) for text in ASKED]
    shared = [Item(item_id(one), one, shared=True) for one in prompts[:3]]
    own = [Item(item_id(one), one) for one in prompts[3:]]
    made = gathering(folder, [*shared, *own], ("Ada Moor", "Ben Sund"), order="file")
    made.set_guidelines(GUIDELINES)
    return made


def corrections(folder: Path) -> Gathering:
    """Items of round 1: one written blind, one drafted, and a dialogue's second turn."""
    prompts = [(Message("user", text),) for text in (ASKED[0], ASKED[5])]
    turns = (
        Message("user", ASKED[2]),
        Message("assistant", "It is open in summer."),
        Message("user", "I said winter."),
    )
    items = [Item(item_id(prompts[0], 1), prompts[0], round=1), Item(item_id(prompts[1], 1), prompts[1], round=1,
             shown="drafted"), Item("talk-1", turns, round=1, shown="drafted", dialogue="talk", turn=1)]  # fmt: skip
    made = gathering(folder, items, ("Ada Moor",), order="file")
    made.set_guidelines(GUIDELINES)
    write_jsonl(made.clone_path(1), ({"id": one.id, "text": CLONE, "finished": True} for one in items))
    return made


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser. Raises ``SystemExit`` where none is installed."""
    if not installed():
        raise SystemExit("no Chromium is installed here: apt-get install chromium")
    with tempfile.TemporaryDirectory() as profile, browser(installed(), Path(profile)) as opened:
        opened.ask("Page.enable")
        opened.ask("Network.enable")
        yield opened


def go(one: Browser, address: str) -> None:
    """Load ``address``, and wait until the page that it leads on to is there."""
    one.ask("Page.navigate", url=address)
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with suppress(RuntimeError):  # the page is on its way to another
            if one.tell("document.readyState == 'complete' && !document.body.dataset.go"):
                return
        time.sleep(0.05)
    raise SystemExit(f"{address}: did not load")


def taken(one: Browser, address: str, name: str, into: Path, click: str = "") -> None:
    """The screen at ``address`` in both widths, light and dark; ``click``: a script to run first."""
    for width, height in HEIGHTS.items():
        for dark in (False, True):
            one.look(width, dark=dark)
            go(one, address)
            if click:
                one.tell(f"(() => {{ {click} }})()")
                one.tell("new Promise(done => setTimeout(done, 400))")
            clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
            answer = one.ask("Page.captureScreenshot", format="webp", quality=40, clip=clip)
            path = into / f"{name}-{width}-{'dark' if dark else 'light'}.webp"
            path.write_bytes(base64.b64decode(answer["data"]))


def entered(one: Browser, page: str, made: Gathering, name: str) -> None:
    """The browser has the link of ``name``."""
    one.ask("Network.clearBrowserCookies")
    go(one, f"{page}/enter/{made.invite(name)}")


def answer(client: Client, count: int, words: str) -> None:
    for n in range(count):
        if item := client.next():
            client.answer(f"{words} ({n + 1})", item, seconds=40 + 7 * n, keys=200)


def pictures(into: Path) -> None:
    """Every screen, into the folder ``into``."""
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place, chromium() as one:
        with filled(Path(place) / "harbour") as made, served(made) as (page, who):
            for client in (who["Ada Moor"], who["Ben Sund"]):
                client.do("guidelines_seen")
            answer(who["Ben Sund"], 3, "The market takes the quay on Mondays; please allow ten minutes more.")
            answer(who["Ada Moor"], 2, "On Mondays the quay is full, so the ferry waits. We are sorry.")
            who["Ada Moor"].do("flagged", item=made.items()[4].id, reason="Is this a joke?")
            entered(one, page.address, made, "Ada Moor")
            taken(one, f"{page.address}/", "blind", into)
            taken(one, f"{page.address}/list", "list", into)
            taken(one, f"{page.address}/", "keys", into, "document.querySelector('dialog').showModal()")
            entered(one, page.address, made, "")
            taken(one, f"{page.address}/owner", "owner", into)
            answer(who["Ada Moor"], 9, "Bicycles go to the bow, and cost nothing.")
            answer(who["Ben Sund"], 9, "Wheel it to the bow.")
            entered(one, page.address, made, "Ada Moor")
            taken(one, f"{page.address}/", "nothing-left", into)
            one.ask("Network.clearBrowserCookies")
            taken(one, f"{page.address}/list", "unknown", into)
        with corrections(Path(place) / "corrections") as made, served(made) as (page, who):
            first, second, third = (item.id for item in made.items())
            who["Ada Moor"].do("guidelines_seen")
            entered(one, page.address, made, "Ada Moor")
            taken(one, f"{page.address}/item/{second}", "drafted", into)
            taken(one, f"{page.address}/item/{third}", "dialogue", into)
            who["Ada Moor"].answer("On Mondays the quay is full of the market; the ferry waits. We are sorry.", first)
            taken(one, f"{page.address}/item/{first}", "judge", into)
            text = CLONE.replace("please allow ten minutes more", "we are sorry that nobody said so")
            who["Ada Moor"].do("draft", item=second, text=text, rev=0)
            taken(
                one,
                f"{page.address}/item/{second}",
                "changes",
                into,
                "[...document.querySelectorAll('button')].find(b => b.textContent == 'Show changes').click()",
            )


if __name__ == "__main__":
    pictures(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "collecting")
