"""Verbs that gather demonstrations: import. What is heavy is imported inside the verb."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from sft.cli.door import as_json
from sft.cli.printing import pairs

ABOUT_IMPORT = """\
Mail (mbox, Maildir, .eml), chats (WhatsApp, Telegram, Slack, Discord, Signal, WeChat), documents (Markdown, HTML,
text), blogs (WordPress, Medium), a git history, questions and answers of a help desk (CSV). No model is asked, and
nothing is sent anywhere. The folder that is written holds demonstrations.jsonl, which `sft check` and recipes read;
README.md, the card: by which rule, how many, what was left out; ledger.json; and rejected.jsonl, where something could
not be read.
"""


def import_writing(options: argparse.Namespace) -> None:
    """An export -> a folder of demonstrations."""
    from sft.gathering.importing import import_writing as imported
    from sft.gathering.records import ImportOptions

    wanted = ImportOptions(
        kind=options.kind,
        me=tuple(options.me),
        expert=options.expert,
        since=options.since,
        min_words=options.min_words,
        mask_others=options.mask_others,
        personal=options.personal,
        region=options.region,
        names=options.names,
        rule=options.rule,
        join_minutes=options.join,
        turns=options.turns,
        columns=pairs(options.column, "--column", "FIELD=NAME", "--column question=Description"),
    )
    output = options.output or Path("imported", options.source.stem or "export")
    made = imported(options.source, output, wanted, overwrite=options.overwrite)
    print(as_json(made.to_dict()) if options.json else made.to_text())


def add_options(one: argparse.ArgumentParser, count: Callable[[str], int]) -> None:
    """What ``sft import`` takes. ``count``: the type of whole numbers."""

    def takes(name: str, help: str, *, to: argparse._ArgumentGroup, **settings: object) -> None:
        to.add_argument(name, help=help, **settings)  # type: ignore[arg-type]

    one.add_argument("source", type=Path, help="the export: a file, a folder, or a zip archive")
    one.add_argument("--output", "-o", type=Path, metavar="DIR", help="the new folder (default: imported/NAME)")
    one.add_argument("--from", dest="kind", default="auto", metavar="KIND", help="what it is (default: recognised)")
    one.add_argument("--overwrite", action="store_true", help="write over what an earlier import wrote there")
    one.add_argument("--json", action="store_true", help="print JSON")
    who = one.add_argument_group("whose words, and which")
    takes("--me", "who the expert is in the export, a name or an address; repeatable; where it is not clear, the names "
          "that were found are listed", to=who, action="append", default=[], metavar="NAME")  # fmt: skip
    takes(
        "--expert",
        "what the rows and the card call the expert (default: the name of --me)",
        to=who,
        default="",
        metavar="NAME",
    )
    takes("--since", "nothing from before, e.g. 2024-01-31", to=who, type=_day, metavar="DATE")
    takes("--min-words", "completions of N words or more (default: 1)", to=who, type=count, default=1, metavar="N")
    takes("--mask-others", "leave others' words out of the prompts: how many they were stands there, and a row goes "
          "whose prompt has no others", to=who, action="store_true")  # fmt: skip
    how = one.add_argument_group("how prompts are made")
    takes("--join", "chats: the expert's messages as close together are one turn (default: 5)", to=how, type=count,
          default=5, metavar="MINUTES")  # fmt: skip
    takes("--turns", "chats: turns of a prompt at most (default: 8)", to=how, type=count, default=8, metavar="N")
    takes("--rule", "documents: title -> text, beginning -> rest, or heading -> section (default: headings where there "
          "are two, else the title, else the beginning)", to=how,
          choices=["auto", "title", "beginning", "heading"], default="auto")  # fmt: skip
    takes("--column", "tables: which column is the question, answer, author, date or group", to=how, action="append",
          default=[], metavar="FIELD=NAME")  # fmt: skip
    personal = one.add_argument_group("personal data, in prompts and completions")
    takes("--personal", "telephone numbers, IBANs, cards, e-mail addresses, home folders, dates of birth and tokens "
          "are masked (the default), their row is refused, or they are not looked for", to=personal,
          choices=["mask", "refuse", "keep"], default="mask")  # fmt: skip
    takes("--region", "the country of telephone numbers without a +, e.g. GB", to=personal, default="", metavar="CC")
    takes("--names", "find people's names too: Presidio with this spaCy model, e.g. en_core_web_sm (extra `names`)",
          to=personal, default="", metavar="MODEL")  # fmt: skip


def _day(text: str) -> datetime:
    """A day, or a time of one: the type of ``--since``."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=None)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no date; write it as 2024-01-31") from None
