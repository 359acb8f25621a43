"""The files for launchers of clusters, held to what each launcher says without a cluster; SLURM: ``test_slurm``."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from repository import ROOT

from sft.cli import main

FILES = sorted((ROOT / "recipes" / "launch").iterdir())
LINE = re.compile(r"# Run:  (.+)")


def test_every_file_is_in_the_docs_with_its_line() -> None:
    page = (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8")
    assert [path.name for path in FILES] == ["hf-jobs.sh", "kubernetes.yaml", "skypilot.yaml", "slurm.sbatch"]
    for path in FILES:
        line = LINE.search(path.read_text(encoding="utf-8"))
        assert line and f"| `recipes/launch/{path.name}` | `{line[1]}` |" in page


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_can_be_copied_without_a_checkout(path: Path, tmp_path: Path) -> None:
    assert main(["recipes", "copy", f"launch/{path.stem}", str(tmp_path)]) == 0
    assert (tmp_path / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_shell_is_bash_without_a_fault(path: Path) -> None:
    """Also the lines that YAML and a quoted string hold: a fault in them would show on the cluster first."""
    text = path.read_text(encoding="utf-8")
    parts = {
        "kubernetes": lambda: [commands_of(text)],
        "skypilot": lambda: [yaml.safe_load(text)["run"], yaml.safe_load(text)["setup"]],
    }.get(path.stem, lambda: [text, *re.findall(r"bash -c '(.+?)'", text, re.DOTALL)])()
    for part in parts:
        done = subprocess.run(["bash", "-n"], input=part, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and not done.stderr
    assert "--resume" in text and ("-m sft train" in text or "sft run" in text)


def commands_of(text: str) -> str:
    job: dict[str, Any] = list(yaml.safe_load_all(text))[1]
    found: str = job["spec"]["template"]["spec"]["containers"][0]["args"][0]
    return found


def test_kubernetes_takes_its_file() -> None:
    """By the schemas of the API's own versions, and the numbers that must agree do."""
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    text = (ROOT / "recipes" / "launch" / "kubernetes.yaml").read_text(encoding="utf-8")
    service, job = yaml.safe_load_all(text)
    for document in (service, job):
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job | {"spec": job["spec"] | {"completion": 2}}, "1.31", strict=True)
    container = job["spec"]["template"]["spec"]["containers"][0]
    environment = {one["name"]: one["value"] for one in container["env"]}
    assert int(environment["PODS"]) == job["spec"]["completions"] == job["spec"]["parallelism"]
    assert environment["GPUS"] == container["resources"]["limits"]["nvidia.com/gpu"]
    template = job["spec"]["template"]
    assert service["spec"]["selector"] == template["metadata"]["labels"]
    assert f"{job['metadata']['name']}-0.{template['spec']['subdomain']}" in commands_of(text)
    assert service["metadata"]["name"] == template["spec"]["subdomain"]


def test_skypilot_takes_its_file() -> None:
    sky = pytest.importorskip("sky", reason="SkyPilot is not here: pip install skypilot")
    task = sky.Task.from_yaml(str(ROOT / "recipes" / "launch" / "skypilot.yaml"))
    assert task.num_nodes == 1 and "sft train" in task.run


def test_hugging_face_jobs_takes_its_line(tmp_path: Path) -> None:
    """``hf jobs run --dry-run``, the client's own: nothing is sent, and what would be is shown."""
    (tmp_path / "recipe.yaml").touch()
    script = tmp_path / "hf-jobs.sh"
    shutil.copy(ROOT / "recipes" / "launch" / "hf-jobs.sh", script)
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HF_TOKEN": "hf_made_up",
        "HOME": str(tmp_path),
    }

    def said(*words: str) -> tuple[int, str]:
        done = subprocess.run(
            ["bash", script.name, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )
        return done.returncode, done.stdout + done.stderr

    status, shown = said("recipe.yaml", "me/bucket/mine", "--dry-run")
    assert status == 0 and "Job not submitted" in shown and "hf_made_up" not in shown, shown
    assert "RUN=/runs/mine" in shown and "hf://buckets/me/bucket:/runs" in shown and "sft run" in shown
    assert said("recipe.yaml") == said("recipe.yaml", "bucket") and said("recipe.yaml")[0] == 2
    status, shown = said("absent.yaml", "me/bucket/mine", "--dry-run")
    assert status == 2 and "no recipe absent.yaml here" in shown
