"""Verbs about demonstrations and recipes: check, recipes. What is heavy is imported inside the verb that needs it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sft.cli.door import as_json
from sft.cli.printing import pairs
from sft.errors import UserError

if TYPE_CHECKING:
    from sft.demonstrations.secrets import Finding
    from sft.verbs.before import AuditWithGaps


def check(options: argparse.Namespace) -> None:
    """What is in a file, or what a recipe makes of it."""
    from sft.verbs import before

    named = " ".join(options.target)
    finding = before.check(
        *options.target,
        format=options.format,
        columns=_columns(options.column),
        encoding=options.encoding,
        settings=options.set,
        rejected=options.rejected,
        keep_going=options.keep_going,
        gaps=options.gaps,
    )
    secrets = finding.secrets() if options.secrets else None
    if options.json:
        with_secrets = {} if secrets is None else {"secrets": [one.to_dict() for one in secrets]}
        print(as_json(finding.to_dict() | with_secrets))
    elif secrets is None:
        print(finding.to_text())
    else:
        _print_with_secrets(finding, secrets)
    finding.demand(keep_going=options.keep_going)
    if secrets:
        from sft.demonstrations.secrets import demand

        demand(named, secrets)


def _columns(given: Sequence[str]) -> dict[str, str]:
    r"""Field -> column; a shell has no new line that is quickly written, so ``\n`` is one in a template."""
    found = pairs(given, "--column", "FIELD=NAME", "--column prompt=question")
    return {field: name.replace(r"\n", "\n") if "{" in name else name for field, name in found.items()}


def recipes(options: argparse.Namespace) -> None:
    """The shelf."""
    from sft import recipes as shelf

    if options.action == "list":
        rows = shelf.shipped()
        width = max(len(name) for name, _, _ in rows)
        for name, _, about in rows:
            print(f"{name:<{width}}  {about}")
        print(f"To show and to copy, too, for several processes: {', '.join(shelf.launch_files())}")
        return
    if options.name is None:
        raise UserError(f"sft recipes {options.action}: which one? `sft recipes` lists them")
    if options.action == "import":
        _import(Path(options.name), options.destination)
    elif options.action == "show":
        print(shelf.find(options.name).read_text(encoding="utf-8"), end="")
    else:
        print(shelf.copy(options.name, options.destination))


def _import(source: Path, destination: Path) -> None:
    """A recipe of another trainer's configuration, and a line for all that could not be taken along."""
    from sft.recipes.loading import write_new
    from sft.recipes.translation import translated

    made = translated(source)
    target = destination / f"{source.stem}-recipe.yaml" if destination.is_dir() else destination
    print(write_new(target, made.to_yaml()))
    print(
        "\n".join(
            [
                f"{len(made.values):,} settings of {made.trainer}'s were taken, {len(made.left_out):,} left out:"
                if made.left_out
                else f"All {len(made.values):,} settings of {made.trainer}'s were taken.",
                *(f"  {line}" for line in made.told()),
            ]
        )
    )


def _print_with_secrets(finding: AuditWithGaps, secrets: Sequence[Finding]) -> None:
    from sft.demonstrations.audit import Audit
    from sft.demonstrations.secrets import to_text

    text = Audit.to_text(finding)
    if secrets:  # so there is something to mend
        text = text.removesuffix("Nothing to mend.").removesuffix("Nothing else to mend.").rstrip()
    print("\n\n".join(part for part in (text, to_text(secrets), finding.gaps_to_text()) if part))
