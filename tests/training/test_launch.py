"""Launching and resuming: one recipe, one result, by however many processes and after however many deaths."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any

import forked_python
import pytest
from repository import ROOT, TESTS

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")

from safetensors.torch import load_file
from small_tokenizers import chatml
from toy_demonstrations import write_demonstrations
from toy_launches import launch, passes

from sft.cli import main
from sft.errors import RunError, UserError
from sft.runs import checkpoints
from sft.runs.processes import demand_all_started, others_are_gone, refuse_one_row_for_several
from sft.runs.run import Run, read_json, read_jsonl
from sft.training import going_on

CONFIGS = sorted((ROOT / "recipes" / "accelerate").glob("*.yaml"))
LINE = re.compile(r"# Run:  (accelerate launch .+)")

RECIPE = """\
model:
  name: {model}
demonstrations:
  path: {data}
split: {{validation: 0.15, test: 0.25, near_duplicates: remove}}
adapter: {{r: 4, lora_dropout: 0.1}}
training:
  learning_rate: 1.0e-2
  max_steps: 24
  eval_steps: 6
  logging_steps: 1
  per_device_train_batch_size: 4
fidelity: {{max_prompts: 6, max_new_tokens: 6}}
"""


@pytest.fixture
def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """76 rows to train on: batches of 4 on two processes do not go round evenly."""
    folder = tmp_path_factory.mktemp("recipe")
    path = folder / "recipe.yaml"
    data = write_demonstrations(folder / "demonstrations.jsonl")
    path.write_text(RECIPE.format(model=tiny_model, data=data), encoding="utf-8")
    return path


def launched(plan: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What came of the launches of ``plan``, one after the other; see ``toy_launches``."""
    return [launch(**one) for one in plan]


def log_of(run: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "wall_seconds"} for row in read_jsonl(run / "log.jsonl")]


def adapter_of(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "adapter" / "adapter_model.safetensors")


