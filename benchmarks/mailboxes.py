"""Three mailboxes, three clones: does each write as its own author, and as nobody else?

    git clone https://github.com/IST-DASLab/PanzaMail
    python benchmarks/mailboxes.py make PanzaMail/data -o mails
    python benchmarks/mailboxes.py clone mails -o runs/mailboxes       # three fits, nine measurements; goes on
    python benchmarks/mailboxes.py clone mails -o runs/mailboxes --fast-across    # no base model across
    python benchmarks/mailboxes.py grid runs/mailboxes                 # the table
    sft curve benchmarks/mailboxes.yaml --set demonstrations.path=mails/isabel-train.jsonl \\
        --set split.test=mails/isabel-test.jsonl                       # how many mails it takes

PanzaMail publishes mails that their authors gave for it, ``NAME_anonymous_clean.jsonl`` with
``subject`` and ``email`` in each row. Its prompts were written by a model; here the prompt is what a person types, the
subject. Mails of one subject, "Re:" or not, are one thread, and whole threads are held out, by a hash of the subject.
The diagonal has to win: on the held-out subjects of an author, the author's own clone has to be closer than the
others', prompt by prompt.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import sft
from sft.fidelity.probes import Absent
from sft.fidelity.probes.impostors import told_apart
from sft.metrics import intervals
from sft.metrics.estimate import Estimate

RECIPE = Path(__file__).with_name("mailboxes.yaml")
#: Of a hundred threads so many are held out.
HELD_OUT = 30
#: What a mail program puts before a subject, in the languages of the mailboxes.
ANSWER = re.compile(r"(?i)^(?:(?:re|fwd?|aw|wg|r|sv)\s*:\s*)+")


def demonstrations(path: Path) -> list[dict[str, Any]]:
    """Prompt, completion, expert, group of every mail that has a subject and a text."""
    expert, found = path.name.partition("_")[0], []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line) if line.strip() else {}
        subject, text = (" ".join(str(row.get("subject") or "").split()), str(row.get("email") or "").strip())
        thread = ANSWER.sub("", subject).strip().lower()
        if thread and text:
            # Lines of a mail are wrapped at some width by its program, and parted by empty ones.
            paragraphs = re.split(r"\n\s*\n", text.replace("\r", ""))
            completion = "\n\n".join(" ".join(part.split()) for part in paragraphs)
            found.append({"prompt": subject, "completion": completion, "expert": expert, "group": f"{expert} {thread}"})
    return found


def is_held_out(group: str) -> bool:
    return int(hashlib.sha256(group.encode()).hexdigest(), 16) % 100 < HELD_OUT


def make(folder: Path, output: Path) -> None:
    """``output/NAME-train.jsonl`` and ``NAME-test.jsonl`` of every mailbox in ``folder``."""
    paths = sorted(folder.glob("*_anonymous_clean.jsonl")) or sorted(folder.glob("*.jsonl"))
    if len(paths) < 2:
        raise SystemExit(f"{folder}: has no two mailboxes (NAME_anonymous_clean.jsonl); name PanzaMail's folder data")
    output.mkdir(parents=True, exist_ok=True)
    for path in paths:
        rows = demonstrations(path)
        for name, held in (("train", False), ("test", True)):
            part = [row for row in rows if is_held_out(row["group"]) is held]
            file = output / f"{rows[0]['expert']}-{name}.jsonl"
            file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part), encoding="utf-8")
            print(f"{file}: {len(part)} mails of {len({row['group'] for row in part})} threads")


def authors_of(mails: Path) -> list[str]:
    return sorted(path.name.removesuffix("-train.jsonl") for path in mails.glob("*-train.jsonl"))


def clone(
    mails: Path,
    output: Path,
    settings: Sequence[str] = (),
    profile: str | None = None,
    across: str | None = None,
) -> None:
    """A clone of every author in ``output/NAME``, and each on every other's mails in ``output/NAME-on-OTHER``.

    ``profile``: how much is measured, of others' mails ``across``; None: what the recipe says.
    """
    authors = authors_of(mails)
    for name in authors:
        files = [f"demonstrations.path={mails / f'{name}-train.jsonl'}", f"split.test={mails / f'{name}-test.jsonl'}"]
        folder = output / name
        begun = (folder / "manifest.json").is_file()
        sft.run(str(RECIPE), settings=[*files, *settings], output=folder, resume=begun, profile=profile)
    for name in authors:
        for other in authors:
            if other != name and not (place := output / f"{name}-on-{other}").joinpath("scorecard.json").is_file():
                sft.evaluate(output / name, held_out=mails / f"{other}-test.jsonl", output=place, profile=across)


def shown(found: Estimate | None, digits: int = 1) -> str:
    """``4.9 [2.2, 7.7]``."""
    if found is None:
        return ""
    ends = "" if found.low is None else f" [{found.low:.{digits}f}, {found.high:.{digits}f}]"
    return f"{found.value:.{digits}f}{ends}"


def grid(folder: Path) -> None:
    """A Markdown table: for every author's held-out mails, each clone beside the author's own.

    The last column asks the impostor test's classifier also where there are fewer prompts than the report would ask it
    for: its interval says how little it then knows.
    """
    names = sorted(path.name for path in folder.iterdir() if "-on-" not in path.name and path.is_dir())
    print(
        "| mails of | n | clone of | chrF | own clone closer by | p, Holm | bits a byte | told from the author (AUC) |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for author in names:
        found = {name: folder / (name if name == author else f"{name}-on-{author}") for name in names}
        runs = {name: sft.open_run(path) for name, path in found.items()}
        scores, told = {}, {}
        for name, run in runs.items():
            rows = [row for row in run.table() if row["system"] == "tuned"]
            scores[name] = {row["prompt"] + row["references"][0]: (row["chrf"], row["cluster"]) for row in rows}
            columns = ([row["completion"], row["references"][0], row["cluster"]] for row in rows)
            with suppress(Absent):
                told[name] = told_apart(*zip(*columns, strict=True))
        asked = list(scores[author])
        labels = [scores[author][key][1] for key in asked]
        leads = {
            name: [scores[author][key][0] - by[key][0] for key in asked]
            for name, by in scores.items()
            if name != author
        }
        adjusted = dict(
            zip(leads, intervals.holm([intervals.sign_flip(d, labels) for d in leads.values()]), strict=True)
        )
        for name in sorted(names, key=lambda name: (name != author, name)):
            card = runs[name].scorecard
            lead = shown(intervals.clustered_t(leads[name], labels)) if name in leads else ""
            p_value = f"{adjusted[name]:.4f}" if name in adjusted else ""
            own = f"**{name}**" if name == author else name
            score = shown(card.scores_of("tuned")["chrf"])
            cells = [
                author,
                str(len(asked)),
                own,
                score,
                lead,
                p_value,
                shown(card.bits_per_byte.get("tuned", {}).get("with_stop"), 3),
            ]
            print(f"| {' | '.join([*cells, shown(told.get(name), 2)])} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    making = verbs.add_parser("make")
    making.add_argument("folder", type=Path, help="PanzaMail's folder data")
    making.add_argument("--output", "-o", type=Path, default=Path("mails"))
    cloning = verbs.add_parser("clone")
    cloning.add_argument("mails", type=Path)
    cloning.add_argument("--output", "-o", type=Path, default=Path("runs/mailboxes"))
    cloning.add_argument(
        "--fast-across", action="store_true", help="no base model writes others' mails, and no samples are drawn there"
    )
    cloning.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of sft run")
    verbs.add_parser("grid").add_argument("folder", type=Path)
    options = parser.parse_args()
    if options.verb == "make":
        make(options.folder, options.output)
    elif options.verb == "clone":
        clone(options.mails, options.output, options.set, across="fast" if options.fast_across else None)
    else:
        grid(options.folder)


if __name__ == "__main__":
    main()
