"""The page in a real browser: what is typed is never lost, keys do what they say, and nothing leaves the page's origin.

One browser for all tests of this file. Axe-core is looked for where ``.ci/run`` puts it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, browser, installed
from gatherings import CLONE, asked, corrected, gathering, served, started, submitted

from sft.demonstrations.messages import Message
from sft.gathering.folder import Gathering
from sft.gathering.items import Item
from sft.gathering.server import Page
from sft.runs.atomic_files import write_jsonl

pytestmark = pytest.mark.skipif(not installed(), reason="no Chromium is installed here (apt-get install chromium)")

AXE = Path(__file__).parents[2] / ".axe" / "node_modules" / "axe-core" / "axe.min.js"
ROUND = {"alt": 1, "ctrl": 2, "meta": 4, "shift": 8}


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(installed(), tmp_path_factory.mktemp("profile")) as opened:
        opened.watch()
        yield opened
        assert not opened.complaints(), opened.complaints()
        outside = [url for url in opened.requests() if not url.startswith(("http://127.0.0.1:", "data:"))]
        assert not outside


def until(there: Callable[[], Any], seconds: float = 15) -> Any:
    """What ``there`` gives as soon as it gives something."""
    end = time.monotonic() + seconds
    while True:
        with suppress(RuntimeError):  # the page is on its way to another
            if found := there():
                return found
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.03)


class Tab:
    """An expert's page in the browser."""

    def __init__(self, one: Browser, page: Page, name: str = "ada") -> None:
        self.one, self.page, self.name = one, page, name
        self.go(f"/enter/{page.desk.gathering.invite(name)}")

    def go(self, path: str) -> None:
        self.one.ask("Page.navigate", url=self.page.address + path)
        self.ready()

    def ready(self) -> None:
        until(lambda: self.one.tell("document.readyState == 'complete' && !document.body.dataset.go"))

    def again(self) -> None:
        """Load the page once more."""
        self.one.tell("window.earlier = true")
        self.one.ask("Page.reload")
        until(lambda: self.one.tell("window.earlier === undefined"))
        self.ready()

    def item(self) -> str:
        """The item that is shown, when it is."""
        return until(lambda: self.one.tell("location.pathname.startsWith('/item/') && document.readyState == 'complete'"
                                           " && location.pathname.slice(6)"))  # fmt: skip

    def type(self, text: str) -> None:
        self.one.ask("Input.insertText", text=text)

    def key(self, key: str, *held: str, code: int = 0, does: str = "") -> None:
        """Press a key; ``does``: what the browser's own editor makes of it, which no page can ask for."""
        number = code or {"Enter": 13, "Escape": 27, "Tab": 9, "F1": 112}.get(key, ord(key[0].upper()))
        modifiers = sum(ROUND[name] for name in held)
        shared = {"key": key, "modifiers": modifiers, "windowsVirtualKeyCode": number}
        text = {"text": key} if len(key) == 1 and not held else {"text": "\r"} if key == "Enter" and not held else {}
        self.one.ask("Input.dispatchKeyEvent", type="keyDown", commands=[does] if does else [], **shared, **text)
        self.one.ask("Input.dispatchKeyEvent", type="keyUp", **shared)

    @property
    def text(self) -> str:
        return self.one.tell("document.getElementById('text') ? document.getElementById('text').value : null")

    @property
    def status(self) -> str:
        return self.one.tell("document.getElementById('status').textContent")

    @property
    def alert(self) -> str:
        return self.one.tell("document.getElementById('alert').textContent")

    def stored(self, item: str) -> str:
        """What the server has of the item's text."""
        with self.page.desk.lock:
            return self.page.desk.state.work(item, self.name).text

    def press(self, words: str) -> None:
        """Click the button with these words."""
        pressed = self.one.tell(
            f"(b => b ? (b.click(), true) : false)([...document.querySelectorAll('button, a, summary')]"
            f".find(b => b.textContent.trim() == {json.dumps(words)}))"
        )
        assert pressed, words


