"""Who fits a cell of ``benchmarks/gpu.py``: the product's own fit, in ways that it could have taken, and TRL's.

All get the same weights (one seed), rows and batches in one order, and a clock (``gpu_fast``) that ends them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from gpu_made import Scene, config_of, forget_peak, rows, tokenizer_in, weights


@dataclass(frozen=True, slots=True)
class Cell:
    """What is fitted: ``shape``, ``method`` (lora, full), ``packed`` (2,048 a sequence), ``batch`` items a step.

    ``longest``: tokens of the longest row. 1,024 is where TRL cuts rows unless told otherwise; beside a row twice as
    long, a padded batch of the larger cells would not fit on a card, and there would be nothing to compare with.
    """

    shape: str
    method: str
    packed: bool
    batch: int
    longest: int = 1024


@dataclass
class Counted:
    """A collator's batches, and what is in each: lengths of its rows, positions computed, supervised positions."""

    collate: Callable[[list[Any]], dict[str, Any]]
    seen: list[tuple[list[int], int, int]] = field(default_factory=list)

    def __call__(self, items: list[Any]) -> dict[str, Any]:
        """The batch, when it is counted."""
        batch = self.collate(items)
        ids, labels, filled = batch["input_ids"], batch["labels"], batch.pop("filled", 0)
        if "segments" in batch:
            lengths = [length for length in batch["segments"] if length]
            lengths = lengths[:-1] if filled else lengths
        elif "attention_mask" in batch:
            lengths = batch["attention_mask"].sum(1).tolist()
        else:  # rows of a line begin where positions begin anew
            starts = (batch["position_ids"][0] == 0).nonzero()[:, 0].tolist()
            lengths = [after - before for before, after in pairwise([*starts, ids.shape[1]])]
        self.seen.append((lengths, ids.numel(), int((labels[:, 1:] != -100).sum())))
        return batch


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

        shape = self.scene.shape(self.cell.shape)
        folder = tokenizer_in(self.scene.scratch / f"tokenizer-{shape}", shape)
        training = {
            "learning_rate": 1.0e-5, "max_steps": 1000, "logging_steps": 1, "eval_strategy": "no", "save_steps": 1000,
            "per_device_train_batch_size": self.cell.batch, "train_sampling_strategy": "sequential",
            "lr_scheduler_type": "constant", "warmup_steps": 0,
            "max_length": 2048 if self.cell.packed else self.cell.longest, "packing": self.cell.packed,
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
        count = self.cell.batch * (9 if self.cell.packed else 1) * 60
        return rows(count, vocabulary, longest=self.cell.longest)

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


def ours(fit: Fit, *, attention: str | None = None, head: Any = None, layers: str | None = None) -> None:
    """A fit through the product's own door, or with one thing otherwise.

    ``attention``: "padded", or the name of one for rows in a line; the product's own choice without. ``head``: one of
    ``gpu_heads``. ``layers``: "few lengths" or "any length", compiled so.
    """
    from accelerate.utils import set_seed
    from gpu_layers import BETWEEN, LINE, Filled, compile_layers
    from peft import PeftModel

    from sft.policies.policy import load_renderer
    from sft.recipes.sources import source_of
    from sft.runs.run import Run
    from sft.training import fitting
    from sft.training.attention import attending_by_row
    from sft.training.sequences import Collator, LineCollator
    from sft.training.trainer import CloningTrainer

    attention = BETWEEN if layers else attention

    class Watched(CloningTrainer):
        def __init__(self, *words: Any, **settings: Any) -> None:
            if attention == "padded":
                settings["data_collator"] = Collator(renderer.pad_token_id)
            elif attention:
                settings["data_collator"] = LineCollator(share=False)
            if layers == "few lengths":
                every = 1024 if fit.scene.rehearsal else 2048
                settings["data_collator"] = Filled(settings["data_collator"], every, renderer.pad_token_id)
            fit.counted = settings["data_collator"] = Counted(settings["data_collator"])
            super().__init__(*words, **settings)
            self.add_callback(fit.clock)

        def train(self, *words: Any, **settings: Any) -> Any:
            if attention in (None, "padded"):
                return super().train(*words, **settings)
            bare = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
            if layers:
                compile_layers(bare, any_length=layers == "any length")
            with attending_by_row(bare, attention):
                return super().train(*words, **settings)

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            if layers:
                LINE.segments = inputs.pop("segments")
            if head is not None:
                return head(self, model, inputs, num_items_in_batch)
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

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


def contenders(cell: Cell, *, rehearsal: bool) -> dict[str, Callable[[Fit], None]]:
    """Name -> its fit, most telling first. TRL's rows show what each of its settings brings."""
    from gpu_flex import FLEX
    from gpu_heads import cut, whole

    from sft.training.attention import BY_ROW

    lora = cell.method == "lora"
    best = partial(trl, narrow=lora, gradient_checkpointing=False)
    found: dict[str, Callable[[Fit], None]] = {
        "sft": ours,
        "TRL, no checkpointing" + (", base in bfloat16" if lora else ""): best,
    }
    if not cell.packed:
        found["TRL, the same, padding_free"] = partial(best, padding_free=True)
    found["sft, head by cut_cross_entropy"] = partial(ours, head=cut)
    if not rehearsal or cell.shape == "1.3B":  # of toys, which are all one, two cells take their time
        found["sft, layers compiled for few lengths"] = partial(ours, layers="few lengths")
        found["sft, layers compiled for any length"] = partial(ours, layers="any length")
    found["sft, logits of supervised positions kept whole"] = partial(ours, head=whole)
    if not cell.packed:
        found["sft, rows padded"] = partial(ours, attention="padded")
    found["sft, attention row by row"] = partial(ours, attention=BY_ROW)
    found["TRL, defaults"] = partial(trl, narrow=False)
    found["sft, FlexAttention"] = partial(ours, attention=FLEX)
    return found
