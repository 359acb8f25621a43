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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402
from test_loop import write_demonstrations  # noqa: E402
from toy_launches import free_port, rows_of  # noqa: E402

from sft import changes, checkpoints, sharing  # noqa: E402
from sft.cli import main  # noqa: E402
from sft.errors import RunError, UserError  # noqa: E402
from sft.runs import Run, read_json, read_jsonl  # noqa: E402

ROOT = Path(__file__).parent.parent
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


@pytest.fixture(autouse=True)
def saved_without_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was saved is proven in tests of its own, by a process that takes longer than these fits."""
    monkeypatch.setattr("sft.proving.prove", lambda run: {"wall_seconds": 0.0})
    monkeypatch.setattr("sft.proving.in_words", lambda saved: "not proven here")


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
    answer = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "toy_launches.py"), json.dumps(plan)],
        capture_output=True,
        text=True,
        timeout=280,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


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


def test_every_launch_is_in_the_readme() -> None:
    """File and line; and each file says in its first lines what it is for and how it is run, with its own name."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [path.stem for path in CONFIGS] == [
        "cpu", "ddp", "fsdp2", "one-gpu", "two-machines", "zero2", "zero3",
    ]  # fmt: skip
    for path in CONFIGS:
        text = path.read_text(encoding="utf-8")
        line = LINE.search(text)
        assert text.startswith("# ") and line and f"--config_file recipes/accelerate/{path.name} " in line[1]
        assert f"recipes/accelerate/{path.name}" in readme
        if "processes" in line[1]:
            assert re.search(rf"accelerate/{path.name}`? .*--num_processes|{path.name} --num_processes", readme), path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_accelerate_reads_its_file_and_starts_what_it_is_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By accelerate's own loader, parser and launcher, up to the environment that the processes would get."""
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env, prepare_simple_launcher_cmd_env

    kind = {"fsdp2": "FSDP", "zero2": "DEEPSPEED", "zero3": "DEEPSPEED", "one-gpu": "NO"}.get(path.stem, "MULTI_GPU")
    assert load_config_from_file(str(path)).distributed_type == kind  # an unknown key raises ValueError
    line = LINE.search(path.read_text(encoding="utf-8"))
    assert line is not None
    words = shlex.split(line[1])[2:]
    known = launch_command_parser()
    section = yaml_of(path)
    for name in (*section.get("fsdp_config", {}), *section.get("deepspeed_config", {})):
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
        from accelerate.utils.launch import _filter_args  # noqa: F401  (the module that reads the stage)

        assert arguments.zero_stage == int(path.stem[-1])
        assert (arguments.gradient_accumulation_steps, arguments.gradient_clipping) == ("auto", "auto")
        return
    variables = prepare_multi_gpu_env(arguments)
    assert variables["ACCELERATE_MIXED_PRECISION"] == "no"
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
    sharing.demand_all_started()
    monkeypatch.setenv("MASTER_PORT", "29500")
    assert main(["train", str(recipe), "--output", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "asked for several processes and has started one" in said and "recipes/accelerate/cpu.yaml" in said
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv("WORLD_SIZE", "2")
    sharing.demand_all_started()


# -- several processes ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def family(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Runs of one recipe: by one process, by two, by two of which one is killed, and with ten deaths in a row.

    ``one`` takes in two parts the steps of ``two``. Dropout is drawn by each process for itself, so ``one`` and
    ``two`` are without; what is killed is compared with its like, with dropout.
    """
    folder = tmp_path_factory.mktemp("family")
    whole, half = "training.gradient_accumulation_steps=2", "training.gradient_accumulation_steps=1"
    steps = sorted(random.Random(0).sample(range(1, 25), 10))

    def train(name: str, *settings: str, resume: bool = False, **how: Any) -> dict[str, Any]:
        words = ["train", str(recipe), "--output", str(folder / name)]
        words += [word for setting in settings for word in ("--set", setting)]
        return {"words": words + ["--resume"] * resume, "rows": str(folder / f"{name}.rows"), **how}

    dry = "adapter.lora_dropout=0.0"
    plan = [
        train("one", whole, dry),
        {"words": ["evaluate", str(folder / "one"), "--json"], "rows": str(folder / "evaluate-one")},
        train("two", half, dry, processes=2),
        {"words": ["evaluate", str(folder / "two"), "--json"], "rows": str(folder / "evaluate-two"), "processes": 2},
        train("untouched", half),
        *(train("dying", half, resume=n > 0, die={"rank": 0, "step": step}) for n, step in enumerate(steps)),
        train("dying", half, resume=True),
        train("pair", half, processes=2),
        train("killed", half, processes=2, die={"rank": 1, "step": 8}),
        train("killed", half, resume=True, processes=2, die={"rank": 0, "step": 17}),
        train("killed", half, resume=True, processes=2),
    ]
    results = launched(plan)
    return {"folder": folder, "results": results, "steps": steps, "plan": plan}


def test_two_processes_fit_what_one_does(family: dict[str, Any]) -> None:
    """Same rows in every step, each once an epoch; same losses; the same adapter; split, ledger and data are one."""
    folder, results = family["folder"], family["results"]
    assert [r["codes"] for r in results[:3]] == [[0], [0], [0, 0]], [r["said"] for r in results[:4]]
    one, two = rows_of(folder / "one.rows"), rows_of(folder / "two.rows")
    assert one == two and len(two) == 24
    assert sorted(row for step in range(1, 11) for row in two[step]) == list(range(76)), "an epoch is ten steps"
    for a, b in zip(log_of(folder / "one"), log_of(folder / "two"), strict=True):
        a.pop("epoch"), b.pop("epoch")  # in halves of a step here, in steps there
        assert a == pytest.approx(b, abs=1e-5)
    first, second = adapter_of(folder / "one"), adapter_of(folder / "two")
    assert all(torch.allclose(first[name], second[name], atol=1e-5) for name in first)
    for name in ("split.json", "demonstrations.jsonl", "ledger.json"):
        assert (folder / "one" / name).read_bytes() == (folder / "two" / name).read_bytes()


def test_the_order_of_rows_is_one_order_dealt_out(family: dict[str, Any]) -> None:
    """Batch by batch, process 0 has what comes first; what accelerate would fill up with is not seen."""
    parts = [read_jsonl(family["folder"] / f"two-{rank}.jsonl") for rank in (0, 1)]
    alone = [row["rows"] for row in read_jsonl(family["folder"] / "one-0.jsonl")]
    dealt = [row["rows"] for pair in zip(*parts, strict=True) for row in pair]
    assert [rows for rows in dealt if rows] == alone
    assert dealt.count([]) == 2, "in two whole epochs of 19 batches the second process lacks one each"


def test_two_processes_measure_what_they_fitted_as_one_does(family: dict[str, Any]) -> None:
    """Sharded over both, merged to what a single process writes; one of them prints."""
    folder, results = family["folder"], family["results"]
    assert results[3]["codes"] == [0, 0], results[3]["said"]
    assert results[3]["said"].count('{"') >= 1 and results[3]["said"].count('"verdict"') == 1
    for system in ("tuned", "B0", "B3"):
        one, two = (
            {row["id"]: row["text"] for row in read_jsonl(folder / run / f"completions-{system}.jsonl")}
            for run in ("one", "two")
        )
        assert one == two and len(one) == 6


def test_ten_deaths_change_nothing(family: dict[str, Any]) -> None:
    """Killed with kill -9 at ten steps of 24 drawn by chance, one process ends with the untouched run's every bit."""
    folder, steps = family["folder"], family["steps"]
    results = family["results"][5:16]
    assert [r["codes"] for r in results] == [[-signal.SIGKILL]] * 10 + [[0]], [r["said"] for r in results]
    assert_same_to_the_bit(folder / "dying", folder / "untouched")
    assert rows_of(folder / "dying.rows") == rows_of(folder / "untouched.rows")
    assert len({row["pid"] for row in read_jsonl(folder / "dying-0.jsonl")}) == 11
    assert len(set(steps)) == 10


def test_a_killed_process_ends_the_others_and_the_run_goes_on(family: dict[str, Any]) -> None:
    """Whichever dies: the other ends of itself and says so once; twice killed, the end is the same to the bit."""
    folder, results = family["folder"], family["results"]
    whole, first, second, last = results[16:20]
    assert (whole["codes"], last["codes"]) == ([0, 0], [0, 0]), last["said"]
    assert (first["codes"], second["codes"]) == ([2, -signal.SIGKILL], [-signal.SIGKILL, 2]), first["said"]
    for result in (first, second):
        assert result["said"].count("another of the 2 processes has ended") == 1
        assert "go on with: accelerate launch (its options as before) -m sft train " in result["said"]
        assert "--resume\n" in result["said"] and "Traceback" not in result["said"]
    assert_same_to_the_bit(folder / "killed", folder / "pair")
    assert rows_of(folder / "killed.rows") == rows_of(folder / "pair.rows")


def test_the_launcher_itself_and_a_killed_process(
    recipe: Path, family: dict[str, Any], tmp_path: Path, environment: dict[str, str]
) -> None:
    """``accelerate launch`` with the file for CPUs: both processes start, one dies, one sentence, all end."""
    config = ROOT / "recipes" / "accelerate" / "cpu.yaml"
    words = ["--config_file", str(config), "--num_processes", "2", str(ROOT / "tests" / "toy_launches.py"), "sft"]
    answer = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *words, "train", str(recipe), "-o", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        timeout=150,
        env=environment | {"ROWS": str(tmp_path / "rows"), "DIE": '{"rank": 1, "step": 8}'},
    )
    assert answer.returncode != 0
    assert answer.stderr.count("another of the 2 processes has ended") == 1, answer.stderr
    assert "exitcode  : -9" in answer.stderr, "and the launcher's own report says which"
    expected = rows_of(family["folder"] / "pair.rows")
    # The other process may have been told to end just before it came to the step in which the first one died.
    seen = rows_of(tmp_path / "rows")
    assert {step: seen[step] for step in range(1, 8)} == {step: expected[step] for step in range(1, 8)}
    assert checkpoints.latest_checkpoint(tmp_path / "run" / "checkpoints") == tmp_path / "run/checkpoints/checkpoint-6"


def test_a_checkpoint_that_lacks_a_process_is_not_whole(family: dict[str, Any], tmp_path: Path) -> None:
    """The first process may have written all of its part when another is killed before its own."""
    folder = tmp_path / "checkpoints"
    shutil.copytree(family["folder"] / "pair" / "checkpoints", folder)
    whole = checkpoints.latest_checkpoint(folder)
    assert whole is not None and whole.name == "checkpoint-24"
    (whole / "rng_state_1.pth").unlink()
    before = checkpoints.latest_checkpoint(folder)
    assert before is not None and before != whole and not whole.exists()
    (before / checkpoints.WHOLE).unlink()
    assert checkpoints.latest_checkpoint(folder) is None
    assert free_port() > 0


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
            changes.hold(run, {"recipe.adapter.r": (8, 4)}, allow=False)
        (row,) = changes.hold(run, {"recipe.adapter.r": (8, 4)}, allow=True)
        assert (row["what"], row["from"], row["to"], row["step"]) == ("recipe.adapter.r", 8, 4, 0)


def test_what_an_older_release_did_not_record_is_no_change() -> None:
    recorded = {"base": {"name": "a"}, "template": {"hash": "x"}}
    present = {"base": {"name": "a", "weights": "1"}, "template": {"hash": "y"}, "launch": {"processes": 2}}
    assert changes.differing(recorded, present) == {"template.hash": ("x", "y")}


def test_only_what_started_several_speaks_for_others() -> None:
    assert not sharing.others_are_gone(RuntimeError("[gloo] Connection closed by peer")), "of one process"
    assert isinstance(UserError("x"), Exception)
