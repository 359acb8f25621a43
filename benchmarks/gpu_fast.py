"""How fast is it on this card? Parts of ``benchmarks/gpu.py``: fits beside TRL's, writing beside others', the plan.

A cell is a model's shape, what is fitted, and how rows come; its contenders get the same weights (one seed), rows and
batches in one order, one after the other in one process. A step's time is from the end of the one before; the first
three are left out. Tokens are those of rows, padding not counted, and so are floating-point operations: products of
matrices and attention within rows, the head at supervised positions, forward and backward to what is fitted. A frozen
weight needs no gradient of its own, so with LoRA a token counts about 4 operations a parameter, and not 6.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from gpu_made import Scene, config_of, forget_peak, in_one_line, now, peak_bytes, rows, tokenizer_in, weights
from gpu_right import ended, words_for


@dataclass(frozen=True, slots=True)
class Cell:
    """What is fitted: ``shape``, ``method`` (lora, full), ``packed`` (2,048 a sequence), ``batch`` items a step."""

    shape: str
    method: str
    packed: bool
    batch: int


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


def clock(steps: int, seconds: float) -> Any:
    """A callback that notes when each step ended, and its loss; raises :class:`Enough` after ``steps`` of them."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.ends: list[float] = []
            self.losses: list[float] = []
            self.began = now()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.ends.append(now())
            enough = len(self.ends) > steps or self.ends[-1] - self.ends[0] > seconds
            if enough and len(self.ends) > LEFT_OUT + 1:
                control.should_log = True
                raise Enough

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs:
                self.losses.append(logs["loss"])

    return Clock()


@dataclass
class Counted:
    """A collator's batches, and what is in each: lengths of its rows, positions computed, supervised positions."""

    collate: Callable[[list[Any]], dict[str, Any]]
    seen: list[tuple[list[int], int, int]] = field(default_factory=list)

    def __call__(self, items: list[Any]) -> dict[str, Any]:
        """The batch, when it is counted."""
        batch = self.collate(items)
        ids, labels = batch["input_ids"], batch["labels"]
        if "segments" in batch:
            lengths = [length for length in batch["segments"] if length]
        elif "attention_mask" in batch:
            lengths = batch["attention_mask"].sum(1).tolist()
        else:  # rows of a line begin where positions begin anew
            starts = (batch["position_ids"][0] == 0).nonzero()[:, 0].tolist()
            lengths = [after - before for before, after in pairwise([*starts, ids.shape[1]])]
        self.seen.append((lengths, ids.numel(), int((labels[:, 1:] != -100).sum())))
        return batch


# -- contenders -------------------------------------------------------------------------------------------------


@dataclass
class Fit:
    """One contender's fit: what it is to do, and what it did."""

    scene: Scene
    cell: Cell
    clock: Any
    counted: Counted | None = None
    trainable: int = 0
    dtype: Any = None

    def recipe(self) -> Any:
        """The cell as a recipe of ours; its model is a folder with a tokenizer, its weights are drawn."""
        import yaml

        from sft import recipes

        folder = tokenizer_in(self.scene.scratch / "tokenizer")
        if not (folder / "config.json").exists():
            config_of(self.scene.shape(self.cell.shape)).save_pretrained(folder)
        training = {
            "learning_rate": 1.0e-5, "max_steps": 1000, "logging_steps": 1, "eval_strategy": "no", "save_steps": 1000,
            "per_device_train_batch_size": self.cell.batch, "train_sampling_strategy": "sequential",
            "lr_scheduler_type": "constant", "warmup_steps": 0, "max_length": 2048, "packing": self.cell.packed,
        }  # fmt: skip
        adapter = {"method": self.cell.method} | ({"r": 16, "lora_alpha": 32} if self.cell.method == "lora" else {})
        sections = {
            "model": {"name": str(folder)}, "demonstrations": {"path": "made.jsonl"}, "adapter": adapter,
            "training": training,
        }  # fmt: skip
        return recipes.parse(yaml.safe_dump(sections), overrides=()).recipe

    def rows(self) -> list[Any]:
        """Rows enough for all steps."""
        vocabulary = config_of(self.scene.shape(self.cell.shape)).vocab_size
        if self.scene.rehearsal:
            return rows(64, vocabulary, mean=24, longest=96)
        return rows(self.cell.batch * (9 if self.cell.packed else 1) * 60, vocabulary)

    def policy(self, recipe: Any, base: Any, renderer: Any) -> Any:
        """The model with what is fitted of it, on the card, as a fit would have loaded it."""
        import torch

        from sft.policies.policy import with_new_adapter
        from sft.policies.weights import resolved_dtype
        from sft.runs.machine import default_device

        dtype = self.dtype or (torch.float32 if self.cell.method == "full" else resolved_dtype("auto"))
        model = weights(self.scene.shape(self.cell.shape), dtype, default_device())
        model.config.pad_token_id = renderer.pad_token_id
        torch.manual_seed(0)
        made = with_new_adapter(model, recipe)
        self.trainable = sum(p.numel() for p in made.parameters() if p.requires_grad)
        del model
        forget_peak()  # it was drawn in float32
        return made


