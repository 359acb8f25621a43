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
from gatherings import CLONE, asked, corrected, gathering, served, started

from sft.demonstrations.messages import Message
from sft.gathering.folder import Gathering
from sft.gathering.items import Item
from sft.gathering.server import Page

pytestmark = pytest.mark.skipif(not installed(), reason="no Chromium is installed here (apt-get install chromium)")

AXE = Path(__file__).parents[2] / ".axe" / "node_modules" / "axe-core" / "axe.min.js"
ROUND = {"ctrl": 2, "alt": 1, "shift": 8}


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(installed(), tmp_path_factory.mktemp("profile")) as opened:
        opened.ask("Page.enable")
        opened.ask("Runtime.enable")
        opened.ask("Log.enable")
        opened.ask("Network.enable")
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

    def item(self) -> str:
        """The item that is shown, when it is."""
        return until(lambda: self.one.tell("location.pathname.startsWith('/item/') && document.readyState == 'complete'"
                                           " && location.pathname.slice(6)"))  # fmt: skip

    def type(self, text: str) -> None:
        self.one.ask("Input.insertText", text=text)

    def key(self, key: str, *held: str, code: int = 0) -> None:
        number = code or {"Enter": 13, "Escape": 27, "Tab": 9, "F1": 112}.get(key, ord(key[0].upper()))
        modifiers = sum(ROUND[name] for name in held)
        shared = {"key": key, "modifiers": modifiers, "windowsVirtualKeyCode": number}
        text = {"text": key} if len(key) == 1 and not held else {"text": "\r"} if key == "Enter" and not held else {}
        self.one.ask("Input.dispatchKeyEvent", type="keyDown", **shared, **text)
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
        tab.go(f"/item/{item}")
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
        tab = Tab(chromium, page)
        item = tab.item()
        tab.type("half a though")
        time.sleep(0.02)
        chromium.visit("about:blank")
        until(lambda: tab.stored(item) == "half a though")
        tab.go("/")
        assert until(lambda: tab.text) == "half a though"


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
    with gathering(tmp_path / "g", 1) as made, served(made) as (page, who):
        tab = Tab(chromium, page)
        item = tab.item()
        who["ada"].do("draft", item=item, text="from the other window", rev=0, window="other")
        tab.type("from this one")
        until(lambda: chromium.tell("document.getElementById('conflict').open"))
        assert chromium.tell("document.getElementById('mine').textContent") == "from this one"
        assert chromium.tell("document.getElementById('theirs').textContent") == "from the other window"
        assert tab.stored(item) == "from the other window"
        tab.press("Keep the one here")
        until(lambda: tab.stored(item) == "from this one")
        who["ada"].do("draft", item=item, text="again from there", rev=2, window="other")
        tab.type("!")
        until(lambda: chromium.tell("document.getElementById('conflict').open"))
        tab.press("Take the one from there")
        until(lambda: tab.text == "again from there" and tab.status == "saved")


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
    made = corrected(tmp_path / "g", shown="drafted", count=7)
    made.set_guidelines("Be brief.")
    with made, served(made) as (page, _):
        tab = Tab(chromium, page)

        def done() -> list[str]:
            rows = (tmp_path / "g" / "events.jsonl").read_text("utf-8").splitlines()
            return [row["kind"] for row in map(json.loads, rows) if row["kind"] in ("submitted", "skipped", "flagged")]

        item = tab.item()
        tab.key("Enter", "ctrl", "shift")  # accept
        item = until(lambda: (now := tab.item()) != item and now)
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
        tab.key("Enter", "ctrl")
        item = until(lambda: (now := tab.item()) != item and now)
        tab.key("Escape")
        tab.key("?")
        until(lambda: chromium.tell("document.getElementById('keys').open"))
        tab.key("Escape")
        until(lambda: not chromium.tell("document.getElementById('keys').open"))
        time.sleep(0.2)
        tab.key("g")
        assert until(lambda: chromium.tell("document.activeElement.id == 'guidelines-text'"))
        tab.key("t")
        tab.type("f s p l a")  # letters in the text are letters
        assert tab.text == "f s p l a" and tab.item() == item
        tab.key("Escape")
        tab.key("f")
        until(lambda: chromium.tell("document.activeElement.id") == "flag-reason")
        tab.type("no question")
        tab.key("Tab")
        tab.key("Enter")
        item = until(lambda: (now := tab.item()) != item and now)
        tab.key("Escape")
        tab.key("s")
        until(lambda: chromium.tell("document.activeElement.id") == "skip-reason")
        tab.key("Tab")
        tab.key("Enter")
        until(lambda: tab.item() != item)
        assert done() == ["submitted", "submitted", "flagged", "skipped"]
        tab.key("Escape")
        tab.key("l")
        until(lambda: chromium.tell("location.pathname == '/list'"))
    hows = [json.loads(line)["gathered"]["how"] for line in
            (tmp_path / "g" / "demonstrations.jsonl").read_text("utf-8").splitlines()]  # fmt: skip
    assert sorted(hows) == ["accepted", "continued"]


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
    turns = (Message("system", BAD), Message("user", "ما هو المد؟ " + BAD))
    items = [Item("x1", turns), *asked(1)]
    with gathering(tmp_path / "g", items, order="file") as made, served(made) as (page, _):
        tab = Tab(chromium, page)
        assert tab.item() == "x1"
        assert chromium.tell("window.ran === undefined && document.querySelectorAll('.turn .hidden-char').length") == 4
        for text in ("المد هو ارتفاع البحر.", "潮汐是海水的涨落。", "tab\tand\nline", BAD, "x" * 100_000):
            chromium.tell("document.getElementById('text').select()")
            tab.type(text)
            until(lambda text=text: tab.status == "saved" and tab.stored("x1") == text, 30)
            tab.go("/item/x1")
            assert until(lambda: tab.text) == text
            if text.startswith("ال"):
                assert chromium.tell("getComputedStyle(document.getElementById('text')).direction") == "rtl"
        assert "100000 characters" in until(lambda: chromium.tell("document.getElementById('count').textContent"))
        assert chromium.tell("window.ran === undefined")


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


