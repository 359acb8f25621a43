"""A run's files are those that were written: known by content, and of the types they were written in."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import factories
import pytest
from repository import TESTS

from sft.cli import main
from sft.demonstrations.demonstration import Demonstration
from sft.demonstrations.stored import parts
from sft.errors import RunError
from sft.fidelity import stored
from sft.runs.atomic_files import clear_temporaries, write_text
from sft.runs.hashes import Digest, weights_hash
from sft.runs.run import Run, read_json, read_jsonl, write_json, write_jsonl
from sft.runs.sealed import let_grow, seal, unseal

EARLIER = TESTS / "data" / "earlier" / "unnamed-hashes"


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A measured run with a seal on every file: what an earlier version left, recomputed by this one."""
    folder = shutil.copytree(EARLIER / "finished", tmp_path_factory.mktemp("sealed") / "run")
    with Run.open(folder, writing=True) as run:
        stored.remeasure(run)
    return folder


@pytest.fixture
def run(sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(sealed, "run"))


@pytest.fixture
def unsealed(run: Path) -> Path:
    factories.without_seals(run)
    return run


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What one command says that refuses; it must be one sentence."""
    capsys.readouterr()
    assert main([*words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0].removeprefix("sft: ")


# -- content --------------------------------------------------------------------------------------------------

#: File -> a change of its content that no type gives away, and the verb that reads it.
ALTERED: list[tuple[str, Callable[[dict[str, Any]], dict[str, Any]], str]] = [
    ("demonstrations.jsonl", lambda row: row | {"completion": "mauve"}, "recompute"),
    ("demonstrations.jsonl", lambda row: row | {"group": "all of one"}, "recompute"),
    ("completions-tuned.jsonl", lambda row: row | {"text": "green, green"}, "recompute"),
    ("completions-R.jsonl", lambda row: row | {"text": ""}, "recompute"),
    ("held-out.jsonl", lambda row: row | {"references": ["mauve"]}, "recompute"),
    ("held-out.jsonl", lambda row: row | {"cluster": "all of one"}, "compare"),
    ("token-scores-tuned.jsonl", lambda row: row | {"nats": [0.0 for _ in row["nats"]]}, "recompute"),
    ("token-scores-tuned.jsonl", lambda row: row | {"nats": [0.0 for _ in row["nats"]]}, "compare"),
    ("own-path.jsonl", lambda row: row | {"left": None}, "recompute"),
    ("prompt-values.jsonl", lambda row: row | {"own_nats": 0.0}, "recompute"),
    ("log.jsonl", lambda row: row | {"loss": 0.1}, "report"),
    ("measurement.json", lambda value: value | {"seed": 3}, "recompute"),
    ("scores.jsonl", lambda row: row | {"chrf": 99.0}, "compare"),
    ("scorecard.json", lambda value: value | {"n": value["n"] + 1}, "report"),
    ("scorecard.json", lambda value: value | {"n": value["n"] + 1}, "compare"),
]
VERBS = {
    "report": ["report", "run"],
    "recompute": ["report", "run", "--recompute"],
    "compare": ["compare", "run", "other", "--output", "page.html"],
}


def change(path: Path, how: Callable[[dict[str, Any]], Any]) -> None:
    if path.suffix == ".json":
        write_json(path, how(read_json(path)))
    else:
        write_jsonl(path, map(how, read_jsonl(path)))


@pytest.mark.parametrize(("name", "how", "verb"), ALTERED)
def test_an_altered_file_is_named_and_nothing_is_written(
    run: Path, capsys: pytest.CaptureFixture[str], name: str, how: Callable[[dict[str, Any]], Any], verb: str
) -> None:
    """Only the ids of the demonstrations were looked at: whatever else a scorecard rests on could be replaced."""
    shutil.copytree("run", "other")
    change(run / name, how)
    before = {path: path.read_bytes() for path in run.iterdir() if path.is_file() and path.name != ".lock"}
    assert said(capsys, *VERBS[verb]).startswith(
        f"run/{name}: was altered after it was written; restore it from a copy"
    )
    assert {path: path.read_bytes() for path in run.iterdir() if path.is_file() and path.name != ".lock"} == before
    assert not Path("page.html").exists()


@pytest.mark.parametrize("name", ["demonstrations.jsonl", "completions-tuned.jsonl", "held-out.jsonl", "scores.jsonl"])
def test_rows_that_were_added_repeated_or_lost_are_noticed(
    run: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """The last row of an id counts, so that rows put behind the others would replace them all."""
    whole = (run / name).read_bytes()
    verb = "compare" if name == "scores.jsonl" else "recompute"
    shutil.copytree("run", "other")
    for other in (whole + whole, whole + whole.splitlines(keepends=True)[0], whole[: whole.index(b"\n") + 1]):
        (run / name).write_bytes(other)
        assert f"{name}: was altered" in said(capsys, *VERBS[verb])
    (run / name).unlink()
    assert f"{name}: is gone; restore it from a copy" in said(capsys, *VERBS[verb])
    (run / name).write_bytes(whole)
    assert main(VERBS[verb]) == 0


@pytest.mark.parametrize("name", ["scores.jsonl", "scorecard.json"])
def test_what_was_computed_is_written_again_as_the_sentence_says(
    run: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    before = (run / name).read_bytes()
    change(run / name, lambda row: row | {"n": 1, "chrf": 99.0})
    shutil.copytree(run, "other")
    assert "write it again with `sft report run --recompute`" in said(capsys, *VERBS["compare"])
    assert main(VERBS["recompute"]) == 0
    assert (run / name).read_bytes() == before


@pytest.mark.engine
@pytest.mark.parametrize("name", ["completions-tuned.jsonl", "measurement.json", "log.jsonl", "own-path.jsonl"])
def test_what_was_measured_is_made_again_as_the_sentence_says(
    sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Refused by evaluate too, which would use it again; deleted, it is made again, with the same figures."""
    monkeypatch.chdir(shutil.copytree(EARLIER, tmp_path / "there"))
    shutil.rmtree("finished")
    run = Path(shutil.copytree(sealed, "finished"))
    card = read_json(run / "scorecard.json")
    change(run / name, lambda row: row | {"text": "mauve", "left": None, "seed": 5, "loss": 0.1})
    capsys.readouterr()
    assert main(["evaluate", "finished"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"finished/{name}: was altered" in last
    assert last.endswith("or delete it and run `sft evaluate finished`, which makes it again")
    (run / name).unlink()
    assert main(["evaluate", "finished"]) == 0
    again = read_json(run / "scorecard.json")
    assert again["verdict"]["rung"] == card["verdict"]["rung"]
    known = {one["system"] for one in card["systems"]}  # a shortcut that came later is measured too
    assert [one for one in again["systems"] if one["system"] in known] == card["systems"]
    assert main(["report", "finished", "--recompute"]) == 0


@pytest.mark.engine
def test_an_evaluation_that_was_killed_goes_on_and_what_it_had_stays_known(
    sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows that a killed measurement added are welcome; those that were sealed before it are still held to that."""
    monkeypatch.chdir(shutil.copytree(EARLIER, tmp_path / "there"))
    shutil.rmtree("finished")
    run = Run.open(shutil.copytree(sealed, "finished"))
    path = run.completions_path("tuned")
    let_grow(run, stored.GROWING)
    unseal(run, stored.DERIVED)  # as `sft evaluate` does before it adds anything
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(read_jsonl(path)[0] | {"id": "of a larger measurement"}) + "\n")
    assert main(["report", "finished", "--recompute"]) == 0
    assert main(["evaluate", "finished"]) == 0
    let_grow(Run.open(run.path), stored.GROWING)
    rows = read_jsonl(path)
    write_jsonl(path, [rows[0] | {"text": "mauve"}, *rows[1:]])
    capsys.readouterr()
    assert main(["evaluate", "finished"]) == 2
    assert "completions-tuned.jsonl: was altered" in capsys.readouterr().err


def test_other_settings_of_an_adapter_are_another_clone(tmp_path: Path) -> None:
    """Ten times ``lora_alpha`` beside the same tensors was taken for what had been measured, by evaluate and push."""
    folder = shutil.copytree(EARLIER / "finished" / "adapter", tmp_path / "adapter")
    before, config = weights_hash(folder), read_json(folder / "adapter_config.json")
    recorded = read_json(EARLIER / "finished" / "measurement.json")["signature"]["weights_hash"]
    assert before.is_of(recorded) and before.startswith("v2:")
    moved = config | {"base_model_name_or_path": "elsewhere", "target_modules": config["target_modules"][::-1]}
    write_json(folder / "adapter_config.json", moved)
    assert weights_hash(folder) == before
    write_json(folder / "adapter_config.json", config | {"lora_alpha": 10 * config["lora_alpha"]})
    assert weights_hash(folder) != before and not weights_hash(folder).is_of(str(before))


# -- rules ----------------------------------------------------------------------------------------------------


def test_a_hash_knows_its_like_by_every_rule_there_was() -> None:
    now = Digest.by("v3", "cc", {"v2": lambda: "bb", "v1": lambda: "aa"})
    assert str(now) == "v3:cc" and now.value == "cc"
    assert all(now.is_of(known) for known in ("v3:cc", "v2:bb", "v1:aa", "aa", "bb", "cc"))
    assert not any(now.is_of(known) for known in ("v3:bb", "v2:cc", "v4:cc", "dd", "", None, 3, ["cc"]))


# -- types ----------------------------------------------------------------------------------------------------

#: File, where in its first row, a value of another type, what the sentence says, and the verb that reads it.
OF_ANOTHER_TYPE: list[tuple[str, str, Any, str, str]] = [
    ("manifest.json", "looks", 3, "'looks' is a number, not a list", "report"),
    ("manifest.json", "looks", [3], "'looks.1' is a number, not an object", "report"),
    ("manifest.json", "data", None, "'data' is null, not an object", "compare"),
    ("manifest.json", "recipe", {"resolved": 3}, "'recipe.resolved' is a number, not an object", "compare"),
    ("manifest.json", "training", [], "'training' is a list, not an object", "report"),
    ("manifest.json", "files", {"x": 3}, "'files.x' is a number, not an object", "report"),
    ("demonstrations.jsonl", "completion", 5, ":1: 'completion' is a number, not text", "recompute"),
    ("demonstrations.jsonl", "prompt", "x", ":1: 'prompt' is text, not a list", "recompute"),
    ("demonstrations.jsonl", "prompt", [], ":1: prompt is empty", "recompute"),
    ("demonstrations.jsonl", "completion", " ", ":1: completion is blank", "recompute"),
    ("demonstrations.jsonl", "split", "tests", ":1: 'split' is text, not 'train', 'validation' or 'test'", "recompute"),
    ("demonstrations.jsonl", "references", "abc", ":1: 'references' is text, not a list", "recompute"),
    ("demonstrations.jsonl", "source", {"file": 3, "line": 1}, ":1: 'source.file' is a number, not text", "recompute"),
    ("held-out.jsonl", "references", [None], ":1: 'references.1' is null, not text", "recompute"),
    ("held-out.jsonl", "experts", [], ":1: a held-out prompt has", "recompute"),
    ("token-scores-B0.jsonl", "ranks", [0], ":1: nats, ranks, entropies, confidences are not of", "recompute"),
    ("held-out.jsonl", "prompt", [{"role": "x", "content": "y"}], "not 'system', 'user', 'assistant'", "compare"),
    ("held-out.jsonl", "others", [["a"]], ":1: 'others.1' is a list, not a pair", "compare"),
    ("completions-tuned.jsonl", "text", 5, ":1: 'text' is a number, not text", "recompute"),
    ("completions-B0.jsonl", "finished", "x", ":1: 'finished' is text, not true or false", "recompute"),
    ("token-scores-tuned.jsonl", "nats", None, ":1: 'nats' is null, not a list", "compare"),
    ("token-scores-B0.jsonl", "ranks", [1.5], ":1: 'ranks.1' is a number, not a whole number", "recompute"),
    ("own-path.jsonl", "left", "x", ":1: 'left' is text, not a whole number", "recompute"),
    ("prompt-values.jsonl", "bytes", {}, ":1: 'bytes' is an object, not a whole number", "recompute"),
    ("measurement.json", "systems", {"a": 1}, "'systems' is an object, not a list", "recompute"),
    ("measurement.json", "systems", ["../x"], "holds a system of no name", "recompute"),
    ("measurement.json", "bar", 3, "'bar' is a number, not an object", "recompute"),
    ("log.jsonl", "step", "x", ":1: 'step' is text, not a whole number", "report"),
    ("log.jsonl", "loss", "x", ":1: 'loss' is text, not a number", "report"),
    ("ledger.json", "fates", [], "'fates' is a list, not an object", "report"),
    ("ledger.json", "rows", 3, "the ledger does not add up", "report"),
    ("scores.jsonl", "system", 3, ":1: 'system' is a number, not text", "compare"),
    ("scorecard.json", "systems", 3, "holds systems that is not as this sft writes it", "compare"),
]


@pytest.mark.parametrize(("name", "key", "value", "sentence", "verb"), OF_ANOTHER_TYPE)
def test_a_value_of_another_type_is_one_sentence(
    unsealed: Path, capsys: pytest.CaptureFixture[str], name: str, key: str, value: Any, sentence: str, verb: str
) -> None:
    """A number where text belongs ended in a traceback from deep within, or in figures."""
    shutil.copytree("run", "other")
    path = unsealed / name
    if path.suffix == ".json":
        write_json(path, read_json(path) | {key: value})
    else:
        first, *rest = read_jsonl(path)
        write_jsonl(path, [first | {key: value}, *rest])
    found = said(capsys, *VERBS[verb])
    assert found.startswith(f"run/{name}") and sentence in found and "; " in found, found


@pytest.mark.parametrize("name", ["demonstrations.jsonl", "held-out.jsonl", "completions-tuned.jsonl", "log.jsonl"])
def test_a_line_that_is_no_object_is_named_by_its_number_blank_lines_counted(
    unsealed: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    lines = (unsealed / name).read_text(encoding="utf-8").splitlines(keepends=True)
    for line, fault in (("[1]\n", "this line is no JSON object"), ('{"id": 3}\n', "")):
        (unsealed / name).write_text("".join([lines[0], "\n", line, *lines[1:]]), encoding="utf-8")
        assert f"{name}:3: {fault}" in said(capsys, *VERBS["recompute"])


def test_half_a_row_left_by_a_kill_is_no_fault(unsealed: Path) -> None:
    with (unsealed / "completions-tuned.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"id": "x", "te')
    assert main(VERBS["recompute"]) == 0


@pytest.mark.engine
@pytest.mark.parametrize(
    ("words", "name", "key", "value"),
    [
        (["evaluate", "finished"], "completions-B0.jsonl", "id", None),
        (["evaluate", "finished"], "demonstrations.jsonl", "group", 3),
        (["evaluate", "finished"], "split.json", "ids", {"train": 3}),
        (["evaluate", "finished"], "measurement.json", "signature", 3),
        (["evaluate", "finished"], "manifest.json", "split", {"hash": 3}),
        (["train", "recipe.yaml", "--output", "finished", "--resume"], "split.json", "ids", None),
        (["train", "recipe.yaml", "--output", "finished", "--resume"], "manifest.json", "changes", [3]),
        (["chat", "finished"], "manifest.json", "recipe", 3),
        (["export", "finished", "--merged", "x"], "demonstrations.jsonl", "completion", None),
        (["push", "finished", "ann/clone", "--dry-run"], "manifest.json", "base", 3),
    ],
)
def test_so_do_the_verbs_that_need_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    words: list[str], name: str, key: str, value: Any,
) -> None:  # fmt: skip
    monkeypatch.chdir(shutil.copytree(EARLIER, tmp_path / "there"))
    change(Path("finished", name), lambda row: row | {key: value})
    assert main(words) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    where = f"sft: finished/{name}" + (":1: " if name.endswith("l") else ": ")
    assert last.startswith(where) and f"'{key}" in last and "restore" in last


# -- what a kill leaves ---------------------------------------------------------------------------------------

WRITER = (
    "import sys, time\nfrom pathlib import Path\nfrom sft.runs.atomic_files import write_text\n"
    "def pieces():\n    yield 'half'\n    print('ready', flush=True)\n    time.sleep(60)\n"
    "write_text(Path(sys.argv[1]), pieces())"
)


def writing(path: Path) -> subprocess.Popen[str]:
    """A process in the middle of writing ``path``."""
    child = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    return child


def temporaries(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir() if entry.name.endswith(".tmp")]


@pytest.mark.parametrize("words", [["report", "run"], ["report", "run", "--recompute"]], ids=" ".join)
def test_what_a_kill_left_goes_with_the_next_command_and_what_somebody_writes_stays(
    run: Path, words: list[str]
) -> None:
    """Every kill in a write left a file that nothing ever removed."""
    with writing(run / "report.html") as dead, writing(run / "report.md") as alive:
        dead.send_signal(signal.SIGKILL)
        dead.wait()
        assert len(temporaries(run)) == 2
        assert main(words) == 0
        (left,) = temporaries(run)
        assert f".{alive.pid}-" in left
        alive.send_signal(signal.SIGKILL)
        alive.wait()
        assert main(words) == 0 and temporaries(run) == []


def test_only_files_of_our_own_making_are_cleared(tmp_path: Path) -> None:
    kept = [".notes.tmp", "x.0badcafe.tmp", ".x.0badcafe.tmp", f".x.{os.getppid()}-0badcafe.tmp", ".x.99-0badcafe.tmp~"]
    for name in [*kept, ".x.4194305-0badcafe.tmp", f".x.{10**30}-0badcafe.tmp"]:
        (tmp_path / name).touch()
    clear_temporaries(tmp_path, "y")
    assert len(list(tmp_path.iterdir())) == len(kept) + 2
    clear_temporaries(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
    clear_temporaries(tmp_path / "nowhere")


def test_a_file_written_again_takes_what_was_left_of_it_along(tmp_path: Path) -> None:
    """Pages of ``sft compare`` and rejected rows lie in folders that are no run's."""
    with writing(tmp_path / "page.html") as dead:
        dead.send_signal(signal.SIGKILL)
        dead.wait()
    write_text(tmp_path / "page.html", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_a_device_is_written_into_and_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.PIPE, text=True)
    write_text(tmp_path / "pipe", "text")
    assert reader.communicate()[0] == "text" and (tmp_path / "pipe").is_fifo()


# -- rows in memory -------------------------------------------------------------------------------------------


def test_runs_without_a_record_of_their_data_are_read_as_they_stand(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run") as run:
        assert parts(run) == {"train": [], "validation": [], "test": []}
        rows = [d.to_dict() | {"split": "train"} for d in map(factories.demonstration, range(3))]
        write_jsonl(run.demonstrations_path, rows)
        assert parts(run)["train"] == [Demonstration.from_dict(row) for row in rows]
        seal(run, [run.demonstrations_path])
        run.demonstrations_path.unlink()
        with pytest.raises(RunError, match="is gone"):
            parts(run)