def ours(fit: Fit, *, attention: str | None = None, whole_head: bool = False) -> None:
    """A fit through the product's own door; ``whole_head``: logits kept, no tiles.

    ``attention``: "padded", or the name of one for rows in a line; the product's own choice without.
    """
    from accelerate.utils import set_seed
    from peft import PeftModel

    from sft.policies.policy import load_renderer
    from sft.recipes.sources import source_of
    from sft.runs.run import Run
    from sft.training import fitting
    from sft.training.attention import attending_by_row
    from sft.training.sequences import Collator, LineCollator
    from sft.training.trainer import CloningTrainer

    class Watched(CloningTrainer):
        def __init__(self, *words: Any, **settings: Any) -> None:
            if attention == "padded":
                settings["data_collator"] = Collator(renderer.pad_token_id)
            elif attention:
                settings["data_collator"] = LineCollator(share=False)
            fit.counted = settings["data_collator"] = Counted(settings["data_collator"])
            super().__init__(*words, **settings)
            self.add_callback(fit.clock)

        def train(self, *words: Any, **settings: Any) -> Any:
            if attention in (None, "padded"):
                return super().train(*words, **settings)
            with attending_by_row(
                self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model, attention
            ):
                return super().train(*words, **settings)

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            if not whole_head:
                return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            inputs.pop("row")
            nats, _ = self._nats(model, inputs)
            return nats.sum() / num_items_in_batch

    recipe = fit.recipe()
    renderer = load_renderer(source_of(recipe.model), recipe)
    set_seed(0)
    with tempfile.TemporaryDirectory() as folder, Run.create(Path(folder) / "run") as run:
        fitting.train(
            recipe, fit.rows(), [], base=source_of(recipe.model), renderer=renderer, run=run, trainer_class=Watched,
            policy_to_fit=fit.policy,
        )  # fmt: skip


def trl(fit: Fit, *, narrow: bool, **settings: Any) -> None:
    """``SFTTrainer`` with ``settings`` over its defaults; ``narrow``: the frozen base in bfloat16, and not float32."""
    import torch
    from datasets import Dataset
    from transformers.trainer_callback import ProgressCallback
    from trl import SFTConfig, SFTTrainer

    from sft.policies.policy import load_renderer
    from sft.recipes.sources import source_of

    if not narrow:
        fit.dtype = torch.float32
    recipe = fit.recipe()
    renderer = load_renderer(source_of(recipe.model), recipe)
    off_card = {} if torch.cuda.is_available() else {"use_cpu": True, "bf16": False}
    made = fit.rows()
    columns = {
        "input_ids": [list(rendered.input_ids) for _, rendered in made],
        "completion_mask": [list(rendered.completion_mask) for _, rendered in made],
    }
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=fit.policy(recipe, None, renderer),
            args=SFTConfig(
                output_dir=folder, per_device_train_batch_size=fit.cell.batch, learning_rate=1.0e-5,
                lr_scheduler_type="constant", max_steps=1000, train_sampling_strategy="sequential", logging_steps=1,
                save_strategy="no", report_to="none", completion_only_loss=True, packing=fit.cell.packed,
                max_length=2048 if fit.cell.packed else None, disable_tqdm=True, **off_card | settings,
            ),
            train_dataset=Dataset.from_dict(columns),
            processing_class=renderer.tokenizer,
            callbacks=[fit.clock],
        )  # fmt: skip
        trainer.remove_callback(ProgressCallback)
        fit.counted = trainer.data_collator = Counted(trainer.data_collator)
        trainer.train()


