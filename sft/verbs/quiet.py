"""What surrounds the engine's work: the user is spared its deprecation notes, and the hub is not told of its use."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator

__all__ = ["at_work", "quiet", "tell_nobody"]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside, the engine's deprecation notes stay out of the user's sight; they are ours to act on, not his."""
    tell_nobody()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


@contextlib.contextmanager
def at_work() -> Iterator[None]:
    """As :func:`quiet`; what libraries print (trackio greets) goes to stderr: stdout is for results."""
    with quiet(), contextlib.redirect_stdout(sys.stderr):
        yield


def tell_nobody() -> None:
    """Keep TRL from telling the hub of every trainer that it makes: model family, GPU, processes.

    The client reads the variable when it is imported; where a notebook had imported it before, its constant is set.
    Whoever has given the variable a value is left to it.
    """
    if "HF_HUB_DISABLE_TELEMETRY" in os.environ:
        return
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is not None:
        constants.HF_HUB_DISABLE_TELEMETRY = True  # type: ignore[attr-defined]
