"""The parts of a fit, each by itself and written out: lines, packs, attention, what watches and what is kept."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")

from accelerate.data_loader import BatchSamplerShard
from random_sequences import random_rows
from torch.utils.data import BatchSampler
from toy_checkpoints import checkpoint, names
from toy_fits import demonstrations, recipe_for, renderer_for
from transformers import LlamaForCausalLM, MixtralConfig, TrainerControl
from trl import SFTTrainer

from sft.demonstrations.demonstration import Demonstration, Message
from sft.errors import TrainingError
from sft.policies.rendering import Rendered
from sft.runs.run import Run
from sft.training.attention import attending_by_row, by_row
from sft.training.batches import collator_for, largest_difference
from sft.training.fit import render_parts
from sft.training.fitting import Record, _refuse_late_validation, _uses_every_weight
from sft.training.going_on import rewind, take_up
from sft.training.resuming import Interruption
from sft.training.sequences import Collator, LineCollator, dataset_of, joined, packed
from sft.training.trainer import CloningTrainer

#: No label.
_ = -100


def row(prompt: list[int], completion: list[int]) -> tuple[Demonstration, Rendered]:
    ids, mask = (*prompt, *completion), (0,) * len(prompt) + (1,) * len(completion)
    return Demonstration((Message("user", "x"),), "x"), Rendered(ids, mask)


# -- sequences --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lengths", "capacity", "packs"),
    [
        ([], 8, []),
        ([8], 8, [[0]]),
        ([5, 3, 4, 2, 6], 8, [[4, 3], [0, 1], [2]]),  # into the pack with the least room that is enough
        ([2, 2, 2], 4, [[0, 1], [2]]),  # of the same length in their order
        ([3, 3, 2, 2], 5, [[0, 2], [1, 3]]),  # of the same room into the first pack
        ([9, 1], 8, [[0], [1]]),  # too long, so alone
        ([1, 12, 11, 8], 8, [[1], [2], [3], [0]]),
    ],
)
def test_packs_written_out(lengths: list[int], capacity: int, packs: list[list[int]]) -> None:
    assert packed(lengths, capacity) == packs


def test_items_written_out() -> None:
    """A chain has the ids of its last row and the completions of all; a pack has its sequences behind each other."""
    rows = [row([1, 2], [3]), row([1, 2, 3, 4], [5, 6]), row([7], [8])]
    assert joined(rows) == [[0], [1], [2]], "of no dialogue"
    assert dataset_of(rows, [[[0, 1], [2]], [[2]]]).to_list() == [
        {
            "input_ids": [1, 2, 3, 4, 5, 6, 7, 8],
            "labels": [_, _, 3, _, 5, 6, _, 8],
            "row": [0, 1, 2],
            "lengths": [6, 2],
            "length": 8,
        },
        {"input_ids": [7, 8], "labels": [_, 8], "row": [2], "lengths": [2], "length": 2},
    ]
    assert [item["row"] for item in dataset_of(rows).to_list()] == [[0], [1], [2]]


def test_padded_rows_written_out() -> None:
    batch = Collator(9)(dataset_of([row([1, 2], [3]), row([4], [5]), row([6, 7, 8], [1, 2])]).to_list())
    assert {name: value.tolist() for name, value in batch.items()} == {
        "input_ids": [[1, 2, 3, 9, 9], [4, 5, 9, 9, 9], [6, 7, 8, 1, 2]],
        "labels": [[_, _, 3, _, _], [_, 5, _, _, _], [_, _, _, 1, 2]],
        "attention_mask": [[1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 1]],
        "row": [0, 1, 2],
    }
    with pytest.raises(ValueError, match="packed sequences in padded rows would see each other"):
        Collator(9)(dataset_of([row([1], [2]), row([3], [4])], [[[0], [1]]]).to_list())


@pytest.mark.parametrize(("common", "shared"), [(7, 0), (8, 8), (9, 9)])
def test_a_common_beginning_is_worth_it_from_eight_tokens_on(common: int, shared: int) -> None:
    head = list(range(10, 10 + common))
    items = dataset_of([row([*head, 1, 2], [3]), row([*head, 4], [5, 6])]).to_list()
    line = LineCollator()(items)
    assert line["segments"] == (shared, common + 3 - shared, common + 3 - shared)
    rests = [[*head[shared:], 1, 2, 3], [*head[shared:], 4, 5, 6]]
    assert line["input_ids"].tolist() == [[*head[:shared], *rests[0], *rests[1]]]
    assert line["position_ids"].tolist() == [
        [*range(shared), *range(shared, common + 3), *range(shared, common + 3)],
    ]
    unlabelled = [_] * (common - shared)
    assert line["labels"].tolist() == [[_] * shared + [*unlabelled, _, _, 3] + [*unlabelled, _, 5, 6]]
    assert line["row"].tolist() == [0, 1]
    assert LineCollator(share=False)(items)["segments"] == (0, common + 3, common + 3)


def test_what_is_supervised_early_is_never_in_the_common_beginning() -> None:
    """In a chain an answer stands within what rows have in common; one token of the prompt before it is left too."""
    head = list(range(10, 20))
    items = dataset_of([row(head, [20, 21]), row([*head, 20, 21, 22], [23])], [[[0, 1]], [[1]]]).to_list()
    assert LineCollator()(items)["segments"] == (9, 5, 5)
    same = dataset_of([row(head, [20])]).to_list()
    assert LineCollator()(same * 2)["segments"] == (9, 2, 2)
    nothing = [dict(same[0], labels=[_] * 11)] * 2
    assert LineCollator()(nothing)["segments"] == (10, 1, 1)


# -- attention --------------------------------------------------------------------------------------------


def attention_by_hand(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, owners: list[int], window: int
) -> torch.Tensor:
    """``owners``: the row of every token, 0 for the common beginning; scores are scaled by 0.3."""
    found = torch.zeros_like(query)
    for head in range(query.shape[1]):
        states = head * key.shape[1] // query.shape[1]
        for place, owner in enumerate(owners):
            seen = [one for one in range(place + 1) if owners[one] in (0, owner)][-window:]
            weights = (0.3 * query[0, head, place] @ key[0, states, seen].T).softmax(-1)
            found[0, head, place] = weights @ value[0, states, seen]
    return found.transpose(1, 2)


@pytest.mark.parametrize("heads", [2, 4])
@pytest.mark.parametrize("window", [None, 1, 3, 5, 6, 100])
@pytest.mark.parametrize("segments", [(3, 5, 2), (0, 6, 4), (1, 1, 8), (4, 0, 6)])
def test_attention_by_row_is_attention_by_hand(heads: int, window: int | None, segments: Any) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, count, 10, 4, dtype=torch.float64) for count in (heads, 2, 2))
    owners = [number for number, size in enumerate(segments) for _ in range(size)]
    found, weights = by_row(torch.nn.Module(), query, key, value, segments=segments, sliding_window=window, scaling=0.3)
    assert weights is None and found.shape == (1, 10, heads, 4) and found.is_contiguous()
    torch.testing.assert_close(found, attention_by_hand(query, key, value, owners, window or 100))


def test_a_model_attends_as_before_when_a_line_is_done(tiny_model: Path) -> None:
    model = LlamaForCausalLM.from_pretrained(tiny_model)
    for error in (None, KeyError):
        try:
            with attending_by_row(model):
                assert model.config._attn_implementation == "sft_by_row"
                if error:
                    raise error
        except KeyError:
            pass
        assert model.config._attn_implementation == "sdpa"


# -- how a batch is laid out ------------------------------------------------------------------------------


def test_a_comparison_leaves_the_model_in_its_mode_and_without_gradients(tiny_model: Path) -> None:
    model = LlamaForCausalLM.from_pretrained(tiny_model)
    for training in (True, False):
        model.train(training)
        assert largest_difference(model, random_rows(9), filler=0) < 1e-5
        assert model.training is training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_why_rows_are_padded(tiny_model: Path) -> None:
    model = LlamaForCausalLM.from_pretrained(tiny_model)
    rows = random_rows(9)
    line = collator_for(recipe_for(tiny_model), model, rows, filler=7)
    assert line == LineCollator(share=True)
    noisy = recipe_for(tiny_model, "training.neftune_noise_alpha=5.0")
    assert collator_for(noisy, model, rows, filler=7) == Collator(7)
    model.model.layers[0].mlp.drop = torch.nn.Dropout(0.0)
    assert collator_for(recipe_for(tiny_model), model, rows, filler=7) == line
    model.config.attention_dropout = 0.1
    assert collator_for(recipe_for(tiny_model), model, rows, filler=7) == LineCollator(share=False)
    model.config.attention_dropout = 0.0
    model.model.layers[0].mlp.drop.p = 0.5
    assert collator_for(recipe_for(tiny_model), model, rows, filler=7) == LineCollator(share=False)
    model.set_attn_implementation("eager")
    with pytest.raises(TrainingError, match=r"because this model's attention cannot be had row by row; set it to fals"):
        collator_for(recipe_for(tiny_model, "training.packing=true"), model, rows, filler=7)


def test_a_process_without_the_weights_compares_nothing(tiny_model: Path) -> None:
    """The first one has them; a comparison on the others would fail."""
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaForCausalLM.config_class.from_pretrained(tiny_model))
    model.set_attn_implementation("sdpa")
    assert collator_for(recipe_for(tiny_model), model, random_rows(0), filler=0) == LineCollator(share=True)


# -- several processes -------------------------------------------------------------------------------------


class Loading(SFTTrainer):
    """As much of a trainer, one of ``processes``, as its loader takes; ``rows`` rows in batches of three."""

    def __init__(
        self, rows: int, processes: int, process: int, *, split: bool = False, drop_last: bool = False
    ) -> None:
        self.accelerator = SimpleNamespace(
            num_processes=processes, gradient_state=SimpleNamespace(end_of_dataloader=False)
        )
        self.args = SimpleNamespace(dataloader_drop_last=drop_last)
        size = 3 * (processes if split else 1)
        sampler = BatchSampler(range(rows), size, drop_last=False)
        self.sampler = BatchSamplerShard(sampler, processes, process, split_batches=split)

    def get_train_dataloader(self) -> Any:
        return SimpleNamespace(batch_sampler=self.sampler)

    def _get_num_items_in_batch(self, batches: list[Any], device: Any) -> int:
        return sum(int((batch["labels"] != _).sum()) for batch in batches)


class Dealing(CloningTrainer, Loading):
    """Deals out what :class:`Loading` loads."""


@pytest.mark.parametrize(
    ("rows", "processes", "dealt"),
    [
        (12, 2, [[[0, 1, 2], [6, 7, 8]], [[3, 4, 5], [9, 10, 11]]]),
        (7, 2, [[[0, 1, 2], [6]], [[3, 4, 5], [6]]]),  # the second [6] stands in, and counts for nothing
        (8, 3, [[[0, 1, 2]], [[3, 4, 5]], [[6, 7]]]),
        (11, 3, [[[0, 1, 2], [9, 10]], [[3, 4, 5], [9]], [[6, 7, 8], [9]]]),
        (2, 3, [[[0, 1]], [[0]], [[0]]]),
    ],
)
def test_several_processes_see_every_row_once(rows: int, processes: int, dealt: list[list[list[int]]]) -> None:
    counted: list[int] = []
    for process in range(processes):
        trainer = Dealing(rows, processes, process)
        sampler = trainer.get_train_dataloader().batch_sampler
        for _epoch in range(2):
            batches = list(sampler)
            assert batches == dealt[process] and len(sampler) == len(batches)
        made = [{"labels": torch.tensor([[_, 5]] * len(b)), "row": torch.tensor(b)} for b in batches]
        before, _count = trainer.get_batch_samples(iter(made), len(made), None)
        assert [batch["row"].tolist() for batch in before] == batches, "it is not the epoch's end yet"
        trainer.accelerator.gradient_state.end_of_dataloader = True
        handed, supervised = trainer.get_batch_samples(iter([*made, {}]), len(made), None)
        seen = [number for batch in handed for number in batch["row"].tolist()]
        assert supervised == len(seen) and len(handed) == len(made)
        counted += seen
        assert trainer.get_batch_samples(iter([]), 2, None) == ([], 0)
    assert sorted(counted) == list(range(rows))


def test_what_accelerate_deals_out_itself_is_left_or_refused() -> None:
    for trainer in (Dealing(7, 1, 0), Dealing(7, 2, 0, drop_last=True)):
        assert type(trainer.get_train_dataloader().batch_sampler) is BatchSamplerShard
    trainer = Dealing(12, 2, 0, split=True)
    with pytest.raises(TrainingError, match=r"training\.accelerator_config: with split_batches or dispatch_batches"):
        trainer.get_train_dataloader()
    trainer.sampler = BatchSampler(range(7), 3, drop_last=False)
    with pytest.raises(TrainingError, match="some rows would count twice an epoch; take them out"):
        trainer.get_train_dataloader()


# -- what watches -----------------------------------------------------------------------------------------


class Trained:
    """What an interruption asks of a trainer, with all that it was asked."""

    def __init__(self, *, may: bool = True, saved: bool = False) -> None:
        self.may_give_up_step, self.saved, self.asked = may, saved, list[str]()

    def note_draws(self) -> None:
        self.asked.append("note")

    def give_up_step(self) -> None:
        self.asked.append("give up")

    def is_saved(self) -> bool:
        return self.saved


def fields(control: TrainerControl) -> set[str]:
    return {name.removeprefix("should_") for name, value in vars(control).items() if value}


def everything() -> TrainerControl:
    return TrainerControl(should_log=True, should_evaluate=True, should_save=True)


def at(step: int, epoch: float = 0.0, **others: Any) -> SimpleNamespace:
    return SimpleNamespace(global_step=step, epoch=epoch, is_world_process_zero=True, max_steps=10, **others)


@pytest.mark.parametrize(("parts", "notes"), [(1, [0, 0, 0]), (2, [1, 1, 2])])
def test_what_a_step_begins_from_is_noted_once_and_only_if_it_has_parts(parts: int, notes: list[int]) -> None:
    """An epoch's first step before its rows are drawn, the others when they begin."""
    interruption = Interruption(trained := Trained())
    args, control = SimpleNamespace(gradient_accumulation_steps=parts), TrainerControl()
    found = []
    for turn, step in (
        (interruption.on_epoch_begin, 4),
        (interruption.on_step_begin, 4),
        (interruption.on_step_begin, 5),
    ):
        turn(args, at(step), control)
        found.append(len(trained.asked))
    assert found == notes and set(trained.asked) <= {"note"}


