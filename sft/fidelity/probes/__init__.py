"""Probes: what a scorecard says beside its headline, each a function from observations to a noun of ``scorecard``.

Arithmetic only: no model, no network, no draw without a seed. A probe that has nothing to measure raises
:class:`Absent` with the reason, which the scorecard records in place of a figure.
"""

from sft.fidelity.probes.absent import Absent

__all__ = ["Absent"]
