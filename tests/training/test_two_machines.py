"""Two machines with a network between them: network namespaces, the shipped launch file, the same line on both."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
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


@pytest.fixture
def machines() -> Iterator[list[str]]:
    """Two namespaces that see each other at 10.213.77.1 and .2 by one cable, and nothing else."""
    if IP is None or os.geteuid():
        pytest.skip("network namespaces need root and iproute2")
    names = [f"sft-{os.getpid()}-{side}" for side in "ab"]
    try:
        try:
            for name in names:
                ip("netns", "add", name)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespace can be made here: {error.stderr.decode().strip()}")
        ip("link", "add", "cable", "netns", names[0], "type", "veth", "peer", "name", "cable", "netns", names[1])
        for number, name in enumerate(names, 1):
            ip("-n", name, "address", "add", f"10.213.77.{number}/24", "dev", "cable")
            ip("-n", name, "link", "set", "cable", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            subprocess.run([str(IP), "netns", "delete", name], capture_output=True)


def test_two_machines_give_the_clone_of_one(machines: list[str], tmp_path: Path, tiny_model: Path) -> None:
    data = write_demonstrations(tmp_path / "demonstrations.jsonl")
    for batch in (4, 8):
        text = RECIPE.format(model=tiny_model, data=data, batch=batch)
        (tmp_path / f"{batch}.yaml").write_text(text, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "cable"}
    accelerate = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch"]
    started = []
    for rank, name in enumerate(machines):
        words = [
            str(IP), "netns", "exec", name, *accelerate,
            "--config_file", str(ROOT / "recipes" / "accelerate" / "two-machines.yaml"), "--num_processes", "2",
            "--machine_rank", str(rank), "--main_process_ip", "10.213.77.1", "--main_process_port", "29517",
            "-m", "sft", "train", "4.yaml", "--output", "pair",
        ]  # fmt: skip
        started.append(
            subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        )
    try:
        said = [process.communicate(timeout=400)[0].decode(errors="replace") for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], said
    words = ["train", str(tmp_path / "8.yaml"), "--output", str(tmp_path / "one")]
    assert launch(words=words, watch=str(tmp_path / "watch"))["codes"] == [0]
    losses = [
        [row["loss"] for row in read_jsonl(tmp_path / name / "log.jsonl") if "loss" in row] for name in ("one", "pair")
    ]
    assert len(losses[0]) == 12 and losses[1] == pytest.approx(losses[0], rel=1e-4)
    one, pair = (load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in ("one", "pair"))
    assert all(torch.allclose(one[name], pair[name], atol=1e-4) for name in one)


def test_a_folder_that_only_one_machine_sees_is_said(tmp_path: Path, tiny_model: Path) -> None:
    """The second process has another disk there. It was told to name a folder that `sft train` wrote."""
    if os.geteuid() or not shutil.which("unshare"):
        pytest.skip("a disk of its own needs root and util-linux")
    data = write_demonstrations(tmp_path / "demonstrations.jsonl")
    (tmp_path / "r.yaml").write_text(RECIPE.format(model=tiny_model, data=data, batch=4), encoding="utf-8")
    (tmp_path / "disk").mkdir()
    words = [sys.executable, "-m", "sft", "train", "r.yaml", "--output", "disk/run"]
    elsewhere = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs disk && exec "$@"', "sh"]
    shared = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    started = [
        subprocess.Popen(
            [*prefix, *words], cwd=tmp_path, env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank, prefix in enumerate(([], elsewhere))
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=400)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert started[1].returncode == 2, said
    assert (
        "disk/run: the first process has begun the run there, and process 1 does not see it; name a folder" in said[1]
    )
