"""Clone an expert's writing into a language model, and prove how well the clone worked.

    check, plan                what is in demonstrations; what a fit will take
    run, train                 the whole loop; its first half
    evaluate, score, compare   measure a clone, completions of any system, runs beside each other
    push, export               to a hub; to files for other programs
    open_run                   a run that is there: scorecard, texts, scores
    Demonstration, Recipe, Scorecard
    errors                     what is raised on purpose

These are the verbs of the command line, for a notebook or a script. Each is loaded when it is first asked for:
importing this package loads neither torch nor anything else that takes time. What they return shows itself in Jupyter,
and has ``to_text()`` and ``to_pandas()``. What a user can mend is a ``sft.errors.UserError``, whose one sentence names
options as the command line spells them.
"""

import logging
from typing import TYPE_CHECKING, Any

from sft import errors

if TYPE_CHECKING:
    from sft.demonstrations.demonstration import Demonstration
    from sft.fidelity.scorecard import Scorecard
    from sft.recipes import Recipe
    from sft.verbs.before import check, plan
    from sft.verbs.fit import run, train
    from sft.verbs.hand_on import export, push
    from sft.verbs.judge import compare, evaluate, score
    from sft.verbs.opened import open_run

__all__ = [
    "Demonstration", "Recipe", "Scorecard", "__version__", "check", "compare", "errors", "evaluate", "export",
    "open_run", "plan", "push", "run", "score", "train",
]  # fmt: skip

__version__ = "0.1.0"

# Where bitsandbytes is installed, peft loads it, and on a CPU it complains at once of kernels that could be had.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

#: Public name -> the module that has it.
_WHERE = {
    "Demonstration": "sft.demonstrations.demonstration",
    "Recipe": "sft.recipes",
    "Scorecard": "sft.fidelity.scorecard",
    "check": "sft.verbs.before",
    "compare": "sft.verbs.judge",
    "evaluate": "sft.verbs.judge",
    "export": "sft.verbs.hand_on",
    "open_run": "sft.verbs.opened",
    "plan": "sft.verbs.before",
    "push": "sft.verbs.hand_on",
    "run": "sft.verbs.fit",
    "score": "sft.verbs.judge",
    "train": "sft.verbs.fit",
}


def __getattr__(name: str) -> Any:
    """A public name, loaded when it is first asked for (PEP 562)."""
    if name not in _WHERE:
        raise AttributeError(f"module 'sft' has no attribute {name!r}")
    errors.refuse_other_systems()
    from importlib import import_module

    found = getattr(import_module(_WHERE[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