def test_type_wait_reload_and_go_on(chromium: Browser, tmp_path: Path) -> None:
    with gathering(tmp_path / "g", 2) as made, served(made) as (page, _):
        tab = Tab(chromium, page)
        item = tab.item()
        assert chromium.tell("document.activeElement.id") == "text"
        tab.type("The sea, breathing")
        until(lambda: tab.status == "saved")
        assert tab.stored(item) == "The sea, breathing"
        tab.again()
        assert until(lambda: tab.text) == "The sea, breathing"
        tab.type(", twice a day.")
        tab.key("Enter", "ctrl")
        other = until(lambda: (now := tab.item()) != item and now)
        assert chromium.tell("document.activeElement.id") == "text" and tab.text == ""
        assert tab.stored(item) == "The sea, breathing, twice a day."
        chromium.tell("history.back()")  # to an item that is submitted meanwhile
        until(
            lambda: tab.item() == item and chromium.tell("document.body.textContent.includes('Your answer, submitted')")
        )
        tab.press("Take it up again")
        until(lambda: tab.text == "The sea, breathing, twice a day.")
        assert other != item


def test_a_tab_closed_20_ms_after_a_key_loses_nothing(chromium: Browser, tmp_path: Path) -> None:
    with gathering(tmp_path / "g", 1) as made, served(made) as (page, _):
        with chromium.beside() as closed:
            tab = Tab(closed, page)
            item = tab.item()
            tab.type("half a though")
            tab.key("t")
            time.sleep(0.02)
            closed.close()
        until(lambda: tab.stored(item) == "half a thought")  # with nobody there to send it again
        tab = Tab(chromium, page)
        assert tab.item() == item and until(lambda: tab.text) == "half a thought"


def test_a_killed_server_loses_nothing_and_the_page_needs_no_reload(chromium: Browser, tmp_path: Path) -> None:
    folder = tmp_path / "g"
    gathering(folder, 1).close()
    one, links = started(folder)
    chromium.ask("Page.navigate", url=links["ada"])
    tab = Tab.__new__(Tab)
    tab.one = chromium
    tab.ready()
    item = tab.item()
    tab.type("before")
    until(lambda: tab.status == "saved")
    one.send_signal(signal.SIGKILL)
    one.communicate()
    tab.type(" and while it is away")
    began = time.monotonic()
    until(lambda: "The server is away" in tab.alert, 6)
    assert time.monotonic() - began < 4 and tab.text == "before and while it is away"  # 2 s on an idle machine
    again, _ = started(folder)
    until(lambda: tab.status == "saved" and tab.alert == "")
    assert Gathering.open(folder).state().work(item, "ada").text == "before and while it is away"
    again.terminate()
    again.communicate()


def test_two_windows_are_told_of_each_other_and_nothing_is_merged(chromium: Browser, tmp_path: Path) -> None:
    """Two tabs of one browser, which share its storage."""
    asks = "document.getElementById('conflict').open"
    with gathering(tmp_path / "g", 1) as made, served(made) as (page, _), chromium.beside() as second:
        here, there = Tab(chromium, page), Tab(second, page)
        item = here.item()
        assert there.item() == item
        there.type("from the other tab")
        there.key("s", "ctrl")
        until(lambda: there.status == "saved")
        here.type("from this one")
        here.key("s", "ctrl")
        until(lambda: chromium.tell(asks))
        assert chromium.tell("document.getElementById('mine').textContent") == "from this one"
        assert chromium.tell("document.getElementById('theirs').textContent") == "from the other tab"
        assert here.stored(item) == "from the other tab" and here.status == "two texts"
        here.press("Keep the one here")
        until(lambda: here.status == "saved" and here.stored(item) == "from this one")
        there.type("!")
        there.key("s", "ctrl")
        until(lambda: second.tell(asks))
        assert second.tell("document.getElementById('mine').textContent") == "from the other tab!"
        there.press("Take the one from there")
        until(lambda: there.text == "from this one" and there.status == "saved")
        assert here.stored(item) == "from this one"


def test_two_experts_are_offered_two_items_while_there_are_two(chromium: Browser, tmp_path: Path) -> None:
    """Each in a browser of their own; both submit, and so ask for the next item, at once, until one is left."""
    there = chromium.beside(another=True)
    with gathering(tmp_path / "g", 7, ("ada", "ben")) as made, served(made) as (page, _), there as another:
        tabs = [Tab(chromium, page, "ada"), Tab(another, page, "ben")]
        for n in range(3):
            items = [tab.item() for tab in tabs]
            assert items[0] != items[1]
            for tab in tabs:
                tab.type(f"{tab.name} {n}")
            for tab in tabs:
                tab.key("Enter", "ctrl")
            for tab, item in zip(tabs, items, strict=True):
                until(lambda tab=tab, item=item: tab.one.tell("location.pathname") != f"/item/{item}")
                tab.ready()
        texts = [tab.one.tell("document.body.textContent") for tab in tabs]
        assert sum("Your completion" in text for text in texts) == 1
        assert sum("1 items are in the hands of others" in text for text in texts) == 1
    answers = list(made.state().answers())
    assert len(answers) == len({one.item.id for one in answers}) == 6


