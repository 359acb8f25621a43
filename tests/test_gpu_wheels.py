"""``benchmarks/gpu_wheels.py`` as its user runs it, from a folder of made-up wheels: nothing is asked of an index."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from repository import ROOT

PROGRAM = ROOT / "benchmarks" / "gpu_wheels.py"
NATIVE = "cp312-cp312-manylinux_2_28_x86_64"


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The program, where pip knows of nothing but the wheels in ``folder``."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    environment |= {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": folder.as_uri()}
    environment |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, str(PROGRAM), *words], env=environment, capture_output=True, text=True, timeout=300
    )


def wheel(folder: Path, requirement: str, tags: str = "py3-none-any") -> None:
    """A wheel of nothing but its name and version (1.0 where ``requirement`` has none)."""
    name, _, version = requirement.partition("==")
    version = version or "1.0"
    stem = f"{name.replace('-', '_')}-{version}"
    with zipfile.ZipFile(folder / f"{stem}-{tags}.whl", "w") as file:
        info = f"{stem}.dist-info"
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        file.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nGenerator: test\nTag: {tags}\n")
        file.writestr(f"{info}/RECORD", "")


def listed(folder: Path, *words: str) -> list[str]:
    done = run(folder, "--into", str(folder / "none"), "--list", *words)
    assert done.returncode == 0 and not (folder / "none").exists(), done.stderr
    return done.stdout.split()


def test_the_list_is_of_tested_versions_and_leaves_out_what_is_there(tmp_path: Path) -> None:
    tested = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    found = listed(tmp_path)
    names = {one.partition("==")[0].lower().replace("_", "-") for one in found}
    assert set(found) <= set(tested) and len(names) == len(found)
    assert {"transformers", "trl", "peft", "tokenizers", "pydantic-core"} <= names, "also what those need in turn"
    assert not {"torch", "triton", "numpy", "pandas", "pyarrow", "starlette", "optuna", "pytest"} & names
    fewer = listed(tmp_path, "--there", "transformers", "trl", "numpy")
    assert not any(one.startswith(("transformers==", "trl==", "numpy==")) for one in fewer)
    assert not any(one.startswith(("torch==", "triton", "nvidia")) for one in fewer), "PyTorch always is there"
    assert "nobody-has-this" in listed(tmp_path, "--also", "nobody-has-this")


def test_they_are_brought_and_installed_without_an_index(tmp_path: Path) -> None:
    """For another Python than this one may be, native ones too; the second line of the docstring takes them."""
    shelf, into = tmp_path / "a shelf", tmp_path / "wheels"
    shelf.mkdir()
    wanted = [*listed(shelf), "nobody-has-this"]
    for number, one in enumerate(wanted):
        wheel(shelf, one, *[NATIVE] * (number % 2))
    wheel(shelf, "not-asked-for")
    words = ["--into", str(into), "--python", "3.12", "--also", "nobody-has-this"]
    done = run(shelf, *words)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in into.iterdir()} == {path.name for path in shelf.iterdir()} - {
        "not_asked_for-1.0-py3-none-any.whl"
    }
    lines = done.stdout.splitlines()
    assert lines[-1].endswith(f"  {len(wanted)} wheels") and len(lines) == len(wanted) + 1
    plain = sorted(str(path) for path in into.glob("*-none-any.whl"))
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", str(tmp_path / "site")]
    assert subprocess.run([*pip, *plain], capture_output=True, timeout=300).returncode == 0
    assert len(list((tmp_path / "site").glob("*.dist-info"))) == len(plain)
    # Again it brings the same; beside a version of another day it does not, for pip would be given both.
    assert run(shelf, *words).stdout == done.stdout
    wheel(into, "transformers==0.1")
    done = run(shelf, *words)
    assert done.returncode == 2 and "(transformers-0.1-py3-none-any.whl); name an empty folder" in done.stderr


@pytest.mark.parametrize("tags", ["", "cp311-cp311-manylinux_2_28_x86_64", "py3-none-win_amd64"])
def test_what_cannot_be_had_for_that_machine_ends_with_pips_words(tags: str, tmp_path: Path) -> None:
    """No wheel at all, one of another Python, one of another system."""
    for one in listed(tmp_path):
        if not one.startswith("trl=="):
            wheel(tmp_path, one)
        elif tags:
            wheel(tmp_path, one, tags)
    done = run(tmp_path, "--into", str(tmp_path / "wheels"), "--python", "3.12")
    assert done.returncode == 1 and "No matching distribution found for trl==" in done.stderr
    assert "MiB" not in done.stdout
