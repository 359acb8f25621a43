"""Training is what it says: the loss by hand, every row once, and a run that was killed ends as if it never was."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import forked_python
import pytest

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")

import toy_fits
from fit_logs import (
    UNEVEN,
    Died,
    adapter_of,
    assert_same,
    conflicting,
    die,
    log_of,
    loss_by_hand,
    values,
    without_clock,
)
from safetensors.torch import load_file
from toy_fits import demonstrations, fit, recipe_for, renderer_for, rows_for
from transformers import AutoModelForCausalLM, TrainerCallback

from sft.demonstrations.demonstration import Demonstration, Message, Source
from sft.errors import TrainingError
from sft.policies.policy import load_policy
from sft.recipes.sources import resolve_model
from sft.runs.checkpoints import latest_checkpoint
from sft.runs.processes import Terminated
from sft.training.fitting import Interrupted
from sft.training.resuming import Interruption
from sft.training.sequences import IGNORED, Collator, dataset_of
from sft.training.trainer import CloningTrainer

# -- the loss ---------------------------------------------------------------------------------------------


def labels_of(rendered: Any) -> list[int]:
    """The id at every supervised position, the ignored label elsewhere."""
    pairs = zip(rendered.input_ids, rendered.completion_mask, strict=True)
    return [token if keep else IGNORED for token, keep in pairs]


def test_the_loss_is_the_one_by_hand(tiny_model: Path, tmp_path: Path) -> None:
    """Supervised positions only, as if every logit had been computed and every row stood alone, unpadded.

    The first step's learning rate is 0 (warm-up), so training and validation both see the base model.
    """
    recipe = recipe_for(tiny_model, "training.max_steps=1", "training.per_device_train_batch_size=12")
    fit(recipe, tmp_path / "run")
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert values(tmp_path / "run", "loss") == pytest.approx(
        [loss_by_hand(base, rows_for(recipe, demonstrations(12)))], abs=1e-4
    )
    assert values(tmp_path / "run", "eval_loss") == pytest.approx(
        [loss_by_hand(base, rows_for(recipe, demonstrations(4, first=101)))], abs=1e-4
    )


def test_what_is_supervised_written_out(tiny_model: Path) -> None:
    """The completion, word for word, and the template's own end of turn; nothing of the prompt, nothing after."""
    renderer = renderer_for(recipe_for(tiny_model))
    rendered = renderer.render(Demonstration((Message("user", "How are you?"),), "fine thank you."))
    labels = labels_of(rendered)
    tokens = renderer.tokenizer.convert_ids_to_tokens
    assert tokens([label for label in labels if label != IGNORED]) == [
        "fin", "e", "Ġthank", "Ġyou", ".", "<|im_end|>",
    ]  # fmt: skip
    assert renderer.tokenizer.decode([i for i, label in zip(rendered.input_ids, labels, strict=True) if label < 0]) == (
        "<|im_start|>user\nHow are you?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_every_row_reaches_the_loss_once_an_epoch_as_it_was_rendered(tiny_model: Path, tmp_path: Path) -> None:
    """TRL appends no end of text, cuts nothing at 1024 tokens, drops no row; padding is ignored."""
    recipe = recipe_for(tiny_model, "training.max_steps=-1", "training.num_train_epochs=2")
    made = demonstrations(10)
    made.append(Demonstration(made[0].prompt, "you " * 1100, source=Source("toy.jsonl", 11)))
    rows = rows_for(recipe, made)
    assert len(rows[10][1]) > 1024
    batches: list[dict[str, Any]] = []
    trainers: list[CloningTrainer] = []

    class Seen(CloningTrainer):
        """Keeps itself, and every training batch that reaches the loss, as it was."""

        def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            trainers.append(self)
            batches.append({key: v.clone() if isinstance(v, torch.Tensor) else v for key, v in inputs.items()})
            return super().compute_loss(model, inputs, *args, **kwargs)

    fit(recipe, tmp_path / "run", train=made, validation=2, trainer_class=Seen)
    met: list[int] = []
    for batch in batches:
        shared, *lengths = batch["segments"]
        columns = {key: batch[key][0].tolist() for key in ("input_ids", "labels", "position_ids")}
        begin = {key: values[:shared] for key, values in columns.items()}
        end = shared
        for row, length in zip(batch["row"].tolist(), lengths, strict=True):
            rendered = rows[row][1]
            met.append(row)
            own = {key: begin[key] + values[end : end + length] for key, values in columns.items()}
            assert tuple(own["input_ids"]) == rendered.input_ids
            assert own["labels"] == labels_of(rendered)
            assert own["position_ids"] == list(range(len(rendered)))
            end += length
        assert end == len(columns["input_ids"])
    assert sorted(met[:11]) == sorted(met[11:]) == list(range(11))
    trainer = trainers[0]
    assert len(trainer.train_dataset) == 11
    assert trainer.train_dataset["labels"] == dataset_of(rows)["labels"]
    assert trainer.args.report_to == []
    assert {type(c).__name__ for c in trainer.callback_handler.callbacks} == {
        "DefaultFlowCallback", "Record", "Interruption",
    }  # fmt: skip


def test_the_engine_that_changes_rows_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    """Should a release of trl append an end of text to ready ids after all, nothing is trained."""

    class Meddling(CloningTrainer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.train_dataset = self.train_dataset.map(lambda row: {"labels": [*row["labels"], 0]})

    with pytest.raises(TrainingError, match="the trainer changed 'labels'"):
        fit(recipe_for(tiny_model), tmp_path / "run", trainer_class=Meddling)


def test_padding_is_never_a_target() -> None:
    batch = Collator(filler=7)([
        {"input_ids": [1, 2, 3], "labels": [IGNORED, 2, 3], "row": [4], "lengths": [3]},
        {"input_ids": [5, 6], "labels": [IGNORED, 6], "row": [0], "lengths": [2]},
    ])  # fmt: skip
    assert batch["input_ids"].tolist() == [[1, 2, 3], [5, 6, 7]]
    assert batch["labels"].tolist() == [[IGNORED, 2, 3], [IGNORED, 6, IGNORED]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["row"].tolist() == [4, 0]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_accumulated_gradients_are_those_of_the_whole_batch(tiny_model: Path, tmp_path: Path, method: str) -> None:
    """Eight rows at once or one by one: one curve. A mean of row means would weigh short completions more."""
    for name, size, accumulated in (("whole", 8, 1), ("parts", 1, 8)):
        sizes = (
            f"training.per_device_train_batch_size={size}",
            f"training.gradient_accumulation_steps={accumulated}",
        )
        fit(recipe_for(tiny_model, *sizes, method=method), tmp_path / name, train=16)
    assert values(tmp_path / "parts", "loss") == pytest.approx(values(tmp_path / "whole", "loss"), abs=2e-5)
    assert values(tmp_path / "parts", "eval_loss") == pytest.approx(values(tmp_path / "whole", "eval_loss"), abs=2e-5)
    final = "model/model.safetensors" if method == "full" else "adapter/adapter_model.safetensors"
    whole, parts = load_file(tmp_path / "whole" / final), load_file(tmp_path / "parts" / final)
    assert all(torch.allclose(whole[name], parts[name], atol=1e-3) for name in whole)


def test_the_validation_loss_does_not_depend_on_the_batch_size(tiny_model: Path, tmp_path: Path) -> None:
    """Tokens are weighed alike. The trainer's own figure is a mean of batch means, and moves."""
    held_out = demonstrations(7, first=101)
    found = []
    for size in (1, 3, 8):
        recipe = recipe_for(tiny_model, "training.max_steps=1", f"training.per_device_eval_batch_size={size}")
        fit(recipe, tmp_path / str(size), validation=held_out)
        found += values(tmp_path / str(size), "eval_loss")
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    rows = rows_for(recipe, held_out)
    assert found == pytest.approx([loss_by_hand(base, rows)] * 3, abs=1e-5)
    mean_of_means = sum(loss_by_hand(base, [row]) for row in rows) / 7
    assert abs(mean_of_means - found[0]) > 1e-4, "the rows must be such that the two differ"


def test_memory_saving_changes_no_loss(tiny_model: Path, tmp_path: Path) -> None:
    """Gradient checkpointing computes the forward pass twice, with the supervised positions picked both times."""
    fit(recipe_for(tiny_model), tmp_path / "plain")
    fit(recipe_for(tiny_model, "training.gradient_checkpointing=true"), tmp_path / "saving")
    assert values(tmp_path / "saving", "loss") == pytest.approx(values(tmp_path / "plain", "loss"), abs=1e-5)


# -- what comes out ---------------------------------------------------------------------------------------


def test_repeated_runs_are_equal_to_the_last_bit(tiny_model: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        fit(recipe_for(tiny_model, *UNEVEN), tmp_path / name)
    assert_same(tmp_path / "one", tmp_path / "two")
    fit(recipe_for(tiny_model, *UNEVEN, "training.seed=1"), tmp_path / "other")
    assert log_of(tmp_path / "other") != log_of(tmp_path / "one"), "the seed must matter, or nothing was shown"


@pytest.mark.parametrize("method", ["lora", "dora", "rslora", "full"])
def test_what_was_fitted_is_what_is_loaded(
    tiny_model: Path, tmp_path: Path, method: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The clone as loaded has the validation loss that the log says; nothing else lies beside it."""
    recipe = recipe_for(tiny_model, "training.max_steps=6", method=method)
    fitted = fit(recipe, tmp_path / "run")
    assert capfd.readouterr().out == ""
    tokenizer = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    if method == "full":
        folder, files = "model", {"config.json", "generation_config.json", "model.safetensors"}
        assert fitted.trainable_parameters == fitted.parameters
    else:
        folder, files = "adapter", {"adapter_config.json", "adapter_model.safetensors"}
        assert fitted.trainable_parameters < fitted.parameters / 2
    assert {path.name for path in (tmp_path / "run" / folder).iterdir()} == files | tokenizer
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        ".lock", "manifest.json", "log.jsonl", "checkpoints", folder,
    }  # fmt: skip
    clone = load_policy(resolve_model(str(tiny_model)), tuned=tmp_path / "run" / folder)
    held_out = rows_for(recipe, demonstrations(4, first=101))
    assert fitted.eval_loss == min(values(tmp_path / "run", "eval_loss"))
    assert loss_by_hand(clone.model, held_out) == pytest.approx(fitted.eval_loss, abs=1e-4)
    base = load_policy(resolve_model(str(tiny_model)))
    assert fitted.eval_loss < loss_by_hand(base.model, held_out) - 0.05, "it must have learned something"
    assert fitted.supervised_tokens == sum(sum(r.completion_mask) for _, r in rows_for(recipe, demonstrations(12)))
    assert fitted.train_loss == pytest.approx(sum(values(tmp_path / "run", "loss")) / 6, abs=1e-5)


def test_a_full_model_stops_for_others_too(tiny_model: Path, tmp_path: Path) -> None:
    """Whoever loads the folder with transformers alone generates until the template's end of turn, with a cache."""
    fit(recipe_for(tiny_model, method="full"), tmp_path / "run")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    renderer = renderer_for(recipe_for(tiny_model))
    assert model.generation_config.eos_token_id == list(renderer.stop_token_ids)
    assert renderer.tokenizer.convert_ids_to_tokens(model.generation_config.eos_token_id[0]) == "<|im_end|>"
    assert model.config.use_cache is not False


def test_the_clone_is_the_best_on_validation_and_stops_when_it_gets_worse(tiny_model: Path, tmp_path: Path) -> None:
    recipe, given = conflicting(tiny_model, "training.early_stopping_patience=2")
    fitted = fit(recipe, tmp_path / "run", **given)
    losses = values(tmp_path / "run", "eval_loss")
    assert fitted.best_step == 1 + losses.index(min(losses))
    assert fitted.steps == fitted.best_step + 2 < 40
    clone = load_policy(resolve_model(str(tiny_model)), tuned=tmp_path / "run" / "adapter")
    assert loss_by_hand(clone.model, rows_for(recipe, given["validation"])) == pytest.approx(min(losses), abs=1e-4)


def test_the_best_is_kept_though_no_checkpoint_was_due(tiny_model: Path, tmp_path: Path) -> None:
    """The trainer remembers the best loss but saves only every ``save_steps``: it hands back other weights."""
    recipe, given = conflicting(tiny_model, "training.save_steps=12", steps=12)
    fitted = fit(recipe, tmp_path / "run", **given)
    assert fitted.best_step not in (None, 12)
    clone = load_policy(resolve_model(str(tiny_model)), tuned=tmp_path / "run" / "adapter")
    assert loss_by_hand(clone.model, rows_for(recipe, given["validation"])) == pytest.approx(
        min(values(tmp_path / "run", "eval_loss")), abs=1e-4
    )


def test_without_a_validation_split_the_last_weights_are_the_clone(tiny_model: Path, tmp_path: Path) -> None:
    fitted = fit(recipe_for(tiny_model), tmp_path / "run", validation=0)
    assert (fitted.best_step, fitted.eval_loss, fitted.steps) == (None, None, 4)
    assert values(tmp_path / "run", "eval_loss") == []
    last = load_file(tmp_path / "run" / "checkpoints" / "checkpoint-4" / "adapter_model.safetensors")
    assert all(torch.equal(last[name], tensor) for name, tensor in adapter_of(tmp_path / "run").items())


# -- refusals ---------------------------------------------------------------------------------------------


@pytest.fixture
def poisoned(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model, with a vector for the letter Z that is no number."""
    folder = tmp_path / "poisoned"
    shutil.copytree(tiny_model, folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    letter = renderer_for(recipe_for(tiny_model)).tokenizer.convert_tokens_to_ids("Z")
    # One embedding alone: it is the head's column too, so the model's own head is kept apart from it.
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    with torch.no_grad():
        model.get_input_embeddings().weight[letter] = float("nan")
    model.save_pretrained(folder)
    return folder


def with_z(made: list[Demonstration], number: int) -> list[Demonstration]:
    changed = Demonstration((Message("user", "Z?"),), made[number].completion, source=made[number].source)
    return [*made[:number], changed, *made[number + 1 :]]


def test_a_loss_that_is_no_number_names_the_step_and_the_row(poisoned: Path, tmp_path: Path) -> None:
    recipe = recipe_for(poisoned, "training.max_steps=12", "training.per_device_train_batch_size=1")
    with pytest.raises(TrainingError, match=r"^step \d+: the loss is nan on the rows toy\.jsonl:8; nothing further"):
        fit(recipe, tmp_path / "run", train=with_z(demonstrations(12), 7))
    assert not (tmp_path / "run" / "adapter").exists()


def test_a_validation_loss_that_is_no_number_says_so(poisoned: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"^step \d+: the validation loss is nan; nothing further"):
        fit(recipe_for(poisoned), tmp_path / "run", validation=with_z(demonstrations(4, first=101), 2))


def test_a_gradient_that_is_no_number_stops_before_it_spoils_the_weights(tiny_model: Path, tmp_path: Path) -> None:
    """Not only on steps that are logged; the rows are those of all parts of the accumulated batch."""

    class Bursting(CloningTrainer):
        def _clip_grad_norm(self, model: Any) -> Any:
            return torch.tensor(torch.inf) if self.state.global_step == 1 else super()._clip_grad_norm(model)

    recipe = recipe_for(
        tiny_model, "training.logging_steps=4", "training.per_device_train_batch_size=1",
        "training.gradient_accumulation_steps=3",
    )  # fmt: skip
    with pytest.raises(
        TrainingError, match=r"^step 2: the gradient's norm is inf on the rows (toy\.jsonl:\d+(, )?){3};"
    ):
        fit(recipe, tmp_path / "run", trainer_class=Bursting)


def test_a_tokenizer_of_another_model_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    """A token that no row holds may be unknown to the model; Gemma 3 ships such a tokenizer."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    tokenizer = renderer_for(recipe_for(tiny_model)).tokenizer
    known = len(tokenizer)
    tokenizer.add_tokens(["zebra"])
    tokenizer.save_pretrained(folder)
    assert fit(recipe_for(folder), tmp_path / "without").steps == 4
    made = [*demonstrations(3), Demonstration((Message("user", "A zebra?"),), "Yes.", source=Source("toy.jsonl", 4))]
    with pytest.raises(TrainingError, match=rf"toy\.jsonl:4: holds token {known}, and the model knows {known} tokens"):
        fit(recipe_for(folder), tmp_path / "run", train=made)


def test_nothing_to_train_on_and_layers_that_are_not_there(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no demonstration left to train on"):
        fit(recipe_for(tiny_model), tmp_path / "none", train=[])
    with pytest.raises(TrainingError, match=r"adapter: .*no_such_layer.*; correct the recipe's adapter section"):
        fit(recipe_for(tiny_model, "adapter.target_modules=[no_such_layer]"), tmp_path / "layer")


def test_an_adapter_that_was_saved_empty_is_noticed(tiny_model: Path, tmp_path: Path) -> None:
    """Engines have saved adapters of 40 bytes. Nothing appears under the name that means: trained."""
    from safetensors.torch import save_file

    class Emptying(CloningTrainer):
        def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
            super().save_model(output_dir, _internal_call)
            if not _internal_call:
                save_file({}, Path(str(output_dir)) / "adapter_model.safetensors")

    with pytest.raises(TrainingError, match="what the trainer saved is not what was fitted"):
        fit(recipe_for(tiny_model), tmp_path / "run", trainer_class=Emptying)
    assert not (tmp_path / "run" / "adapter").exists()


# -- interruptions ----------------------------------------------------------------------------------------


def started(tiny_model: Path, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """A fit in a process of its own."""
    return forked_python.Popen(
        [sys.executable, str(Path(toy_fits.__file__)), str(tiny_model), str(folder), *arguments, *UNEVEN],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_a_process_killed_with_kill_9_goes_on_as_if_it_never_was(
    tiny_model: Path, tmp_path: Path, never_stopped: tuple[Path, Any]
) -> None:
    """Same losses, same validation losses, same adapter to the last bit; the log has no line twice."""
    process = started(tiny_model, tmp_path / "run", "--die-at", "7")
    printed, complaints = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, complaints
    assert printed == ""
    checkpoint = latest_checkpoint(tmp_path / "run" / "checkpoints")
    assert checkpoint is not None
    assert checkpoint.name == "checkpoint-6"
    assert not (tmp_path / "run" / "adapter").exists()
    fitted = fit(recipe_for(tiny_model, *UNEVEN), tmp_path / "run", resume=True)
    folder, expected = never_stopped
    assert_same(tmp_path / "run", folder)
    assert without_clock(fitted) == without_clock(expected)


def test_ctrl_c_saves_a_checkpoint_and_the_run_goes_on_from_there(
    tiny_model: Path, tmp_path: Path, never_stopped: tuple[Path, Any]
) -> None:
    """The step in which it came is not lost, though no checkpoint was due at it."""
    process = started(tiny_model, tmp_path / "run", "--pause")
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "step 3 done" in line:
            break
    process.send_signal(signal.SIGINT)
    printed, rest = process.communicate(timeout=120)
    complaints = "".join(lines) + rest
    assert process.returncode == 1, complaints
    assert "stopping after this step; Ctrl-C again stops at once" in complaints
    assert f"Interrupted: {tmp_path / 'run'}: stopped at step " in complaints
    assert printed == ""
    checkpoint = latest_checkpoint(tmp_path / "run" / "checkpoints")
    assert checkpoint is not None
    stopped_at = int(checkpoint.name.removeprefix("checkpoint-"))
    assert f"stopped at step {stopped_at}, checkpoint saved" in complaints
    assert 3 <= stopped_at <= 5
    fitted = fit(recipe_for(tiny_model, *UNEVEN), tmp_path / "run", resume=True)
    folder, expected = never_stopped
    assert_same(tmp_path / "run", folder)
    assert without_clock(fitted) == without_clock(expected)


@pytest.mark.parametrize(
    ("method", "step"),
    [
        ("training_step", 0),  # before anything was saved
        ("training_step", 3),
        ("training_step", 5),
        ("evaluate", 4),  # after the step, before its checkpoint
        ("_save_rng_state", 4),  # half-way through writing a checkpoint
        ("_save_checkpoint", 6),
        ("_load_best_model", 9),  # trained, but nothing of it kept
        ("save_model", 9),
    ],
)
def test_a_run_may_die_anywhere(
    tiny_model: Path, tmp_path: Path, never_stopped: tuple[Path, Any], method: str, step: int
) -> None:
    recipe = recipe_for(tiny_model, *UNEVEN)
    die(tmp_path / "run", recipe, method, step)
    assert not (tmp_path / "run" / "adapter").exists()
    fitted = fit(recipe, tmp_path / "run", resume=True)
    folder, expected = never_stopped
    assert_same(tmp_path / "run", folder)
    assert without_clock(fitted) == without_clock(expected)


def test_a_run_may_die_twice(tiny_model: Path, tmp_path: Path, never_stopped: tuple[Path, Any]) -> None:
    recipe = recipe_for(tiny_model, *UNEVEN)
    die(tmp_path / "run", recipe, "training_step", 3)
    die(tmp_path / "run", recipe, "training_step", 7, resume=True)
    fitted = fit(recipe, tmp_path / "run", resume=True)
    folder, expected = never_stopped
    assert_same(tmp_path / "run", folder)
    assert without_clock(fitted) == without_clock(expected)


def test_a_run_that_ends_within_an_epoch_takes_no_further_step(tiny_model: Path, tmp_path: Path) -> None:
    """The trainer takes up the epoch it finds unfinished, though the steps of the run are all done."""
    recipe = recipe_for(tiny_model, "training.per_device_train_batch_size=2")
    fit(recipe, tmp_path / "whole")
    die(tmp_path / "run", recipe, "_load_best_model", 4)
    assert fit(recipe, tmp_path / "run", resume=True).steps == 4
    assert_same(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize(("method", "extra"), [("training_step", 1), ("_load_best_model", 2)])
def test_patience_used_up_before_the_interruption_counts(
    tiny_model: Path, tmp_path: Path, method: str, extra: int
) -> None:
    """The trainer would begin to count anew, and train on after it had stopped."""
    recipe, given = conflicting(tiny_model, "training.early_stopping_patience=2")
    whole = fit(recipe, tmp_path / "whole", **given)
    die(tmp_path / "run", recipe, method, whole.best_step + extra, **given)
    fitted = fit(recipe, tmp_path / "run", resume=True, **given)
    assert without_clock(fitted) == without_clock(whole)
    assert_same(tmp_path / "run", tmp_path / "whole")


def test_ctrl_c_within_an_epoch_is_no_end_of_one(tiny_model: Path, tmp_path: Path) -> None:
    """Validation after every epoch; a look in between would be one more than the run never stopped has."""
    over = ("training.eval_strategy=epoch", "training.num_train_epochs=2", "training.max_steps=-1")
    recipe = recipe_for(tiny_model, *over, eval_steps=None)
    fit(recipe, tmp_path / "whole")

    class Pressing(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 2:
                signal.raise_signal(signal.SIGINT)

    class Pressed(CloningTrainer):
        def __init__(self, *args: Any, callbacks: Any, **kwargs: Any) -> None:
            super().__init__(*args, callbacks=[Pressing(), *callbacks], **kwargs)

    with pytest.raises(Interrupted, match="stopped at step 2, checkpoint saved"):
        fit(recipe, tmp_path / "run", trainer_class=Pressed)
    assert values(tmp_path / "run", "eval_loss") == []
    fit(recipe, tmp_path / "run", resume=True)
    assert_same(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize(("number", "stop"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_twice_stops_at_once(number: int, stop: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    """But an echo is no second time: ``timeout`` and launchers send SIGTERM to a process and to its group."""
    interruption, before = Interruption(SimpleNamespace()), signal.getsignal(number)
    with pytest.raises(stop), interruption.listening():
        signal.raise_signal(number)
        assert interruption.asked == number
        if number != signal.SIGINT:
            signal.raise_signal(number)  # within the same moment
        monkeypatch.setattr("time.monotonic", lambda: time.perf_counter() + 1e6)
        signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_an_old_adapter_is_replaced_only_by_a_whole_one(tiny_model: Path, tmp_path: Path) -> None:
    """What a crash left half-saved is cleared away the next time."""
    half = tmp_path / "run" / ".adapter-unfinished"

    class Crashing(CloningTrainer):
        def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
            super().save_model(output_dir, _internal_call)
            if not _internal_call:
                raise Died("while saving")

    with pytest.raises(Died):
        fit(recipe_for(tiny_model), tmp_path / "run", trainer_class=Crashing)
    assert half.is_dir()
    assert not (tmp_path / "run" / "adapter").exists()
    fit(recipe_for(tiny_model), tmp_path / "run", resume=True)
    assert not half.exists()
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()
