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
    for part in shell_of(path, text):
        done = subprocess.run(["bash", "-n"], input=part, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and not done.stderr
    assert "--resume" in text and ("-m sft train" in text or "sft run" in text)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shellcheck_finds_nothing_in_it(path: Path) -> None:
    """But for SC2016: what stands in single quotes is for a shell on the other side."""
    shellcheck = shutil.which("shellcheck") or pytest.skip("shellcheck is not here: apt-get install shellcheck")
    text = path.read_text(encoding="utf-8")
    for part in shell_of(path, text):
        words = [shellcheck, "--shell=bash", "--exclude=SC2016", "-"]
        done = subprocess.run(words, input=part, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("words", "variables", "sentence"), [
    (["by-2.yaml"], {}, "name the recipe and the run's folder"),
    (["by-2.yaml", "nowhere"], {}, "is a job of SLURM's; type sbatch in front of it"),
    (["by-2.yaml", "nowhere"], {"SLURM_JOB_ID": "7", "SLURM_TASKS_PER_NODE": "8(x2)"}, "8(x2) tasks a node"),
    (["by-2.yaml", "nowhere"], {"SLURM_JOB_ID": "7"}, "no file absent.yaml for accelerate"),
    (["by-2.yaml", "nowhere"], {"SLURM_JOB_ID": "7", "SFT_LAUNCH": "here.yaml"}, "no accelerate on the PATH"),
])  # fmt: skip
def test_what_slurms_file_misses_is_said_before_anything_starts(
    words: list[str], variables: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "here.yaml").touch()
    done = subprocess.run(
        ["bash", str(ROOT / "recipes" / "launch" / "slurm.sbatch"), *words], cwd=tmp_path, text=True, timeout=60,
        env={"PATH": "/usr/bin:/bin", "SFT_LAUNCH": "absent.yaml"} | variables, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.startswith("slurm.sbatch: ") and sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1 and [path.name for path in tmp_path.iterdir()] == ["here.yaml"]


def shell_of(path: Path, text: str) -> list[str]:
    """What a file gives to bash: itself, or the lines that its YAML holds, and what it quotes for another machine."""
    if path.stem == "kubernetes":
        return [commands_of(text)]
    if path.stem == "skypilot":
        return [yaml.safe_load(text)["run"], yaml.safe_load(text)["setup"]]
    return [text, *re.findall(r"bash -c '(.+?)'", text, re.DOTALL)]


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
    # What no second try mends ends the Job, which only pods that are not started again in their place allow.
    assert template["spec"]["restartPolicy"] == "Never"
    by_code = job["spec"]["podFailurePolicy"]["rules"][0]
    assert by_code["action"] == "FailJob" and by_code["onExitCodes"]["values"] == [2]
    assert by_code["onExitCodes"]["containerName"] == container["name"]


def test_a_namespace_that_enforces_the_restricted_profile_takes_the_pods() -> None:
    """It made none of them, and the Job waited; the fields are those of Kubernetes' Pod Security Standards."""
    job: dict[str, Any] = list(yaml.safe_load_all((ROOT / "recipes/launch/kubernetes.yaml").read_text("utf-8")))[1]
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"} and "ports" not in container
    assert all({"persistentVolumeClaim", "emptyDir"} & volume.keys() for volume in pod["volumes"])
    # Whoever has no home writes what is kept for later onto the claim, which all pods mount.
    (claim,) = (one["mountPath"] for one in container["volumeMounts"] if one["name"] == "work")
    kept = {one["name"]: one["value"] for one in container["env"] if one["name"] in ("HF_HOME", "SFT_CACHE")}
    assert len(kept) == 2 and all(value.startswith(f"{claim}/") for value in kept.values())


def test_a_pod_without_its_recipe_ends_with_the_status_that_ends_the_job(tmp_path: Path) -> None:
    """It was started twenty times again, with all its GPUs, to find no recipe."""
    text = (ROOT / "recipes" / "launch" / "kubernetes.yaml").read_text(encoding="utf-8")
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": str(ROOT), "RUN": "runs/mine"}
    environment |= {
        "PODS": "2",
        "GPUS": "8",
        "JOB_COMPLETION_INDEX": "0",
        "LAUNCH": "accelerate/ddp",
        "RECIPE": "a.yaml",
    }

    def ended(**other: str) -> tuple[int, str]:
        done = subprocess.run(
            ["bash", "-c", commands_of(text)], cwd=tmp_path, env=environment | other, capture_output=True, text=True,
            timeout=60,
        )  # fmt: skip
        return done.returncode, done.stderr

    status, said = ended()
    assert status == 2 and "a.yaml: is neither a file nor" in said
    (tmp_path / "a.yaml").touch()
    status, said = ended(LAUNCH="no.yaml")
    assert status == 2 and "no.yaml: is neither a file nor" in said and not (tmp_path / "runs").exists()


def test_skypilot_takes_its_file() -> None:
    sky = pytest.importorskip("sky", reason="SkyPilot is not here: pip install skypilot")
    path = ROOT / "recipes" / "launch" / "skypilot.yaml"
    with pytest.raises(ValueError, match="BUCKET"):  # a name that all would share is somebody's already
        sky.Task.from_yaml(str(path))
    task = sky.Task.from_yaml_config(
        yaml.safe_load(path.read_text(encoding="utf-8")), env_overrides=[("BUCKET", "my-runs")]
    )
    assert task.num_nodes == 1 and "sft train" in task.run
    assert {place: storage.name for place, storage in task.storage_mounts.items()} == {"/runs": "my-runs"}


def test_hugging_face_jobs_takes_its_line(tmp_path: Path) -> None:
    """``hf jobs run --dry-run``, the client's own: nothing is sent, and what would be is shown."""
    folder = tmp_path / "my checkout"
    folder.mkdir()
    (folder / "my recipe.yaml").touch()
    (folder / "pyproject.toml").write_text('name = "behavioral-cloning"\n', encoding="utf-8")
    shutil.copy(ROOT / "recipes" / "launch" / "hf-jobs.sh", folder)
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HF_TOKEN": "hf_made_up",
        "HOME": str(tmp_path),
    }

    def said(*words: str, **other: str) -> tuple[int, str]:
        done = subprocess.run(
            ["bash", "hf-jobs.sh", *words], cwd=folder, env=environment | other, capture_output=True, text=True,
            timeout=120,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    status, shown = said("my recipe.yaml", "me/bucket/mine", "--dry-run")
    assert status == 0 and "Job not submitted" in shown and "hf_made_up" not in shown, shown
    assert "RUN=/runs/mine" in shown and "hf://buckets/me/bucket:/runs:rw" in shown and "sft run" in shown
    assert "RECIPE=my recipe.yaml" in shown and f"{folder}:/source" in shown

    def refused(sentence: str, *words: str, **other: str) -> None:
        status, shown = said(*words, "--dry-run", **other)
        assert status == 2 and sentence in shown and len(shown.splitlines()) == 1, shown

    for place in ("bucket", "me/bucket", "me/bucket/", "me/bucket/a/b", "hf://me/bucket/mine", "me//mine"):
        refused("name the recipe and the run's place in a bucket", "my recipe.yaml", place)
    refused("no recipe absent.yaml here", "absent.yaml", "me/bucket/mine")
    for path in (str(folder / "my recipe.yaml"), "../my checkout/my recipe.yaml"):
        refused("is not in this folder, and the job sees this folder alone", path, "me/bucket/mine")
    refused("no hf on the PATH", "my recipe.yaml", "me/bucket/mine", PATH="/usr/bin:/bin")
    with (folder / "weights.bin").open("wb") as file:
        file.write(bytes(3 * 2**20))
    refused("MB, and all of it would be sent; move environments", "my recipe.yaml", "me/bucket/mine", SFT_MOST="2")
    (folder / "pyproject.toml").write_text('name = "another"\n', encoding="utf-8")
    refused("is no checkout of the package", "my recipe.yaml", "me/bucket/mine")


def test_hugging_face_jobs_reads_the_places_of_its_line() -> None:
    """By the client's own reading of what is mounted, which --dry-run leaves out."""
    from huggingface_hub.utils import parse_hf_mount

    mount = parse_hf_mount("hf://buckets/me/bucket:/runs:rw")
    assert (mount.source.type, mount.source.id, mount.mount_path, mount.read_only) == (
        "bucket",
        "me/bucket",
        "/runs",
        False,
    )