def test_a_hundred_items_in_a_row_cost_no_more_at_the_end(chromium: Browser, tmp_path: Path) -> None:
    with gathering(tmp_path / "g", 60) as made, served(made) as (page, _):
        tab = Tab(chromium, page)
        took, held = [], []
        for n in range(60):
            began, item = time.monotonic(), tab.item()
            tab.type(f"answer {n}")
            tab.key("Enter", "ctrl")
            if n < 59:
                until(lambda item=item: tab.item() != item)
            took.append(time.monotonic() - began)
            if n in (20, 58):
                chromium.ask("HeapProfiler.collectGarbage")
                held.append(chromium.tell("performance.memory.usedJSHeapSize"))
        assert sorted(took[40:59])[9] < 2.5 * sorted(took[2:20])[9] + 0.1
        assert held[1] < 1.3 * held[0]


# -- how it looks ----------------------------------------------------------------------------------------------


def screens(page: Page, made: Gathering, tab: Tab) -> Iterator[tuple[str, str]]:
    """Name and path of every screen; what is in them was put there before."""
    done = next(iter(made.state().answers())).item.id
    waiting = [one.id for one in made.items() if one.id != done]
    drafted = next(one.id for one in made.items() if one.shown == "drafted" and one.id != done)
    yield from [("item", f"/item/{waiting[-1]}"), ("drafted", f"/item/{drafted}"), ("submitted", f"/item/{done}")]
    yield from [("list", "/list"), ("missing", "/item/none")]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gathering, Page, dict[str, Any]]]:
    """A gathering with something on every screen."""
    folder = tmp_path_factory.mktemp("shown") / "g"
    items = [*asked(3, round=1, shown="drafted"), *asked(3)[2:]]
    made = gathering(folder, items, ("ada", "ben"), answers=2, order="file", own_prompts=True)
    made.set_guidelines("1. Be brief.\n2. Be kind.")
    with (folder / "clone-1.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"id": one.id, "text": f"{CLONE} {n}"}) + "\n" for n, one in enumerate(items[:3]))
    with made, served(made) as (page, who):
        for name, text in (("ada", "It counts the sheep of the farm."), ("ben", "No zebra, quickly: jump!")):
            who[name].answer(text, items[0].id)
        who["ben"].do("flagged", item=items[3].id, reason="two questions in one")
        who["owner"].do("cleared", "/owner/do", item=items[3].id)
        who["ben"].do("flagged", item=items[1].id, reason="it holds a name")
        who["owner"].do("cleared", "/owner/do", item=items[1].id)
        yield made, page, who


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_screen_fits_a_phone_and_breaks_no_rule_of_accessibility(
    chromium: Browser, shown: tuple[Gathering, Page, dict[str, Any]], dark: bool, pytestconfig: pytest.Config
) -> None:
    made, page, _ = shown
    tab = Tab(chromium, page)
    paths = [(name, path, "ada") for name, path in screens(page, made, tab)]
    paths += [("owner", "/owner", ""), ("unknown", "/enter/none", "")]
    pictures = os.environ.get("SFT_SCREENS", "")
    for name, path, who in paths:
        if who == "" and name == "owner":
            tab.go(f"/enter/{made.invite('')}")
        for width in (320, 1280):
            chromium.look(width, dark=dark)
            tab.go(path)
            tab.ready()
            wide = chromium.tell("document.documentElement.scrollWidth")
            assert wide <= width, f"{name} is {wide} wide at {width}"
            if name == "item" and width == 1280:
                tab.press("Keys")
                violations(chromium, "keys")
                chromium.tell("document.getElementById('keys').close()")
            violations(chromium, name)
            if pictures:
                chromium.picture(Path(pictures) / f"page-{name}-{width}-{'dark' if dark else 'light'}.png")
    chromium.look(1280, dark=False)


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
    assert not found, (name, found)


def test_axe_is_there_where_the_browser_is() -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed here: npm install --prefix .axe axe-core@4.14.1")
    assert "4.14" in AXE.read_text(encoding="utf-8")[:200]


def test_forced_colours_and_large_letters_keep_everything_in_view(
    chromium: Browser, shown: tuple[Gathering, Page, dict[str, Any]]
) -> None:
    made, page, _ = shown
    tab = Tab(chromium, page)
    features = [{"name": "forced-colors", "value": "active"}, {"name": "prefers-reduced-motion", "value": "reduce"}]
    chromium.ask("Emulation.setEmulatedMedia", features=features)
    chromium.ask("Emulation.setDeviceMetricsOverride", width=320, height=256, deviceScaleFactor=4, mobile=False)
    for _, path in screens(page, made, tab):  # 1280 by 1024 at 400 %
        tab.go(path)
        tab.ready()
        assert chromium.tell("document.documentElement.scrollWidth") <= 320, path
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
