"""A real SLURM with two nodes: the shipped batch file, a job taken off its nodes in the middle, the same clone."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from repository import ROOT
from slurm_cluster import Cluster, cluster, missing
from toy_demonstrations import write_demonstrations

pytestmark = [pytest.mark.engine, pytest.mark.cluster, pytest.mark.skipif(bool(missing()), reason=missing())]
torch = pytest.importorskip("torch")

from safetensors.torch import load_file

from sft.runs.run import Run, read_jsonl

BATCH = ROOT / "recipes" / "launch" / "slurm.sbatch"
RECIPE = """\
model: {{name: {model}}}
demonstrations: {{path: {data}}}
split: {{validation: 0.15, test: 0.25}}
adapter: {{r: 4}}
training:
  learning_rate: 1.0e-2
  max_steps: 30
  gradient_accumulation_steps: 60  # twenty seconds of fit: one second was over before SLURM passed the signal on
  eval_steps: 10
  logging_steps: 1
  per_device_train_batch_size: {batch}
"""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="sl-") as folder, cluster(Path(folder)) as found:
        yield found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A folder as a user has it: recipes for one process and for two, demonstrations, the launch file."""
    folder = tmp_path_factory.mktemp("cluster")
    data = write_demonstrations(folder / "demonstrations.jsonl")
    for processes in (1, 2):
        text = RECIPE.format(model=tiny_model, data=data, batch=8 // processes)
        (folder / f"by {processes}.yaml").write_text(text, encoding="utf-8")
    shutil.copy(ROOT / "recipes" / "accelerate" / "cpu.yaml", folder / "cpu.yaml")
    return folder


def steps(run: Path) -> int:
    """How many training steps stand in the log of ``run``."""
    log = run / "log.jsonl"
    lines = log.read_bytes().split(b"\n")[:-1] if log.exists() else []
    return sum(b'"loss"' in line for line in lines)


def wait_for(what: Callable[[], bool], seconds: float, said: Path) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, said.read_text(errors="replace")[-4000:] if said.exists() else "nothing said"
        time.sleep(0.1)


def submitted(nodes: Cluster, place: Path, run: str, *options: str, recipe: str = "by 2.yaml", **other: str) -> str:
    """The number of the job that a user's line starts on both nodes; ``other``: variables of the environment."""
    environment = nodes.environment | {
        "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "SFT_LAUNCH": "cpu.yaml", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    said = f"--output={place}/{Path(run).name}.out"
    words = ["sbatch", "--parsable", "--nodes=2", said, *options, str(BATCH), recipe, run]
    done = subprocess.run(words, env=environment | other, cwd=place, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def ended(nodes: Cluster, job: str, said: Path) -> str:
    """What was said by a job that has failed without going back into the queue."""
    wait_for(lambda: nodes.state(job) in ("COMPLETED", "FAILED"), 120, said)
    assert nodes.state(job) == "FAILED" and nodes.facts(job)["Restarts"] == "0", said.read_text()
    return said.read_text()


@pytest.fixture(scope="module")
def alone(place: Path) -> Path:
    """What one process that is never stopped makes of the same rows."""
    words = [sys.executable, "-m", "sft", "train", "by 1.yaml", "--output", "alone"]
    done = subprocess.run(words, cwd=place, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return place / "alone"


def assert_same_clone(alone: Path, run: Path) -> None:
    losses = [
        [row["loss"] for row in read_jsonl(folder / "log.jsonl") if "loss" in row] for folder in (alone, run)
    ]  # fmt: skip
    assert losses[1] == pytest.approx(losses[0], rel=1e-4) and len(losses[1]) == 30
    one, two = (load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (alone, run))
    assert one.keys() == two.keys()
    assert all(torch.allclose(one[name], two[name], atol=1e-4) for name in one)


def test_a_requeued_job_of_two_nodes_gives_the_clone_of_one_process(nodes: Cluster, place: Path, alone: Path) -> None:
    """Requeued by hand in the middle, as preemption does it: SIGTERM to the step, a checkpoint, the queue, the rest."""
    job = submitted(nodes, place, "runs/requeued once")
    run, said = place / "runs" / "requeued once", place / "requeued once.out"
    wait_for(lambda: steps(run) >= 4, 600, said)
    nodes.ask("scontrol", "requeue", job)
    wait_for(lambda: nodes.facts(job)["Restarts"] == "1" and nodes.state(job) == "PENDING", 300, said)
    assert Run.open(run).checkpoints_path.exists() and steps(run) < 30
    nodes.ask("scontrol", "update", f"JobId={job}", "StartTime=now")  # SLURM waits two minutes otherwise
    wait_for(lambda: nodes.state(job) in ("COMPLETED", "FAILED"), 600, said)
    assert nodes.state(job) == "COMPLETED", said.read_text()
    assert_same_clone(alone, run)


def test_a_job_whose_time_is_nearly_up_puts_itself_back(nodes: Cluster, place: Path, alone: Path) -> None:
    """SIGUSR1 to the batch shell, as ``--signal=B:USR1@180`` sends it: saved, queued by the file, gone on with."""
    job = submitted(nodes, place, "late")
    run, said = place / "late", place / "late.out"
    wait_for(lambda: steps(run) >= 4, 600, said)
    nodes.ask("scancel", "--batch", f"--signal={signal.SIGUSR1.name[3:]}", job)
    wait_for(lambda: nodes.facts(job)["Restarts"] == "1" and nodes.state(job) == "PENDING", 300, said)
    assert "the job goes back into the queue" in said.read_text()
    nodes.ask("scontrol", "update", f"JobId={job}", "StartTime=now")
    wait_for(lambda: nodes.state(job) in ("COMPLETED", "FAILED"), 600, said)
    assert nodes.state(job) == "COMPLETED", said.read_text()
    assert_same_clone(alone, run)


def test_time_for_no_checkpoint_is_not_asked_for_again_and_again(nodes: Cluster, place: Path) -> None:
    """Told to stop while the fit still starts, the job went back into the queue for ever and came no further."""
    job, said = submitted(nodes, place, "hasty"), place / "hasty.out"
    wait_for(lambda: nodes.state(job) == "RUNNING", 120, said)
    time.sleep(3)  # its programs start now, and take longer
    nodes.ask("scancel", "--batch", f"--signal={signal.SIGUSR1.name[3:]}", job)
    assert "no checkpoint was saved in it, so going on would come no further; give a longer --time" in ended(
        nodes, job, said
    )


def test_a_job_has_all_processors_that_it_was_given(nodes: Cluster, place: Path) -> None:
    """A node had one for all its processes where --cpus-per-task was not said, also of --exclusive nodes."""
    job, said = submitted(nodes, place, "whole", "--exclusive"), place / "whole.out"
    wait_for(lambda: "CPUs=" in step(nodes, job), 120, said)
    assert "CPUs=8 Tasks=2" in step(nodes, job)
    nodes.ask("scancel", job)


def step(nodes: Cluster, job: str) -> str:
    """What SLURM knows of the step that fits; "" before there is one."""
    try:
        return nodes.ask("scontrol", "show", "step", f"{job}.1")
    except subprocess.CalledProcessError:
        return ""


REFUSED = {
    "recipe": ({"recipe": "nowhere.yaml"}, (), "nowhere.yaml: is neither a file nor the name of a shipped recipe"),
    "folder": ({"run": "/proc/x/run"}, (), "slurm.sbatch: /proc/x cannot be written; name another folder for the run"),
    "tasks": ({}, ("--ntasks-per-node=2",), "so leave --ntasks and --ntasks-per-node out"),
    "gpus": ({}, ("--gpus=3",), "some nodes have more GPUs than others (1 2 a node); ask for as many on each"),
    "path": ({"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, (), "no accelerate on the PATH; activate its environment"),
    "disk": (
        {"run": "{unshared}/run"},
        (),
        "slurm.sbatch: node2 does not see the folder of the run; name one on a disk",
    ),
    "read-only": (
        {"run": "{read_only}/run"},
        (),
        "slurm.sbatch: node2 cannot write into the folder of the run; mend its disk there",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_one_sentence_before_a_process_starts(case: str, nodes: Cluster, place: Path) -> None:
    given, options, sentence = REFUSED[case]
    run = given.get("run", f"refused-{case}").format(unshared=nodes.unshared, read_only=nodes.read_only)
    job = submitted(nodes, place, run, *options, **{key: value for key, value in given.items() if key != "run"})
    assert sentence in ended(nodes, job, place / f"{Path(run).name}.out")
    assert not (place / run).exists() and not list(place.glob(".sft-job-*"))
