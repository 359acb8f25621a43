"""Every optimizer, schedule and tracker the installed trainer names fits, or is refused before anything starts."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.engine
pytest.importorskip("torch")

from toy_fits import fit
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames

from sft import recipes
from sft.cli import main
from sft.errors import RecipeError, UserError
from sft.recipes import engine_fields
from sft.training.constructing import refuse_what_the_engine_refuses

OPTIMIZERS = [member.value for member in OptimizerNames]
SCHEDULES = [member.value for member in SchedulerType]
TRACKERS = list(INTEGRATION_TO_CALLBACK)


def written(model: Path, folder: Path, **training: Any) -> Path:
    """A recipe whose demonstrations do not exist: whatever is refused is refused before they are looked for."""
    import yaml

    sections = {
        "model": {"name": str(model)},
        "demonstrations": {"path": "nowhere.jsonl"},
        "training": training,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(sections), encoding="utf-8")
    return path


def said_of(path: Path, folder: Path, capsys: Any) -> str:
    """The sentence that these verbs end with, which must be one and the same; its path left out."""
    sentences = set()
    for verb in ("check", "plan", "train"):
        more = {"train": ["--output", str(folder / "run")], "plan": ["--no-probe"]}
        words = [verb, str(path), *more.get(verb, [])]
        assert main(words) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("sft: ")]
        assert len(lines) == 1, lines
        sentences.add(lines[0].replace(str(path), "recipe.yaml"))
    assert len(sentences) == 1, sentences
    assert not (folder / "run").exists()
    return sentences.pop()


# -- the names --------------------------------------------------------------------------------------------


def test_the_choices_read_from_source_are_those_of_the_classes() -> None:
    fields = engine_fields.training_fields()
    assert list(fields["optim"].choices) == OPTIMIZERS
    assert list(fields["lr_scheduler_type"].choices) == SCHEDULES == list(engine_fields.schedules())
    assert list(fields["logging_strategy"].choices) == ["no", "steps", "epoch"]
    assert list(fields["save_strategy"].choices) == ["no", "steps", "epoch", "best"]
    assert list(engine_fields.trackers()) == TRACKERS
    assert {"llama", "gpt2", "qwen3"} <= engine_fields.architectures()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (
            "lr_scheduler_type",
            "cosin",
            "is 'cosin', not a schedule of the installed transformers; did you mean cosine?",
        ),
        ("optim", "adamw", "is 'adamw', not a choice of the installed SFTConfig; did you mean adamw_torch?"),
        ("report_to", "trakio", "is 'trakio', not a tracker of the installed transformers; did you mean trackio?"),
        ("report_to", ["none", "wandb"], "names none beside others; keep none, or the others"),
        ("logging_strategy", "step", "did you mean steps?"),
        ("gradient_checkpointing_kwargs", "word", "is text; write the mapping itself"),
        ("lr_scheduler_kwargs", {"num_cycle": 2}, "is nothing that the schedule cosine takes; it takes num_cycles"),
        ("neftune_noise_alpha", -1, "'training.neftune_noise_alpha' is -1; give 0 or more"),
        ("dataloader_num_workers", -1, "is -1; give 0 or more"),
        ("adam_epsilon", 0.0, "is 0.0; give a number above 0"),
        ("per_device_eval_batch_size", 10**12, "is 1e+12; give a number below 4294967296"),
        ("fsdp", "full_shard", "it belongs into the configuration file of `accelerate launch`"),
        ("deepspeed", "zero3.json", "it belongs into the configuration file of `accelerate launch`"),
        (
            "adam_beta1",
            1.5,
            "training.adam_beta1: the installed trainer does not take it as 1.5 (ValueError: Invalid beta",
        ),
        (
            "dataloader_persistent_workers",
            True,
            "'training.dataloader_persistent_workers' has no meaning without workers",
        ),
    ],
)
def test_a_value_that_the_trainer_does_not_know_is_refused_by_every_verb_alike(
    tiny_model: Path, tmp_path: Path, capsys: Any, key: str, value: Any, said: str
) -> None:
    """Each was a traceback with exit status 1, when the weights had been read; ``sft check`` found nothing to mend."""
    assert said in said_of(written(tiny_model, tmp_path, **{key: value}), tmp_path, capsys)


# -- all of them ------------------------------------------------------------------------------------------


def fits_or_is_refused(model: Path, folder: Path, **training: Any) -> str:
    """ "" where two steps were fitted, else the one sentence that refuses the recipe before anything is read."""
    import yaml

    values = {"eval_steps": 1, "max_steps": 2, "logging_steps": 1, "per_device_train_batch_size": 4} | training
    sections = {"model": {"name": str(model)}, "demonstrations": {"path": "toy.jsonl"}, "training": values}
    try:
        recipe = recipes.parse(yaml.safe_dump(sections), to_follow=True).recipe
        refuse_what_the_engine_refuses(recipe)
    except UserError as error:
        assert "\n" not in str(error), error
        return str(error)
    fitted = fit(recipe, folder)
    assert fitted.steps == 2
    return ""


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_fits_or_is_refused_with_what_to_install(tiny_model: Path, tmp_path: Path, name: str) -> None:
    """Twenty-three of these ended in a traceback, after a minute, where their package was missing."""
    said = fits_or_is_refused(tiny_model, tmp_path / "run", optim=name)
    if " moves its states " in said:  # what it would be without is named, and fits
        assert not fits_or_is_refused(tiny_model, tmp_path / "mended", optim=said.rpartition(" ")[2])
        return
    if name.startswith("schedule_free") or "lomo" in name or name.endswith("_layerwise"):
        assert f"'training.optim' is {name}, wh" in said and "; write adamw_torch" in said, "installed or not"
        return
    if said:
        assert f"'training.optim' is {name}, and the package" in said and "is not installed; pip install" in said
        return
    assert name in ("adafactor", "sgd", "adagrad", "rmsprop", "adamw_torch", "adamw_torch_fused") or (
        importlib.util.find_spec("bitsandbytes") is not None
    )


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_fits_or_says_what_it_needs(tiny_model: Path, tmp_path: Path, name: str) -> None:
    """The remedy that a refusal names is followed, and then it fits."""
    import yaml

    said = fits_or_is_refused(tiny_model, tmp_path / "run", lr_scheduler_type=name)
    if said:
        assert f"'training.lr_scheduler_type' is {name}, which needs" in said
        example = yaml.safe_load(said.partition("lr_scheduler_kwargs: ")[2])
        assert not fits_or_is_refused(
            tiny_model, tmp_path / "mended", lr_scheduler_type=name, lr_scheduler_kwargs=example
        )


@pytest.mark.parametrize("name", ["reduce_lr_on_plateau", "greedy"])
def test_a_schedule_that_follows_the_validation_loss_needs_one(name: str) -> None:
    text = (
        "model: {name: some/model}\ndemonstrations: {path: a.jsonl}\n"
        f'training: {{lr_scheduler_type: {name}, eval_strategy: "no"}}\n'
    )
    with pytest.raises(RecipeError, match="which follows the validation loss, and eval_strategy is no"):
        recipes.parse(text)


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_is_there_or_is_refused_with_what_to_install(tiny_model: Path, name: str) -> None:
    """Nothing is called: what is installed here is not tried, and what is not is told before anything starts."""
    text = f"model: {{name: {tiny_model}}}\ndemonstrations: {{path: a.jsonl}}\ntraining: {{report_to: {name}}}\n"
    recipes.parse(text)  # a run that is only opened, by whoever measures it, needs no tracker
    try:
        recipes.parse(text, to_follow=True)
    except RecipeError as error:
        assert len(error.problems) == 1
        said = str(error)
        assert f"'training.report_to' is {name}, and " in said
        assert "pip install" in said or name == "kubeflow"


def test_a_tracker_that_is_installed_is_let_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trackio").mkdir()
    (tmp_path / "trackio" / "__init__.py").write_text("", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    text = "model: {name: some/model}\ndemonstrations: {path: a.jsonl}\ntraining: {report_to: trackio}\n"
    assert recipes.parse(text, to_follow=True).recipe.training.report_to == "trackio"


# -- of the base model ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("indices", "shown"), [([5, 99999999], "99999999"), ([-1], "-1"), (["the"], "'the'")])
def test_tokens_that_the_model_does_not_have_are_refused(
    tiny_model: Path, tmp_path: Path, capsys: Any, indices: list[Any], shown: str
) -> None:
    """An index beyond the vocabulary was an IndexError of torch's, when the adapter was put on the model."""
    path = written(tiny_model, tmp_path)
    path.write_text(path.read_text() + f"adapter: {{trainable_token_indices: {indices}}}\n", encoding="utf-8")
    said = said_of(path, tmp_path, capsys)
    assert f"adapter.trainable_token_indices: {shown} is no token of" in said and "give numbers from 0 to" in said


def test_a_model_with_code_of_its_own_is_refused_until_it_is_trusted(
    tiny_model: Path, tmp_path: Path, capsys: Any
) -> None:
    """``sft train`` ended in a traceback of transformers' with its question whether to run the code."""
    import json
    import shutil

    folder = shutil.copytree(tiny_model, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "unheard_of",
        "auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    said = said_of(written(folder, tmp_path), tmp_path, capsys)
    assert "its architecture (unheard_of) is Python code that comes with the model" in said
    assert "model.trust_remote_code: true" in said
