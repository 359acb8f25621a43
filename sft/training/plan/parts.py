"""A plan, as a table, as JSON, and its verdict; and what it is made of. Sizes are bytes, times seconds.

Memory is taken apart into what a fit holds at its peak:

weights       every parameter and buffer, in the format it is kept in
gradients     one value per fitted parameter, in its format
optimizer     AdamW: two states per fitted parameter, in its format
activations   what the longest batch's forward keeps for the backward
logits        supervised positions x vocabulary x 4 bytes, twice: probabilities and their gradient; on CUDA a tile
rest          libraries, demonstrations, work space of kernels, what the allocator keeps back
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, astuple, dataclass
from typing import Any

from sft.runs.machine import Machine, size
from sft.runs.tabular import Tabular


@dataclass(frozen=True, slots=True)
class ModelSize:
    """What is known of the model to be fitted before its weights are read.

    ``weight_bytes``: parameters and buffers; ``width``, ``wide``, ``keys``: of hidden states, of the feed-forward
    layer, of all keys of a token; ``itemsize``: bytes of a number in the forward pass.
    """

    parameters: int
    trainable: int
    weight_bytes: int
    trainable_bytes: int
    layers: int
    width: int
    wide: int
    keys: int
    vocabulary: int
    itemsize: int


@dataclass(frozen=True, slots=True)
class Batch:
    """One forward pass. ``slots``: positions computed, ``padding`` of them fillers; ``squares``: of lengths, summed.

    ``tokens``: of its rows, prompt and completion; more than ``slots`` where rows share what they begin with.
    """

    rows: int
    slots: int
    padding: int
    tokens: int
    supervised: int
    squares: int


@dataclass(frozen=True, slots=True)
class Work:
    """What will be done: rows by split, tokens of the training split, and the batches of one epoch.

    ``batches``: those counted; ``batches_in_epoch``: how many there are. ``steps``: optimizer steps, each of
    ``accumulation`` batches.
    """

    rows: Mapping[str, int]
    too_long: int
    tokens: Mapping[str, int]
    batches: tuple[Batch, ...]
    batches_in_epoch: int
    steps: int
    accumulation: int
    validation_passes: int
    checkpoints: int

    @property
    def passes(self) -> int:
        """Forward passes of the whole fit; the last step of an epoch may have fewer than the others."""
        steps_in_epoch = max(1, math.ceil(self.batches_in_epoch / self.accumulation))
        whole, rest = divmod(self.steps, steps_in_epoch)
        return whole * self.batches_in_epoch + min(rest * self.accumulation, self.batches_in_epoch)

    @property
    def taken(self) -> tuple[Batch, ...]:
        """The counted batches that the fit gets to."""
        return self.batches[: max(1, self.passes)]

    @property
    def longest(self) -> Batch:
        """The batch with the most positions."""
        return max(self.taken, key=lambda batch: (batch.slots, batch.supervised))

    @property
    def padding(self) -> float:
        """Share of the computed positions that are fillers."""
        return sum(b.padding for b in self.taken) / max(1, sum(b.slots for b in self.taken))

    def total(self, values: Iterable[float]) -> float:
        """Over the whole fit, the sum of what there is one of for each of :attr:`taken`."""
        found = list(values)
        return math.fsum(found) * self.passes / max(1, len(found))


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes at the peak of a fit, by part; see the module. ``peak`` is their sum."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    rest: int

    @property
    def peak(self) -> int:
        """All of it."""
        return sum(astuple(self))


@dataclass(frozen=True, slots=True)
class Time:
    """Seconds of the whole of ``sft train``, by part, from a probe."""

    start: float
    steps: float
    validation: float
    saving: float

    @property
    def total(self) -> float:
        """All of it."""
        return sum(astuple(self))


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes on disk: what stays of the fit, and the checkpoints beside it (the last two, and the best)."""

    clone: int
    checkpoint: int
    checkpoints: int
    demonstrations: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.clone + self.checkpoint * self.checkpoints + self.demonstrations


@dataclass(frozen=True, slots=True)
class Fit:
    """The settings that decide the memory of a fit, as a recipe has them."""

    batch_size: int
    accumulation: int
    checkpointing: bool
    method: str
    dtype: str
    optim: str
    max_length: int

    def settings(self, before: Fit) -> dict[str, Any]:
        """The recipe's keys that differ from ``before``, as ``--set`` takes them."""
        keys = {
            "batch_size": "training.per_device_train_batch_size",
            "accumulation": "training.gradient_accumulation_steps",
            "checkpointing": "training.gradient_checkpointing",
            "method": "adapter.method",
            "dtype": "model.dtype",
            "max_length": "training.max_length",
        }
        return {key: getattr(self, name) for name, key in keys.items() if getattr(self, name) != getattr(before, name)}


@dataclass(frozen=True, slots=True)
class Remedy:
    """Settings with which the run would fit, and the peak they would have. Without settings: none was found."""

    settings: Mapping[str, Any]
    peak: int

    def to_text(self) -> str:
        """As words of a command line."""
        shown = {True: "true", False: "false"}
        return " ".join(
            f"--set {key}={shown.get(v, v) if isinstance(v, bool) else v}" for key, v in self.settings.items()
        )


