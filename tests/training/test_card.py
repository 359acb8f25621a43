"""What is fitted and written on a CUDA card, on one that computes by the CPU and refuses what a card refuses.

Nothing of the product is replaced (``stand_in_card``). Losses and texts are those of the CPU up to rounding, through
attention over rows of many lengths and TRL's tiled head, which no CPU takes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.engine, pytest.mark.card]
TOYS = Path(__file__).resolve().parents[1] / "toys"
sys.path.append(str(TOYS / "card"))

from stand_in_card import everywhere, why_not

if why_not():
    pytest.skip(why_not(), allow_module_level=True)

from every_way import ELSEWHERE, WAYS, fitted, written

#: Rounding of bfloat16 in a model of two layers: nats a token.
ROUNDING = 0.02
#: Ways that compute in float32, or in more of it than 16 bits.
WIDE = ("float32", "tf32")


def on_the_card(words: list[str], **card: Any) -> subprocess.CompletedProcess[str]:
    """A Python program on a machine with such a card, from its own beginning: what forks it has no card."""
    return subprocess.run(
        [sys.executable, *words], env=everywhere(**card), capture_output=True, text=True, check=False, timeout=600
    )


@pytest.fixture(scope="module")
def found(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of every way, on the card."""
    folder = tmp_path_factory.mktemp("card")
    ended = on_the_card([str(TOYS / "card" / "every_way.py"), str(tiny_model), str(folder)])
    assert ended.returncode == 0, ended.stderr[-4000:]
    return json.loads((folder / "found.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


@pytest.mark.parametrize("way", sorted(WAYS))
def test_a_fit_on_the_card_is_that_of_the_cpu(
    way: str, found: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    made, here = found[way], fitted(ELSEWHERE.get(way, way), tiny_model, tmp_path / "run")
    assert made["devices"] == ["cuda:0"] and here["devices"] == ["cpu"]
    assert len(made["losses"]) == len(here["losses"]) == 4 and len(made["looks"]) == len(here["looks"]) == 2
    rounding = 1e-4 if way in WIDE else ROUNDING
    assert made["losses"] == pytest.approx(here["losses"], abs=rounding)
    assert made["looks"] == pytest.approx(here["looks"], abs=rounding)


def test_rows_stand_in_one_line_in_one_call_a_layer(found: dict[str, Any]) -> None:
    """By the kernel wherever it computes, forward and backward, and by none in float32, where rows have padding."""
    for way in WAYS:
        narrow = way not in WIDE
        assert found[way]["attention"] == ("sft_varlen" if narrow else "padded")
        assert bool(found[way]["forward"]) == bool(found[way]["backward"]) == narrow


def test_no_logits_are_whole_neither_in_a_step_nor_in_a_look_at_the_validation_split(found: dict[str, Any]) -> None:
    """Of 4,000 tokens and 128,256 words they took 5 GB beside a fit that itself went in. One comparison comes first:
    of two rows, in which the ways to lay a batch out are held against each other."""
    assert all(found[way]["whole logits"] <= 2 * (1 + (way == "resumed")) for way in WAYS)


def test_no_step_and_no_look_asks_the_device_for_float64(found: dict[str, Any]) -> None:
    """Apple's GPUs have none, and each fit there ended at its first look at the validation split.

    PyTorch's own scaling of gradients in float16 asks for it, and knows those GPUs.
    """
    ways = [way for way in WAYS if way != "float16"]
    assert {way: found[way]["float64"] for way in ways} == dict.fromkeys(ways, 0)


def test_a_fit_that_was_stopped_ends_on_the_card_as_if_it_never_was(found: dict[str, Any]) -> None:
    assert found["resumed"]["losses"] == found["lora"]["losses"] and found["resumed"]["looks"] == found["lora"]["looks"]


def test_what_is_written_and_scored_on_the_card_is_that_of_the_cpu(found: dict[str, Any], tiny_model: Path) -> None:
    made, here = found["written"], written(tiny_model)
    assert made["device"] == "cuda" and here["device"] == "cpu"
    assert made["greedy"] == here["greedy"] and made["drawn"] == here["drawn"]
    for name in ("beside", "scored"):
        for key, nats in here[name].items():
            assert made[name][key] == pytest.approx(nats, abs=1e-4)


def test_the_machine_waits_for_the_card_twice_a_token(found: dict[str, Any]) -> None:
    """For the tokens, and for transformers, which asks whether there is padding. It was once a row, and more."""
    one, nine = found["waits"]
    assert nine - one <= 2 * 8


def test_products_in_tf32_end_in_a_proof(found: dict[str, Any]) -> None:
    """The fit was over and saved when PyTorch, asked by the older one of two ways, raised that both were mixed."""
    assert len(found["tf32"]["losses"]) == 4


def test_a_tensor_left_behind_is_seen(found: dict[str, Any]) -> None:
    """Else all of this would prove nothing: the position of each token stays on the CPU, planted."""
    assert "Expected all tensors to be on the same device" in found["misplaced"]


# -- what users see ---------------------------------------------------------------------------------------------


@pytest.fixture
def recipe(tiny_model: Path, tmp_path: Path) -> Path:
    from toy_demonstrations import write_demonstrations

    data = write_demonstrations(tmp_path / "demonstrations.jsonl", 60)
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"model: {{name: {tiny_model}}}\ndemonstrations: {{path: {data}}}\n"
        "split: {validation: 0.1, test: 0.2, near_duplicates: allow}\nadapter: {method: lora, r: 4, lora_alpha: 8}\n"
        "training: {max_steps: 2, eval_steps: 2, logging_steps: 1, per_device_train_batch_size: 8}\n",
        encoding="utf-8",
    )
    return path


def test_of_two_old_gpus_one_is_taken_and_its_own_format_is_named(recipe: Path, tmp_path: Path) -> None:
    """trl refuses a process that sees two: the fit ended with its sentence, data and all read.

    A T4 has no bfloat16 and no FlashAttention; that float16 is many times as fast was nowhere said.
    """
    words = ["-m", "sft", "train", str(recipe), "-o", str(tmp_path / "run")]
    ended = on_the_card(words, card="T4", cards=2)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "train     on one of 2 GPUs; accelerate launch -m sft train takes all of them\n" in ended.stderr
    assert "in float32; training.fp16=true, its own format, is much faster" in ended.stderr
    assert "saved     as fitted" in ended.stderr


#: Bytes: more than the largest tensor takes with half of the batch, a tile of the head's logits, 32,768 words wide.
ENOUGH_FOR_HALF = 16_000_000


def test_a_fit_that_runs_out_of_the_card_s_memory_names_a_setting_that_does_not(recipe: Path, tmp_path: Path) -> None:
    words = ["-m", "sft", "train", str(recipe), "-o", str(tmp_path / "run")]
    ended = on_the_card(words, largest=ENOUGH_FOR_HALF)
    assert ended.returncode == 2, ended.stderr[-3000:]
    said = ended.stderr.splitlines()[-1]
    remedy = "--set training.per_device_train_batch_size=4 --set training.gradient_accumulation_steps=2"
    assert said.startswith("sft: training: the GPU's memory ran out; ") and remedy in said
    ended = on_the_card([*words, *remedy.split()], largest=ENOUGH_FOR_HALF)
    assert ended.returncode == 0, ended.stderr[-3000:]


def test_a_model_that_does_not_go_onto_the_card_is_named_and_no_batch(recipe: Path, tmp_path: Path) -> None:
    """Fewer rows, smaller batches and shorter texts were advised, and none of them helps."""
    ended = on_the_card(["-m", "sft", "train", str(recipe), "-o", str(tmp_path / "run")], largest=50_000)
    assert ended.returncode == 2, ended.stderr[-3000:]
    assert "the model does not go into the memory of this GPU; write model.dtype: " in ended.stderr.splitlines()[-1]


def test_a_plan_whose_probe_runs_out_of_the_card_s_memory_says_that_it_does_not_fit(recipe: Path) -> None:
    """It ended with a traceback: the probe is a process of its own, and was thought to be killed if anything."""
    ended = on_the_card(["-m", "sft", "plan", str(recipe)], largest=ENOUGH_FOR_HALF)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "The probe ran out of memory, so as it is the fit does not go in" in ended.stdout
    assert (
        "Does not fit:" in ended.stdout and "it would with --set training.per_device_train_batch_size=" in ended.stdout
    )


def test_a_gpu_that_pytorch_has_no_code_for_is_named_and_the_cpu_is_the_way_out(recipe: Path, tmp_path: Path) -> None:
    """The recipe's training section was said to be wrong, each key of it tried."""
    words = ["-m", "sft", "train", str(recipe), "-o", str(tmp_path / "run")]
    ended = on_the_card(words, card="GTX 1080")
    assert ended.returncode == 2, ended.stderr[-3000:]
    assert "sft: the installed PyTorch has no code for this GPU; " in ended.stderr.splitlines()[-1]


def test_weights_in_float16_are_refused_where_their_gradients_are_scaled(recipe: Path, tmp_path: Path) -> None:
    """The scaler of PyTorch raised ``Attempting to unscale FP16 gradients`` in the first step, with a traceback."""
    text = recipe.read_text(encoding="utf-8").replace("method: lora, r: 4, lora_alpha: 8", "method: full")
    recipe.write_text(text, encoding="utf-8")
    words = ["-m", "sft", "train", str(recipe), "-o", str(tmp_path / "run"), "--set", "training.fp16=true"]
    ended = on_the_card([*words, "--set", "model.dtype=float16"], card="T4")
    assert ended.returncode == 2, ended.stderr[-3000:]
    assert ended.stderr.splitlines()[-1].startswith("sft: model.dtype: is float16, and training.fp16 scales the gradie")


def test_a_card_that_one_process_alone_may_have_is_no_obstacle(recipe: Path, tmp_path: Path) -> None:
    """As clusters set it. What was saved is loaded by a process of its own, which failed, and the clone was put aside
    as not what was fitted; the probe of a plan failed beside the process that had asked for the free memory."""
    folder, alone = tmp_path / "run", tmp_path / "held"
    ended = on_the_card(["-m", "sft", "train", str(recipe), "-o", str(folder)], alone=alone)
    assert ended.returncode == 0, ended.stderr[-3000:]
    saved = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["training"]["saved"]
    assert saved["device"] == "cpu" and (folder / "adapter").is_dir()
    ended = on_the_card(["-m", "sft", "plan", str(recipe)], alone=alone)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "measured" in ended.stdout and "of the 42.4 GB of GPU memory that are free" in ended.stdout