def test_two_people_at_one_browser_do_not_write_in_each_others_name(chromium: Browser, tmp_path: Path) -> None:
    """Ben opened his link where ada's page was open, and what ada wrote on became ben's. The owner's link is no
    other person: it ended the page of whoever gathers alone.
    """
    with gathering(tmp_path / "g", 3, ("ada", "ben")) as made, served(made) as (page, _):
        tab = Tab(chromium, page, "ada")
        item = tab.item()
        with chromium.beside() as second:
            owner = Tab(second, page, "")
            assert "How far it is" in second.tell("document.body.textContent")
            tab.type("by ada")
            tab.key("s", "ctrl")
            until(lambda: tab.status == "saved" and tab.alert == "")
            owner.again()
            assert "How far it is" in second.tell("document.body.textContent")
            Tab(second, page, "ben").item()
            tab.type(", and more")
            tab.key("s", "ctrl")
            until(lambda: "opened with the link of ben" in tab.alert)
            assert tab.text == "by ada, and more" and "not saved" in tab.status
        with page.desk.lock:
            assert page.desk.state.work(item, "ben").text == ""
        tab = Tab(chromium, page, "ada")
        assert tab.item() == item and until(lambda: tab.text) == "by ada, and more"
        until(lambda: tab.stored(item) == "by ada, and more")


def test_a_full_disk_keeps_the_text_in_the_browser(chromium: Browser, tmp_path: Path) -> None:
    import resource

    with gathering(tmp_path / "g", 1) as made, served(made) as (page, _):
        tab = Tab(chromium, page)
        item = tab.item()
        before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (made.events_path.stat().st_size + 20, before[1]))
            tab.type("too much for this disk")
            until(lambda: "kept in this browser" in tab.alert)
            assert tab.status == "not saved"
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, ignored)
        until(lambda: tab.stored(item) == "too much for this disk" and tab.alert == "")


def test_an_input_method_has_the_keys_while_it_composes(chromium: Browser, tmp_path: Path) -> None:
    with gathering(tmp_path / "g", 2) as made, served(made) as (page, _):
        tab = Tab(chromium, page)
        item = tab.item()
        chromium.ask("Input.imeSetComposition", text="ちょう", selectionStart=3, selectionEnd=3)
        tab.key("Enter", "ctrl", code=229)
        time.sleep(0.3)
        assert tab.item() == item and made.state().work(item, "ada").submitted is None
        tab.type("潮")
        tab.key("Enter", "ctrl")
        until(lambda: tab.item() != item)
        assert tab.stored(item) == "潮"