@pytest.mark.parametrize(("number", "may", "given_up"), [(0, True, False), (15, False, False), (15, True, True)])
def test_a_step_in_parts_is_given_up_where_that_is_asked_and_possible(number: int, may: bool, given_up: bool) -> None:
    interruption, control = Interruption(Trained(may=may)), TrainerControl()
    interruption.asked = number
    interruption.on_substep_end(None, at(4), control)
    assert interruption.trainer.asked == (["give up"] if given_up else [])
    assert (interruption.stopped, fields(control)) == ((True, {"training_stop"}) if given_up else (False, set()))


@pytest.mark.parametrize("saved", [True, False])
@pytest.mark.parametrize("epoch", [1.0, 1.5])
def test_after_a_step_that_was_given_up_only_what_is_not_saved_yet_is_saved(saved: bool, epoch: float) -> None:
    interruption, control = Interruption(Trained(saved=saved)), everything()
    interruption.asked = 15
    interruption.on_substep_end(None, at(4), control)
    interruption.on_epoch_end(None, at(4, epoch), control)
    assert fields(control) == {"training_stop"} | (set() if saved else {"save"})


def test_a_stop_at_the_end_of_a_step_saves_and_is_no_end_of_an_epoch() -> None:
    due = {"log", "evaluate", "save"}
    for number, epoch, ended in ((0, 0.5, due), (15, 2.0, due | {"training_stop"}), (15, 0.5, {"training_stop"})):
        interruption, control = Interruption(Trained()), TrainerControl()
        interruption.asked = number
        interruption.on_step_end(None, at(4), control)
        assert fields(control) == ({"training_stop", "save"} if number else set())
        assert interruption.stopped is bool(number)
        control = TrainerControl(**vars(everything()) | {"should_training_stop": control.should_training_stop})
        interruption.on_epoch_end(None, at(4, epoch), control)
        assert fields(control) == ended
    over = TrainerControl(should_training_stop=True)
    interruption.on_step_end(None, at(10), over)  # the last step: what is due is the trainer's affair
    assert fields(over) == {"training_stop"}


