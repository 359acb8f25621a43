"""The verb ``completion``: what a shell is told of the verbs, their options and what follows these."""

from __future__ import annotations

import argparse

from sft.errors import UserError

__all__ = ["completion"]


def completion(options: argparse.Namespace) -> None:
    """Print the lines for a shell. Raises ``UserError`` where shtab is not installed."""
    try:
        import shtab
    except ImportError:
        raise UserError(
            'sft completion: needs shtab, which is not installed; run `pip install "behavioral-cloning[completion]"`'
        ) from None
    from sft.cli.arguments import parser

    words = parser()
    verbs = next(action for action in words._actions if isinstance(action, argparse._SubParsersAction))
    for one in (words, *verbs.choices.values()):
        for action in one._actions:
            if (action.type is not None and getattr(action.type, "__name__", "") == "Path") or action.dest == "recipe":
                action.complete = shtab.FILE
    print(shtab.complete(words, shell=options.shell))