def test_a_whole_item_by_keyboard_alone(chromium: Browser, tmp_path: Path) -> None:
    """Every key of the table, and behind each action the focus is on the text."""
    made = corrected(tmp_path / "g", shown="drafted", count=8)
    made.set_guidelines("Be brief.")
    with made, served(made) as (page, _):
        tab = Tab(chromium, page)
        focus = "document.activeElement.id"

        def another(item: str) -> str:
            """The item behind ``item``, with the focus on its text."""
            found = until(lambda: (now := tab.item()) != item and now)
            until(lambda: chromium.tell(focus) == "text")
            return found

        def done() -> list[str]:
            rows = (tmp_path / "g" / "events.jsonl").read_text("utf-8").splitlines()
            return [row["kind"] for row in map(json.loads, rows) if row["kind"] in ("submitted", "skipped", "flagged")]

        first = item = tab.item()
        tab.key("Enter", "ctrl", "shift")  # accept
        item = another(item)
        tab.key("Escape")
        tab.key("a")  # accept
        item = another(item)
        tab.key("Escape")
        assert chromium.tell("document.activeElement == document.body")
        tab.key("e")  # edit a copy
        until(lambda: tab.text.startswith(CLONE))
        assert chromium.tell("document.activeElement.id") == "text"
        tab.type(" And more.")
        tab.key("Escape")
        tab.key("d")
        until(lambda: chromium.tell("document.querySelector('#changes ins') !== null"))
        tab.key("b")  # start blank
        until(lambda: tab.text == "")
        tab.key("Escape")
        tab.key("c")  # to the slider, three words on, and continue
        until(lambda: chromium.tell("document.activeElement.id") == "keep")
        for _ in range(6):
            tab.key("ArrowRight", code=39)
        assert chromium.tell("document.getElementById('kept').textContent") == "6"
        chromium.tell("document.activeElement.blur()")
        tab.key("c")
        until(lambda: tab.text == "ZEBRA-CROSSING is what the clone")
        tab.type(" 1234567890 1234567890 1234567890 1234567890 1234567890 1234567890 1234567890")
        tab.key("Enter", "meta")  # as on a Mac
        item = another(item)
        tab.key("Escape")
        for key in ("?", "F1"):
            tab.key(key)
            until(lambda: chromium.tell("document.getElementById('keys').open"))
            tab.key("Escape")
            until(lambda: not chromium.tell("document.getElementById('keys').open"))
        time.sleep(0.2)
        tab.key("g")
        assert until(lambda: chromium.tell("document.activeElement.id == 'guidelines-text'"))
        tab.key("t")
        tab.type("f s p l a")  # letters in the text are letters
        assert tab.text == "f s p l a" and tab.item() == item
        chromium.tell("addEventListener('keydown', e => { window.pressed = [performance.now(), e.defaultPrevented]; })")
        tab.key("s", "ctrl")  # at once, and not the browser's own saving
        until(lambda: tab.status == "saved")
        sent = "performance.getEntriesByType('resource').findLast(e => e.name.endsWith('/do')).startTime"
        assert chromium.tell(f"{sent} - pressed[0] < 200 && pressed[1]") and tab.stored(item) == "f s p l a"
        tab.key("Escape")
        tab.key("f")
        until(lambda: chromium.tell(focus) == "flag-reason")
        tab.type("no question")
        tab.key("Tab")
        tab.key("Enter")
        item = another(item)
        tab.key("Escape")
        tab.key("s")
        until(lambda: chromium.tell(focus) == "skip-reason")
        tab.key("Tab")
        tab.key("Enter")
        item = another(item)
        assert done() == ["submitted", "submitted", "submitted", "flagged", "skipped"]
        tab.key("Escape")
        tab.key("l")
        until(lambda: chromium.tell("location.pathname == '/list'"))
        tab.go(f"/item/{first}")
        tab.go(f"/item/{item}")
        tab.key("Escape")
        tab.key("p")
        until(lambda: tab.item() == first)
    hows = [json.loads(line)["gathered"]["how"] for line in
            (tmp_path / "g" / "demonstrations.jsonl").read_text("utf-8").splitlines()]  # fmt: skip
    assert sorted(hows) == ["accepted", "accepted", "continued"]


def test_how_an_answer_came_about_is_what_was_pressed(chromium: Browser, tmp_path: Path) -> None:
    """With the mouse: accepted, a copy that is edited, a blank page, and on from the word that was clicked."""
    with corrected(tmp_path / "g", shown="drafted", count=4) as made, served(made) as (page, _):
        tab, items = Tab(chromium, page), dict[str, str]()
        for how, press, text in (
            ("accepted", "Accept", ""),
            ("edited", "Edit a copy", "Well: "),
            ("rewritten", "Start blank", "No."),
            ("continued", "Continue from there", "! 1234567890 1234567890 1234567890 1234567890 1234567890 1234567890"),
        ):
            item = tab.item()
            assert tab.text == ""  # a box full of draft would be an answer already
            if how == "continued":
                place = chromium.tell("(r => (r.setStart(clone.firstChild, 32), r.setEnd(clone.firstChild, 33), "
                                      "r.getBoundingClientRect().toJSON()))(new Range())")  # fmt: skip
                where = {"x": place["left"] + 1, "y": place["top"] + 3, "button": "left", "clickCount": 1}
                for kind in ("mousePressed", "mouseReleased"):
                    chromium.ask("Input.dispatchMouseEvent", type=kind, **where)
                assert chromium.tell("kept.textContent") == "6"
            tab.press(press)
            if text:
                if how == "edited":  # before the clone's first word: behind its last one it would be continued
                    chromium.tell("document.getElementById('text').setSelectionRange(0, 0)")
                tab.type(text)
                tab.press("Submit")
            items[item] = how
            until(lambda item=item: chromium.tell("location.pathname") != f"/item/{item}")
            tab.ready()
    rows = [json.loads(line) for line in (tmp_path / "g" / "demonstrations.jsonl").read_text("utf-8").splitlines()]
    assert {row["gathered"]["item"]: row["gathered"]["how"] for row in rows} == items


