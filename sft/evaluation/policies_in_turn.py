"""The policies of a measurement, of which one at a time is in memory."""

from __future__ import annotations

from pathlib import Path

from sft.policies.policy import Policy, cloned, load_policy
from sft.policies.rendering import Renderer
from sft.policies.weights import is_adapter
from sft.recipes.sources import BaseSource

__all__ = ["PoliciesInTurn"]


class PoliciesInTurn:
    """The base, the clone that was gone on from, and the clone, each loaded when something of it is missing.

    ``start``: the folder of the second, where there is one; ``tuned``: of the last, None where the base is the clone.
    """

    def __init__(
        self, base: BaseSource, renderer: Renderer, dtype: str, start: Path | None, tuned: Path | None
    ) -> None:
        self._source, self._renderer, self._dtype = base, renderer, dtype
        self._start_folder, self._tuned_folder = start, tuned
        self._base: Policy | None = None
        self._start: Policy | None = None
        self._tuned: Policy | None = None

    def base(self) -> Policy:
        """The base; to be asked for before a clone is."""
        if self._base is None:
            self._base = self._loaded(None)
        return self._base

    def start(self) -> Policy:
        """The clone that was gone on from; the base is gone from here on, whose weights it takes over."""
        if self._start is None:
            base, self._base = self._base, None
            folder = self._start_folder
            self._start = self._loaded(folder) if base is None or folder is None else cloned(base, folder)
        return self._start

    def tuned(self) -> Policy:
        """The clone; the others are gone from here on."""
        if self._tuned is None:
            base, self._base, self._start = self._base, None, None
            folder = self._tuned_folder
            if base is not None and folder is not None and is_adapter(folder):
                self._tuned = cloned(base, folder)
            else:
                del base  # let go of the other weights first
                self._tuned = self._loaded(folder)
        return self._tuned

    def _loaded(self, tuned: Path | None) -> Policy:
        return load_policy(self._source, self._renderer, dtype=self._dtype, tuned=tuned)