def yaml_of(path: Path) -> dict[str, Any]:
    import yaml

    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def assert_same_to_the_bit(one: Path, other: Path) -> None:
    first, second = adapter_of(one), adapter_of(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert log_of(one) == log_of(other)


# -- the files for accelerate ---------------------------------------------------------------------------------


def test_every_launch_is_in_the_documentation() -> None:
    """File and line; and each file says in its first lines what it is for and how it is run, with its own name."""
    page = (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8")
    assert [path.stem for path in CONFIGS] == [
        "cpu", "ddp", "fsdp2", "long-rows", "one-gpu", "two-machines", "zero2", "zero3",
    ]  # fmt: skip
    for path in CONFIGS:
        text = path.read_text(encoding="utf-8")
        line = LINE.search(text)
        assert text.startswith("# ") and line and f"--config_file recipes/accelerate/{path.name} " in line[1]
        assert f"recipes/accelerate/{path.name}" in page
        if "processes" in line[1]:
            assert re.search(rf"accelerate/{path.name}`? .*--num_processes|{path.name} --num_processes", page), path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_accelerate_reads_its_file_and_starts_what_it_is_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By accelerate's own loader, parser and launcher, up to the environment that the processes would get."""
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env, prepare_simple_launcher_cmd_env

    kind = {"fsdp2": "FSDP", "long-rows": "FSDP", "zero2": "DEEPSPEED", "zero3": "DEEPSPEED", "one-gpu": "NO"}.get(
        path.stem, "MULTI_GPU"
    )
    assert load_config_from_file(str(path)).distributed_type == kind  # an unknown key raises ValueError
    line = LINE.search(path.read_text(encoding="utf-8"))
    assert line is not None
    words = shlex.split(line[1])[2:]
    known = launch_command_parser()
    section = yaml_of(path)
    for name in (key for part in section.values() if isinstance(part, dict) for key in part):
        assert hasattr(known.parse_args(["x"]), name), f"{name} is no option of accelerate launch"
    arguments, _, _ = _validate_launch_command(known.parse_args(words))
    assert arguments.module and arguments.training_script == "sft"
    assert arguments.training_script_args[:1] == ["train"]
    assert (arguments.use_fsdp, arguments.use_deepspeed) == (kind == "FSDP", kind == "DEEPSPEED")
    if kind == "NO":
        command, _ = prepare_simple_launcher_cmd_env(arguments)
        assert command[1:4] == ["-m", "sft", "train"]
        return
    assert arguments.multi_gpu or arguments.use_fsdp or arguments.use_deepspeed, "no launcher that starts several"
    assert arguments.num_processes == {"two-machines": 16, "cpu": 2}.get(path.stem, 4)
    if kind == "DEEPSPEED":
        from accelerate.utils.launch import prepare_deepspeed_cmd_env

        assert arguments.zero_stage == int(path.stem[-1])
        assert (arguments.gradient_accumulation_steps, arguments.gradient_clipping) == ("auto", "auto")
        # On two nodes of a cluster each starts its own half: accelerate would start both from each, through pdsh.
        two = [
            "--num_machines",
            "2",
            "--machine_rank",
            "1",
            "--main_process_ip",
            "ADDRESS",
            "--main_process_port",
            "29500",
        ]
        arguments, _, _ = _validate_launch_command(known.parse_args([*two, *words]))
        arguments.deepspeed_fields_from_accelerate_config = ""  # as accelerate's own launcher does it
        command, variables = prepare_deepspeed_cmd_env(arguments)
        assert command is None and variables["ACCELERATE_USE_DEEPSPEED"] == "true"
        assert (arguments.nnodes, arguments.node_rank, arguments.nproc_per_node) == ("2", 1, "2")
        return
    variables = prepare_multi_gpu_env(arguments)
    assert variables["ACCELERATE_MIXED_PRECISION"] == "no"
    assert variables.get("PARALLELISM_CONFIG_SP_SIZE", "1") == ("2" if path.stem == "long-rows" else "1")
    if kind == "FSDP":
        from accelerate.utils import FullyShardedDataParallelPlugin

        for name, value in variables.items():
            if name.startswith(("FSDP_", "ACCELERATE_")):
                monkeypatch.setenv(name, value)
        plugin = FullyShardedDataParallelPlugin()
        assert plugin.fsdp_version == 2 and plugin.reshard_after_forward is True
        assert str(plugin.state_dict_type).endswith("FULL_STATE_DICT")
    if path.stem == "two-machines":
        assert (arguments.nnodes, arguments.nproc_per_node) == ("2", "8")
        assert (arguments.rdzv_endpoint, arguments.rdzv_backend) == ("ADDRESS:29500", "static")


def test_a_launch_that_started_one_of_several_is_refused(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``accelerate launch --cpu --num_processes 2`` sets a meeting point and starts one process: half of every step."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    demand_all_started()
    monkeypatch.setenv("MASTER_PORT", "29500")
    assert main(["train", str(recipe), "--output", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "asked for several processes and has started one" in said and "recipes/accelerate/cpu.yaml" in said
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv("WORLD_SIZE", "2")
    demand_all_started()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--use_parallelism_config", "--parallelism_config_tp_size=2"], "asks for tensor parallelism, which"),
        (
            ["--use_parallelism_config", "--parallelism_config_cp_size=2", "--parallelism_config_tp_size=2"],
            "asks for tensor parallelism and context parallelism, which",
        ),
        (["--use_parallelism_config", "--parallelism_config_dp_shard_size=2"], ""),
        (["--use_parallelism_config", "--parallelism_config_sp_size=2"], "share a row (sp_size), and 1 was launched"),
    ],
)
def test_several_processes_at_one_row_are_refused(
    options: list[str], said: str, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """By the variables that accelerate's own launcher makes of its options; sharding by them is none of these."""
    from accelerate.commands.launch import launch_command_parser
    from accelerate.utils.launch import prepare_extend_env_parallelism_config

    arguments = launch_command_parser().parse_args([*options, "x"])
    for name, value in prepare_extend_env_parallelism_config(arguments, {}).items():
        monkeypatch.setenv(name, value)
    if not said:
        refuse_one_row_for_several()
        return
    assert main(["train", str(recipe), "--output", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert said in told and ("recipes/accelerate/long-rows.yaml" in told) == ("asks for" in said)
    assert not (tmp_path / "run").exists()


def test_sizes_beside_sp_size_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """They say who holds the weights, and would be passed over: all processes hold them together."""
    monkeypatch.setenv("ACCELERATE_USE_PARALLELISM_CONFIG", "true")
    monkeypatch.setenv("PARALLELISM_CONFIG_SP_SIZE", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    refuse_one_row_for_several()
    for name in ("SHARD", "REPLICATE"):
        with monkeypatch.context() as patch, pytest.raises(UserError, match="dp_shard_size or dp_replicate_size; take"):
            patch.setenv(f"PARALLELISM_CONFIG_DP_{name}_SIZE", "2")
            refuse_one_row_for_several()


# -- several processes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["recipe", "package"])
def test_a_process_that_stands_on_something_else_is_told_before_the_fit(
    what: str, recipe: Path, tmp_path: Path
) -> None:
    """On its machine is an older copy: it fitted its share of the rows by a recipe, or a library, of its own."""
    (tmp_path / "trl-1.2.3.dist-info").mkdir()
    (tmp_path / "trl-1.2.3.dist-info" / "METADATA").write_text("Name: trl\nVersion: 1.2.3\n", encoding="utf-8")
    other, said = {
        "recipe": (
            {"others": ["--set", "training.seed=3"]},
            "process 1 has recipe training.seed as 3, and the first one as 0; put the recipe on a disk",
        ),
        "package": ({"path": str(tmp_path)}, "process 1 has package trl as 1.2.3, and the first one as "),
    }[what]
    words = ["train", str(recipe), "--output", str(tmp_path / "run")]
    (done,) = launched([{"words": words, "watch": str(tmp_path / "watch"), "processes": 2} | other])
    assert done["codes"] == [2, 2] and said in done["said"] and "Traceback" not in done["said"], done["said"]
    assert not (tmp_path / "run").exists()


def rows_read(run: Path) -> list[list[list[int]]]:
    """Of every launch of a run in one process: the rows of its passes in order, as the model read them."""
    (launches,) = passes(run.with_suffix(".watch")).values()
    return [[_rows(seen) for seen in launch] for launch in launches]


def steps_read(run: Path) -> list[list[int]]:
    """Of a run in one launch: the rows of every pass over all processes together, sorted, as the models read them."""
    ranks = [launches[0] for launches in passes(run.with_suffix(".watch")).values()]
    assert len({len(seen) for seen in ranks}) == 1, "all processes take every step"
    return [sorted(row for seen in together for row in _rows(seen)) for together in zip(*ranks, strict=True)]


def _rows(seen: dict[str, Any]) -> list[int]:
    """Numbers of the demonstrations whose completions a pass scored: prompts begin with them (``12: the box ...``)."""
    if not seen["scored"]:
        return []
    text = chatml().decode([token for row in seen["ids"] for token in row])
    return sorted(int(number) for number in re.findall(r"(\d+): the", text))


def contains(whole: list[list[int]], part: list[list[int]]) -> bool:
    """Whether ``part`` stands somewhere in ``whole``, in one piece."""
    return any(whole[n : n + len(part)] == part for n in range(len(whole) - len(part) + 1))


@pytest.fixture(scope="module")
def family(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Runs of one recipe: by one process, by two, by two of which one is killed, and with three deaths in a row.

    Dropout is drawn by each process for itself: what is killed is compared with its like.
    """
    folder = tmp_path_factory.mktemp("family")
    draw = random.Random(0)  # before the first checkpoint, and after one that was itself gone on to
    deaths = [draw.randrange(*steps) for steps in ((1, 6), (7, 12), (13, 22))]

    def train(name: str, *, resume: bool = False, kill: tuple[int, int] | None = None, **how: Any) -> dict[str, Any]:
        words = ["train", str(recipe), "--output", str(folder / name), *["--resume"] * resume]
        doom = {} if kill is None else {"rank": kill[0], "step": kill[1], "log": str(folder / name / "log.jsonl")}
        return {"words": words, "watch": str(folder / f"{name}.watch"), "kill": doom or None, **how}

    plan = [
        train("untouched"),
        *(train("dying", resume=n > 0, kill=(0, step)) for n, step in enumerate(deaths)),
        train("dying", resume=True),
        train("pair", processes=2),
        train("killed", processes=2, kill=(1, 7)),
        train("killed", resume=True, processes=2, kill=(0, 16)),
        train("killed", resume=True, processes=2),
    ]
    return {"folder": folder, "results": launched(plan)}


def trained_on(run: Path) -> list[int]:
    """Numbers of the demonstrations that ``run`` trains on, sorted."""
    rows = [row for row in read_jsonl(run / "demonstrations.jsonl") if row["split"] == "train"]
    return sorted(int(row["prompt"][-1]["content"].partition(":")[0]) for row in rows)


def assert_one_fit(one: Path, several: Path, *, batch: int = 4, accumulated: int) -> None:
    """The run of one process, in ``accumulated`` passes a step, read the same rows and became the same clone."""
    alone, passes_of_epoch = steps_read(one), -(-len(trained_on(one)) // batch)
    epochs = [alone[begin : begin + passes_of_epoch] for begin in range(0, len(alone), passes_of_epoch)]
    by_step = [  # accumulation ends with the epoch
        sorted(chain(*epoch[n : n + accumulated])) for epoch in epochs for n in range(0, len(epoch), accumulated)
    ]
    assert by_step == steps_read(several)
    for a, b in zip(log_of(one), log_of(several), strict=True):
        a.pop("epoch"), b.pop("epoch")  # in parts of a step here, in steps there
        assert a == pytest.approx(b, abs=1e-5)
    first, second = adapter_of(one), adapter_of(several)
    assert all(torch.allclose(first[name], second[name], atol=1e-5) for name in first)


def test_deaths_change_nothing(family: dict[str, Any]) -> None:
    """Killed with kill -9 after three steps of 24 drawn by chance, one process ends with the untouched run's every bit.

    ``benchmarks/resume.py`` has ten, of one process and of two.
    """
    folder, results = family["folder"], family["results"][1:5]
    assert [r["codes"] for r in results] == [[-signal.SIGKILL]] * 3 + [[0]], [r["said"] for r in results]
    assert_same_to_the_bit(folder / "dying", folder / "untouched")
    (untouched,), lives = rows_read(folder / "untouched"), rows_read(folder / "dying")
    assert len(untouched) == 24 and len(lives) == 4
    assert all(contains(untouched, life) for life in lives), "each goes on where a checkpoint was"
    assert untouched[-len(lives[-1]) :] == lives[-1]


def test_a_killed_process_ends_the_others_and_the_run_goes_on(family: dict[str, Any]) -> None:
    """Whichever dies: the other ends of itself and says so once; twice killed, the end is the same to the bit."""
    folder, results = family["folder"], family["results"]
    whole, first, second, last = results[5:9]
    assert (whole["codes"], last["codes"]) == ([0, 0], [0, 0]), last["said"]
    assert (first["codes"], second["codes"]) == ([2, -signal.SIGKILL], [-signal.SIGKILL, 2]), first["said"]
    for result in (first, second):
        assert result["said"].count("another of the 2 processes has ended") == 1
        assert "go on with: accelerate launch (its options as before) -m sft train " in result["said"]
        assert "--resume\n" in result["said"] and "Traceback" not in result["said"]
    assert_same_to_the_bit(folder / "killed", folder / "pair")
    pair = passes(folder / "pair.watch")
    for rank, lives in passes(folder / "killed.watch").items():
        whole_life = [_rows(seen) for seen in pair[rank][0]]
        assert len(lives) == 3 and all(contains(whole_life, [_rows(seen) for seen in life]) for life in lives)


# -- the launcher itself ----------------------------------------------------------------------------------------


@contextmanager
def accelerate(
    recipe: Path, run: Path, *words: str, processes: int, environment: dict[str, str]
) -> Iterator[subprocess.Popen[str]]:
    """The documentation's line: ``accelerate launch ... -m sft train``; ``test_signals`` starts it as a user does."""
    config = ROOT / "recipes" / "accelerate" / "cpu.yaml"
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    count = ["--num_processes", str(processes), "-m", "sft", "train", str(recipe), "--output", str(run)]
    path = os.pathsep.join([str(TESTS / "toys" / "watched"), str(ROOT)])
    with forked_python.Popen(
        [*launcher, *count, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=run.parent,
        env=environment | {"PYTHONPATH": path, "WATCH": str(run.with_suffix(".watch"))},
        start_new_session=True,
    ) as started:
        try:
            yield started
        finally:
            with suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)


@pytest.mark.parametrize(("processes", "batch", "launcher"), [(2, 7, True), (3, 4, False)])
def test_batches_that_do_not_go_round(
    processes: int, batch: int, launcher: bool, recipe: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """The command of the documentation: every row twice in two epochs, and the losses and weights of one process.

    Two processes are started by ``accelerate launch``, three as it starts them (``toy_launches``), which is quicker.
    Two of the three are told to resume, as machines of a cluster that see the new folder already: the first one's word
    holds, else it waits for them, and they for it.

    Accelerate fills the last round of an epoch with rows of its beginning: 280 visits of 128 rows in two epochs.
    """
    same = ["training.num_train_epochs=2", "training.max_steps=-1", "adapter.lora_dropout=0.0"]
    same += [f"training.per_device_train_batch_size={batch}"]
    settings = [word for setting in same for word in ("--set", setting)]
    plan: list[dict[str, Any]] = [
        {"words": ["train", str(recipe), "--output", str(tmp_path / name), *settings]} for name in ("one", "several")
    ]
    plan[0]["words"] += ["--set", f"training.gradient_accumulation_steps={processes}"]
    plan[1] |= {"processes": processes, "others": ["--resume"]}
    for one, name in zip(plan, ("one", "several"), strict=True):
        one["watch"] = str(tmp_path / f"{name}.watch")
    results = launched(plan[:1] if launcher else plan)
    assert all(set(result["codes"]) == {0} for result in results), [result["said"] for result in results]
    if launcher:
        several_in = {"processes": processes, "environment": environment}
        with accelerate(recipe, tmp_path / "several", *settings, **several_in) as several:
            said, _ = several.communicate(timeout=900)
        assert several.returncode == 0, said
    rows = trained_on(tmp_path / "several")
    batches = -(-len(rows) // batch)
    assert batches % processes, "the batches go round, and nothing is tested"
    read = steps_read(tmp_path / "several")
    assert sorted(chain(*read)) == sorted(rows * 2), "every row twice, none a third time"
    epoch = len(read) // 2
    assert sorted(chain(*read[:epoch])) == rows, "and once an epoch"
    assert_one_fit(tmp_path / "one", tmp_path / "several", batch=batch, accumulated=processes)
    # One order is dealt out batch by batch, the first process first; who has none left scores nothing.
    ((whole,),) = passes(tmp_path / "one.watch").values()
    parts = [launches[0] for launches in passes(tmp_path / "several.watch").values()]
    dealt = [_rows(seen) for together in zip(*parts, strict=True) for seen in together]
    assert [batch_of_rows for batch_of_rows in dealt if batch_of_rows] == [_rows(seen) for seen in whole]
    assert dealt.count([]) == 2 * (-batches % processes)
    for name in ("split.json", "demonstrations.jsonl", "ledger.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "several" / name).read_bytes()


def test_the_launcher_itself_and_a_killed_process(
    recipe: Path, family: dict[str, Any], tmp_path: Path, environment: dict[str, str]
) -> None:
    """``accelerate launch`` with the file for CPUs: both processes start, one dies, one sentence, all end."""
    log, victim = tmp_path / "run" / "log.jsonl", tmp_path / "run.watch-1.jsonl"
    with accelerate(recipe, tmp_path / "run", processes=2, environment=environment) as launcher:
        deadline = time.monotonic() + 600
        while not (log.exists() and any(row["step"] >= 8 for row in read_jsonl(log))):
            assert launcher.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
        os.kill(json.loads(victim.read_text(encoding="utf-8").splitlines()[0])["pid"], signal.SIGKILL)
        said, _ = launcher.communicate(timeout=600)
    assert launcher.returncode != 0
    assert said.count("another of the 2 processes has ended") == 1, said
    assert "exitcode  : -9" in said, "and the launcher's own report says which"
    expected, seen = steps_read(family["folder"] / "pair"), passes(tmp_path / "run.watch")
    together = [sorted(_rows(a) + _rows(b)) for a, b in zip(seen[0][0], seen[1][0], strict=False)]
    assert len(together) >= 8 and together == expected[: len(together)]
    assert checkpoints.latest_checkpoint(tmp_path / "run" / "checkpoints") is not None


def test_a_checkpoint_that_lacks_a_process_is_not_whole(family: dict[str, Any], tmp_path: Path) -> None:
    """The first process may have written all of its part when another is killed before its own."""
    folder = tmp_path / "checkpoints"
    shutil.copytree(family["folder"] / "pair" / "checkpoints", folder)
    whole = checkpoints.latest_checkpoint(folder)
    assert whole is not None and whole.name == "checkpoint-24"
    (whole / "rng_state_1.pth").unlink()
    before = checkpoints.latest_checkpoint(folder)
    assert before is not None and before != whole
    (before / checkpoints.WHOLE).unlink()
    assert checkpoints.latest_checkpoint(folder) is None


# -- going on with something else -----------------------------------------------------------------------------


@pytest.fixture
def stopped(family: dict[str, Any], recipe: Path, tmp_path: Path) -> Iterator[tuple[Path, Path, Path]]:
    """A recipe, its data and a run of it as a kill at step 24 would leave it: copies, to change at will."""
    run, data, path = tmp_path / "run", tmp_path / "demonstrations.jsonl", tmp_path / "recipe.yaml"
    shutil.copytree(family["folder"] / "untouched", run)
    shutil.rmtree(run / "adapter")
    manifest = read_json(run / "manifest.json")
    del manifest["training"]
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    settings = yaml_of(run / "recipe.resolved.yaml")
    model = tmp_path / "model"
    shutil.copytree(settings["model"]["name"], model)
    shutil.copy(settings["demonstrations"]["path"], data)
    for text in (run / "manifest.json", run / "recipe.resolved.yaml"):
        content = text.read_text(encoding="utf-8").replace(settings["model"]["name"], str(model))
        text.write_text(content.replace(settings["demonstrations"]["path"], str(data)), encoding="utf-8")
    path.write_text(RECIPE.format(model=model, data=data), encoding="utf-8")
    yield path, run, data


def went_on(recipe: Path, run: Path, *words: str) -> int:
    return main(["train", str(recipe), "--output", str(run), "--resume", *words])


def another_data(recipe: Path, run: Path, data: Path) -> list[str]:
    rows = data.read_text(encoding="utf-8").splitlines(keepends=True)
    trained = {d["prompt"][-1]["content"] for d in read_jsonl(run / "demonstrations.jsonl") if d["split"] == "train"}
    number = next(n for n, row in enumerate(rows) if json.loads(row)["prompt"] in trained)
    row = json.loads(rows[number])
    rows[number] = json.dumps(row | {"completion": row["completion"] + "!"}) + "\n"
    data.write_text("".join(rows), encoding="utf-8")
    return []


def another_base(recipe: Path, run: Path, data: Path) -> list[str]:
    """Weights of the same names, shapes and sizes: only their content tells."""
    from transformers import AutoModelForCausalLM

    folder = yaml_of(recipe)["model"]["name"]
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] += 1e-3
    size = (Path(folder) / "model.safetensors").stat().st_size
    model.save_pretrained(folder)
    assert (Path(folder) / "model.safetensors").stat().st_size == size
    return []


def another_template(recipe: Path, run: Path, data: Path) -> list[str]:
    template = Path(yaml_of(recipe)["model"]["name"]) / "chat_template.jinja"
    template.write_text(template.read_text(encoding="utf-8") + "{# revised #}", encoding="utf-8")
    return []


CHANGED = {
    "data": (another_data, "data.hash"),
    "base": (another_base, "base.weights"),
    "template": (another_template, "template.hash"),
    "recipe": (lambda *_: ["--set", "training.learning_rate=2.0e-3"], "recipe.training.learning_rate"),
}


@pytest.mark.parametrize("what", CHANGED)
def test_what_is_another_is_named_and_may_be_allowed(
    what: str, stopped: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused with the name of what changed; with --allow-change gone on with, and on record from which step on."""
    recipe, run, data = stopped
    change, name = CHANGED[what]
    words = change(recipe, run, data)
    manifest = (run / "manifest.json").read_bytes()
    assert went_on(recipe, run, *words) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.match(rf"sft: {re.escape(str(run))}: was started with another .*{re.escape(name)}", said), said
    assert "--allow-change" in said
    assert json.loads(manifest)["recipe"] == read_json(run / "manifest.json")["recipe"]
    more = ["--set", "training.max_steps=27", "--allow-change"]
    assert went_on(recipe, run, *words, *more) == 0, capsys.readouterr().err
    assert f"changed   {name}: " in capsys.readouterr().err
    noted = {row["what"]: row for row in Run.open(run).changes}
    assert noted[name]["step"] == noted["recipe.training.max_steps"]["step"] == 24 and noted[name]["when"]
    assert (noted["recipe.training.max_steps"]["from"], noted["recipe.training.max_steps"]["to"]) == (24, 27)
    assert read_json(run / "manifest.json")["training"]["steps"] == 27
    if what == "recipe":
        rates = [row["learning_rate"] for row in log_of(run) if "loss" in row and row["step"] > 24]
        assert len(rates) == 3 and 0 < max(rates) <= 2.0e-3, "not the old one out of the checkpoint"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--set", "adapter.r=8"], "recipe.adapter.r cannot change at step 24, not even with --allow-change: the"),
        (["--set", "training.seed=1"], "recipe.training.seed cannot change at step 24"),
        (["--set", "training.per_device_train_batch_size=2"], "launch.rows_per_step cannot change at step 24"),
        (["--set", "training.optim=sgd"], "recipe.training.optim cannot change at step 24"),
        (["--set", "split.seed=1"], "demonstrations that the run may have trained on would now be held out"),
    ],
)
def test_what_would_be_nonsense_is_never_allowed(
    words: list[str], why: str, stopped: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """And nothing is written: put back, the run goes on."""
    recipe, run, _ = stopped
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file() and path.suffix != ".lock"}
    assert went_on(recipe, run, "--allow-change", *words) == 2
    assert why in capsys.readouterr().err
    for name, content in before.items():
        if name not in ("manifest.json", ".lock"):
            assert (run / name).read_bytes() == content, name
    assert not Run.open(run).changes or "per_device" in words[1]


def test_a_base_of_another_shape_is_never_allowed(
    stopped: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, run, _ = stopped
    config = Path(yaml_of(recipe)["model"]["name"]) / "config.json"
    config.write_text(json.dumps(read_json(config) | {"num_hidden_layers": 3}), encoding="utf-8")
    assert went_on(recipe, run, "--allow-change") == 2
    assert "base.architecture.num_hidden_layers cannot change at step 24" in capsys.readouterr().err


def test_a_run_that_is_trained_takes_only_another_measurement(
    family: dict[str, Any], recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(family["folder"] / "untouched", run)
    ledger = (run / "ledger.json").read_bytes()
    assert went_on(recipe, run, "--allow-change", "--set", "training.learning_rate=1.0e-3") == 2
    assert "is trained already, with another recipe.training.learning_rate" in capsys.readouterr().err
    assert went_on(recipe, run, "--allow-change", "--set", "fidelity.max_prompts=5") == 0
    assert [row["what"] for row in Run.open(run).changes] == ["recipe.fidelity.max_prompts"]
    assert yaml_of(run / "recipe.resolved.yaml")["fidelity"]["max_prompts"] == 5
    assert (run / "ledger.json").read_bytes() == ledger


def test_allowing_needs_something_to_go_on_with(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(recipe), "--output", str(tmp_path / "run"), "--allow-change"]) == 2
    assert "--allow-change: goes with --resume" in capsys.readouterr().err


def test_before_the_first_checkpoint_everything_may_change(tmp_path: Path) -> None:
    """Nothing is settled yet, and the record is the same."""
    with Run.create(tmp_path / "run") as run:
        with pytest.raises(RunError, match=r"another recipe\.adapter\.r"):
            going_on.hold(run, {"recipe.adapter.r": (8, 4)}, allow=False)
        (row,) = going_on.hold(run, {"recipe.adapter.r": (8, 4)}, allow=True)
        assert (row["what"], row["from"], row["to"], row["step"]) == ("recipe.adapter.r", 8, 4, 0)


def test_what_an_older_release_did_not_record_is_no_change() -> None:
    recorded = {"base": {"name": "a"}, "template": {"hash": "x"}}
    present = {"base": {"name": "a", "weights": "1"}, "template": {"hash": "y"}, "launch": {"processes": 2}}
    assert going_on.differing(recorded, present) == {"template.hash": ("x", "y")}


def test_only_what_started_several_speaks_for_others() -> None:
    assert not others_are_gone(RuntimeError("[gloo] Connection closed by peer")), "of one process"
    assert isinstance(UserError("x"), Exception)
