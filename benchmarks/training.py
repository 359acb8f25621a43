"""How fast the fit is: ours, TRL's ``SFTTrainer`` with its defaults, TRL at its best here, and what arithmetic allows.

    python benchmarks/training.py                     # the table, about 15 minutes on two cores
    python benchmarks/training.py --steps 6 --rounds 1
    python benchmarks/training.py --second            # rows grouped by length, each in an order of its own

Same model (SmolLM2-135M), adapter (LoRA r 16 on all linear layers, one initialisation), rows (the demo's), batches of
8 in one random order, learning rate and steps. Every contender is a process of its own; they take turns, round by
round. A step's time is from the end of the one before to its own end, the first step left out; tokens are those of
rows, padding not counted. TRL gets the same ready ids with the mask of what is supervised.

The floor: the products of matrices that a step cannot do without (forward, backward to activations, the head at
supervised positions), each of its real size on the batch's tokens, timed in the same rounds; nothing else.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

CONTENDERS = {
    "trl": "TRL, defaults",
    "trl-float32": "TRL, defaults but bf16 off",
    "trl-best": "TRL, bf16 off, no checkpointing",
    "ours": "sft",
    "floor": "floor (products of matrices alone)",
}
#: bfloat16 is emulated on most CPUs: a step of the defaults takes minutes there.
FEW_STEPS = {"trl": 2}
LEARNING_RATE = 2.0e-4
ROWS_IN_BATCH = 8


def demonstrations(steps: int, order: str) -> tuple[Any, Any, list[Any], list[Any]]:
    """(recipe, renderer, training rows in the one random order, validation rows); ``order``: the sampler's."""
    from sft import recipes
    from sft.demonstrations.selection import gather
    from sft.policies.policy import load_renderer
    from sft.recipes.sources import source_of

    overrides = [
        f"training.learning_rate={LEARNING_RATE}",
        "training.lr_scheduler_type=constant",
        "training.warmup_steps=0",
        f"training.train_sampling_strategy={order}",
        f"training.per_device_train_batch_size={ROWS_IN_BATCH}",
        "training.logging_steps=1",
        f"training.max_steps={steps}",
    ]
    recipe = recipes.resolve("demo", overrides).recipe
    parts = gather(recipe).splits
    renderer = load_renderer(source_of(recipe.model), recipe)
    rendered = [
        renderer.render_all(part, max_length=recipe.training.max_length, too_long="drop")[0]
        for part in (parts.train, parts.validation)
    ]
    random.Random(0).shuffle(rendered[0])
    return recipe, renderer, rendered[0][: steps * ROWS_IN_BATCH], rendered[1]


