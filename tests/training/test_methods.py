"""The ways to fit: a base in 4 bits where it can be, noise and saved memory that do what they say, bf16 by measure."""

from __future__ import annotations

import itertools
import math
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")

import peft
from fit_logs import assert_same, die, log_of, loss_by_hand, values
from toy_fits import demonstrations, fit, recipe_for, rows_for
from transformers import AutoModelForCausalLM

from sft import recipes
from sft.cli import main
from sft.errors import PolicyError
from sft.policies import precision
from sft.policies.policy import load_policy
from sft.policies.weights import config_of
from sft.recipes import requirements
from sft.recipes.sources import resolve_model
from sft.training.trainer import CloningTrainer

# -- a base in 4 bits -------------------------------------------------------------------------------------


def refusal() -> str:
    with pytest.raises(PolicyError) as error:
        precision.refuse_unless_quantisable()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_without_its_package_a_run_in_4_bits_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither the demonstrations nor the model of this recipe exist, and it is not they that are complained of."""
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # as Python itself marks what cannot be imported
    path = tmp_path / "recipe.yaml"
    path.write_text("model: {name: ./nowhere}\ndemonstrations: {path: nowhere.jsonl}\nadapter: {method: qlora}\n")
    for verb in (["train", str(path), "--output", str(tmp_path / "run")], ["check", str(path)], ["plan", str(path)]):
        assert main(verb) == 2
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert "'adapter.method' is qlora, and the package bitsandbytes is not installed" in said
        assert 'pip install "behavioral-cloning[qlora]", or write lora' in said
    assert not (tmp_path / "run").exists()


def test_what_a_base_in_4_bits_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("bitsandbytes")
    precision.refuse_unless_quantisable()
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert "launch with DDP" in refusal()
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    assert 'pip install "behavioral-cloning[qlora]"' in refusal()


def test_a_version_that_is_too_old_is_refused_with_the_one_that_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package and its metadata, as pip would have left them."""
    (tmp_path / "oldish.py").write_text("")
    (tmp_path / "oldish-0.45.2.dist-info").mkdir()
    (tmp_path / "oldish-0.45.2.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: oldish\nVersion: 0.45.2\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert (
        requirements.Package(("oldish",), "", (0, 46, 1)).missing() == "oldish 0.45.2 is installed, older than 0.46.1"
    )
    assert requirements.Package(("oldish",), "", (0, 45)).missing() == ""


def test_its_adapter_is_a_plain_one(tiny_model: Path) -> None:
    """So that it is merged into plain weights, and judged on those: what whoever loads it by its base's name gets."""
    quantised, plain = (recipes.lora_arguments(recipe_for(tiny_model, method=m)) for m in ("qlora", "lora"))
    assert quantised == plain


# -- noise on the embeddings ------------------------------------------------------------------------------

NOISE = "training.neftune_noise_alpha=20"


