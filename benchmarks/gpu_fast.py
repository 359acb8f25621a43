"""How fast is it on this card? Parts of ``benchmarks/gpu.py``: fits beside TRL's, writing beside others', the plan.

A cell is a model's shape, what is fitted, and how rows come; its contenders get the same weights (one seed), rows and
batches in one order, one after the other in one process. A step's time is from the end of the one before; the first
three are left out, and so are those in which PyTorch compiled something, which are counted beside. Tokens are those of
rows, padding not counted, and so are floating-point operations: products of matrices and attention within rows, the
head at supervised positions, forward and backward to what is fitted. A frozen weight needs no gradient of its own, so
with LoRA a token counts about 4 operations a parameter, and not 6.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gpu_contenders import Cell, Fit, contenders
from gpu_made import (
    Scene,
    config_of,
    forget_peak,
    in_one_line,
    now,
    peak_bytes,
    refuse_a_lost_card,
    rows,
    tokenizer_in,
    weights,
)
from gpu_right import ended, words_for

#: Part -> its cell.
CELLS = {
    "1.3B-lora": Cell("1.3B", "lora", packed=False, batch=16),
    "8B-lora": Cell("8B", "lora", packed=False, batch=8),
    "1.3B-full": Cell("1.3B", "full", packed=False, batch=16),
    "8B-lora-packed": Cell("8B", "lora", packed=True, batch=4),
    "135M-lora": Cell("135M", "lora", packed=False, batch=32),
    "1.3B-full-packed": Cell("1.3B", "full", packed=True, batch=8),
}
LEFT_OUT = 3


class Enough(Exception):
    """The steps that were wanted are done; nothing is to be saved."""


def clock(steps: int, seconds: float, longest: float) -> Any:
    """A callback that notes when each step ended, and its loss; raises :class:`Enough` when all is seen.

    That is after ``steps`` steps that count, or ``seconds`` of them, or ``longest`` seconds in all. A step counts that
    has three before it, and in which PyTorch compiled nothing: a real fit has thousands of them.
    """
    from gpu_layers import graphs_compiled
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.ends: list[float] = []
            self.losses: list[float] = []
            self.graphs: list[int] = []
            self.began = now()

        def counting(self) -> list[int]:
            return [n for n in range(LEFT_OUT, len(self.ends)) if self.graphs[n] == self.graphs[n - 1]]

        def seconds(self) -> float:
            return sum(self.ends[n] - self.ends[n - 1] for n in self.counting())

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.ends.append(now())
            self.graphs.append(graphs_compiled())
            counting = len(self.counting())
            enough = counting > 1 and (counting >= steps or self.seconds() > seconds)
            if enough or self.ends[-1] - self.began > longest:
                control.should_log = True
                raise Enough

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs:
                self.losses.append(logs["loss"])

    return Clock()


def operations(fit: Fit, seen: tuple[list[int], int, int]) -> float:
    """Floating-point operations of a step, as the module's docstring counts them."""
    config = config_of(fit.scene.shape(fit.cell.shape))
    lengths, _, supervised = seen
    width, heads = config.hidden_size, config.num_attention_heads
    head = width // heads
    layer = 2 * width * width + 2 * width * head * config.num_key_value_heads + 3 * width * config.intermediate_size
    frozen = fit.cell.method == "lora"
    each = (
        (2 * 2 * layer * config.num_hidden_layers + 6 * fit.trainable)
        if frozen
        else 6 * layer * config.num_hidden_layers
    )
    scored = (4 if frozen else 6) * width * config.vocab_size * supervised
    attended = 6 * width * config.num_hidden_layers * sum(length**2 for length in lengths)
    return float(each * sum(lengths) + scored + attended)


def cell(scene: Scene) -> None:
    """Every contender of a cell, what came of each written at once; one that fails leaves its reason."""
    import torch
    from trl.trainer.utils import get_peak_flops

    what = CELLS[scene.report.part]
    known = get_peak_flops(torch.cuda.get_device_name(), "bfloat16") if torch.cuda.is_available() else None
    limits = (3, 0.5, 200.0) if scene.rehearsal else (30, 6.0, 60.0)
    for name, make in contenders(what, rehearsal=scene.rehearsal).items():
        if name in scene.skip:
            continue
        scene.report.begins(name)
        torch._dynamo.reset()
        forget_peak()
        fit = Fit(scene, what, clock(*limits))
        with suppress(Enough):
            try:
                make(fit)
            except Enough:
                raise
            except Exception as error:  # out of memory, a kernel or package that is not there: a row of the table
                scene.report("fast", cell=scene.report.part, contender=name, failed=in_one_line(error))
                refuse_a_lost_card()
                continue
        found = fit.clock
        counting, seen = found.counting(), fit.counted.seen if fit.counted else []
        if not counting:
            why = f"no step of {len(found.ends)} counts: PyTorch compiled in each, or the time was over"
            scene.report("fast", cell=scene.report.part, contender=name, failed=why)
            continue
        taken, counted = found.seconds(), [seen[n] for n in counting]
        tokens = sum(sum(lengths) for lengths, _, _ in counted)
        done = sum(operations(fit, one) for one in counted)
        scene.report(
            "fast",
            cell=scene.report.part,
            contender=name,
            tokens_a_second=tokens / taken,
            operations_a_second=done / taken,
            utilisation=done / taken / known if known else None,
            peak_bytes=peak_bytes(),
            first_step=found.ends[0] - found.began,
            steps=len(counting),
            steps_that_compiled=len(found.ends) - min(LEFT_OUT, len(found.ends)) - len(counting),
            padding=1 - tokens / max(1, sum(slots for _, slots, _ in counted)),
            losses=found.losses[:8],
        )
        del fit