def test_an_answer_that_is_none_is_refused_and_the_text_stays(chromium: Browser, tmp_path: Path) -> None:
    with gathering(tmp_path / "g", 1) as made, served(made) as (page, _):
        tab = Tab(chromium, page)
        for text, said in (
            (" \u200b", "is blank (only control or zero-width characters); write one"),
            ("x" * 200_001, "200,001 characters"),
        ):
            chromium.tell("document.getElementById('text').select()")
            tab.type(text)
            tab.key("Enter", "ctrl")
            until(lambda said=said: said in tab.alert, 30)
            assert tab.text == text and not list(made.state().answers())


def test_a_page_that_comes_back_as_it_was_left_is_loaded_again(chromium: Browser, tmp_path: Path) -> None:
    """Browsers keep whole pages for their back button, with texts that are older than those on the disk."""
    with gathering(tmp_path / "g", 1) as made, served(made) as (page, who):
        tab = Tab(chromium, page)
        item = tab.item()
        assert who["ada"].do("draft", item=item, text="newer", rev=0, window="w")[0] == 200
        chromium.tell("window.earlier = true, dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
        until(lambda: chromium.tell("window.earlier === undefined"))
        tab.ready()
        assert until(lambda: tab.text) == "newer"


def test_letters_can_be_switched_off_and_submit_has_other_keys(chromium: Browser, tmp_path: Path) -> None:
    with corrected(tmp_path / "g", shown="drafted") as made, served(made) as (page, _):
        tab = Tab(chromium, page)
        item = tab.item()
        tab.press("Keys")
        chromium.tell("document.getElementById('letters').click()")
        chromium.tell(
            "(s => { s.value = 'alt'; s.dispatchEvent(new Event('change')); })(document.getElementById('submit-keys'))"
        )
        tab.press("Close")
        chromium.tell("document.activeElement.blur()")
        tab.key("a")
        time.sleep(0.2)
        assert tab.item() == item
        chromium.tell("document.getElementById('text').focus()")
        tab.type("mine")
        tab.key("Enter", "ctrl")
        time.sleep(0.2)
        assert tab.item() == item
        tab.key("Enter", "alt")
        until(lambda: tab.item() != item)
        chromium.tell("localStorage.clear()")


BAD = '</textarea></script><script>window.ran = 1</script><img src=x onerror="window.ran = 2"> \u202e\x07'


def test_every_script_is_written_and_markup_is_shown(chromium: Browser, tmp_path: Path) -> None:
    """Markup in whatever somebody else wrote: prompt, clone's text, guidelines, a reason, the own text."""
    turns = (Message("system", BAD), Message("user", "ما هو المد؟ " + BAD))
    items = [Item("x1", turns, round=1, shown="drafted"), *asked(1)]
    made = gathering(tmp_path / "g", items, ("ada", "ben"), order="file")
    made.set_guidelines(BAD)
    write_jsonl(made.clone_path(1), [{"id": "x1", "text": BAD}])
    with made, served(made) as (page, who):
        assert who["ben"].do("flagged", item=items[1].id, reason=BAD)[0] == 200
        tab = Tab(chromium, page)
        tab.go("/item/x1")
        hidden = "window.ran === undefined && document.querySelectorAll('.text .hidden-char').length"
        assert chromium.tell(hidden) == 8  # two in each of four texts
        for text in ("المد هو ارتفاع البحر.", "潮汐是海水的涨落。", "tab\tand\nline", BAD):
            chromium.tell("document.getElementById('text').select()")
            tab.type(text)
            tab.key("s", "ctrl")
            until(lambda text=text: tab.status == "saved" and tab.stored("x1") == text, 30)
            tab.go("/item/x1")
            assert until(lambda: tab.text) == text
            if text.startswith("ال"):
                assert chromium.tell("getComputedStyle(document.getElementById('text')).direction") == "rtl"
        tab.go("/list")
        assert chromium.tell("window.ran === undefined && document.body.textContent.includes('ran = 1')")
        Tab(chromium, page, "")
        assert chromium.tell("document.querySelectorAll('.row .hidden-char').length") == 2
        assert chromium.tell("window.ran === undefined")


def test_a_hundred_thousand_characters_are_pasted(chromium: Browser, tmp_path: Path) -> None:
    with gathering(tmp_path / "g", 1) as made, served(made) as (page, _):
        tab = Tab(chromium, page)
        item = tab.item()
        rights = ["clipboardReadWrite", "clipboardSanitizedWrite"]
        chromium.ask("Browser.grantPermissions", permissions=rights, origin=page.address)
        chromium.tell("navigator.clipboard.writeText('x'.repeat(100000))")
        tab.key("v", "ctrl", does="paste")
        until(lambda: tab.status == "saved" and len(tab.stored(item)) == 100_000, 30)
        assert "100000 characters · a long text" in until(
            lambda: chromium.tell("document.getElementById('count').textContent")
        )
        tab.again()
        assert until(lambda: tab.text) == "x" * 100_000
        tab.key("Enter", "ctrl")
        until(lambda: "Nothing is left" in chromium.tell("document.body.textContent"))
        assert next(iter(page.desk.state.answers())).pasted == 100_000


def test_a_new_version_of_the_guidelines_reaches_a_page_that_is_open(chromium: Browser, tmp_path: Path) -> None:
    with gathering(tmp_path / "g", 1) as made, served(made) as (page, who):
        tab = Tab(chromium, page)
        tab.item()
        who["owner"].do("guidelines", "/owner/do", text="Be brief.")
        tab.type("a")
        until(lambda: "guidelines have changed" in tab.alert)
        tab.go("/")
        tab.item()
        assert "Be brief." in chromium.tell("document.getElementById('guidelines').textContent")
        tab.press("I have read this version")
        until(lambda: made.state().read.get("ada"))


def test_who_wrote_blind_is_asked_afterwards(chromium: Browser, tmp_path: Path) -> None:
    with corrected(tmp_path / "g", shown="blind", count=2) as made, served(made) as (page, _):
        tab = Tab(chromium, page)
        item = tab.item()
        assert "ZEBRA" not in chromium.tell("document.documentElement.outerHTML")
        tab.type("mine")
        tab.key("Enter", "ctrl")
        until(lambda: "ZEBRA" in chromium.tell("document.body.textContent"))
        tab.ready()
        tab.press("With small changes")
        until(lambda: tab.item() != item)
        assert made.state().work(item, "ada").judged == "with small changes"


#: In every page: write an answer and submit it by its key, without a round trip to this process for each.
WRITES = """addEventListener("load", () => {
  const box = document.getElementById("text"), n = Number(sessionStorage.getItem("n") || 0);
  if (!box) return;
  const on = () => {
    delete window.on;
    sessionStorage.setItem("n", n + 1);
    box.value = `answer ${n} ` + "word ".repeat(50);
    box.dispatchEvent(new Event("input", {bubbles: true}));
    box.dispatchEvent(new KeyboardEvent("keydown", {key: "Enter", ctrlKey: true, bubbles: true}));
  };
  if (MARKS.includes(n)) window.on = on; else on();
});"""
EACH = 260  # of the 300 items, those in the middle


def test_three_hundred_items_in_a_row_cost_no_more_at_the_end(chromium: Browser, tmp_path: Path) -> None:
    """Items 286 to 300 cost what 6 to 20 did: the processor's time, of the browser and of the server, and memory.

    Those in the middle are answered at the desk behind the page, in a second; ``SFT_EVERY_ITEM=1`` has the browser
    write them too, which takes a minute.
    """
    middle = 0 if os.environ.get("SFT_EVERY_ITEM") else EACH
    marks, spent, held = (5, 20, 285 - middle, 300 - middle), list[tuple[float, float]](), list[list[int]]()
    with gathering(tmp_path / "g", 301) as made, served(made) as (page, _), chromium.beside() as one:
        tab = Tab(one, page)
        one.ask("Performance.enable")
        one.ask("Page.addScriptToEvaluateOnNewDocument", source=WRITES.replace("MARKS", json.dumps(marks)))
        one.ask("Page.reload")
        for mark in marks:
            until(lambda: one.tell("window.on !== undefined"), 120)
            one.ask("HeapProfiler.collectGarbage")
            programs = one.ask("SystemInfo.getProcessInfo")["processInfo"]
            spent.append((sum(each["cpuTime"] for each in programs), time.process_time()))
            found = {each["name"]: each["value"] for each in one.ask("Performance.getMetrics")["metrics"]}
            held.append([found[name] for name in ("JSHeapUsedSize", "Nodes", "Documents", "JSEventListeners")])
            if mark == 20 and middle:
                now, state = tab.item(), page.desk.state
                left = [item.id for item in state.order() if state.work(item.id, "ada").rev == 0 and item.id != now]
                submitted(page, *(("ada", name, "answer " + "word " * 50) for name in left[:middle]))
            one.tell("window.on(), 0")
        until(lambda: "You have submitted 301 answers" in one.tell("document.body.textContent"))
    for of in (0, 1):
        early, late = (spent[after][of] - spent[before][of] for before, after in ((0, 1), (2, 3)))
        assert late < 1.5 * early + 0.1, (("browser", "server")[of], spent)
    assert held[3][0] < 1.25 * held[1][0], held  # compiled scripts are kept: a tenth more after 300 pages, then no more
    # A node or two come and go with what the page says of saving; one an item would be 280.
    assert all(last <= first + 5 for first, last in zip(held[1][1:], held[3][1:], strict=True)), held


# -- how it looks ----------------------------------------------------------------------------------------------


#: Screen -> whose it is ("" is the owner, None nobody), the number of its item or its path, and what stands on it.
SCREENS: dict[str, tuple[str | None, int | str, str]] = {
    "item": ("ada", 4, "Your completion"),
    "drafted": ("ada", 1, "Continue from its own beginning"),
    "submitted": ("ada", 0, "What the user says next"),
    "judged": ("ada", 2, "Would you have accepted it?"),
    "dialogue": ("ada", 3, "Take over here"),
    "list": ("ada", "/list", "Withdraw the answer"),
    "found-nothing": ("ada", "/list?q=zzz", "Nothing of yours has these words"),
    "missing": ("ada", "/item/none", "There is no such item for you"),
    "skipped": ("cyd", "/list", "not my field"),
    "nothing-left": ("cyd", "/", "A prompt of your own"),
    "owner": ("", "/owner", "Clear the flag"),
    "unknown": (None, "/enter/none", "Your link is not known here"),
}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[str], Page]]:
    """The ids of the items of a gathering with something on every screen, and its page."""
    folder = tmp_path_factory.mktemp("shown") / "g"
    said = (Message("user", "And then?"), Message("assistant", "A clone says so."), Message("user", "Who?"))
    items = [*asked(2, round=1, shown="drafted"), *asked(3, round=1)[2:], Item("d1", said, round=1, shown="drafted",
             dialogue="d", turn=1), *asked(4)[3:]]  # fmt: skip
    settings: dict[str, Any] = {"order": "file", "own_prompts": True, "dialogues": True, "answers": 2}
    made = gathering(folder, items, ("ada", "ben", "cyd"), **settings)
    made.set_guidelines("1. Be brief.\n2. Be kind.")
    write_jsonl(made.clone_path(1), ({"id": one.id, "text": f"{CLONE} {n}"} for n, one in enumerate(items[:4])))
    with made, served(made) as (page, who):
        for name, text, n in (("ada", "It counts the sheep of the farm.", 0), ("ben", "No zebra, quickly: jump!", 0),
                              ("ada", "Blind, and then shown the other.", 2)):  # fmt: skip
            who[name].answer(text, items[n].id)
        for one in items:
            assert who["cyd"].do("skipped", item=one.id, reason="not my field")[0] == 200
        who["ben"].do("flagged", item=items[4].id, reason="two questions in one")
        who["owner"].do("cleared", "/owner/do", item=items[4].id)
        own = who["ben"].do("asked", text="What is a flag?")[1]["next"].rpartition("/")[2]
        who["ben"].do("flagged", item=own, reason="it holds a name")
        yield [one.id for one in items], page


