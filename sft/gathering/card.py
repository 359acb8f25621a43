"""The card of an import: expert, rule, counts, and what was left out; in the form of those in ``data/``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sft import __version__
from sft.demonstrations.ledger import IMPORT_FATES, Ledger
from sft.gathering.records import Importer, ImportOptions

__all__ = ["card", "counted"]


def counted(number: int, noun: str) -> str:
    """``1 day``, ``2,000 days``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def card(
    importer: Importer,
    options: ImportOptions,
    ledger: Ledger,
    *,
    title: str,
    expert: str,
    groups: int,
    files: int,
    sha256: str,
    personal: Mapping[str, int],
    names: Sequence[str],
    repeated: int,
    torn: int = 0,
) -> str:
    """Markdown. ``personal``: mask -> how often. ``names``: how the expert is called in the source, if known.

    ``repeated``: rows whose prompt another one has. ``torn``: records with letters that were cut in the middle.
    """
    rows = ledger.fates.get("written", 0)
    rule = {"minutes": options.join_minutes, "turns": options.turns}
    masked = "; the words of others are left out of it, and counted" if options.mask_others else ""
    table = {
        "Expert": expert or "not named",
        "Prompt": importer.prompt.format(**rule) + masked,
        "Completion": importer.completion.format(**rule),
        "Rows": f"{rows:,} from {ledger.rows:,} records",
        "Group": f"{importer.group.format(**rule)}: {groups:,} of them",
        "Source": f"{importer.about}; {counted(files, 'file')}, sha256 `{sha256[:8]}…{sha256[-8:]}`",
        "Licence": "not stated; whoever shares the rows, or a clone of them, needs the right to, of others too",
        "Build": f"`{_command(importer.name, options)}` (sft {__version__}) gives the same rows again",
    }
    lines = [f"# {title}", "", f"{importer.about[0].upper()}{importer.about[1:]}: imported by a rule, without a model."]
    lines += ["", "| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in table.items())]
    lines += ["", "## How it was gathered", "", *_gathered(options, names, personal)]
    lines += ["", "## What became of each record", "", "| records | |", "|---|---|"]
    lines += [f"| {count:,} | {IMPORT_FATES[fate]} |" for fate, count in ledger.fates.items()]
    if ledger.unrolled:
        lines += ["", f"{counted(ledger.unrolled, 'row')} more than records: one record gave several."]
    lines += ["", "## Known flaws", "", *(f"- {flaw}" for flaw in _flaws(importer, options, repeated, torn))]
    return "\n".join(lines) + "\n"


def _command(kind: str, options: ImportOptions) -> str:
    """The words that made it, without the names of files and people."""
    said = ["sft import EXPORT", f"--from {kind}"] + ["--me ..."] * len(options.me)
    plain = {"--since": options.since and options.since.date(), "--names": options.names, "--region": options.region}
    said += [f"{option} {value}" for option, value in plain.items() if value]
    usual = ImportOptions()
    numbers = {
        "min-words": "min_words",
        "join": "join_minutes",
        "turns": "turns",
        "rule": "rule",
        "personal": "personal",
    }
    for option, name in numbers.items():
        if getattr(options, name) != getattr(usual, name):
            said.append(f"--{option} {getattr(options, name)}")
    said += ["--mask-others"] * options.mask_others
    return " ".join(said + [f"--column {field}={name}" for field, name in options.columns.items()])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _gathered(options: ImportOptions, names: Sequence[str], personal: Mapping[str, int]) -> list[str]:
    lines = []
    if names:
        lines.append(f"The expert's words are those of {counted(len(names), 'name')} that --me gave, or the export.")
    if options.since:
        lines.append(f"Nothing is from before {options.since.date().isoformat()}.")
    if options.min_words > 1:
        lines.append(f"Completions have {options.min_words:,} words or more.")
    if options.personal == "keep":
        return [*lines, "Personal data was not looked for."]
    found = ", ".join(f"{count:,} {mask}" for mask, count in personal.items()) or "none was found"
    done = "masked" if options.personal == "mask" else "refused with its row"
    return [*lines, f"Personal data in prompts and completions is {done}: {found}."]


def _flaws(importer: Importer, options: ImportOptions, repeated: int, torn: int) -> list[str]:
    flaws = list(importer.flaws)
    if torn:
        flaws.append(f"Letters that were cut in the middle are left out, in {counted(torn, 'record')}.")
    if repeated:
        flaws.append(
            f"{counted(repeated, 'prompt')} of other rows again, such as a greeting: `split.near_duplicates: remove` "
            "in a recipe leaves those out of training that are held out too."
        )
    if options.personal != "keep" and not options.region:
        flaws.append("Telephone numbers without a + were not looked for: no country was named (--region).")
    if options.personal != "keep" and not options.names:
        flaws.append("Names of people stand as they were written: no model was named to find them by (--names).")
    flaws.append(
        "Addresses, places and what a text tells between the lines are found by nothing here: read before sharing."
    )
    return flaws