def clock(times: list[float], losses: list[float]) -> Any:
    """A callback that notes when each step ended and its loss."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            times.append(time.perf_counter())

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            times.append(time.perf_counter())
            if len(times) == 2:
                times.append(_since_start())

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs:
                losses.append(logs["loss"])

    return Clock()


def _since_start() -> float:
    """Seconds since this process began."""
    import psutil

    return time.time() - psutil.Process().create_time()


def ours(steps: int, order: str) -> tuple[list[float], list[float], float]:
    """A fit as ``sft train`` does it."""
    from peft import PeftModel

    from sft.policies.weights import base_weights
    from sft.recipes.sources import source_of
    from sft.runs.run import Run
    from sft.training import fitting
    from sft.training.trainer import CloningTrainer

    times: list[float] = []
    losses: list[float] = []
    noted = clock(times, losses)

    class Watched(CloningTrainer):
        def __init__(self, *words: Any, **settings: Any) -> None:
            super().__init__(*words, **settings)
            self.add_callback(noted)

    recipe, renderer, rows, validation = demonstrations(steps, order)
    with tempfile.TemporaryDirectory() as folder, Run.create(folder) as run:
        fitting.train(recipe, rows, [], base=source_of(recipe.model), renderer=renderer, run=run, trainer_class=Watched)
        if order == "sequential":
            return times, losses, float("nan")
        adapted = PeftModel.from_pretrained(base_weights(recipe, source_of(recipe.model)), run.adapter_path)
    return times, losses, validation_loss(adapted, validation, renderer.pad_token_id)


def trl(steps: int, order: str, **settings: Any) -> tuple[list[float], list[float], float]:
    """``SFTTrainer`` on the same rows in the same order, with ``settings`` over its defaults."""
    import torch
    from datasets import Dataset
    from transformers.trainer_callback import ProgressCallback
    from trl import SFTConfig, SFTTrainer

    from sft.recipes.sources import source_of
    from sft.training.fitting import load_policy_to_fit

    recipe, renderer, rows, validation = demonstrations(steps, order)
    times: list[float] = []
    losses: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=load_policy_to_fit(recipe, source_of(recipe.model), renderer),
            args=SFTConfig(
                output_dir=folder,
                per_device_train_batch_size=ROWS_IN_BATCH,
                learning_rate=LEARNING_RATE,
                lr_scheduler_type="constant",
                max_steps=steps,
                train_sampling_strategy=order,
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                seed=recipe.training.seed,
                completion_only_loss=True,  # what its default comes to for rows with prompt and completion
                use_cpu=not torch.cuda.is_available(),  # without it the defaults are refused where there is no GPU
                **settings,
            ),
            train_dataset=Dataset.from_dict(
                {
                    "input_ids": [list(rendered.input_ids) for _, rendered in rows],
                    "completion_mask": [list(rendered.completion_mask) for _, rendered in rows],
                }
            ),
            processing_class=renderer.tokenizer,
            callbacks=[clock(times, losses)],
        )
        trainer.remove_callback(ProgressCallback)
        trainer.train()
    if order == "sequential":
        return times, losses, float("nan")
    return times, losses, validation_loss(trainer.model, validation, renderer.pad_token_id)


def floor(steps: int) -> tuple[list[float], list[float], float]:
    """The products of every step, with nothing around them: times as if each step ended with the last of them."""
    import torch

    from sft.policies.weights import base_weights
    from sft.recipes.sources import source_of

    recipe, _, rows, _ = demonstrations(steps, "sequential")
    model = base_weights(recipe, source_of(recipe.model))
    head = model.get_output_embeddings().weight.detach()
    layers = [
        module.weight.detach()
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module is not model.get_output_embeddings()
    ]
    spent: list[float] = []
    started = 0.0
    with torch.no_grad():
        for step in range(steps):
            batch = rows[step * ROWS_IN_BATCH : (step + 1) * ROWS_IN_BATCH]
            tokens = sum(len(rendered) for _, rendered in batch)
            supervised = sum(len(rendered.completion_ids) for _, rendered in batch)
            inputs = {width: torch.randn(tokens, width) for width in {size for w in layers for size in w.shape}}
            hidden, logits = torch.randn(supervised, head.shape[1]), torch.randn(supervised, head.shape[0])
            began = time.perf_counter()
            for weight in layers:
                inputs[weight.shape[1]] @ weight.T
                inputs[weight.shape[0]] @ weight
            hidden @ head.T
            logits @ head
            spent.append(time.perf_counter() - began)
            started = started or _since_start()
    first, *rest = spent
    ends = list(accumulate(rest, initial=first))
    return [0.0, ends[0], started, *ends[1:]], [], float("nan")


def validation_loss(model: Any, rows: list[Any], filler: int) -> float:
    """Nats per supervised token, one way of counting for all contenders."""
    import torch

    from sft.training.batches import nats_of
    from sft.training.sequences import Collator, dataset_of

    bare = model.get_base_model()
    nats = []
    with torch.no_grad():
        bare.eval()
        for item in dataset_of(rows).to_list():
            nats.append(nats_of(bare, bare, Collator(filler)([item])))
    return float(torch.cat(nats).mean())


def run_one(name: str, steps: int, order: str) -> dict[str, Any]:
    """One contender in this process."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    warnings.simplefilter("ignore")
    if name == "floor":
        times, losses, validation = floor(steps)
    elif name == "ours":
        times, losses, validation = ours(steps, order)
    else:
        settings: dict[str, Any] = {} if name == "trl" else {"bf16": False}
        times, losses, validation = trl(
            steps, order, **settings | ({"gradient_checkpointing": False} if name == "trl-best" else {})
        )
    _, first, started, *rest = times
    ends = [first, *rest]
    from sft.runs.machine import peak_memory_bytes

    lengths = [len(rendered) for _, rendered in demonstrations(steps, order)[2]]
    return {
        "seconds": [after - before for before, after in pairwise(ends)],
        "losses": losses,
        "validation": validation,
        "first_step": started,
        "memory": peak_memory_bytes(),
        # In one order for all: tokens of every step. Else only their sum is the same, less the first step's share.
        "tokens": [sum(lengths[i * ROWS_IN_BATCH : (i + 1) * ROWS_IN_BATCH]) for i in range(1, steps)]
        if order == "sequential"
        else [sum(lengths) * (steps - 1) / steps],
    }