def each_screen(chromium: Browser, shown: tuple[list[str], Page]) -> Iterator[tuple[str, Tab]]:
    """Name and tab of every screen, once it is there."""
    items, page = shown
    tab = None
    for name, (who, where, words) in SCREENS.items():
        if tab is None or who not in (tab.name, None):
            tab = Tab(chromium, page, who or "")
        tab.go(where if isinstance(where, str) else f"/item/{items[where]}")
        assert chromium.tell(f"document.body.textContent.includes({json.dumps(words)})"), name
        yield name, tab


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_screen_fits_a_phone_and_breaks_no_rule_of_accessibility(
    chromium: Browser, shown: tuple[list[str], Page], dark: bool
) -> None:
    pictures = os.environ.get("SFT_SCREENS", "")
    chromium.look(320, dark=dark)
    for name, tab in each_screen(chromium, shown):
        for width in (320, 1280):
            if width == 1280:
                chromium.look(width, dark=dark)
                tab.again()  # guidelines are folded, or not, as the page is loaded
            wide = chromium.tell("document.documentElement.scrollWidth")
            assert wide <= width, f"{name} is {wide} wide at {width}"
            if dark and width == 1280:
                continue  # the same colours
            violations(chromium, name)
            if name == "drafted":
                for more, opens in DIALOGS.items():
                    chromium.tell(opens)
                    assert chromium.tell("document.documentElement.scrollWidth") <= width, more
                    violations(chromium, more)
                    chromium.tell("document.querySelector('dialog[open]')?.close()")
            if pictures:
                chromium.picture(Path(pictures) / f"page-{name}-{width}-{'dark' if dark else 'light'}.png")
        chromium.look(320, dark=dark)
    chromium.look(1280, dark=False)


