"""The Dockerfile and the workflows, as far as they can be held to the tree without Docker and without GitHub."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from repository import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")


def steps(kind: str) -> list[str]:
    return re.findall(rf"(?m)^{kind} (.*)$", DOCKERFILE)


def test_what_is_copied_is_there_and_is_all_that_a_wheel_is_made_of() -> None:
    """A folder that the wheel takes along and the image does not copy fails the build, or ships without recipes."""
    copied = {word for step in steps("COPY") for word in step.split()[:-1]}
    assert all((ROOT / name).exists() for name in copied)
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    project = PROJECT["project"]
    assert {*wheel["packages"], *wheel["force-include"], project["readme"], *project["license-files"]} <= copied
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert not copied & set(ignored)


def test_it_runs_as_nobody_special_with_the_command_as_its_entry() -> None:
    assert steps("USER") == ["1000"] and DOCKERFILE.rindex("USER 1000") > DOCKERFILE.rindex("RUN ")
    assert "--uid 1000" in steps("RUN")[-1]
    assert steps("ENTRYPOINT") == ['["sft"]'] and "sft" in PROJECT["project"]["scripts"]
    (image,) = steps("FROM")
    assert image.split(":")[1].removesuffix("-slim") in PROJECT["project"]["requires-python"]


def test_whoever_owns_the_mounted_folder_keeps_what_is_written() -> None:
    """Weights went into the home of a user who is gone with the container, and nobody else could write there."""
    setting = dict(word.split("=") for line in steps("ENV") for word in line.split())
    assert setting["SFT_CACHE"].startswith("/work/") and setting["HF_HOME"].startswith("/work/")
    assert steps("WORKDIR")[-1] == "/work" and setting["HOME"] == "/tmp" and setting["USER"]


def test_its_shell_lines_are_shell_and_say_what_they_install(tmp_path: Path) -> None:
    """``pip`` is a stand-in that writes down what it was asked for; lines run as the image's shell runs them."""
    shutil.copy(ROOT / "constraints.txt", tmp_path)
    told = tmp_path / "told"
    stand_in = tmp_path / "python"
    stand_in.write_text(f'#!/bin/sh\necho "$@" >> {shlex.quote(str(told))}\n', encoding="utf-8")
    stand_in.chmod(0o755)
    for line in steps("RUN"):
        if line.startswith("python"):
            line = line.replace("rm -rf /src", "true")
            path = f"{tmp_path}:/usr/bin:/bin"
            subprocess.run(["sh", "-euc", line], cwd=tmp_path, env={"PATH": path, "TORCH": "-i x"}, check=True)
    pinned = re.search(r"(?m)^torch==\S+$", (ROOT / "constraints.txt").read_text(encoding="utf-8"))
    assert pinned and told.read_text(encoding="utf-8").splitlines() == [
        f"-m pip install -i x {pinned[0]}",
        "-m pip install -c constraints.txt .[completion]",
    ]
    assert "completion" in PROJECT["project"]["optional-dependencies"]


def test_workflows_start_what_is_here() -> None:
    """What must pass is in .ci/run, for whoever has another service; a workflow has no steps of its own."""
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        flow = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert flow["permissions"] == {"contents": "read"}
        lines = [step["run"] for job in flow["jobs"].values() for step in job["steps"] if "run" in step]
        started = re.findall(r"\.ci/\w+", "\n".join(lines))
        assert set(started) == {".ci/run", ".ci/wheel", ".ci/image"}
        assert all((ROOT / name).is_file() for name in started)
        pythons = flow["jobs"]["wheel"]["strategy"]["matrix"]["python"]
        named = [one.rpartition(" ")[2] for one in PROJECT["project"]["classifiers"] if ":: Python :: 3." in one]
        assert set(named) <= set(pythons)


@pytest.mark.parametrize("name", ["run", "wheel", "image"])
def test_the_scripts_of_ci_are_shell(name: str) -> None:
    done = subprocess.run(["bash", "-n", str(ROOT / ".ci" / name)], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr
    assert (ROOT / ".ci" / name).stat().st_mode & 0o111
