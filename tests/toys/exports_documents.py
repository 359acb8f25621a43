"""Documents, blogs, a repository and a help desk's table made here, in the shape of the real ones; and every source."""

from __future__ import annotations

import csv
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from exports import discord_json, signal_own, slack, telegram, wechat, whatsapp
from exports_mail import mbox

PAGE = """\
# The mill

It stands by the brook.

## The wheel

The wheel has *twelve* buckets.

- oak
- iron

## The stone

```
# no heading
turn
```

It turns slowly.
"""
#: (prompt, completion) of that page, by headings.
SECTIONS = [
    ("The mill", "It stands by the brook."),
    ("The mill\n\nThe wheel", "The wheel has *twelve* buckets.\n\n- oak\n- iron"),
    ("The mill\n\nThe stone", "```\n# no heading\nturn\n```\n\nIt turns slowly."),
]
HTML = (
    "<html><head><title>The mill - my pages</title></head><body><nav>home</nav><h1>The mill</h1><p>It stands by the "
    "brook.</p><h2>The wheel</h2><p>The wheel has <em>twelve</em> buckets.</p><ul><li>oak</li><li>iron</li></ul>"
    "<h2>The stone</h2><pre># no heading\nturn</pre><p>It turns slowly.</p><script>x()</script></body></html>"
)


def documents(folder: Path) -> Path:
    """The page as Markdown below Hugo's head, as HTML, and a text whose title stands nowhere."""
    base = folder / "notes"
    base.mkdir()
    head = "---\ntitle: The mill\ndate: 2026-03-02\nauthor: Ada\n---\n\n"
    (base / "a mill.md").write_text(head + PAGE.partition("\n\n")[2], encoding="utf-8")
    (base / "b.html").write_text(HTML, encoding="utf-8")
    (base / "c.txt").write_text("Das Rad dreht sich.\n\nEs dreht sich langsam.\n\nEs klappert.\n", encoding="utf-8")
    (base / "d.md").write_text("---\ndraft: true\n---\n\n# Not yet\n\nsoon\n", encoding="utf-8")
    (base / "e.txt").write_text("\n", encoding="utf-8")
    (base / "f.png").write_bytes(b"\x89PNG")
    return base


def wordpress(folder: Path) -> Path:
    """A site of two authors: a post of the block editor, one of the classic editor, a draft, a picture."""
    blocks = "<!-- wp:paragraph --><p>It turns <strong>slowly</strong>.</p><!-- /wp:paragraph -->"
    classic = "Grain &amp; flour.\n\nTwo lines\nof it.\n[gallery ids=1,2]"
    posts = [
        ("The wheel", "ada", "post", "publish", blocks), ("Das Mehl", "ada", "page", "publish", classic),
        ("Later", "ada", "post", "draft", "soon"), ("wheel.jpg", "ada", "attachment", "inherit", ""),
        ("My turn", "ben", "post", "publish", "<p>Mine.</p>"),
    ]  # fmt: skip
    items = "".join(
        f"<item><title>{title}</title><dc:creator><![CDATA[{who}]]></dc:creator><content:encoded><![CDATA[{text}]]>"
        f"</content:encoded><wp:post_id>{number}</wp:post_id><wp:post_date>2026-03-0{number} 09:14:05</wp:post_date>"
        f"<wp:post_type>{kind}</wp:post_type><wp:status>{state}</wp:status></item>\n"
        for number, (title, who, kind, state, text) in enumerate(posts, 1)
    )
    authors = "".join(
        f"<wp:author><wp:author_login>{who.lower()}</wp:author_login><wp:author_display_name>{who}"
        "</wp:author_display_name></wp:author>"
        for who in ("Ada", "Ben")
    )
    path = folder / "site.WordPress.2026-03-02.xml"
    path.write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n<!-- generator="WordPress/6.5" -->\n<rss version="2.0" '
        'xmlns:content="http://purl.org/rss/1.0/modules/content/" xmlns:dc="http://purl.org/dc/elements/1.1/" '
        f'xmlns:wp="http://wordpress.org/export/1.2/"><channel><title>Mill</title>{authors}{items}</channel></rss>\n',
        encoding="utf-8",
    )
    return path