def test_a_line_of_the_log_written_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = {"loss": 1.25, "learning_rate": 1e-3, "grad_norm": 2, "epoch": 0.5, "entropy": 0.1, "note": "words"}
    with Run.create(tmp_path / "run") as run, Record(run, 100.0) as record:
        record.on_log(None, at(2), None, told)
        assert record.bar is None
        record.on_train_begin(None, at(3), None)
        assert record.bar is not None and (record.bar.n, record.bar.total) == (3, 10)
        record.on_step_end(None, at(5), None)
        record.on_step_end(None, at(6), None)
        assert record.bar.n == 6
        record.on_log(None, at(6), None, {"eval_loss": 1.5, "epoch": 1.0})
        assert "validation loss 1.500" in str(record.bar)
        record.on_log(None, at(7), None, told | {"eval_loss": 9.0})
        assert "loss 1.250" in str(record.bar) and "validation" not in str(record.bar)
        for nothing in (None, {}, {"train_runtime": 3.0}, {"loss": "nan"}):
            record.on_log(None, at(8), None, nothing)
        assert "loss 1.250" in str(record.bar)
        record.on_log(None, at(9, 0.0), None, told)
        Record(None, 0.0).on_log(None, at(9), None, told)
        lines = [json.loads(line) for line in run.log_path.read_text(encoding="utf-8").splitlines()]
    seconds = [line.pop("wall_seconds") for line in lines]
    kept = {"loss": 1.25, "learning_rate": 1e-3, "grad_norm": 2, "epoch": 0.5}
    assert lines == [
        {"step": 2} | kept,
        {"step": 6, "eval_loss": 1.5, "epoch": 1.0},
        {"step": 7, "eval_loss": 9.0} | kept,
        {"step": 9} | kept,
    ]
    assert all(100 <= one < 160 and round(one, 3) == one for one in seconds)
    assert "train: 6 of 10 steps" in capsys.readouterr().err


