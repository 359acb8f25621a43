"""Hashes on record name the rule that they were made by: ``v2:0123...``.

A rule may change, and a run lives longer than a rule. Whoever compares asks the present hash, :meth:`Digest.is_of`,
which knows how the rules before it would have said the same; so another rule is never taken for other data. Rules:

    data      v1: ids of all demonstrations. v2: ids and contents, for an id of the user's own says nothing of them
    split     v1, v2: the whole of ``split.json``, in which the hash of the data stands by its rule v1 or v2
    weights   v1: the files of weights. v2: and the configuration that says how they are put to use
    others    v1: template, base model, control texts, recipe, held-out prompts; their rules have not changed

Until November 2026 hashes were recorded without a rule's name; one without is held against every rule there was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Self

__all__ = ["Digest"]


class Digest(str):
    """A hash with its rule in front, as it goes on record."""

    rule: str
    _others: dict[str, Callable[[], str]]

    @classmethod
    def by(cls, rule: str, value: str, others: Mapping[str, Callable[[], str]] | None = None) -> Self:
        """``value`` (hexadecimal digits), made by ``rule``. ``others``: earlier rules, and what each gives.

        What an earlier rule gives is worked out only where something is compared that needs it.
        """
        made = cls(f"{rule}:{value}")
        made.rule, made._others = rule, dict(others or {})
        return made

    @property
    def value(self) -> str:
        """The hash without its rule."""
        return self.partition(":")[2]

    def by_rule(self, rule: str) -> str:
        """The hash without its rule, as the earlier ``rule`` makes it."""
        return self._others[rule]()

    def is_of(self, recorded: object) -> bool:
        """Whether ``recorded`` is a hash of the same thing, by this rule or an earlier one, named or not."""
        if not isinstance(recorded, str):
            return False
        rule, named, value = recorded.rpartition(":")
        rules = {self.rule: lambda: self.value} | self._others
        if named:
            return rule in rules and rules[rule]() == value
        return any(made() == value for made in rules.values())
