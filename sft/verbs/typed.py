"""A refusal names what its user typed: the option of the command, where no recipe gave the key."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from sft.errors import UserError

__all__ = ["as_typed"]

#: Key of a recipe -> the option of ``sft score`` and ``sft evaluate`` that says the same.
_OPTIONS = {
    "fidelity.bar": "--bar",
    "fidelity.headline": "--headline",
    "fidelity.checker": "--checker",
    "fidelity.metrics": "--metric",
    "fidelity.normalise": "--normalise",
}


@contextmanager
def as_typed(given: Collection[str]) -> Iterator[None]:
    """Inside, a refusal of the value of a key is one of the option, where the key is among those ``given`` by options.

    ``given``: names of the section fidelity, such as ``headline``.
    """
    try:
        yield
    except UserError as error:
        said = str(error)
        if said.partition(":")[0] not in {f"fidelity.{name}" for name in given}:
            raise
        for key, option in _OPTIONS.items():
            said = said.replace(key, option)
        raise UserError(said) from error
