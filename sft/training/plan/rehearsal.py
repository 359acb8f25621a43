"""The trainer as a run will build it, made to count its batches, or to fit a few of them against the clock.

``training.train`` does the building: its sampler, its collator, its adapter. Only the trainer's class is another
one, whose ``train`` does less. What is fitted here goes into a scratch folder that the caller throws away.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from sft.policies.rendering import Renderer
from sft.recipes import Recipe
from sft.recipes.sources import BaseSource
from sft.runs.machine import peak_memory_bytes
from sft.runs.run import Run
from sft.training import fitting
from sft.training.plan.costs import looks, outline
from sft.training.plan.parts import Batch, Work
from sft.training.sequences import IGNORED, Rows
from sft.training.trainer import CloningTrainer

#: Batches of an epoch that are looked at; the rest are taken to be like them.
COUNTED = 5000
#: Passes that are timed at most, and after how many seconds no other is begun.
TIMED, SECONDS = 14, 30.0
#: A checkpoint larger than this many bytes is not written for its time alone.
LARGEST_CHECKPOINT = 4_000_000_000


@dataclass(slots=True)
class Measured:
    """What a rehearsal found. Seconds and bytes; ``batches`` and ``seconds``: the passes that were timed.

    ``held``: bytes autograd kept for the backward of the longest batch, weights aside, and ``held_logits`` those over
    the vocabulary; ``optimizer``: of its states.
    """

    work: Work | None = None
    batches: list[Batch] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    per_step: float = 0.0
    validation: float = 0.0
    checkpoint: float = 0.0
    checkpoint_bytes: int = 0
    clone: float = 0.0
    clone_bytes: int = 0
    began: float = 0.0
    held: int = 0
    held_logits: int = 0
    optimizer: int = 0
    gradients: int = 0
    weights: int = 0
    peak: int = 0


class _Counted(Exception):
    """Carries what was counted out of ``training.train``."""

    def __init__(self, work: Work) -> None:
        self.work = work


def batch_of(inputs: dict[str, Any], lengths: Sequence[int]) -> Batch:
    """What is in a batch as the collator made it; ``lengths``: tokens of every row, by its number."""
    rows, labels = inputs["row"].tolist(), inputs["labels"]
    slots = inputs["input_ids"].numel()
    padding = int((inputs["attention_mask"] == 0).sum()) if "attention_mask" in inputs else 0
    if "segments" in inputs:
        shared, *rest = inputs["segments"]
        squares = sum((shared + own) ** 2 for own in rest)
    else:
        squares = slots * inputs["input_ids"].shape[1]
    supervised = int((labels[:, 1:] != IGNORED).sum())
    return Batch(len(rows), slots, padding, sum(lengths[row] for row in rows), supervised, squares)


def work_of(trainer: CloningTrainer, training: Rows, rows: dict[str, int], too_long: int) -> Work:
    """What ``trainer`` will do, asked of its own sampler and collator; its draws are put back as they were."""
    lengths = [len(rendered) for _, rendered in training]
    accumulation = trainer.args.gradient_accumulation_steps
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        loader = trainer.get_train_dataloader()
        steps = trainer.set_initial_training_values(trainer.args, loader)[6]
        batches = tuple(batch_of(inputs, lengths) for inputs in islice(loader, min(COUNTED, steps * accumulation)))
    epochs = -(-steps // max(1, -(-len(loader) // accumulation)))
    by_epoch = trainer.args.save_strategy == SaveStrategy.EPOCH
    evaluates = trainer.args.eval_strategy != IntervalStrategy.NO
    return Work(
        rows=rows,
        too_long=too_long,
        tokens={
            "prompt": sum(len(rendered.prompt_ids) for _, rendered in training),
            "completion": sum(len(rendered.completion_ids) for _, rendered in training),
        },
        batches=batches,
        batches_in_epoch=len(loader),
        steps=steps,
        accumulation=accumulation,
        validation_passes=0 if not evaluates else epochs if by_epoch else looks(steps, trainer.args.eval_steps),
        checkpoints=epochs if by_epoch else looks(steps, trainer.args.save_steps),
    )


def count(
    recipe: Recipe, training: Rows, validation: Rows, *, base: BaseSource, renderer: Renderer, scratch: Path,
    rows: dict[str, int], too_long: int, bf16: bool,
) -> Work:  # fmt: skip
    """The work of a fit, from a trainer around an outline of the model: no weights are read."""

    class Counting(CloningTrainer):
        def _move_model_to_device(self, model: torch.nn.Module, device: torch.device) -> None:
            """Nothing to move: an outline has no weights."""

        def train(self, *_: Any, **__: Any) -> Any:
            raise _Counted(work_of(self, training, rows, too_long))

    try:
        with Run.create(scratch / "run") as run:
            fitting.train(
                recipe, training, validation, base=base, renderer=renderer, run=run, bf16=bf16,
                trainer_class=Counting, policy_to_fit=lambda recipe, base, renderer: outline(recipe, base),
            )  # fmt: skip
    except _Counted as done:
        return done.work
    raise AssertionError("training.train returned without training")


def rehearse(
    recipe: Recipe, training: Rows, validation: Rows, *, base: BaseSource, renderer: Renderer, scratch: Path,
    rows: dict[str, int], too_long: int, bf16: bool, seconds: float = SECONDS,
) -> Measured:  # fmt: skip
    """Load the model, fit a few batches of all lengths, the longest among them, and look at the clock and the memory.

    About ``seconds`` of fitting. The peak is this process's, so it should be one that has done nothing else.
    """
    found = Measured()

    class Rehearsing(_Rehearsal):
        def train(self, *_: Any, **__: Any) -> Any:
            found.began = time.monotonic()
            self.found, self.limit = found, seconds
            # Anew: batches that are grouped by length come in another order after the adapter's draws.
            found.work = work_of(self, training, rows, too_long)
            return self.fit_a_few(found.work, training)

    with Run.create(scratch / "run") as run:
        fitting.train(
            recipe, training, validation, base=base, renderer=renderer, run=run, bf16=bf16, trainer_class=Rehearsing
        )
    found.clone = time.monotonic() - found.clone
    folders = [scratch / "run" / name for name in ("adapter", "model")]
    found.clone_bytes = sum(_bytes_in(folder) for folder in folders)
    found.peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else peak_memory_bytes()
    return found


class _Rehearsal(CloningTrainer):
    """A trainer that fits chosen batches and times them; see :func:`rehearse`."""

    found: Measured
    limit: float
    _chosen: list[dict[str, Any]] | None = None

    def get_train_dataloader(self) -> Any:
        """The chosen batches, once they are chosen."""
        if self._chosen is None:
            return super().get_train_dataloader()
        return torch.utils.data.DataLoader(self._chosen, batch_size=None, collate_fn=_as_it_is)  # type: ignore[arg-type]

    def fit_a_few(self, work: Work, training: Rows) -> Any:
        """Train on the chosen batches, look at the validation split once, write one checkpoint."""
        found, args = self.found, self.args
        lengths = [len(rendered) for _, rendered in training]
        order = chosen(work.taken)
        with torch.random.fork_rng(devices=[]):
            batches = enumerate(islice(self.get_train_dataloader(), max(order) + 1))
            every = {number: inputs for number, inputs in batches if number in order}  # all would show in the peak
        self._chosen = [every[number] for number in order]
        measured = [batch_of(inputs, lengths) for inputs in self._chosen]
        args.max_steps, args.gradient_accumulation_steps = len(order), 1
        looks_at_validation = args.eval_strategy != IntervalStrategy.NO
        args.eval_strategy, args.save_strategy = IntervalStrategy.NO, SaveStrategy.NO
        args.load_best_model_at_end = False
        self.add_callback(_Clock(self))
        result = super().train()
        found.batches = measured[1 : 1 + len(found.seconds)]
        if looks_at_validation:
            found.validation = self._look()
        held = [value for state in self.optimizer.state.values() for value in state.values()]
        found.optimizer = sum(v.numel() * v.element_size() for v in held if isinstance(v, torch.Tensor))
        parameters = list(self.model.parameters())
        found.weights = sum(p.numel() * p.element_size() for p in [*parameters, *self.model.buffers()])
        found.gradients = sum(p.numel() * p.element_size() for p in parameters if p.requires_grad)
        if found.optimizer + found.weights < LARGEST_CHECKPOINT:
            began = time.monotonic()
            self._save_checkpoint(self.model, None)
            found.checkpoint = time.monotonic() - began
            found.checkpoint_bytes = _bytes_in(Path(args.output_dir))
        found.clone = time.monotonic()
        return result

    def _look(self) -> float:
        """Seconds of a look at the validation split, from three of its batches: its shortest rows, and so on."""
        size, whole = self.args.per_device_eval_batch_size, self.eval_dataset
        batches = [range(begin, min(begin + size, len(whole))) for begin in range(0, len(whole), size)]
        lengths = whole["length"]
        picked = sorted({0, len(batches) // 2, len(batches) - 1})
        began = time.monotonic()
        for number in picked:
            self.evaluate(whole.select(list(batches[number])))
        seconds = time.monotonic() - began
        tokens = sum(lengths[row] for number in picked for row in batches[number])
        return seconds * sum(lengths) / max(1, tokens)

    def training_step(self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As ever, with a clock beside it."""
        began = _now()
        loss = super().training_step(model, inputs, *args, **kwargs)
        self._pass_seconds = _now() - began
        return loss

    def compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As ever; what the forward of the longest batch keeps is added up on the way."""
        if self.state.global_step != 1:
            return super().compute_loss(model, inputs, *args, **kwargs)
        weights = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
        kept: dict[int, tuple[int, bool]] = {}
        vocabulary = model.get_input_embeddings().weight.shape[0]  # type: ignore[operator]

        def look(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                over_words = tensor.dim() > 1 and tensor.shape[-1] == vocabulary
                kept[storage.data_ptr()] = (storage.nbytes(), over_words)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(look, lambda tensor: tensor):
            loss = super().compute_loss(model, inputs, *args, **kwargs)
        self.found.held = sum(count for count, _ in kept.values())
        self.found.held_logits = sum(count for count, over_words in kept.values() if over_words)
        return loss


class _Clock(TrainerCallback):
    """Times every step but the first, which warms up, and stops when there have been enough seconds of it."""

    def __init__(self, trainer: _Rehearsal) -> None:
        self.trainer = trainer
        self.extra: list[float] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Look at the clock."""
        self.began = _now()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Take the pass apart from what a step does once: clipping, the optimizer, the log."""
        whole, found = _now() - self.began, self.trainer.found
        if state.global_step > 1:
            found.seconds.append(self.trainer._pass_seconds)
            self.extra.append(whole - self.trainer._pass_seconds)
            found.per_step = sum(self.extra) / len(self.extra)
            if sum(found.seconds) > self.trainer.limit and len(found.seconds) >= 3:
                control.should_training_stop = True


def chosen(batches: Sequence[Batch]) -> list[int]:
    """Numbers of the batches to time: the shortest to warm up, the longest, then the middles of halves, quarters..."""
    ranked = sorted(range(len(batches)), key=lambda n: (batches[n].slots, batches[n].supervised, n))
    order = [ranked[0], ranked[-1]]
    shares = [(2 * k + 1) / (2 * parts) for parts in (1, 2, 4, 8) for k in range(parts)]
    for share in shares:
        number = ranked[min(int(share * len(ranked)), len(ranked) - 1)]
        if number not in order[1:]:
            order.append(number)
    return order[: 1 + TIMED]


# -- around them ------------------------------------------------------------------------------------------


def _as_it_is(batch: Any) -> Any:
    return batch


def _now() -> float:
    """Seconds, when all that was asked of the device is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