def compare(names: list[str], steps: int, rounds: int, order: str) -> dict[str, list[dict[str, Any]]]:
    """Every contender ``rounds`` times, taking turns; one that takes minutes for a step once."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names:
            if number and name in FEW_STEPS:
                continue
            with tempfile.NamedTemporaryFile(suffix=".json") as file:
                few = str(min(steps, FEW_STEPS.get(name, steps)))
                command = [sys.executable, __file__, "--contender", name, "--steps", few, "--order", order]
                command += ["--out", file.name]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                found[name].append(json.loads(Path(file.name).read_text()))
            one = found[name][-1]
            rate = sum(one["tokens"]) / sum(one["seconds"])
            print(f"round {number + 1}, {CONTENDERS[name]}: {rate:.0f} tokens/s", file=sys.stderr, flush=True)
    return found


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    """Rates, ratios and losses. A ratio is the median of the ratios within each round."""
    rates = {name: [sum(one["tokens"]) / sum(one["seconds"]) for one in rounds] for name, rounds in found.items()}
    lines = [
        "| | tokens/s, each round | sft is faster by | of the floor | first step after | peak memory | "
        "a step's loss differs from sft's by at most | validation loss after |",
        "|---|---|---|---|---|---|---|---|",
    ]

    def ratio(one: str, other: str) -> float:
        return statistics.median(a / b for a, b in zip(rates[one], rates[other], strict=False))

    for name, rounds in found.items():
        differences = [
            abs(a - b)
            for mine, reference in zip(rounds, found.get("ours", rounds), strict=False)
            for a, b in zip(mine["losses"], reference["losses"], strict=False)
        ]
        lines.append(
            f"| {CONTENDERS[name]} | {', '.join(f'{rate:.0f}' for rate in rates[name])} | "
            f"{ratio('ours', name):.2f}x | {ratio(name, 'floor') if 'floor' in rates else float('nan'):.0%} | "
            f"{statistics.median(one['first_step'] for one in rounds):.1f} s | "
            f"{max(one['memory'] for one in rounds) / 1e9:.2f} GB | "
            f"{f'{max(differences):.5f}' if differences else '-'} | "
            f"{'-' if math.isnan(rounds[0]['validation']) else format(rounds[0]['validation'], '.4f')} |"
        )
    return "\n".join(lines)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--steps", type=int, default=12)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--only", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    options.add_argument("--second", action="store_true", help="each with rows grouped by length, in its own order")
    options.add_argument("--order", default="sequential", help=argparse.SUPPRESS)
    options.add_argument("--contender", choices=list(CONTENDERS), help=argparse.SUPPRESS)
    options.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.contender:
        chosen.out.write_text(json.dumps(run_one(chosen.contender, chosen.steps, chosen.order)))
        return
    if chosen.second:
        names = [name for name in chosen.only if name in ("trl-best", "ours")]
        print(table(compare(names, chosen.steps, chosen.rounds, "group_by_length")))
    else:
        print(table(compare(chosen.only, chosen.steps, chosen.rounds, "sequential")))


if __name__ == "__main__":
    main()