def contenders(cell: Cell) -> dict[str, Callable[[Fit], None]]:
    """Name -> its fit, most telling first. TRL's rows show what each of its settings brings."""
    from gpu_flex import FLEX

    from sft.training.attention import BY_ROW

    lora = cell.method == "lora"
    found: dict[str, Callable[[Fit], None]] = {
        "sft": ours,
        "TRL, no checkpointing" + (", base in bfloat16" if lora else ""): lambda fit: trl(
            fit, narrow=lora, gradient_checkpointing=False
        ),
    }
    if not cell.packed:
        found["TRL, the same, padding_free"] = lambda fit: trl(
            fit, narrow=lora, gradient_checkpointing=False, padding_free=True
        )
        found["sft, rows padded"] = lambda fit: ours(fit, attention="padded")
    found["sft, attention row by row"] = lambda fit: ours(fit, attention=BY_ROW)
    found["sft, FlexAttention"] = lambda fit: ours(fit, attention=FLEX)
    found["sft, logits of supervised positions kept whole"] = lambda fit: ours(fit, whole_head=True)
    found["TRL, defaults"] = lambda fit: trl(fit, narrow=False)
    return found


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
    seconds = 0.5 if scene.rehearsal else 8.0
    for name, make in contenders(what).items():
        if name in scene.skip:
            continue
        scene.report.begins(name)
        forget_peak()
        fit = Fit(scene, what, clock(3 if scene.rehearsal else 40, seconds))
        try:
            make(fit)
        except Enough:
            pass
        except Exception as error:  # out of memory, a kernel that is not there: a row of the table, and the next one
            scene.report("fast", cell=scene.report.part, contender=name, failed=in_one_line(error))
            continue
        ends, seen = fit.clock.ends, fit.counted.seen if fit.counted else []
        taken = ends[-1] - ends[LEFT_OUT - 1]
        counted = seen[LEFT_OUT : len(ends)]
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
            first_step=ends[0] - fit.clock.began,
            steps=len(ends),
            padding=1 - tokens / max(1, sum(slots for _, slots, _ in counted)),
            losses=fit.clock.losses[:8],
        )
        del fit


# -- writing --------------------------------------------------------------------------------------------------------


def writing(scene: Scene) -> None:
    """Held-out writing: ours, ``model.generate`` at batch 8, transformers' continuous batching; greedy, same ids.

    Weights are random, so of each vocabulary some ids stop: completions end after 32 tokens or so, 128 at most.
    """
    from evaluation import as_they_come

    from sft.policies.generation import complete
    from sft.policies.policy import Policy, load_renderer
    from sft.policies.weights import resolved_dtype
    from sft.recipes.sources import resolve_model
    from sft.runs.machine import default_device

    shape = scene.shape(scene.report.part.removeprefix("writing-"))
    base = resolve_model(str(tokenizer_in(scene.scratch / "tokenizer")))
    renderer, vocabulary = load_renderer(base), config_of(shape).vocab_size
    renderer.stop_token_ids = tuple(range(5, vocabulary, 16 if scene.rehearsal else 32))
    model = weights(shape, resolved_dtype("auto"), default_device(), tied=False).eval()
    policy = Policy(model, renderer, base)
    limit, count = (12, 12) if scene.rehearsal else (128, 96)
    lengths = {"mean": 24, "longest": 96} if scene.rehearsal else {"mean": 150, "longest": 1024}
    prompts = {f"{n:04}": list(r.input_ids) for n, (_, r) in enumerate(rows(count, vocabulary, **lengths))}

    def own() -> dict[str, int]:
        made = complete(policy, prompts, max_new_tokens=limit, batch_size=min(100, count))
        return {one.id: one.tokens for one in made}

    def continuous() -> dict[str, int]:
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
        return {str(n): len(answer.generated_tokens) for n, answer in enumerate(answers.values())}

    makers: dict[str, Callable[[], dict[str, int]]] = {
        "sft": own,
        "generate, batch 8": lambda: {k: n for k, (_, n) in as_they_come(policy, prompts, limit).items()},
        "transformers, continuous batching": continuous,
    }
    for name, make in makers.items():
        if name in scene.skip:
            continue
        scene.report.begins(name)
        try:
            forget_peak()
            as_they_come(policy, dict(list(prompts.items())[:2]), 2)
            began = now()
            written = make()
            taken = now() - began
        except Exception as error:
            scene.report("written", shape=shape, contender=name, failed=in_one_line(error))
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