#: What opens over an item -> how: the keys, two texts of one item, and a refusal beside reasons that are asked for.
DIALOGS = {
    "keys": "document.getElementById('keys-button').click()",
    "conflict": "for (const id of ['mine', 'theirs']) document.getElementById(id).textContent = 'word '.repeat(99);"
    "document.getElementById('conflict').showModal()",
    "alert": "for (const one of document.querySelectorAll('details')) one.open = true; alertWith('word '.repeat(99))",
}


def violations(chromium: Browser, name: str) -> None:
    """Raise where axe-core finds a rule broken; nothing is looked for where it is not installed."""
    if not AXE.exists():
        return
    chromium.ask("Page.setBypassCSP", enabled=True)
    chromium.tell(AXE.read_text(encoding="utf-8") + ";0")
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = chromium.tell(
        f"axe.run({{runOnly: {json.dumps(tags)}}}).then(r => r.violations.map(v => [v.id, v.nodes.map(n => n.html)]))"
    )
    chromium.ask("Page.setBypassCSP", enabled=False)
    assert not found, (name, found)


def test_axe_is_there_where_the_browser_is() -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed here: npm install --prefix .axe axe-core@4.14.1")
    assert "4.14" in AXE.read_text(encoding="utf-8")[:200]


def test_forced_colours_and_large_letters_keep_everything_in_view(
    chromium: Browser, shown: tuple[list[str], Page]
) -> None:
    features = [{"name": "forced-colors", "value": "active"}, {"name": "prefers-reduced-motion", "value": "reduce"}]
    chromium.ask("Emulation.setEmulatedMedia", features=features)
    chromium.ask("Emulation.setDeviceMetricsOverride", width=320, height=256, deviceScaleFactor=4, mobile=False)
    for name, _ in each_screen(chromium, shown):  # 1280 by 1024 at 400 %
        assert chromium.tell("document.documentElement.scrollWidth") <= 320, name
        assert chromium.tell("matchMedia('(forced-colors: active) and (prefers-reduced-motion)').matches")
    chromium.look(1280, dark=False)