def embedding(met: list[tuple[bool, Any]]) -> type[CloningTrainer]:
    """A trainer that notes what the layers are handed at every forward pass, beside the rows of the embedding.

    ``met`` gets pairs: whether the model was training, and the difference.
    """

    class Embedding(CloningTrainer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            bare = self.model.get_base_model() if isinstance(self.model, peft.PeftModel) else self.model
            table = bare.get_input_embeddings()

            def look(layer: Any, args: Any, kwargs: Any) -> None:
                states = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
                met.append((layer.training, (states - table.weight[look.ids]).detach()))

            bare.register_forward_pre_hook(
                lambda _, args, kwargs: setattr(look, "ids", kwargs["input_ids"]), with_kwargs=True
            )
            bare.model.layers[0].register_forward_pre_hook(look, with_kwargs=True)

    return Embedding


def test_noise_is_uniform_of_the_papers_size_and_only_while_fitting(tiny_model: Path, tmp_path: Path) -> None:
    """U(-e, e) with e = alpha / sqrt(L d) (Jain et al. 2023, algorithm 1). L is the length of the batch as it reaches
    the embedding, padding included. The validation loss is the base model's own, to the last digit by hand.
    """
    recipe = recipe_for(tiny_model, NOISE, "training.max_steps=1", "training.per_device_train_batch_size=12")
    met: list[tuple[bool, Any]] = []
    fit(recipe, tmp_path / "run", trainer_class=embedding(met))
    fitting = [difference for training, difference in met if training]
    judging = [difference for training, difference in met if not training]
    assert fitting and judging
    for noise in fitting:
        bound = 20 / math.sqrt(noise.shape[1] * noise.shape[2])
        assert noise.abs().max() <= bound + 1e-6
        assert noise.abs().max() > 0.99 * bound, "thousands of draws come near the bound"
        assert float(noise.std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)
    assert all(not difference.any() for difference in judging)
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    held_out = rows_for(recipe, demonstrations(4, first=101))
    assert values(tmp_path / "run", "eval_loss") == pytest.approx([loss_by_hand(base, held_out)], abs=1e-5)
    without = loss_by_hand(base, rows_for(recipe, demonstrations(12)))
    assert abs(values(tmp_path / "run", "loss")[0] - without) > 1e-3, "the loss that was fitted had the noise in it"


def test_nothing_of_the_noise_is_left_in_the_clone(tiny_model: Path, tmp_path: Path) -> None:
    hooks: list[Any] = []

    class Looking(CloningTrainer):
        def save_model(self, output_dir: str | None = None, *args: Any, **kwargs: Any) -> None:
            if output_dir is not None and "unfinished" in output_dir:
                hooks.append(list(self.model.get_input_embeddings()._forward_hooks.values()))
            super().save_model(output_dir, *args, **kwargs)

    fitted = fit(recipe_for(tiny_model, NOISE), tmp_path / "run", trainer_class=Looking)
    assert hooks == [[]]
    clone = load_policy(resolve_model(str(tiny_model)), tuned=tmp_path / "run" / "adapter")
    held_out = rows_for(recipe_for(tiny_model), demonstrations(4, first=101))
    assert loss_by_hand(clone.model, held_out) == pytest.approx(fitted.eval_loss, abs=1e-4)


def test_a_run_with_noise_goes_on_as_if_it_had_never_stopped(tiny_model: Path, tmp_path: Path) -> None:
    """The draws after a checkpoint are those that would have come."""
    recipe = recipe_for(tiny_model, NOISE, "training.max_steps=6")
    fit(recipe, tmp_path / "whole")
    die(tmp_path / "run", recipe, "training_step", 5)
    fit(recipe, tmp_path / "run", resume=True)
    assert_same(tmp_path / "run", tmp_path / "whole")
    fit(recipe_for(tiny_model, "training.max_steps=6"), tmp_path / "plain")
    assert log_of(tmp_path / "plain") != log_of(tmp_path / "whole"), "the noise must matter, or nothing was shown"


# -- memory saved -----------------------------------------------------------------------------------------


def counting(found: list[int]) -> type[CloningTrainer]:
    """A trainer that counts the bytes that the graph of each training loss keeps for its backward pass.

    Weights are left out, and each storage counts once.
    """

    class Counting(CloningTrainer):
        def compute_loss(self, model: Any, *args: Any, **kwargs: Any) -> Any:
            weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
            storages: dict[int, int] = {}

            def pack(tensor: Any) -> Any:
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in weights:
                    storages[storage.data_ptr()] = storage.nbytes()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                loss = super().compute_loss(model, *args, **kwargs)
            found.append(sum(storages.values()))
            return loss

    return Counting


@pytest.mark.parametrize("method", ["lora", "dora", "full"])
def test_gradient_checkpointing_keeps_less_and_changes_nothing(tiny_model: Path, tmp_path: Path, method: str) -> None:
    """Counted, not timed. Under an adapter the frozen embeddings' output must need a gradient, or nothing learns.

    Both layers are left out of the graph but for what they are handed; the head and the loss stay in it.
    """
    sizes = {}
    for name, saving in (("plain", "false"), ("saving", "true")):
        kept: list[int] = []
        recipe = recipe_for(tiny_model, f"training.gradient_checkpointing={saving}", method=method)
        fit(recipe, tmp_path / name, trainer_class=counting(kept))
        sizes[name] = kept[0]
    assert sizes["saving"] < 0.4 * sizes["plain"]
    losses = values(tmp_path / "plain", "loss")
    assert values(tmp_path / "saving", "loss") == pytest.approx(losses, abs=1e-5)
    assert losses[-1] < losses[0] - 0.05, "it must have learned something"


# -- bfloat16 ---------------------------------------------------------------------------------------------

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("asked", "device", "accelerator", "speed", "bf16", "said"),
    [
        ("null", CPU, False, 3.0, True, "in bfloat16, 3.0 times as fast"),
        ("null", CPU, False, 1.2, False, ""),
        ("null", CPU, False, 0.1, False, ""),
        ("true", CPU, False, 0.1, True, "bfloat16 takes 10.0 times as long"),
        ("false", CPU, False, None, False, ""),
        ("null", GPU, True, None, True, ""),
        ("null", GPU, False, None, False, "in float32; training.fp16=true, its own format, is much faster"),
        ("true", GPU, False, None, True, "which this GPU only imitates; training.fp16=true"),
        ("null", torch.device("mps"), False, None, False, ""),
    ],
)
def test_bfloat16_is_taken_on_a_cpu_only_where_it_is_clearly_faster(
    asked: str, device: Any, accelerator: bool, speed: float | None, bf16: bool,
    said: str,
) -> None:  # fmt: skip
    """Who asks for it gets it, and is told in one line where it is slower; where nothing is open nothing is timed."""

    def measured(shape: tuple[int, int]) -> float:
        assert speed is not None, "this was decided without a measurement"
        return speed

    recipe = recipe_for(Path("some/model"), f"training.bf16={asked}")
    found = precision.choice(recipe, device, accelerator, (256, 512), measure=measured)
    assert found["bf16"] is bf16
    assert said in precision.in_words(found) and bool(said) == bool(precision.in_words(found))