@dataclass(frozen=True, slots=True)
class Plan(Tabular):
    """What a fit takes on this machine. ``measured``: a probe ran, else memory is computed and there is no time.

    ``remedy``: where the run does not fit; ``notes``: what a reader has to know about how this came about.
    """

    name: str
    work: Work
    model: ModelSize
    fit: Fit
    memory: Memory
    time: Time | None
    disk: Disk
    machine: Machine
    measured: bool
    remedy: Remedy | None = None
    notes: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether the run fits into the memory that is available, as far as that is known."""
        return self.machine.available is None or self.memory.peak <= self.machine.available

    @property
    def fits_on_disk(self) -> bool:
        """Whether what it writes fits onto the disk, as far as that is known."""
        return self.machine.disk_free is None or self.disk.total <= self.machine.disk_free

    @property
    def verdict(self) -> str:
        """One sentence: whether it fits, and which setting would."""
        where = "GPU memory" if self.machine.device != "cpu" else "memory"
        available = self.machine.available
        if available is None:
            said = f"the peak is {size(self.memory.peak)}; how much {where} this machine has cannot be told"
        elif self.fits:
            said = f"fits: {size(self.memory.peak)} of the {size(available)} of {where} that are free"
        else:
            said = f"does not fit: {size(self.memory.peak)} are needed and {size(available)} of {where} are free"
            if self.remedy is None or not self.remedy.settings:
                said += "; no setting would make it fit, so choose a smaller model"
            else:
                said += f"; it would with {self.remedy.to_text()} ({size(self.remedy.peak)})"
        if not self.fits_on_disk:
            said += (
                f"; the disk is too small: {size(self.disk.total)} are needed, {size(self.machine.disk_free or 0)} free"
            )
        return said

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values: bytes, seconds, counts; batches only as their sums."""
        work, longest = self.work, self.work.longest
        return {
            "name": self.name,
            "rows": dict(work.rows) | {"too_long": work.too_long},
            "tokens": dict(work.tokens),
            "batches": {
                "in_epoch": work.batches_in_epoch,
                "counted": len(work.taken),
                "passes": work.passes,
                "padding": round(work.padding, 4),
                "longest": asdict(longest),
            },
            "steps": work.steps,
            "validation_passes": work.validation_passes,
            "checkpoints": work.checkpoints,
            "parameters": self.model.parameters,
            "trainable_parameters": self.model.trainable,
            "memory_bytes": asdict(self.memory) | {"peak": self.memory.peak},
            "seconds": self.time and {key: round(value, 3) for key, value in _with_total(self.time).items()},
            "disk_bytes": _with_total(self.disk),
            "machine": asdict(self.machine),
            "measured": self.measured,
            "fits": self.fits and self.fits_on_disk,
            "remedy": None if self.remedy is None else {"set": dict(self.remedy.settings), "peak": self.remedy.peak},
            "verdict": self.verdict,
            "notes": list(self.notes),
        }

    def table(self) -> list[dict[str, Any]]:
        """Every quantity of :meth:`to_dict` by its dotted name: bytes, seconds, counts."""
        return [{"quantity": name, "value": value} for name, value in _leaves(self.to_dict())]

    def to_text(self) -> str:
        """A table of parts with their units, then the verdict."""
        work, longest = self.work, self.work.longest
        tokens, memory, disk = work.tokens, self.memory, self.disk
        rows = ", ".join(f"{count:,} {name}" for name, count in work.rows.items())
        lines = [
            ("rows", rows + (f"; {work.too_long:,} too long" if work.too_long else "")),
            ("tokens", f"{tokens['prompt'] + tokens['completion']:,} to train on, {tokens['completion']:,} supervised"),
            ("padding", f"{work.padding:.1%} of the positions computed"),
            ("steps", f"{work.steps:,} of {_count(work.accumulation, 'batch', 'batches')}; "
             f"{_count(work.validation_passes, 'look', 'looks')} at the validation split"),
            ("longest", f"{longest.slots:,} positions, {longest.supervised:,} supervised, "
             f"{_count(longest.rows, 'row', 'rows')}"),
            ("fitted", f"{self.model.trainable:,} of {self.model.parameters:,} parameters"),
            ("", ""),
            ("memory", f"{size(memory.peak)} at the peak, {'measured' if self.measured else 'computed'}"),
        ]  # fmt: skip
        lines += [(f"  {name}", size(value)) for name, value in asdict(memory).items()]
        lines.append(("", ""))
        if self.time is None:
            lines.append(("time", "not measured"))
        else:
            lines.append(("time", f"{duration(self.time.total)} for training, from a probe"))
            lines += [(f"  {name}", duration(value)) for name, value in asdict(self.time).items()]
        checkpoints = disk.checkpoint * disk.checkpoints
        lines += [
            ("", ""),
            ("disk", size(disk.total)),
            ("  clone", size(disk.clone)),
            ("  checkpoints", f"{size(checkpoints)} ({disk.checkpoints} of {size(disk.checkpoint)})"),
            ("  demonstrations", size(disk.demonstrations)),
        ]  # fmt: skip
        table = "\n".join(f"{name:<18}{value}".rstrip() for name, value in lines)
        notes = "".join(f"\n{note}" for note in self.notes)
        return f"{table}\n\n{self.verdict[0].upper()}{self.verdict[1:]}.{notes}"


def _leaves(values: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of everything in ``values``."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{at}{key}.")
        else:
            yield f"{at}{key}", value


def _with_total(part: Time | Disk) -> dict[str, Any]:
    return asdict(part) | {"total": part.total}


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def duration(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3.4 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 9.5 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
