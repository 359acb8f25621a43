"""Verbs that hand a clone on: export, push. Whatever is heavy is imported inside the verb that needs it."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from sft.cli.door import as_json
from sft.errors import PublishError
from sft.runs.tokens import token_lines

ABOUT_PUSH = """\
sft push RUN OWNER/NAME          the clone
sft push GATHERING OWNER/NAME    what experts wrote (sft collect), as a data set with a card; people as pseudonyms

What is sent is a folder made for it: of a run weights, tokenizer, template, card, scorecard, manifest; of a gathering
answers, items, guidelines and card; nothing else.
It is checked, looked through for secrets, shown as a plan, sent as one commit, and downloaded again to be compared.
Running the same command again is always safe: what is there already is not sent twice.

The token comes from `hf auth login` or HF_TOKEN, the hub's address from HF_ENDPOINT.

Exit status:
  0  published and verified, now or before; with --dry-run: it could be
  2  refused, and nothing was sent: the run, the options, or a finding that must be mended
  3  no access: offline, nobody logged in, no right to write there, or no room
  4  the repository is not as asked for: another visibility, another clone in it, a tag that is taken
  5  conflict: somebody else's commit came first, and nothing of ours is in the branch
  6  the hub does not answer as it should; the branch is as it was; run it again later
  7  a commit was sent and no answer came; it may still land; run it again, which finds out
  8  the commit is there, and what was downloaded is not, or could not be shown to be, what was sent; or the tag or
     the receipt could not be written
  9  what answers is no hub, or gives answers that none gives; see whether HF_ENDPOINT names one
"""
#: Formats of matrices in GGUF files; those from q6_k on by llama.cpp's own quantiser.
GGUF_TYPES = ("f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m")
#: How somebody may try to hand one over; argparse would repeat it in its complaint.
_TOKEN_OPTION = re.compile(r"--?(?:to|[\w-]*token)", re.IGNORECASE)


def export(options: argparse.Namespace) -> None:
    """The clone in shapes that other programs load."""
    from sft.verbs import hand_on as verbs

    made = verbs.export(
        options.target, merged=options.merged, gguf=options.gguf, outtype=options.outtype,
        gguf_adapter=options.gguf_adapter,
    )  # fmt: skip
    print(as_json(made.to_dict()) if options.json else made.to_text())


def refuse_token(words: Sequence[str]) -> None:
    """Raise ``PublishError`` for a token among the words of any command, without repeating it."""
    held = os.environ.get("HF_TOKEN", "").strip()
    given = "push" in words[:1] and any(_TOKEN_OPTION.match(word) for word in words)
    if given or any(token_lines(word) or (len(held) > 7 and held in word) for word in words):
        raise PublishError(
            "a token does not belong on the command line, where every process and the shell's history can read it; run "
            "`hf auth login`, or set HF_TOKEN, and replace this token by a new one"
        )


def push(options: argparse.Namespace) -> None:
    """Publish the clone, or what was gathered."""
    from sft.verbs import hand_on as verbs

    def say(line: str) -> None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    done = verbs.push(
        options.target,
        options.repo,
        private=options.private,
        branch=options.revision,
        create_pr=options.create_pr,
        tag=options.tag,
        replace=options.replace,
        base_model=options.base_model,
        merged=options.merged,
        dry_run=options.dry_run,
        allow=tuple(options.allow_finding),
        allow_files=tuple(options.reviewed),
        examples=options.examples,
        comments=not options.no_comments,
        gguf=tuple(options.gguf),
        license=options.license,
        name_experts=options.name_experts,
        with_held_out=options.with_held_out,
        say=say,
    )
    print(as_json(done.to_dict()) if options.json else done.to_text())


def add_push_options(one: argparse.ArgumentParser) -> None:
    """The options of ``sft push``."""

    def is_set(name: str, help: str) -> None:
        one.add_argument(name, action="store_true", help=help)

    one.add_argument("target", type=Path, metavar="run", help="the run directory, or a gathering")
    one.add_argument("repo", nargs="?", help="OWNER/NAME on the hub (default: the recipe's publish.hub_id)")
    seen = one.add_mutually_exclusive_group()
    seen.add_argument("--private", action="store_true", default=None, help="for its owner only (default)")
    seen.add_argument("--public", dest="private", action="store_false", default=None, help="for everybody")
    one.add_argument("--revision", default="main", metavar="BRANCH", help="the branch (default: main)")
    is_set("--create-pr", "ask for it with a pull request")
    one.add_argument("--tag", metavar="NAME", help="name the commit, once it is verified")
    is_set("--replace", "put it in the place of another clone, or data set")
    one.add_argument("--base-model", metavar="ID[@COMMIT]", help="a run: the base's id on the hub, if not on record")
    is_set("--merged", "a run: push whole weights instead of an adapter")
    one.add_argument("--license", metavar="ID", help="a gathering: its licence, as the hub writes it, e.g. cc-by-4.0")
    is_set("--name-experts", "a gathering: experts by their names (default: expert-1, expert-2, ...)")
    is_set("--with-held-out", "a gathering: also the answers that a clone is judged on, each marked as held out")
    one.add_argument("--gguf", action="append", default=[], metavar="OUTTYPE", choices=GGUF_TYPES,
                     help=f"a run: a GGUF file too, in the same commit: {', '.join(GGUF_TYPES)}")  # fmt: skip
    shown = one.add_mutually_exclusive_group()
    shown.add_argument("--examples", action="store_true", default=None, help="a run: texts of held-out demonstrations "
                       "may stand in card and scorecard (default: only if the data are public)")  # fmt: skip
    shown.add_argument("--no-examples", dest="examples", action="store_false", default=None, help="a run: none may")
    is_set("--no-comments", "a run: the recipe without its comments")
    one.add_argument("--allow-finding", action="append", default=[], metavar="WHAT=REASON",
                     help="publish in spite of a finding, by its id, kind or file (may be repeated)")  # fmt: skip
    one.add_argument("--reviewed", action="append", default=[], metavar="FILE", type=Path,
                     help="the same from a file, one a line")  # fmt: skip
    is_set("--dry-run", "show the plan, and send nothing")
    one.add_argument("--json", action="store_true", help="print JSON")
