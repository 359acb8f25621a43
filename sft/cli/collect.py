"""Verbs with an expert in the loop: collect. What is heavy is imported inside the verb that needs it."""

from __future__ import annotations

import argparse
import getpass
import sys
import unicodedata
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft.cli.door import as_json
from sft.errors import RunError, UserError

if TYPE_CHECKING:
    from sft.gathering.folder import Gathering

ABOUT = """\
sft collect prompts.jsonl --into gathered/mine --expert ada --expert ben    a link for each, and the page opens
sft collect gathered/mine                                                   the page again; every text is there
sft collect gathered/mine --check                                           progress, agreement, answers to look at
sft run recipe.yaml --set demonstrations.path=gathered/mine                 a gathering is a path that recipes read

Nothing leaves this machine. Every text is on the disk before the page says "saved"; Ctrl-C ends the page."""


#: What is settled when a gathering is made -> what is taken unless it is said.
_SETTLED: dict[str, Any] = {
    "seed": 0, "answers": 1, "overlap": 0.1, "order": "random", "dialogues": False, "own_prompts": False,
}  # fmt: skip


def add_options(one: argparse.ArgumentParser) -> None:
    """The options of ``sft collect``."""
    one.add_argument("target", type=Path, help="a file of prompts (completions are not needed), or a gathering")
    one.add_argument("--into", type=Path, metavar="DIR", help="the gathering (default: gathered/NAME-OF-THE-FILE)")
    add_people(one)
    made = one.add_argument_group("a new gathering")
    made.add_argument(
        "--answers",
        type=int,
        default=_SETTLED["answers"],
        metavar="N",
        help="experts who answer each item (default: 1)",
    )
    made.add_argument("--overlap", type=share, default=_SETTLED["overlap"], metavar="SHARE",
                      help="share of the items that every expert answers (default: 0.1)")  # fmt: skip
    made.add_argument("--again", type=share, default=0.0, metavar="SHARE",
                      help="share of the items that are asked a second time at the end (default: 0)")  # fmt: skip
    made.add_argument("--dialogues", action="store_true", help="experts may write the user's next turn after an answer")
    made.add_argument("--own-prompts", action="store_true", help="experts may write prompts of their own, too")
    made.add_argument("--order", choices=["random", "file"], default=_SETTLED["order"],
                      help="how items come (default: random)")  # fmt: skip
    read = one.add_argument_group("a gathering that is there; nothing is served")
    read.add_argument("--check", action="store_true", help="how far it is, agreement, answers to look at")
    read.add_argument("--json", action="store_true", help="with --check: print JSON")
    read.add_argument("--export", type=Path, metavar="FILE", help="write the demonstrations elsewhere, with any of:")
    read.add_argument("--majority", action="store_true", help="of each prompt what most experts agree on")
    read.add_argument("--blind-only", action="store_true", help="only what was written without the clone's text")
    read.add_argument("--compact", action="store_true", help="drop drafts that a later text replaced")
    read.add_argument("--repair", action="store_true", help="write a damaged events.jsonl without the bad lines")


def add_people(one: argparse.ArgumentParser) -> None:
    """Who writes, by which guidelines, and where the page is served."""
    one.add_argument(
        "--expert", action="append", type=name_of, default=[], metavar="NAME", help="who writes; repeatable"
    )
    one.add_argument("--guidelines", type=Path, metavar="FILE", help="shown beside the prompt; every version is kept")
    one.add_argument("--seed", type=int, default=_SETTLED["seed"], help="of every draw (default: 0)")
    page = one.add_argument_group("the page")
    page.add_argument("--port", type=int, metavar="N", help="default: one of the folder's own")
    page.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1, this machine only")
    page.add_argument("--no-open", action="store_false", dest="open", help="print the links, and open no browser")


def name_of(text: str) -> str:
    """The type of options that take a name: one name has one spelling, whatever keyboard it was typed on."""
    return unicodedata.normalize("NFC", text).strip()


