"""A plan's arithmetic against numbers worked out by hand, and planted costs and machines."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from trl.kernels.chunked_logprob import TOKEN_CHUNK_SIZE
from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE

from sft.runs.machine import Machine, size
from sft.training.plan.costs import PROCESS, TILE, certain_bytes, cost_of, estimate, fitted_cost, looks, remedies
from sft.training.plan.parts import Batch, Disk, Fit, Memory, ModelSize, Plan, Remedy, Time, Work, duration

#: SmolLM2-135M under a LoRA of rank 16 on all linear layers, in float32.
MODEL = ModelSize(139_400_000, 4_884_480, 557_600_000, 19_537_920, 30, 576, 1536, 192, 49_152, 4)
FIT = Fit(8, 1, False, "lora", "float32", "adamw_torch", 512)
MEMORY = Memory(558_000_000, 20_000_000, 39_000_000, 6_400_000_000, 157_000_000, 926_000_000)
LONGEST = Batch(8, 4096, 96, 4000, 400, 8 * 512**2)


def work(batches: int = 4, steps: int = 4, accumulation: int = 1) -> Work:
    made = tuple(Batch(8, 100 * (k + 1), 10, 100 * (k + 1) - 10, 20, 1000) for k in range(batches))
    return Work({"train": 32, "validation": 4, "test": 9}, 1, {"prompt": 700, "completion": 80}, made, batches,
                steps, accumulation, 2, 2)  # fmt: skip


def plan(available: int | None = 24_000_000_000, remedy: Remedy | None = None, **given: object) -> Plan:
    made = Plan(
        "toy", work(), MODEL, FIT, MEMORY, Time(5.0, 60.0, 3.0, 2.0),
        Disk(20_000_000, 60_000_000, 2, 1_000_000), Machine("cpu", 24_000_000_000, available, 10**12), True, remedy,
    )  # fmt: skip
    return replace(made, **given)  # type: ignore[arg-type]


def test_adamw_holds_two_float32_states_and_a_gradient_of_what_is_fitted_alone() -> None:
    assert certain_bytes(MODEL, FIT) == (557_600_000, 4_884_480 * 4, 4_884_480 * 8)
    assert certain_bytes(MODEL, replace(FIT, optim="sgd"))[2] == 0
    assert certain_bytes(MODEL, replace(FIT, optim="one_that_nobody_knows"))[2] == 0, "never too much"


def test_logits_are_the_supervised_positions_times_the_vocabulary_twice() -> None:
    assert estimate(MODEL, FIT, LONGEST).logits == 400 * 49_152 * 4 * 2
    assert estimate(MODEL, FIT, LONGEST, device="mps").logits == 400 * 49_152 * 4 * 2


def test_on_cuda_no_logits_are_whole() -> None:
    """TRL's head keeps one tile of them, of its own size: an 8B model's longest batch is not told to take gigabytes."""
    assert (TOKEN_CHUNK_SIZE, _CHUNKED_LOGPROB_CHUNK_SIZE) == TILE
    assert estimate(MODEL, FIT, LONGEST, device="cuda").logits == 400 * 32_768 * MODEL.itemsize
    wide, long = replace(MODEL, vocabulary=128_256), replace(LONGEST, supervised=6000)
    assert estimate(wide, FIT, long).logits > 6e9
    assert estimate(wide, FIT, long, device="cuda").logits == 4096 * 32_768 * MODEL.itemsize


def test_memory_is_the_sum_of_its_parts_and_falls_with_checkpointing_and_short_batches() -> None:
    memory = estimate(MODEL, FIT, LONGEST)
    held = memory.activations + memory.logits
    assert memory.peak == sum(certain_bytes(MODEL, FIT)) + held + held // 10 + PROCESS
    assert estimate(MODEL, replace(FIT, checkpointing=True), LONGEST).activations < memory.activations / 10
    half = estimate(MODEL, FIT, replace(LONGEST, slots=2048))
    assert half.activations == memory.activations / 2


def test_a_planted_cost_is_found_and_adds_up_over_the_whole_fit() -> None:
    """Seconds = 0.2 + 2 ms a position + 1 ns a square + 5 ms a supervised one: from eight passes, all two hundred."""
    draw = random.Random(0)
    batches = []
    for _ in range(200):
        length, supervised = draw.randint(20, 512), draw.randint(5, 300)
        batches.append(Batch(8, 8 * length, 0, 8 * length, supervised, 8 * length**2))
    seconds = [0.2 + 2e-3 * b.slots + 1e-9 * b.squares + 5e-3 * b.supervised for b in batches]
    terms = fitted_cost(batches[:8], seconds[:8])
    assert terms == pytest.approx((0.2, 2e-3, 1e-9, 5e-3), rel=1e-3)
    assert sum(cost_of(b, terms) for b in batches) == pytest.approx(sum(seconds), rel=1e-6)


def test_of_few_passes_the_cost_is_in_proportion() -> None:
    one = Batch(1, 100, 0, 100, 10, 10_000)
    terms = fitted_cost([one, replace(one, slots=300)], [1.0, 3.0])
    assert cost_of(replace(one, slots=50), terms) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("batches", "accumulation", "steps", "passes"),
    [(10, 1, 10, 10), (10, 1, 25, 25), (10, 4, 3, 10), (10, 4, 6, 20), (10, 4, 4, 14), (10, 4, 2, 8)],
)
def test_passes_of_a_fit_by_hand(batches: int, accumulation: int, steps: int, passes: int) -> None:
    """Ten batches by four make three steps an epoch, of four, four and two."""
    assert work(batches, steps, accumulation).passes == passes


def test_sums_over_part_of_an_epoch_and_over_several() -> None:
    assert work(4, steps=2).total([1.0, 2.0]) == 3.0
    assert work(4, steps=8).total([1.0, 2.0, 3.0, 4.0]) == 20.0
    assert work(4, steps=2).longest.slots == 200, "batches that the steps do not reach do not count"


@pytest.mark.parametrize(
    ("steps", "every", "times"), [(57, 0.25, 4), (57, 10, 6), (60, 10, 6), (5, 100, 1), (5, None, 0), (100, 0.5, 2)]
)
def test_looks_that_are_due(steps: int, every: float | None, times: int) -> None:
    """A quarter of 57 steps is 15: at 15, 30, 45, and at the end."""
    assert looks(steps, every) == times


def test_settings_that_change_least_come_first() -> None:
    """The same batch in parts, checkpointing, an adapter, narrow weights, and only then shorter demonstrations."""
    full = replace(FIT, method="full", batch_size=4)
    steps = list(remedies(full))
    assert steps[0].settings(full) == {
        "training.per_device_train_batch_size": 2,
        "training.gradient_accumulation_steps": 2,
    }
    first = {key: next(n for n, step in enumerate(steps) if key in step.settings(full)) for key in (
        "training.gradient_checkpointing", "adapter.method", "model.dtype", "training.max_length",
    )}  # fmt: skip
    assert list(first.values()) == sorted(first.values())
    assert all(step.batch_size * step.accumulation >= 4 for step in steps), "the batch of a step never shrinks"
    assert steps[-1].max_length >= 64


def test_the_verdict_says_what_is_there_and_which_setting_would_fit() -> None:
    assert plan().fits and plan().verdict == "fits: 8.1 GB of the 24.0 GB of memory that are free"
    remedy = Remedy({"training.gradient_checkpointing": True}, 900_000_000)
    small = plan(1_000_000_000, remedy)
    assert not small.fits
    assert small.verdict == (
        "does not fit: 8.1 GB are needed and 1.0 GB of memory are free; it would with "
        "--set training.gradient_checkpointing=true (900 MB)"
    )
    assert "no setting would make it fit" in plan(1_000_000, Remedy({}, 0)).verdict
    assert "cannot be told" in plan(None).verdict
    full = plan(machine=Machine("cpu", 24 * 10**9, 24 * 10**9, 100_000_000))
    assert full.fits and not full.fits_on_disk and "the disk is too small" in full.verdict


def test_json_holds_what_the_table_says() -> None:
    made = plan()
    found = made.to_dict()
    assert found["memory_bytes"]["peak"] == sum(v for k, v in found["memory_bytes"].items() if k != "peak")
    assert found["seconds"]["total"] == 70.0
    assert found["disk_bytes"]["total"] == 20_000_000 + 2 * 60_000_000 + 1_000_000
    assert found["rows"] == {"train": 32, "validation": 4, "test": 9, "too_long": 1}
    assert found["batches"]["padding"] == pytest.approx(40 / 1000)
    assert found["fits"] is True and found["remedy"] is None
    text = made.to_text()
    for shown in ("32 train", "780 to train on, 80 supervised", "4.0%", "4 of 1 batch", "2 looks", "70 s", "141 MB"):
        assert shown in text, shown
    assert text.splitlines()[-1] == "Fits: 8.1 GB of the 24.0 GB of memory that are free."


@pytest.mark.parametrize(
    ("count", "shown"), [(1_500_000_000, "1.5 GB"), (999, "1 kB"), (120_000_000_000, "120 GB"), (45e6, "45 MB")]
)
def test_sizes_as_a_person_reads_them(count: float, shown: str) -> None:
    assert size(count) == shown


def test_durations_as_a_person_reads_them() -> None:
    assert [duration(s) for s in (2.34, 45, 600, 9000)] == ["2.3 s", "45 s", "10 min", "2.5 h"]