def test_a_gpu_without_bfloat16_fits_in_float16_where_it_is_told_to_and_computes_four_bits_so() -> None:
    """A T4, which is free to have: QLoRA there computed in a bfloat16 that the card imitates, and nothing said so."""
    recipe = recipe_for(Path("some/model"), "training.fp16=true")
    found = precision.choice(recipe, GPU, False, (256, 512))
    assert not found["bf16"] and not precision.in_words(found)

    def computed_in(device: Any, accelerator: bool, half: bool) -> Any:
        return precision.four_bits(device, accelerator, half=half)["quantization_config"].bnb_4bit_compute_dtype

    assert computed_in(GPU, False, True) == torch.float16 and computed_in(GPU, False, False) == torch.float32
    assert computed_in(GPU, True, True) == computed_in(CPU, False, False) == torch.bfloat16


def test_layers_too_narrow_to_be_timed_are_fitted_in_float32() -> None:
    """On a processor whose bfloat16 is fast, two runs of one recipe on a small model came out unequal."""

    def measured(shape: tuple[int, int]) -> float:
        raise AssertionError("this was decided without a measurement")

    recipe = recipe_for(Path("some/model"), "training.bf16=null")
    for shape in ((64, 4096), (1024, 255)):
        found = precision.choice(recipe, CPU, False, shape, measure=measured)
        assert found == {"bf16": False, "by": "size"} and not precision.in_words(found)
    asked = recipe_for(Path("some/model"), "training.bf16=true")
    assert precision.choice(asked, CPU, False, (64, 128), measure=lambda _: 1.2)["bf16"] is True


def test_the_measurement_is_short_and_leaves_the_draws_of_the_fit_alone() -> None:
    """A second is far more than the tenth it is meant to take, for machines that are busy."""
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    speed = precision.bf16_speed((256, 512))
    assert torch.equal(torch.rand(2), expected)
    assert 1e-3 < speed < 1e3


def test_other_programs_turns_on_the_processor_do_not_choose_the_format() -> None:
    """Two of three measurements come out a second late; the answer is that of those which do not."""
    calls, late = itertools.count(), [0.0]
    clock = time.perf_counter

    def busy() -> float:
        late[0] += 1.0 if next(calls) % 3 else 0.0
        return clock() + late[0]

    def slow(states: Any, weights: Any) -> Any:
        time.sleep(0.02 if torch.is_autocast_enabled("cpu") else 0.01)
        return torch.nn.functional.linear(states, weights)

    assert 0.3 < precision.bf16_speed((8, 8), product=slow, clock=busy) < 0.9


def test_the_choice_is_on_record_and_kept(tiny_model: Path, tmp_path: Path) -> None:
    """A run that goes on while the machine is busy with something else goes on in the format it was begun in."""
    from sft.runs.run import Run
    from sft.training.fit import _precision

    recipe = recipe_for(tiny_model)
    config = config_of(resolve_model(str(tiny_model)))
    with Run.create(tmp_path / "run") as run:
        first = _precision(run, recipe, config)
        assert run.manifest["precision"]["bf16"] is first
        for begun in (True, False):  # whatever would be measured now
            run.update_manifest(precision={"bf16": begun, "by": "measured", "cpu_speed": 1.0})
            assert _precision(run, recipe, config) is begun
            assert run.manifest["precision"]["cpu_speed"] == 1.0
