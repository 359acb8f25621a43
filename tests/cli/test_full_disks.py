"""A disk that fills up: one sentence that says so, and nothing is left behind. The disks and limits here are real."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import forked_python
import pytest
from exported_runs import trained
from repository import ROOT

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tiny_model, tmp_path_factory.mktemp("full-disk"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with room for 128 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root, and a machine that lets root mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def sft(*words: str, limit: int = resource.RLIM_INFINITY) -> tuple[int, str]:
    """Exit status and stderr of a command; ``limit``: bytes that a file may have (Python ignores SIGXFSZ)."""
    limited = f"import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
    done = forked_python.run(
        [sys.executable, "-c", f"{limited}; runpy.run_module('sft', run_name='__main__')", *words],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=300,
    )
    return done.returncode, done.stderr


def sentence(stderr: str) -> str:
    """The complaint, which is the last line, and the only one."""
    (said,) = re.findall(r"^sft: .*$", stderr, re.MULTILINE)
    assert "Traceback" not in stderr and stderr.rstrip().endswith(said)
    return str(said)


@pytest.mark.parametrize("option", ["--gguf", "--merged"])
def test_an_export_on_a_full_disk_says_so_and_leaves_nothing(run: Path, small_disk: Path, option: str) -> None:
    """For GGUF it said "OSError; check the disk": numpy counts what it could write and keeps the reason to itself."""
    status, stderr = sft("export", str(run), option, str(small_disk / "out"))
    assert status == 2 and "the disk is full; free some space" in sentence(stderr)
    assert not list(small_disk.iterdir())


@pytest.mark.parametrize("option", ["--gguf", "--merged"])
def test_an_export_over_a_limit_says_so_and_leaves_nothing(run: Path, tmp_path: Path, option: str) -> None:
    status, stderr = sft("export", str(run), option, str(tmp_path / "there" / "out"), limit=100_000)
    assert status == 2 and "the file is larger than the disk or `ulimit -f` allows; raise the limit" in sentence(stderr)
    assert not list((tmp_path / "there").iterdir())


def test_a_copied_recipe_is_whole_or_not_there(small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(bytes(128 * 1024))
    status, stderr = sft("recipes", "copy", "demo", str(small_disk / "mine.yaml"))
    assert status == 2 and "cannot be written (No space left on device); name another place" in sentence(stderr)
    assert [path.name for path in small_disk.iterdir()] == ["filler"]
