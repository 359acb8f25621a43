"""The verbs by subject: data, train, judge, hand on, gather."""

from sft.cli.arguments import parser
from sft.cli.entry import how_to_go_on, main

__all__ = ["how_to_go_on", "main", "parser"]