def medium(folder: Path) -> Path:
    base = folder / "medium"
    (base / "posts").mkdir(parents=True)
    page = (
        '<!DOCTYPE html><html><head><title>{title}</title></head><body><article class="h-entry"><header>'
        '<h1 class="p-name">{title}</h1></header><section data-field="subtitle" class="p-summary">A summary.</section>'
        '<section data-field="body" class="e-content"><section><div class="section-divider"><hr></div>'
        '<h3 name="1" class="graf graf--h3 graf--title">{title}</h3>'
        '<h4 class="graf graf--h4 graf--subtitle">A summary.</h4><figure><figcaption>by me</figcaption></figure>'
        '<p class="graf">{text}</p></section></section><footer>{footer}</footer></article></body>'
    )
    published = (
        '<p>By <a href="https://medium.com/@ada" class="p-author h-card">Ada</a> on <a href="x">'
        '<time class="dt-published" datetime="2026-03-02T09:14:05.123Z">March 2, 2026</time></a>.</p>'
    )
    posts = {
        "2026-03-02_The-wheel-1.html": ("The wheel", "It turns <strong>slowly</strong>.", published),
        "draft_Later-2.html": ("Later", "soon", ""),
    }
    for name, (title, text, footer) in posts.items():
        (base / "posts" / name).write_text(page.format(title=title, text=text, footer=footer), encoding="utf-8")
    (base / "README.html").write_text("<html><body>Your Medium archive.</body></html>", encoding="utf-8")
    return base


def repository(folder: Path) -> Path:
    """Ada's and Ben's commits, and a merge."""
    base = folder / "mill"

    def git(*words: str, who: str = "Ada", day: int = 1) -> None:
        at = f"2026-03-0{day}T09:14:05+01:00"
        person = {"NAME": who, "EMAIL": f"{who.lower()}@toys.test", "DATE": at}
        roles = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in person.items()}
        environment = os.environ | roles | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        subprocess.run(["git", "-C", str(base), *words], check=True, capture_output=True, env=environment)

    base.mkdir()
    git("init", "--quiet", "--initial-branch", "main")
    (base / "wheel.txt").write_text("oak\n", encoding="utf-8")
    git("add", ".")
    git(
        "commit",
        "-m",
        "Add the wheel\n\nIt is of oak.\n\nSigned-off-by: Ada <ada@toys.test>\n  of the mill\nChange-Id: I1\n",
    )
    (base / "wheel.txt").write_text("oak\niron\n", encoding="utf-8")
    git("commit", "-am", "Iron rims: Räder halten länger\n\n    oak + iron", day=2)
    (base / "stone.txt").write_text("granite\n" * 9000, encoding="utf-8")
    git("add", ".")
    git("commit", "-m", "Too much to read", day=3)
    (base / "wheel.txt").write_text("iron\n", encoding="utf-8")
    git("commit", "-am", "Ben's wheel", who="Ben", day=4)
    return base


def helpdesk(folder: Path, delimiter: str = ",") -> Path:
    path = folder / ("tickets.csv" if delimiter == "," else "tickets.tsv")
    names = ("Ticket ID", "Subject", "Description", "Agent reply", "Agent", "Created at")
    rows = [
        (1, "Wheel", "Why does it <b>stop</b>?", "<p>It is dry.</p>", "Ada", "2026-03-02 09:14:05"),
        (2, "", "Wann mahlt ihr?\nMorgen?", "Morgen um neun.", "Ada", "2026-03-03 09:14:05"),
        (3, "", "Price?", "", "Ada", ""),
        (4, "", "Open?", "Yes.", "Ben", ""),
    ]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([names, *rows])
    return path


#: Every source once, for what holds of all of them: kind -> its maker, and what must be said beside it.
EVERY: dict[str, tuple[Callable[[Path], Path], list[str]]] = {
    "whatsapp": (whatsapp, ["--me", "Ada"]),
    "telegram": (telegram, ["--me", "Ada"]),
    "slack": (slack, ["--me", "Ada"]),
    "discord": (discord_json, ["--me", "Ada"]),
    "wechat": (wechat, []),
    "signal": (signal_own, []),
    "mail": (mbox, ["--me", "ada@lovelace.org"]),
    "documents": (documents, []),
    "wordpress": (wordpress, ["--me", "Ada"]),
    "medium": (medium, []),
    "git": (repository, ["--me", "Ada"]),
    "helpdesk": (helpdesk, ["--me", "Ada"]),
}