def test_what_is_hidden_is_not_shown(chromium: Browser, tmp_path: Path) -> None:
    """A rule for buttons showed those that were hidden: "I have read this version", to whoever had read it."""
    with corrected(tmp_path / "g", shown="drafted") as made:
        made.set_guidelines("Be brief.")
        with served(made) as (page, who):
            tab = Tab(chromium, page)
            shown = "getComputedStyle(document.getElementById('read')).display != 'none'"
            tab.go("/")
            assert until(lambda: chromium.tell(shown)) is True
            assert who["ada"].do("guidelines_seen")[0] == 200
            tab.go(f"/item/{tab.item()}")
            assert chromium.tell(shown) is False
            left = (
                "[...document.querySelectorAll('[hidden]')].filter(e => getComputedStyle(e).display != 'none').length"
            )
            assert chromium.tell(left) == 0 and chromium.tell("document.querySelectorAll('[hidden]').length") > 1


def test_every_picture_of_the_page_about_it_is_there_and_made_by_its_command() -> None:
    """docs/collecting.md shows each screen twice wide, light and dark, and no other; no picture lies about unused."""
    from screens import HEIGHTS, SCREENS

    root = Path(__file__).parents[2] / "docs"
    wanted = {f"{name}-{width}-{shade}.webp" for name in SCREENS for width in HEIGHTS for shade in ("light", "dark")}
    text = (root / "collecting.md").read_text(encoding="utf-8")
    assert (
        set(re.findall(r"\(collecting/([^)]+)\)", text)) == wanted == {p.name for p in (root / "collecting").iterdir()}
    )
    assert all(
        path.read_bytes()[8:12] == b"WEBP" and path.stat().st_size < 60_000 for path in (root / "collecting").iterdir()
    )
