"""The verb that hands a clone on: export. Whatever is heavy is imported inside the verb that needs it."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from sft.cli.printing import quiet
from sft.errors import UserError

if TYPE_CHECKING:
    from sft.publishing.export import Gguf, Merged

__all__ = ["export"]


def export(options: argparse.Namespace) -> None:
    """The clone in shapes that other programs load."""
    if options.merged is None and options.gguf is None:
        raise UserError("sft export: what into? Name a folder with --merged DIR, or a file with --gguf FILE")
    if options.outtype is not None and options.gguf is None:
        raise UserError("sft export: --outtype is of a GGUF file; name one with --gguf FILE")
    from sft.runs.run import Run

    one = Run.open(options.target)
    made: dict[str, Merged | Gguf] = {}
    with quiet():
        from sft.publishing.export import export_gguf, export_merged

        if options.merged is not None:
            made["merged"] = export_merged(one, options.merged)
        if options.gguf is not None:
            made["gguf"] = export_gguf(one, options.gguf, options.outtype or "f16")
    if options.json:
        print(json.dumps({name: each.to_dict() for name, each in made.items()}, ensure_ascii=False))
    else:
        print("\n".join(each.to_text() for each in made.values()))
