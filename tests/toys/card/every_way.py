"""Every way to fit and to write, through the product's own doors, on whatever device this process has.

Run as a program, ``every_way.py MODEL FOLDER`` writes what came of each into ``FOLDER/found.json``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from fit_logs import values
from toy_fits import fit, recipe_for

#: Name -> (method, keys of the training section, keys of other sections).
WAYS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "lora": ("lora", {}, ()),
    "full": ("full", {}, ()),
    "dora": ("dora", {}, ()),
    "packing": ("lora", {"packing": True, "max_length": 128}, ()),
    "checkpointing": ("lora", {"gradient_checkpointing": True}, ()),
    "accumulated": ("lora", {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}, ()),
    "float32": ("lora", {"bf16": False}, ("model.dtype=float32",)),
    "resumed": ("lora", {}, ()),
    "qlora": ("qlora", {}, ()),
    "float16": ("lora", {"fp16": True, "bf16": False}, ()),
    "tf32": ("lora", {"tf32": True, "bf16": False}, ("model.dtype=float32",)),  # the last: PyTorch keeps to it
}
#: Ways that only a card knows -> the one that a CPU goes.
ELSEWHERE = {"float16": "lora", "tf32": "float32"}


def fitted(way: str, model: Path, folder: Path) -> dict[str, Any]:
    """The losses of a fit, and of its looks at the validation split; "resumed" is stopped after two steps."""
    import torch
    from transformers import TrainerCallback

    from sft.training.fitting import Interrupted
    from sft.training.trainer import CloningTrainer

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if way == "resumed" and state.global_step == 2:
                os.kill(os.getpid(), signal.SIGINT)

    class Watched(CloningTrainer):
        def __init__(self, *words: Any, **settings: Any) -> None:
            super().__init__(*words, **settings)
            self.add_callback(Stop())
            seen.append(self)

    seen: list[Any] = []
    method, training, others = WAYS[way]
    recipe = recipe_for(model, *others, method=method, **training)
    try:
        fit(recipe, folder, trainer_class=Watched)
    except Interrupted:
        fit(recipe, folder, trainer_class=Watched, resume=True)
    trainer = seen[-1]
    return {
        "losses": values(folder, "loss"),
        "looks": values(folder, "eval_loss"),
        "devices": sorted({str(p.device) for p in trainer.model.parameters()}),
        "attention": getattr(trainer.data_collator, "attention", "padded"),
        "dtypes": sorted({str(p.dtype) for p in trainer.model.parameters()}),
        "draws": torch.get_rng_state().sum().item(),
    }


def policy_and_rows(model: Path) -> tuple[Any, dict[str, Any]]:
    """The tiny model in float32 on this process's device, and eight rows."""
    from toy_fits import demonstrations, renderer_for, rows_for

    from sft.policies.policy import load_policy
    from sft.recipes.sources import source_of

    recipe = recipe_for(model)
    rows = {f"{n}": rendered for n, (_, rendered) in enumerate(rows_for(recipe, demonstrations(8)))}
    return load_policy(source_of(recipe.model), renderer_for(recipe), dtype="float32"), rows


def written(model: Path) -> dict[str, Any]:
    """Greedy completions, samples, and scores beside them."""
    from sft.policies.generation import Beside, complete, score

    policy, rows = policy_and_rows(model)
    prompts, sizes = {key: row.prompt_ids for key, row in rows.items()}, dict.fromkeys(rows, 9)
    scores: list[Any] = []
    beside = Beside({key: row.completion_ids for key, row in rows.items()}, sizes, scores.append)
    few: dict[str, Any] = {"max_new_tokens": 8, "batch_size": 5}
    return {
        "device": policy.device.type,
        "greedy": {one.id: list(one.ids) for one in complete(policy, prompts, beside=beside, **few)},
        "drawn": {one.id: list(one.ids) for one in complete(policy, prompts, draws=(0, 0), **few)},
        "beside": {one.id: list(one.nats) for one in scores},
        "scored": {one.id: list(one.nats) for one in score(policy, rows, sizes, batch_size=3)},
    }


def waits(model: Path) -> tuple[int, int]:
    """How often the machine waits for the card while eight prompts get one token each, and nine."""
    from stand_in_card import CALLS, WAITS

    from sft.policies.generation import complete

    policy, rows = policy_and_rows(model)
    prompts = {key: row.prompt_ids for key, row in rows.items()}

    def counted(count: int) -> int:
        CALLS.clear()
        made = list(complete(policy, prompts, max_new_tokens=count, batch_size=8))
        assert all(one.tokens == count for one in made), "no row leaves the batch"
        return CALLS[WAITS]

    return counted(1), counted(9)


def misplaced(model: Path, folder: Path) -> str:
    """What a fit says in which one tensor of a batch was left behind on the CPU; nothing where nobody minds."""
    from sft.training.trainer import CloningTrainer

    class Forgetful(CloningTrainer):
        def compute_loss(self, model: Any, inputs: Any, *words: Any, **settings: Any) -> Any:
            inputs["position_ids"] = inputs["position_ids"].cpu()
            return super().compute_loss(model, inputs, *words, **settings)

    try:
        fit(recipe_for(model), folder, trainer_class=Forgetful)
    except RuntimeError as error:
        return str(error)
    return ""


def main(model: Path, folder: Path) -> None:
    """See the module's docstring."""
    from stand_in_card import CALLS, DOUBLE

    found: dict[str, Any] = {}
    for way in WAYS:
        CALLS.clear()
        found[way] = fitted(way, model, folder / way) | {
            "forward": CALLS["aten._flash_attention_forward.default"],
            "backward": CALLS["aten._flash_attention_backward.default"],
            "whole logits": CALLS["aten._log_softmax.default"],
            "float64": CALLS[DOUBLE],
        }
    found["written"] = written(model)
    found["waits"] = waits(model)
    found["misplaced"] = misplaced(model, folder / "misplaced")
    (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
