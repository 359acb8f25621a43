"""Small fits on the tiny model, for tests and for the processes that tests start and kill.

Run as a program, ``toy_fits.py MODEL FOLDER [--resume] [--die-at STEP] [--pause] KEY=VALUE...`` fits in a process of
its own: ``--die-at`` kills it at the end of that step as ``kill -9`` would, ``--pause`` makes every step take
a tenth of a second, so that a signal can arrive in between.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from sft import recipes
from sft.demonstrations.demonstration import Demonstration, Message, Source
from sft.recipes import Recipe
from sft.recipes.sources import source_of

WORDS = (
    "the", "expert", "wrote", "a", "short", "answer", "and", "model", "learned", "to", "write", "it", "same", "way",
    "Hello", "there", "fine", "thank", "you",
)  # fmt: skip
SMALL = {
    "learning_rate": 1e-2,
    "max_steps": 4,
    "per_device_train_batch_size": 4,
    "logging_steps": 1,
    "eval_steps": 2,
    "lr_scheduler_type": "linear",
}


def recipe_for(model: Path, *overrides: str, method: str = "lora", **training: Any) -> Recipe:
    """A small recipe for the model in ``model``: ``training`` over :data:`SMALL` (None takes a key out).

    ``overrides``: as on the command line, for the other sections.
    """
    training = {key: value for key, value in (SMALL | training).items() if value is not None}
    adapter = {"method": method} | ({} if method == "full" else {"r": 4, "lora_alpha": 8})
    sections = {"demonstrations": {"path": "toy.jsonl"}, "training": training, "adapter": adapter}
    return recipes.parse(yaml.safe_dump({"model": {"name": str(model)}, **sections}), overrides=overrides).recipe


def demonstrations(count: int, *, first: int = 1, completion: str = "") -> list[Demonstration]:
    """``count`` demonstrations of different lengths, from lines ``first``... of ``toy.jsonl``."""
    made = []
    for number in range(first, first + count):
        chosen = [WORDS[(number * 5 + 3 * k) % len(WORDS)] for k in range(1 + number * 7 % 11)]
        made.append(
            Demonstration(
                (Message("user", f"{number}: {' '.join(chosen)}?"),),
                completion or " ".join(reversed(chosen)) + ".",
                source=Source("toy.jsonl", number),
            )
        )
    return made


def rows_for(recipe: Recipe, made: Sequence[Demonstration]) -> list[Any]:
    """The demonstrations, rendered."""
    return renderer_for(recipe).render_all(made)[0]


def renderer_for(recipe: Recipe) -> Any:
    """The recipe's renderer."""
    from sft.policies.policy import load_renderer

    return load_renderer(source_of(recipe.model))


def fit(
    recipe: Recipe,
    folder: Path,
    *,
    train: Sequence[Demonstration] | int = 12,
    validation: Sequence[Demonstration] | int = 4,
    resume: bool = False,
    **doors: Any,
) -> Any:
    """Fit demonstrations (a number: so many toys), with others held out, into the run at ``folder``.

    ``doors``: what ``training.train`` takes beside that, a trainer class of the test's own among it.
    """
    from sft.runs.run import Run
    from sft.training import fitting

    known = (folder / "manifest.json").exists()
    with Run.open(folder, writing=True) if known else Run.create(folder) as run:
        return fitting.train(
            recipe,
            rows_for(recipe, demonstrations(train) if isinstance(train, int) else train),
            rows_for(recipe, demonstrations(validation, first=101) if isinstance(validation, int) else validation),
            base=source_of(recipe.model),
            renderer=renderer_for(recipe),
            run=run,
            resume=resume,
            **doors,
        )


def main(arguments: list[str]) -> None:
    """See the module's docstring. Writes what came out of the fit to ``FOLDER/fitted.json``."""
    import os
    import signal
    import time
    from dataclasses import asdict

    import torch
    from transformers import TrainerCallback

    from sft.training.trainer import CloningTrainer

    torch.set_num_threads(1)
    resume, pause = "--resume" in arguments, "--pause" in arguments
    die_at = int(arguments[arguments.index("--die-at") + 1]) if "--die-at" in arguments else None
    model, folder, *overrides = [a for a in arguments if not a.startswith("--") and a != str(die_at)]

    class Step(TrainerCallback):
        """Says when a step has ended, and does then what was asked for."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            sys.stderr.write(f"step {state.global_step} done\n")
            sys.stderr.flush()
            if state.global_step == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if pause:
                time.sleep(0.1)

    class Stepping(CloningTrainer):
        def __init__(self, *words: Any, **settings: Any) -> None:
            super().__init__(*words, **settings)
            self.add_callback(Step)

    fitted = fit(recipe_for(Path(model), *overrides), Path(folder), resume=resume, trainer_class=Stepping)
    Path(folder, "fitted.json").write_text(json.dumps(asdict(fitted)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
