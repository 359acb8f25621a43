"""A parser of words that names the verb or the option that was perhaps meant."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["Words"]


class Words(argparse.ArgumentParser):
    """argparse's, whose complaint of a word it does not know ends with the nearest that it does know."""

    _given: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's; the words are kept for the complaint."""
        self._given = list(args or ())
        return super().parse_known_args(args, namespace)

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        """As argparse's; an empty word is no file, though ``Path("")`` is the folder that one is in."""
        is_file = action.type is Path or (not action.option_strings and action.nargs != argparse.PARSER)
        if is_file and "" in arg_strings:
            self.error(
                f"{'/'.join(action.option_strings) or action.dest}: is empty; is a variable of the shell not set?"
            )
        return super()._get_values(action, arg_strings)

    def error(self, message: str) -> NoReturn:
        """Usage, the complaint and the suggestion on stderr; exit status 2."""
        super().error(f"{message}{self._suggestion(message)}")

    def _suggestion(self, message: str) -> str:
        choice = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if choice:
            return _nearest([choice[1]], [word.strip("'\"") for word in choice[2].split(", ")])
        unknown = message.startswith("unrecognized arguments: ")
        if unknown and (strangers := message.removeprefix("unrecognized arguments: ").split()):
            return _nearest([word.partition("=")[0] for word in strangers if word.startswith("-")], self._options())
        return ""

    def _options(self) -> list[str]:
        """The options of the verb that was given, for it is this parser that hears of an option nobody knows."""
        found = list(self._option_string_actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                verb = next((word for word in self._given if word in action.choices), None)
                found += list(action.choices[verb]._option_string_actions) if verb is not None else []
        return found


def _nearest(given: Sequence[str], known: Sequence[str]) -> str:
    import difflib  # only for whoever mistyped

    for word in given:
        if close := difflib.get_close_matches(word, known, n=1):
            return f"; did you mean {close[0]}?"
    return ""