def test_only_the_first_process_writes_the_log_and_shows_a_bar(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run") as run, Record(run, 0.0) as record:
        other = SimpleNamespace(global_step=1, max_steps=10, is_world_process_zero=False)
        record.on_train_begin(None, other, None)
        record.on_step_end(None, other, None)
        record.on_log(None, other, None, {"loss": 1.0})
        assert record.bar is None and not run.log_path.exists()


# -- what is kept -----------------------------------------------------------------------------------------


def test_the_log_goes_back_to_the_checkpoint(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run") as run:
        assert rewind(run, None) == 0.0 and not run.log_path.exists()
        lines = [{"step": step, "wall_seconds": 10.0 * step} for step in (1, 2, 3, 4)] + [{"step": 2}]
        run.log_path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        assert rewind(run, tmp_path / "checkpoint-3") == 30.0
        left = [json.loads(line)["step"] for line in run.log_path.read_text(encoding="utf-8").splitlines()]
        assert left == [1, 2, 3, 2]
        assert rewind(run, None) == 0.0 and run.log_path.read_text(encoding="utf-8") == ""


def test_a_run_is_taken_up_at_the_checkpoint_that_is_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A change that was allowed later than that holds from there; one that was allowed earlier keeps its step."""
    with Run.create(tmp_path / "run") as run:
        assert take_up(run) is None and capsys.readouterr().err == ""
        whole, damaged = checkpoint(run.checkpoints_path, 4), checkpoint(run.checkpoints_path, 6)
        changes = [{"what": "a", "step": 2}, {"what": "b", "step": 4}]
        run.update_manifest(changes=changes)
        assert take_up(run) == damaged and list(run.changes) == changes and capsys.readouterr().err == ""
        (damaged / "scheduler.pt").unlink()
        run.update_manifest(changes=[*changes, {"what": "c", "step": 6}])
        assert take_up(run) == whole
        assert list(run.changes) == [*changes, {"what": "c", "step": 4}]
        said = "resume    from checkpoint-4; passed over: checkpoint-6 (scheduler.pt is missing)\n"
        assert capsys.readouterr().err == said
        assert names(run.checkpoints_path) == ["checkpoint-4", "damaged-checkpoint-6"]


# -- before a fit -----------------------------------------------------------------------------------------


def test_what_is_fitted_keeps_to_the_recipes_length_and_all_to_the_models(tiny_model: Path) -> None:
    rows = demonstrations(12)
    renderer = renderer_for(recipe_for(tiny_model))
    lengths = sorted(len(rendered.input_ids) for _, rendered in renderer.render_all(rows)[0])
    middle, low = lengths[6], lengths[3]
    recipe = recipe_for(tiny_model, max_length=middle, too_long="drop")
    found = render_parts(renderer, {"train": rows, "test": rows}, recipe, None)
    assert len(found["train"][1]) == sum(n > middle for n in lengths) > 0 and not found["test"][1]
    short = render_parts(renderer, {"train": rows, "test": rows}, recipe, low)
    assert [len(one[1]) for one in short.values()] == [sum(n > low for n in lengths)] * 2


@pytest.mark.parametrize(
    ("strategy", "delay", "said"), [("epoch", 3, "3 epochs leave no look"), ("steps", 5, "5 steps leave no look")]
)
def test_a_delay_is_counted_in_what_validation_is_counted_in(
    tiny_model: Path, strategy: str, delay: int, said: str
) -> None:
    """Sixteen rows in batches of eight, two passes: two epochs, four steps."""
    training = {"eval_strategy": strategy, "per_device_train_batch_size": 8, "num_train_epochs": 2, "max_steps": None}
    training |= {"eval_steps": None} if strategy == "epoch" else {}
    for allowed in (delay - 1, delay):
        recipe = recipe_for(tiny_model, eval_delay=allowed, **training)
        if allowed < delay:
            _refuse_late_validation(recipe, 16, 1)
            continue
        with pytest.raises(TrainingError, match=said):
            _refuse_late_validation(recipe, 16, 1)


@pytest.mark.parametrize(("experts", "every"), [(1, True), (4, False)])
def test_experts_that_a_batch_may_pass_by_are_looked_for(tiny_model: Path, experts: int, every: bool) -> None:
    config = MixtralConfig(vocab_size=8, hidden_size=8, num_local_experts=experts, num_experts_per_tok=1)
    assert _uses_every_weight(recipe_for(tiny_model), SimpleNamespace(config=config)) is every  # type: ignore[arg-type]
