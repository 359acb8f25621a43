"""Two machines with a network between them: network namespaces, the shipped launch file, the same line on both."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from repository import ROOT
from toy_demonstrations import write_demonstrations
from toy_launches import free_port, launch

pytestmark = [pytest.mark.engine, pytest.mark.cluster]
torch = pytest.importorskip("torch")

from safetensors.torch import load_file

from sft.runs.run import read_jsonl

RECIPE = """\
model: {{name: {model}}}
demonstrations: {{path: {data}}}
split: {{validation: 0.15, test: 0.25}}
adapter: {{r: 4}}
training:
  {{learning_rate: 1.0e-2, max_steps: 12, eval_steps: 6, logging_steps: 1, per_device_train_batch_size: {batch}}}
"""
IP = shutil.which("ip", path=os.environ["PATH"] + ":/usr/sbin:/sbin")


def ip(*words: str) -> None:
    subprocess.run([str(IP), *words], check=True, capture_output=True, timeout=30)


#: Names as administrators give them.
NAMES = ("GPU-Node.Rack-7.Cluster.An-Institute-With-A-Long-Name.Example", "b")


@dataclass(frozen=True)
class Machines:
    """Two network namespaces with a cable between them; on each its own name leads to 127.0.1.1, as on Debian."""

    names: list[str]
    folder: Path

    def run(self, rank: int, *words: str, first: str = NAMES[0], **variables: str) -> subprocess.Popen[bytes]:
        """The line of ``two-machines.yaml`` on one of them, whose output goes into ``OUT-RANK``."""
        line = [
            str(IP), "netns", "exec", self.names[rank], "unshare", "--uts", "--mount", "sh", "-c",
            'hostname "$1" && mount --bind "$2" /etc/hosts && shift 2 && exec "$@"', "sh",
            NAMES[rank], str(self.folder / f"hosts-{rank}"),
            sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch",
            "--config_file", str(ROOT / "recipes" / "accelerate" / "two-machines.yaml"), "--num_processes", "2",
            "--machine_rank", str(rank), "--main_process_ip", first, "--main_process_port", "29517",
            "-m", "sft", "train", *words,
        ]  # fmt: skip
        environment = {key: value for key, value in os.environ.items() if key != "GLOO_SOCKET_IFNAME"}
        environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | variables
        with self.said(rank).open("wb") as out:
            return subprocess.Popen(line, cwd=self.folder, env=environment, stdout=out, stderr=out)

    def said(self, rank: int) -> Path:
        return self.folder / f"out-{rank}"

    def die(self, rank: int) -> None:
        """Kill all processes of one of them."""
        pids = subprocess.run([str(IP), "netns", "pids", self.names[rank]], capture_output=True, check=True, text=True)
        for pid in pids.stdout.split():
            os.kill(int(pid), signal.SIGKILL)


@pytest.fixture
def machines(tmp_path: Path, tiny_model: Path, request: pytest.FixtureRequest) -> Iterator[Machines]:
    """They see each other and nothing else, at fd00:77::1 and ::2, or by the parameter of a test."""
    if IP is None or os.geteuid() or not shutil.which("unshare"):
        pytest.skip("network namespaces need root, iproute2 and util-linux")
    data = write_demonstrations(tmp_path / "demonstrations.jsonl")
    for batch in (4, 8):
        text = RECIPE.format(model=tiny_model, data=data, batch=batch)
        (tmp_path / f"{batch}.yaml").write_text(text, encoding="utf-8")
    names, network = [f"sft-{os.getpid()}-{side}" for side in "ab"], getattr(request, "param", "fd00:77::{}/64")
    try:
        try:
            for name in names:
                ip("netns", "add", name)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespace can be made here: {error.stderr.decode().strip()}")
        ip("link", "add", "cable", "netns", names[0], "type", "veth", "peer", "name", "cable", "netns", names[1])
        for rank, name in enumerate(names):
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", "cable", "up")
            address = network.format(rank + 1)
            ip("-n", name, "address", "add", address, "dev", "cable", *["nodad"] * (":" in address))
            other = network.format(2 - rank).partition("/")[0]
            hosts = f"127.0.0.1 localhost\n127.0.1.1 {NAMES[rank]}\n{other} {NAMES[1 - rank]}\n"
            (tmp_path / f"hosts-{rank}").write_text(hosts, encoding="utf-8")
        yield Machines(names, tmp_path)
    finally:
        for name in names:
            subprocess.run([str(IP), "netns", "delete", name], capture_output=True)


def ended(started: list[subprocess.Popen[bytes]], seconds: float) -> list[int]:
    """How the processes ended; they are killed where that takes longer."""
    try:
        return [process.wait(seconds) for process in started]
    finally:
        for process in started:
            process.kill()


def assert_clone_of_one(folder: Path, run: str, *words: str) -> None:
    """Of what one process makes of the same rows, by the same ``words``."""
    line = ["train", str(folder / "8.yaml"), "--output", str(folder / "one"), *words]
    assert launch(words=line, watch=str(folder / "watch"))["codes"] == [0]
    losses = [
        [row["loss"] for row in read_jsonl(folder / name / "log.jsonl") if "loss" in row] for name in ("one", run)
    ]
    assert len(losses[0]) == 12 and losses[1] == pytest.approx(losses[0], rel=1e-4)
    one, pair = (load_file(folder / name / "adapter" / "adapter_model.safetensors") for name in ("one", run))
    assert all(torch.allclose(one[name], pair[name], atol=1e-4) for name in one)


def test_two_machines_give_the_clone_of_one(machines: Machines) -> None:
    """Over IPv6 alone, by names. Each said to the other that it is at 127.0.1.1, and they never met."""
    started = [machines.run(rank, "4.yaml", "--output", "pair") for rank in range(2)]
    assert ended(started, 400) == [0, 0], [machines.said(rank).read_text(errors="replace") for rank in range(2)]
    assert_clone_of_one(machines.folder, "pair")


@pytest.mark.parametrize("machines", ["10.213.77.{}/24"], indirect=True)
def test_a_machine_that_dies_ends_the_other_and_one_goes_on(machines: Machines) -> None:
    """Everything on it is killed at once, in the middle."""
    slowly = ["--set", "training.gradient_accumulation_steps=20"]
    started = [machines.run(rank, "4.yaml", "--output", "pair", *slowly) for rank in range(2)]
    log, until = machines.folder / "pair" / "log.jsonl", time.monotonic() + 400
    while not log.exists() or log.read_bytes().count(b'"loss"') < 7:
        assert time.monotonic() < until and started[0].poll() is None, machines.said(0).read_text(errors="replace")
        time.sleep(0.1)
    machines.die(1)
    began = time.monotonic()
    assert ended(started, 120)[0] == 1 and time.monotonic() - began < 60
    said = machines.said(0).read_text(errors="replace")
    assert said.count("sft: another of the 2 processes has ended") == 1 and "[rank0]" not in said
    words = ["train", str(machines.folder / "8.yaml"), "--output", str(machines.folder / "pair"), *slowly]
    again = launch(words=[*words, "--resume", "--allow-change"], watch=str(machines.folder / "watch"))
    assert again["codes"] == [0] and "passed over" not in again["said"], again["said"]
    assert_clone_of_one(machines.folder, "pair", *slowly)


def test_a_machine_that_cannot_begin_ends_the_other(machines: Machines) -> None:
    """It has no recipe. The other waited for it for half an hour, with all its GPUs."""
    started = [machines.run(0, "4.yaml", "--output", "pair"), machines.run(1, "nowhere.yaml", "--output", "pair")]
    assert ended(started, 120) == [1, 1]
    said = [machines.said(rank).read_text(errors="replace") for rank in range(2)]
    assert "sft: another of the 2 processes has ended; it says why on its machine" in said[0]
    assert "sft: nowhere.yaml: is neither a file nor the name of a shipped recipe" in said[1]
    assert not (machines.folder / "pair").exists()


def test_a_network_in_which_the_other_is_not_is_named(machines: Machines) -> None:
    """Whichever noticed was told that the other had ended, which waited for it for half an hour."""
    started = [machines.run(rank, "4.yaml", "--output", "pair", GLOO_SOCKET_IFNAME="lo") for rank in range(2)]
    assert ended(started, 120) == [1, 1]
    said = "".join(machines.said(rank).read_text(errors="replace") for rank in range(2))
    assert " of 2 does not reach the others through the network lo; open all ports between the machines" in said, said


def two_processes(words: list[str], second: list[str], folder: Path, **other: str) -> tuple[list[int], list[str]]:
    """How two processes of a run ended and what each said; ``second``: what is put in front of the second one."""
    shared = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    started = [
        subprocess.Popen(
            [*prefix, *words], cwd=folder, env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} | other,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank, prefix in enumerate(([], second))
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=400)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    return [process.returncode for process in started], said


#: A process that sees another disk than the first.
another_disk = pytest.mark.skipif(
    bool(os.geteuid()) or not shutil.which("unshare"), reason="a disk of its own needs root and util-linux"
)


@another_disk
def test_a_folder_that_only_one_machine_sees_is_said(tmp_path: Path, tiny_model: Path) -> None:
    """The second process has another disk there. It was told to name a folder that `sft train` wrote."""
    data = write_demonstrations(tmp_path / "demonstrations.jsonl")
    (tmp_path / "r.yaml").write_text(RECIPE.format(model=tiny_model, data=data, batch=4), encoding="utf-8")
    (tmp_path / "disk").mkdir()
    words = [sys.executable, "-m", "sft", "train", "r.yaml", "--output", "disk/run"]
    elsewhere = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs disk && exec "$@"', "sh"]
    codes, said = two_processes(words, elsewhere, tmp_path)
    assert codes[1] == 2, said
    assert (
        "disk/run: the first process has begun the run there, and process 1 does not see it; name a folder" in said[1]
    )


@another_disk
def test_a_machine_with_another_base_model_is_told(tmp_path: Path, tiny_model: Path) -> None:
    """They fitted, the second one's rows by its own tokenizer; ``test_launch`` has other recipes and packages."""
    data = write_demonstrations(tmp_path / "demonstrations.jsonl")
    (tmp_path / "r.yaml").write_text(RECIPE.format(model="model", data=data, batch=4), encoding="utf-8")
    shutil.copytree(tiny_model, tmp_path / "model")
    shutil.copytree(tiny_model, tmp_path / "another")
    settings = tmp_path / "another" / "tokenizer_config.json"
    settings.write_text(settings.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    words = [sys.executable, "-m", "sft", "train", "r.yaml", "--output", "run"]
    elsewhere = ["unshare", "--mount", "sh", "-c", 'mount --bind another model && exec "$@"', "sh"]
    codes, said = two_processes(words, elsewhere, tmp_path, LOCAL_RANK="0")
    assert codes == [2, 2] and not (tmp_path / "run").exists(), said
    assert "process 1 has base tokenizer as v1:" in "".join(said) and "; put the model on a disk" in "".join(said)


@another_disk
def test_a_folder_that_one_machine_can_only_read_is_said(tmp_path: Path, tiny_model: Path) -> None:
    """The fit ended in a traceback at its first checkpoint, of which each process writes a part."""
    data = write_demonstrations(tmp_path / "demonstrations.jsonl")
    (tmp_path / "r.yaml").write_text(RECIPE.format(model=tiny_model, data=data, batch=4), encoding="utf-8")
    (tmp_path / "disk").mkdir()
    words = [sys.executable, "-m", "sft", "train", "r.yaml", "--output", "disk/run"]
    mount = 'mount --bind disk disk && mount -o remount,ro,bind disk && exec "$@"'
    codes, said = two_processes(words, ["unshare", "--mount", "sh", "-c", mount, "sh"], tmp_path)
    assert codes[1] == 2 and not (tmp_path / "disk" / "run").exists(), said
    assert "disk/run: process 1 cannot write there (no permission, or a read-only disk), and each saves" in said[1]
