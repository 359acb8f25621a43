"""Rows that several processes share, each with a part of the tokens: on CPUs over gloo, by the shipped launch file.

Losses, gradients and clone must be those of one process, whatever else is done: weights whole or in parts, several
groups and a last round that does not go round, windows, checkpointing, a stop in the middle. On CPUs accelerate leaves
the weights whole; where they are to be in parts ``toys/sharded`` has it do what it does on accelerators.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import forked_python
import pytest
from repository import ROOT, TESTS
from toy_checkpoints import cut_short
from toy_demonstrations import write_demonstrations
from toy_launches import launch, passes

pytestmark = [pytest.mark.engine, pytest.mark.cluster]
torch = pytest.importorskip("torch")

from safetensors.torch import load_file
from transformers import AutoTokenizer, MistralConfig, MistralForCausalLM, Phi3Config, Phi3ForCausalLM

from sft.cli import main
from sft.runs.run import Run, read_json, read_jsonl

LONG_ROWS = ROOT / "recipes" / "accelerate" / "long-rows.yaml"
RECIPE = """\
model: {{name: {model}}}
demonstrations: {{path: {data}}}
split: {{validation: 0.15, test: 0.25, near_duplicates: remove}}
adapter: {adapter}
training:
  {{learning_rate: 1.0e-2, max_steps: 12, eval_steps: 4, logging_steps: 1, per_device_train_batch_size: 12}}