def share(text: str) -> float:
    """The type of options that take a share."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no share from 0 to 1; give one, such as 0.1")
    return value


def collect(options: argparse.Namespace) -> None:
    """Experts write demonstrations on a page of this machine."""
    from sft.gathering.folder import Gathering, is_gathering

    there = is_gathering(options.target) or options.target.is_dir()
    for name in ("majority", "blind_only"):
        if getattr(options, name) and not options.export:
            raise UserError(f"--{name.replace('_', '-')}: chooses what is exported; name the file with --export")
    asked = [f"--{name}" for name in ("check", "export", "compact", "repair") if getattr(options, name)]
    if len(asked) > 1:
        raise UserError(f"{' and '.join(asked)}: are done one at a time; leave out all but one")
    if options.json and not options.check:
        raise UserError("--json: prints what --check finds; add --check")
    for name in ("check", "export", "compact", "repair"):
        if getattr(options, name):
            if not there:
                raise UserError(f"--{name}: is for a gathering that is there, and {options.target} is none")
            _read(options, name)
            return
    guidelines = read_guidelines(options.guidelines)
    folder = options.target if there else options.into or Path("gathered") / options.target.stem
    if there and options.into is not None:
        raise UserError(f"--into: {options.target} is a gathering already; leave --into out, or name a file of prompts")
    if is_gathering(folder):
        known = Gathering.open(folder)
        _refuse_other_settings(options, known)
        known.refuse_unwritten()
    gathering = Gathering.open(folder, writing=True) if there else _made(options, folder)
    with gathering:
        serve(options, gathering, guidelines)


def _refuse_other_settings(options: argparse.Namespace, gathering: Gathering) -> None:
    """Raise ``UserError`` for what was settled when the gathering was made, and is asked for otherwise now."""
    for name, usual in _SETTLED.items():
        asked, settled = getattr(options, name), getattr(gathering.settings, name)
        if asked not in (usual, settled):
            option = f"--{name.replace('_', '-')}" + ("" if asked is True else f" {asked}")
            raise UserError(
                f"{option}: {gathering.path} was made with {'none' if settled is False else settled}, which never "
                "changes; leave it out, or make another gathering with --into"
            )


def _made(options: argparse.Namespace, folder: Path) -> Gathering:
    """The gathering of a file of prompts, made or added to."""
    from sft.gathering.folder import Gathering, is_gathering, refuse_names
    from sft.gathering.items import asked_again, shared
    from sft.gathering.prompts import read_prompts, screened

    refuse_names(options.expert)
    items, repeated = read_prompts(options.target)
    if is_gathering(folder):
        gathering = Gathering.open(folder, writing=True)
    else:
        options.expert = options.expert or [who_writes()]
        refuse_names(options.expert)
        if not 1 <= options.answers <= len(options.expert):
            raise UserError(
                f"--answers {options.answers}: {len(options.expert)} experts are named; name as many: --expert"
            )
        gathering = Gathering.create(folder, **{name: getattr(options, name) for name in _SETTLED})
    keys = gathering.held_out()
    asked = screened(items, keys)
    if not asked.items:
        gathering.close()
        raise UserError(f"{options.target}: {asked.in_words(keys)}; name other prompts")
    one = gathering.settings
    marked = shared(asked.items, one.overlap, one.seed)
    new = gathering.add([*marked, *asked_again(marked, options.again, one.seed)])
    there = {one.id for one in items}
    gone = sum(one.round == 0 and not one.only and not one.again and one.id not in there for one in gathering.items())
    for line in (
        f"{folder}: {len(new)} items" + (f"; {repeated} rows repeat another's prompt" if repeated else ""),
        f"{gone} of the gathering's prompts are not in {options.target}; they are asked all the same" if gone else "",
        asked.in_words(keys),
    ):
        if line:
            print(line)
    return gathering


def who_writes() -> str:
    """Who writes, where nobody was named."""
    try:
        known = getpass.getuser()
    except (KeyError, OSError):
        known = "expert"
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return known
    return name_of(input(f"Who writes? [{known}] ")) or known


def serve(options: argparse.Namespace, gathering: Gathering, guidelines: str = "") -> None:
    """Print the links, open the page, and wait until Ctrl-C or until the owner closes the round.

    ``guidelines``: a version to put in force; "" leaves what there is.
    """
    from sft.gathering.desk import Desk
    from sft.gathering.export import renew
    from sft.gathering.folder import refuse_names
    from sft.gathering.server import running

    refuse_names(options.expert)
    if guidelines:
        gathering.set_guidelines(guidelines)
    there = gathering.state().experts
    names = dict.fromkeys([*(name for name in gathering.experts() if name and there[name]), *options.expert])
    names = names or {who_writes(): None}
    refuse_names([*names])
    tokens = {name: gathering.invite(name) for name in [*names, ""]}
    if options.host not in ("127.0.0.1", "::1", "localhost"):
        print(f"The page is served on {options.host} without encryption: who can read the network can read all of it.")
    for said in renew(gathering, gathering.state()):
        print(f"sft: {said}", file=sys.stderr)
    desk = Desk(gathering)
    for name in options.expert:
        if not desk.state.experts.get(name, True):  # taken off, and named again
            desk.tell("joined", expert=name)
    try:
        with running(desk, host=options.host, port=options.port) as served:
            links = {name or "owner": served.link(token) for name, token in tokens.items()}
            for name, link in links.items():
                print(f"{name}: {link}", flush=True)
            if options.open and not webbrowser.open(next(iter(links.values()))):
                print("No browser could be opened; open the link above.", flush=True)
            served.over.wait()
    finally:
        for line in _progress(gathering):
            print(line, flush=True)


def read_guidelines(path: Path | None) -> str:
    """The text of the file of guidelines; "" where none is named. Raises ``UserError``."""
    if path is None:
        return ""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"--guidelines {path}: cannot be read ({error.strerror}); name a text file") from None
    except UnicodeDecodeError:
        raise UserError(f"--guidelines {path}: is not UTF-8 text; save it as UTF-8") from None
    if not text.strip():
        raise UserError(f"--guidelines {path}: is empty; write what the experts should keep to, or leave it out")
    return text


def _progress(gathering: Gathering) -> Sequence[str]:
    from sft.gathering.figures import figures

    lines = figures(gathering.state()).to_lines()[:2]
    again = f"go on with: sft collect {gathering.path}"
    return ["", *lines, f"{gathering.demonstrations_path} holds the answers; {again}"]


def _read(options: argparse.Namespace, what: str) -> None:
    """What needs no page."""
    from sft.gathering import export, folder, upkeep
    from sft.gathering.figures import figures

    if what == "repair":
        print(upkeep.repair(options.target))
        return
    if what == "compact":
        print(upkeep.compact(options.target))
        return
    gathering = folder.Gathering.open(options.target)
    state = gathering.state()
    try:
        for said in export.renew(gathering, state):
            print(f"sft: {said}", file=sys.stderr)
    except RunError as error:  # a copy on a read-only disk has figures too
        if what != "check" or not isinstance(error.__cause__, OSError):
            raise
        print(f"sft: {error}; the figures below are of what was submitted all the same", file=sys.stderr)
    if what == "export":
        print(upkeep.write_elsewhere(gathering, options.export, experts=options.expert, blind_only=options.blind_only,
                                     vote=options.majority))  # fmt: skip
        return
    found = figures(state, gathering.held_out())
    if options.json:
        print(as_json(found.to_dict()))
    else:
        print("\n".join([str(gathering.path), *(f"  {line}" for line in found.to_lines())]))
