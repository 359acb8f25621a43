"""A plan as a whole: its table, its JSON, its verdict."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sft.runs.machine import Machine, size
from sft.training.plan.parts import Disk, Fit, Memory, Model, Remedy, Time, Work, duration

__all__ = ["Plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """All of it. ``measured``: a probe ran, else memory is computed and there is no time.

    ``remedy``: where the run does not fit; ``notes``: what a reader has to know about how this came about.
    """

    name: str
    work: Work
    model: Model
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
            "seconds": None if self.time is None else _rounded(self.time),
            "disk_bytes": asdict(self.disk) | {"total": self.disk.total},
            "machine": asdict(self.machine),
            "measured": self.measured,
            "fits": self.fits and self.fits_on_disk,
            "remedy": None if self.remedy is None else {"set": dict(self.remedy.settings), "peak": self.remedy.peak},
            "verdict": self.verdict,
            "notes": list(self.notes),
        }

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


def _rounded(time: Time) -> dict[str, float]:
    return {key: round(value, 3) for key, value in (asdict(time) | {"total": time.total}).items()}


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