fidelity: {{max_prompts: 6, max_new_tokens: 6}}
"""
#: Name of a recipe -> the model's and the adapter's. Heads of "window" see eight tokens; its keys have one head.
RECIPES = {
    "lora": ("llama", "{r: 4}"),
    "full": ("llama", "{method: full}"),
    "window": ("window", "{r: 4, target_modules: [q_proj, v_proj]}"),
    "stretching": ("stretching", "{r: 4, target_modules: [qkv_proj]}"),
}


def drawn(folder: Path, tokenizer: Path, kind: type, config: type, **more: object) -> Path:
    """A toy of another family, with random weights, that reads as the tiny Llama does."""
    reads = AutoTokenizer.from_pretrained(tokenizer)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    special = {"pad_token_id": reads.pad_token_id, "eos_token_id": reads.eos_token_id, "bos_token_id": None}
    torch.manual_seed(0)
    kind(config(vocab_size=len(reads), max_position_embeddings=512, **sizes, **special, **more)).save_pretrained(folder)
    reads.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    made = tmp_path_factory.mktemp("long-rows")
    data = write_demonstrations(made / "demonstrations.jsonl")
    factors = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    models = {
        "llama": tiny_model,
        "window": drawn(
            made / "window", tiny_model, MistralForCausalLM, MistralConfig, sliding_window=8, num_key_value_heads=1
        ),
        "stretching": drawn(
            made / "stretching", tiny_model, Phi3ForCausalLM, Phi3Config,
            rope_parameters=factors, original_max_position_embeddings=256,
        ),
    }  # fmt: skip
    for name, (model, adapter) in RECIPES.items():
        text = RECIPE.format(model=models[model], data=data, adapter=adapter)
        (made / f"{name}.yaml").write_text(text, encoding="utf-8")
    return made


def shared(
    folder: Path,
    *words: str,
    processes: int = 2,
    parts: bool = False,
    options: tuple[str, ...] = (),
    watched: Path | None = None,
) -> tuple[int, str]:
    """Status and words of the file's line; ``parts``: weights are in parts, of which every process must hold one."""
    told = folder / f"parts-{len(list(folder.iterdir()))}"
    more = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    if watched is not None:
        path = os.pathsep.join([str(TESTS / "toys" / "watched"), str(ROOT)])
        more |= {"PYTHONPATH": path, "WATCH": str(watched)}
    if parts:
        told.mkdir()
        more |= {"PYTHONPATH": os.pathsep.join([str(TESTS / "toys" / "sharded"), str(ROOT)]), "SHARDED": str(told)}
    done = forked_python.run(
        [
            sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(LONG_ROWS),
            "--num_processes", str(processes), *options, "-m", "sft", *words,
        ],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900, env=os.environ | more,
    )  # fmt: skip
    if parts:
        held = [path.read_text(encoding="utf-8").splitlines() for path in told.iterdir()]
        assert len(held) == processes and held[0]
        for name, *shapes in (line.replace(", ", ",").split() for line in held[0]):
            whole, own = (tuple(int(size) for size in shape.strip("(),").split(",")) for shape in shapes)
            assert own[0] == -(-whole[0] // processes), f"{name} is whole"
    return done.returncode, done.stdout


def alone(folder: Path, name: str, *words: str) -> Path:
    """The same recipe by one process, once."""
    run = folder / f"{name}-one"
    if not run.exists():
        line = ["train", str(folder / f"{name}.yaml"), "--output", str(run), *words]
        assert launch(words=line, watch=str(run.with_suffix(".watch")))["codes"] == [0]
    return run


def assert_one_clone(first: Path, second: Path) -> None:
    """Losses, norms of gradients, tokens and every number of the clone."""
    for key, count in (("loss", 12), ("grad_norm", 12), ("eval_loss", 3)):
        found = [[row[key] for row in read_jsonl(run / "log.jsonl") if key in row] for run in (first, second)]
        assert len(found[0]) == count and found[1] == pytest.approx(found[0], rel=1e-4), key
    (name,) = [path.relative_to(first) for path in first.glob("[am]*/*.safetensors")]
    clones = [load_file(run / name) for run in (first, second)]
    assert clones[0].keys() == clones[1].keys()
    for key, value in clones[0].items():
        assert clones[1][key].shape == value.shape and value.any()
        torch.testing.assert_close(clones[1][key], value, rtol=0, atol=1e-4)
    manifests = [read_json(run / "manifest.json") for run in (first, second)]
    for key in ("steps", "supervised_tokens", "rows_not_reached", "tokens_not_reached", "trainable_parameters"):
        assert manifests[0]["training"][key] == manifests[1]["training"][key], key
    assert manifests[0]["launch"]["rows_per_step"] == manifests[1]["launch"]["rows_per_step"]
    assert read_json(first / "ledger.json") == read_json(second / "ledger.json")


@pytest.fixture(scope="module")
def pair(folder: Path) -> Path:
    """A run of two processes that share each row; what each model reads is written down."""
    status, said = shared(folder, "train", "lora.yaml", "--output", "pair", watched=folder / "pair.watch")
    assert status == 0 and "saved     as fitted: loaded afresh and merged" in said, said[-3000:]
    return folder / "pair"


def test_two_that_share_each_row_give_the_clone_of_one(folder: Path, pair: Path) -> None:
    assert_one_clone(alone(folder, "lora"), pair)
    launched = read_json(pair / "manifest.json")["launch"]
    assert launched == {"processes": 2, "processes_per_row": 2, "rows_per_step": 12}


def test_each_reads_its_part_and_both_together_what_one_reads(folder: Path, pair: Path) -> None:
    """Token by token, in every step; and every supervised token is scored once."""
    alone(folder, "lora")
    ((whole,),) = passes(folder / "lora-one.watch").values()
    parts = [launches[0] for launches in passes(folder / "pair.watch").values()]
    assert len(parts) == 2 and len(parts[0]) == len(parts[1]) == len(whole) == 12
    for one, first, second in zip(whole, *parts, strict=True):
        ((line,), (left,), (right,)) = (seen["ids"] for seen in (one, first, second))
        assert len(left) == len(right) == -(-len(line) // 2) and (left + right)[: len(line)] == line
        assert first["scored"] + second["scored"] == one["scored"]


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_so_do_two_that_hold_the_weights_in_parts(folder: Path, kind: str) -> None:
    """And what they save is measured."""
    status, said = shared(folder, "run", f"{kind}.yaml", "--output", f"{kind}-parts", parts=True)
    assert status == 0 and "saved     as fitted: loaded afresh" in said, said[-3000:]
    assert_one_clone(alone(folder, kind), folder / f"{kind}-parts")
    assert read_json(folder / f"{kind}-parts" / "scorecard.json")


def test_two_groups_of_two_deal_rows_out_between_them(folder: Path) -> None:
    """76 rows in batches of 6 by two groups: in the last round one group has none, and what it computes counts not."""
    words = ["--set", "training.per_device_train_batch_size=6", "--set", "training.gradient_checkpointing=true"]
    status, said = shared(folder, "train", "lora.yaml", "--output", "four", *words, processes=4)
    assert status == 0, said[-3000:]
    assert_one_clone(alone(folder, "lora"), folder / "four")


def test_a_window_stays_one_and_one_head_of_keys_is_enough(folder: Path) -> None:
    """TRL's own way took the window for none, and gave Mistral's losses as Llama's."""
    status, said = shared(folder, "train", "window.yaml", "--output", "window-pair")
    assert status == 0, said[-3000:]
    assert_one_clone(alone(folder, "window"), folder / "window-pair")


def test_packed_rows_are_shared_too(folder: Path) -> None:
    words = ["--set", "training.packing=true", "--set", "training.max_length=64"]
    words += ["--set", "training.per_device_train_batch_size=3"]
    status, said = shared(folder, "train", "lora.yaml", "--output", "packed-pair", *words)
    assert status == 0, said[-3000:]
    line = ["train", str(folder / "lora.yaml"), "--output", str(folder / "packed-one"), *words]
    assert launch(words=line, watch=str(folder / "watch"))["codes"] == [0]
    assert_one_clone(folder / "packed-one", folder / "packed-pair")


def test_two_go_on_where_two_were_stopped(folder: Path, pair: Path) -> None:
    cut_short(pair, "resumed")
    status, said = shared(folder, "train", "lora.yaml", "--output", "resumed", "--resume")
    assert status == 0, said[-3000:]
    assert_one_clone(alone(folder, "lora"), folder / "resumed")


def test_one_goes_on_where_two_were_stopped_and_it_is_on_record(folder: Path, pair: Path) -> None:
    run = cut_short(pair, "by-one")
    words = ["train", str(folder / "lora.yaml"), "--output", str(run), "--resume"]
    refused = launch(words=words, watch=str(folder / "watch"))
    assert refused["codes"] == [2] and "another launch.processes, launch.processes_per_row;" in refused["said"]
    assert launch(words=[*words, "--allow-change"], watch=str(folder / "watch"))["codes"] == [0]
    noted = {row["what"]: (row["from"], row["to"], row["step"]) for row in Run.open(run).changes}
    assert noted["launch.processes_per_row"] == (2, 1, 8)
    assert_one_clone(alone(folder, "lora"), run)


def test_what_was_saved_is_measured_by_one_process(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(pair)]) == 0, capsys.readouterr().err
    assert read_json(pair / "scorecard.json")


@pytest.mark.parametrize(
    ("name", "words", "processes", "options", "said"),
    [
        ("lora", [], 3, ["--parallelism_config_sp_size", "3"], "the model's 4 heads cannot be shared by 3 processes; "
         "write one of 2, 4"),
        ("lora", [], 3, [], "2 processes share a row (sp_size), and 3 were launched; launch 2, or a multiple of that"),
        ("stretching", [], 2, [], "this model's positions (longrope) follow from the longest of a batch"),
        ("lora", ["--set", "training.neftune_noise_alpha=5"], 2, [],
         "rows have padding and cannot be cut, because the noise of neftune_noise_alpha"),
    ],
    ids=["heads", "processes", "positions", "padding"],
)  # fmt: skip
def test_what_cannot_be_shared_is_refused(
    name: str, words: list[str], processes: int, options: list[str], said: str, folder: Path
) -> None:
    status, told = shared(
        folder, "train", f"{name}.yaml", "--output", "refused", *words, processes=processes, options=tuple(options)
    )
    assert status and said in told and "Traceback" not in told.partition("ChildFailedError")[0][:200], told[-3000:]
    assert not (folder / "refused" / "log.jsonl").exists()