# -- writing --------------------------------------------------------------------------------------------------------


def writing(scene: Scene) -> None:
    """Held-out writing: ours, ``model.generate`` at batch 8, transformers' continuous batching; greedy.

    In bfloat16 and with random weights ids part at a rounding, so how many tokens each wrote stands beside its time.

    Weights are random, so of each vocabulary some ids stop: completions end after 32 tokens or so, 128 at most.
    """
    from evaluation import as_they_come

    from sft.policies.generation import complete
    from sft.policies.policy import Policy, load_renderer
    from sft.policies.weights import resolved_dtype
    from sft.recipes.sources import resolve_model
    from sft.runs.machine import default_device

    shape = scene.shape(scene.report.part.removeprefix("writing-"))
    base = resolve_model(str(tokenizer_in(scene.scratch / f"tokenizer-{shape}", shape)))
    renderer, vocabulary = load_renderer(base), config_of(shape).vocab_size
    renderer.stop_token_ids = tuple(range(5, vocabulary, 16 if scene.rehearsal else 32))
    model = weights(shape, resolved_dtype("auto"), default_device(), tied=False).eval()
    policy = Policy(model, renderer, base)
    limit, count = (12, 12) if scene.rehearsal else (128, 96)
    lengths = {"mean": 24, "longest": 96} if scene.rehearsal else {"mean": 150, "longest": 1024}
    prompts = {f"{n:04}": list(r.input_ids) for n, (_, r) in enumerate(rows(count, vocabulary, **lengths))}

    def own(prompts: dict[str, list[int]]) -> dict[str, int]:
        made = complete(policy, prompts, max_new_tokens=limit, batch_size=min(100, count))
        return {one.id: one.tokens for one in made}

    def continuous(prompts: dict[str, list[int]]) -> dict[str, int]:
        from transformers import ContinuousBatchingConfig, GenerationConfig

        # Left alone it takes nine tenths of the memory, which on a CPU is everybody's.
        pool = {"num_blocks": 16, "max_batch_tokens": 256} if scene.rehearsal else {}
        settings = GenerationConfig(
            max_new_tokens=limit, do_sample=False, eos_token_id=list(renderer.stop_token_ids),
            pad_token_id=renderer.pad_token_id,
        )  # fmt: skip
        answers = model.generate_batch(
            list(prompts.values()),
            generation_config=settings,
            continuous_batching_config=ContinuousBatchingConfig(**pool),
        )
        return dict(zip(prompts, (len(answer.generated_tokens) for answer in answers.values()), strict=True))

    makers: dict[str, Callable[[dict[str, list[int]]], dict[str, int]]] = {
        "sft": own,
        "generate, batch 8": lambda prompts: {k: n for k, (_, n) in as_they_come(policy, prompts, limit).items()},
        "transformers, continuous batching": continuous,
    }
    for name, make in makers.items():
        if name in scene.skip:
            continue
        scene.report.begins(name)
        try:
            make(dict(list(prompts.items())[:8]))  # what is loaded, compiled or chosen at the first call is so before
            forget_peak()
            began = now()
            written = make(prompts)
            taken = now() - began
        except Exception as error:
            scene.report("written", shape=shape, contender=name, failed=in_one_line(error))
            refuse_a_lost_card()
            continue
        scene.report(
            "written", shape=shape, contender=name, completions=len(written), tokens=sum(written.values()),
            seconds=taken, tokens_a_second=sum(written.values()) / taken, peak_bytes=peak_bytes(),
        )  # fmt: skip


# -- the plan -------------------------------------------------------------------------------------------------------

TRAIN = (
    "import json, sys, torch\nfrom sft.cli import main\ncode = main(sys.argv[2:])\n"
    "peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0\n"
    "open(sys.argv[1], 'w').write(json.dumps({'code': code, 'peak': peak}))\n"
)


def plan(scene: Scene) -> None:
    """``sft plan``, then the fit: memory and seconds, beside what was taken."""
    way = scene.report.part.removeprefix("plan-")
    more = [] if scene.rehearsal else ["training.max_steps=40", "training.eval_steps=20"]
    words = words_for(scene, way, *more)
    began = time.monotonic()
    answer = subprocess.run(
        [sys.executable, "-m", "sft", "plan", *words, "--json"], stdout=subprocess.PIPE, text=True, check=True
    )
    probe, planned = time.monotonic() - began, json.loads(answer.stdout)
    found, folder = scene.scratch / f"{way}-taken.json", scene.scratch / f"{way}-planned"
    began = time.monotonic()
    ended(
        subprocess.Popen(
            [sys.executable, "-c", TRAIN, str(found), "train", *words, "--output", str(folder)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
    )  # fmt: skip
    seconds, taken = time.monotonic() - began, json.loads(found.read_text(encoding="utf-8"))
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    peak = taken["peak"] or manifest["sessions"][-1]["peak_memory_bytes"]
    scene.report(
        "planned", fit=way, memory_planned=planned["memory_bytes"]["peak"], memory_taken=peak,
        memory_ratio=planned["memory_bytes"]["peak"] / peak, seconds_planned=planned["seconds"]["total"],
        seconds_taken=seconds, seconds_ratio=planned["seconds"]["total"] / seconds, plan_itself_took=probe,
    )  # fmt: skip
