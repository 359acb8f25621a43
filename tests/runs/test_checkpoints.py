"""Checkpoints made by hand, without a fit: which is chosen, what is said of the others, and what stays on disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toy_checkpoints import checkpoint, names, state, tensors, zipped

from sft.runs.checkpoints import (
    WHOLE,
    Choice,
    choose,
    fault_of,
    latest_checkpoint,
    put_aside,
    rotate,
    step_of,
    withdraw_list,
    write_list,
)

DAMAGED_LIST = "its list of files (whole.json) is damaged"
UNFINISHED = "it was not written to its end"


def relisted(at: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """The list, with ``change`` made in it."""
    written = json.loads((at / WHOLE).read_text(encoding="utf-8"))
    change(written)
    (at / WHOLE).write_text(json.dumps(written), encoding="utf-8")


# -- the choice -------------------------------------------------------------------------------------------


def test_the_newest_by_its_number_is_chosen_and_newer_ones_are_named_newest_first(tmp_path: Path) -> None:
    for step in (8, 9, 10, 11, 100):
        checkpoint(tmp_path, step)
    assert choose(tmp_path) == Choice(tmp_path / "checkpoint-100") and choose(tmp_path).in_words() == ""
    (tmp_path / "checkpoint-100" / "optimizer.pt").unlink()
    (tmp_path / "checkpoint-11" / WHOLE).unlink()
    choice = choose(tmp_path)
    assert choice.path == latest_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert choice.in_words() == (
        f"from checkpoint-10; passed over: checkpoint-100 (optimizer.pt is missing), checkpoint-11 ({UNFINISHED})"
    )


def test_what_is_said_where_no_checkpoint_is_whole(tmp_path: Path) -> None:
    assert choose(tmp_path / "none") == Choice(None) and Choice(None).in_words() == ""
    (checkpoint(tmp_path, 3) / "scheduler.pt").unlink()
    assert latest_checkpoint(tmp_path) is None
    assert choose(tmp_path).in_words() == (
        "no checkpoint is whole, so training begins at step 0; passed over: checkpoint-3 (scheduler.pt is missing)"
    )
    assert step_of(None) == 0 and step_of(tmp_path / "checkpoint-120") == 120


def test_no_file_and_no_folder_of_another_name_is_a_checkpoint(tmp_path: Path) -> None:
    checkpoint(tmp_path, 3)
    for name in ("checkpoint-4-copy", "checkpoint-", "checkpoint-x", "my-checkpoint-7"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-9").write_text("no folder", encoding="utf-8")
    assert choose(tmp_path) == Choice(tmp_path / "checkpoint-3")
    assert fault_of(tmp_path / "checkpoint-9") == fault_of(tmp_path / "checkpoint-2") == "it is missing"


@pytest.mark.parametrize("best", [None, 0, 6, "4", 4.0])
def test_who_needs_no_other_checkpoint_needs_none(best: Any, tmp_path: Path) -> None:
    """No best so far, itself the best, or a value that no trainer writes."""
    at = checkpoint(tmp_path, 6, best=best)
    assert choose(tmp_path) == Choice(at)


def test_of_the_best_so_far_the_weights_are_needed_and_nothing_else(tmp_path: Path) -> None:
    best, last = checkpoint(tmp_path, 4), checkpoint(tmp_path, 6, best=4)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"):
        (best / name).unlink()
    assert choose(tmp_path) == Choice(last) and fault_of(best) == "optimizer.pt is missing"
    tensors(best / "adapter_model.safetensors", 40)
    choice = choose(tmp_path)
    assert choice.path is None and [path for path, _ in choice.passed_over] == [last, best]
    needed = choice.passed_over[0][1]
    assert needed.startswith("it needs checkpoint-4, the best so far: adapter_model.safetensors is cut, ")
    shutil.rmtree(best)
    assert choose(tmp_path).passed_over == ((last, "it needs checkpoint-4, the best so far: it is missing"),)


def test_what_was_passed_over_is_set_aside_and_what_never_was_whole_is_removed(tmp_path: Path) -> None:
    """One that was set aside before under the same name makes room; the one to go on from stays."""
    whole, damaged, unfinished = (checkpoint(tmp_path, step) for step in (2, 4, 6))
    (damaged / "optimizer.pt").unlink()
    (unfinished / WHOLE).unlink()
    earlier = tmp_path / "damaged-checkpoint-4"
    earlier.mkdir()
    (earlier / "of an earlier time").touch()
    put_aside(choose(tmp_path))
    assert names(tmp_path) == ["checkpoint-2", "damaged-checkpoint-4"]
    assert (earlier / "scheduler.pt").exists() and not (earlier / "of an earlier time").exists()
    assert choose(tmp_path) == Choice(whole)


# -- rotation ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "best", "left"),
    [
        (None, None, [2, 4, 6, 8]),
        (0, None, [2, 4, 6, 8]),
        (-1, 2, [2, 4, 6, 8]),
        (5, None, [2, 4, 6, 8]),
        (4, 2, [2, 4, 6, 8]),
        (3, None, [4, 6, 8]),
        (3, 2, [2, 6, 8]),
        (2, 8, [6, 8]),
        (2, 2, [2, 8]),
        (1, None, [8]),
        (1, 4, [4, 8]),
    ],
)
def test_how_many_checkpoints_are_left(limit: int | None, best: int | None, left: list[int], tmp_path: Path) -> None:
    for step in (2, 4, 6, 8):
        checkpoint(tmp_path, step)
    rotate(tmp_path, limit=limit, best=best)
    assert names(tmp_path) == [f"checkpoint-{step}" for step in left]


# -- the list ---------------------------------------------------------------------------------------------


def test_the_list_has_every_file_but_itself_and_only_files(tmp_path: Path) -> None:
    import hashlib

    at = tmp_path / "checkpoint-2"
    (at / "global_step2" / "deeper").mkdir(parents=True)
    contents = {"a.txt": b"one", "global_step2/b.bin": b"", "global_step2/deeper/c": b"three"}
    for name, content in contents.items():
        (at / name).write_bytes(content)
    for processes in (1, 3):
        write_list(at, processes=processes)
        assert json.loads((at / WHOLE).read_text(encoding="utf-8")) == {
            "processes": processes,
            "files": {
                name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                for name, content in contents.items()
            },
        }
    withdraw_list(at)
    assert not (at / WHOLE).exists() and (at / "a.txt").exists()
    withdraw_list(at)
    withdraw_list(tmp_path / "no such checkpoint")


def longer(at: Path) -> None:
    with (at / "optimizer.pt").open("ab") as file:
        file.write(b"+")


def cut_by_one(at: Path) -> None:
    (at / "README.md").write_bytes((at / "README.md").read_bytes()[:-1])


def a_folder(at: Path) -> None:
    (at / "part").mkdir()
    relisted(at, lambda it: it["files"].update(part={"size": (at / "part").stat().st_size, "sha256": ""}))


def without_state(at: Path, step: int | None) -> None:
    (at / "trainer_state.json").unlink()
    if step is not None:
        state(at, step)
    write_list(at, processes=1)


BY_LIST: dict[str, tuple[Callable[[Path], object], str]] = {
    "no JSON": (lambda at: (at / WHOLE).write_text("{"), DAMAGED_LIST),
    "no object": (lambda at: (at / WHOLE).write_text("[1]"), DAMAGED_LIST),
    "files are a number": (lambda at: relisted(at, lambda it: it.update(files=3)), DAMAGED_LIST),
    "an entry is a number": (lambda at: relisted(at, lambda it: it["files"].update({"README.md": 3})), DAMAGED_LIST),
    "an entry without a size": (lambda at: relisted(at, lambda it: it["files"]["README.md"].pop("size")), DAMAGED_LIST),
    "an entry without a hash": (
        lambda at: relisted(at, lambda it: it["files"]["README.md"].pop("sha256")), DAMAGED_LIST),
    "a size in words": (
        lambda at: relisted(at, lambda it: it["files"]["README.md"].update(size="many")), DAMAGED_LIST),
    "cut by a byte": (cut_by_one, "README.md is cut, 36 bytes of 37"),
    "longer": (longer, r"optimizer.pt is altered, {} bytes of {}"),
    "other words": (lambda at: (at / "README.md").write_text("A" * 37), "README.md is altered"),
    "a folder for a file": (a_folder, "part cannot be read (Is a directory)"),
    "of another step": (lambda at: without_state(at, 3), "its trainer_state.json is of step 3"),
    "no state": (lambda at: without_state(at, None), "its trainer_state.json is of step None"),
}  # fmt: skip


@pytest.mark.parametrize("damage", BY_LIST)
def test_what_is_wrong_by_the_list(damage: str, tmp_path: Path) -> None:
    at = checkpoint(tmp_path, 2)
    before = (at / "optimizer.pt").stat().st_size
    assert fault_of(at) is None
    do, said = BY_LIST[damage]
    do(at)
    assert fault_of(at) == said.format(before + 1, before)


@pytest.mark.parametrize(
    "name",
    ["optimizer.pt", "optimizer_0", "scheduler.pt", "scaler.pt", "rng_state.pth", "rng_state_0.pth",
     "trainer_state.json", "training_args.bin"],
)  # fmt: skip
def test_a_clone_is_made_of_none_of_these(name: str, tmp_path: Path) -> None:
    at = checkpoint(tmp_path, 2)
    (at / name).write_text("{}", encoding="utf-8")
    write_list(at, processes=1)
    (at / name).write_text("[]", encoding="utf-8")
    assert fault_of(at) == f"{name} is altered"
    assert fault_of(at, weights_only=True) is None


# -- what a fit goes on from ------------------------------------------------------------------------------


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize(
    ("taken", "fault"),
    [
        (["adapter_model.safetensors"], "it holds no weights"),
        (["optimizer.pt"], "it holds no optimizer"),
        (["scheduler.pt"], "it holds no schedule"),
        (["rng_state.pth"], "it holds no random state"),
        (["scheduler.pt", "rng_state.pth"], "it holds no schedule"),
        (["README.md"], None),
    ],
)
def test_what_a_checkpoint_lacks(taken: list[str], fault: str | None, listed: bool, tmp_path: Path) -> None:
    at = checkpoint(tmp_path, 2, listed=listed)
    for name in taken:
        (at / name).unlink()
    if listed:
        write_list(at, processes=1)
    assert fault_of(at) == fault
    if not listed:
        assert fault_of(at, weights_only=True) == (fault if fault == "it holds no weights" else None)


@pytest.mark.parametrize(
    ("weights", "optimizer", "schedule"),
    [
        ("pytorch_model.bin", "optimizer.bin", "scheduler.pt"),
        ("pytorch_model_fsdp_0/part", "optimizer_0/part", "scheduler.pt"),
        ("global_step2/model_states.pt", "global_step2/optim_states.pt", "global_step2/model_states.pt"),
    ],
)
def test_what_the_engines_write_is_known_by_its_names(
    weights: str, optimizer: str, schedule: str, tmp_path: Path
) -> None:
    at = tmp_path / "checkpoint-2"
    for name in {weights, optimizer, schedule, "rng_state_0.pth", "rng_state_1.pth"}:
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        zipped(at / name)
    state(at, 2)
    write_list(at, processes=2)
    assert fault_of(at) is None
    for name in ("optimizer.bin", "training_args.bin"):  # no weights, though they end as such a file does
        zipped(at / name)
    shutil.rmtree(at / weights) if (at / weights).is_dir() else (at / weights).unlink()
    if "/" in weights:
        shutil.rmtree((at / weights).parent)
    write_list(at, processes=2)
    assert fault_of(at) == "it holds no weights"


# -- of earlier releases ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("callbacks", "fault"),
    [
        ({"sft": {"listed": True}}, UNFINISHED),
        ({"sft": {"listed": False}}, None),
        ({"sft": {}}, None),
        ({"sft": [1]}, None),
        ({"other": {"listed": True}}, None),
        ([1], None),
    ],
)
def test_a_list_that_was_announced_and_is_not_there(callbacks: Any, fault: str | None, tmp_path: Path) -> None:
    at = checkpoint(tmp_path, 2, listed=False)
    state(at, 2, stateful_callbacks=callbacks)
    assert fault_of(at) == fault
    state(at, 2)
    assert fault_of(at) is None
    state(at, 3)
    assert fault_of(at) == "its trainer_state.json is of step 3"
    (at / "trainer_state.json").write_text("{}", encoding="utf-8")
    assert fault_of(at) == UNFINISHED


def test_every_process_has_written_its_part(tmp_path: Path) -> None:
    """The releases before wrote the number of processes alone, and only where there were several."""
    at = checkpoint(tmp_path, 2, listed=False)
    (at / "rng_state.pth").rename(at / "rng_state_0.pth")
    zipped(at / "rng_state_1.pth")
    assert fault_of(at) == UNFINISHED
    for processes, fault in ((1, UNFINISHED), (2, None), (3, UNFINISHED)):
        (at / WHOLE).write_text(json.dumps({"processes": processes}), encoding="utf-8")
        assert fault_of(at) == fault
    assert choose(tmp_path).passed_over == ((at, UNFINISHED),)


def short(path: Path, by: int) -> None:
    path.write_bytes(path.read_bytes()[:-by])


FORMS: dict[str, tuple[Callable[[Path], object], bool]] = {
    "two tensors": (lambda at: tensors(at, 40, 24), True),
    "the longer one last": (lambda at: tensors(at, 3, 400), True),
    "no tensor": (lambda at: tensors(at), True),
    "no metadata": (lambda at: tensors(at, 8, metadata=False), True),
    "nothing but the header's length": (lambda at: at.write_bytes((2).to_bytes(8, "little")), False),
    "empty": (lambda at: at.write_bytes(b""), False),
    "an empty header": (lambda at: at.write_bytes((2).to_bytes(8, "little") + b"{}"), True),
    "a byte more": (lambda at: at.write_bytes(at.read_bytes() + b"+"), False),
    "a byte less": (lambda at: short(at, 1), False),
    "the header cut": (lambda at: short(at, 70), False),
    "the header longer than the file": (lambda at: at.write_bytes((10**6).to_bytes(8, "little") + bytes(90)), False),
    "no object for a header": (lambda at: at.write_bytes((3).to_bytes(8, "little") + b"[1]"), False),
    "a tensor that is no object": (lambda at: at.write_bytes((7).to_bytes(8, "little") + b'{"a":1}'), False),
    "a tensor that lies nowhere": (lambda at: at.write_bytes((8).to_bytes(8, "little") + b'{"a":{}}'), False),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_file_of_safetensors_is_as_long_as_its_header_says(form: str, tmp_path: Path) -> None:
    at = checkpoint(tmp_path, 2, listed=False)
    do, whole = FORMS[form]
    do(at / "adapter_model.safetensors")
    said = None if whole else "adapter_model.safetensors is cut or altered"
    assert fault_of(at) == fault_of(at, weights_only=True) == said


@pytest.mark.parametrize("name", ["optimizer.pt", "rng_state.pth", "pytorch_model.bin", "sub/part.pt"])
def test_what_torch_saved_has_its_checksums(name: str, tmp_path: Path) -> None:
    at = checkpoint(tmp_path, 2, listed=False)
    (at / "sub").mkdir()
    zipped(at / name)
    assert fault_of(at) is None
    content = bytearray((at / name).read_bytes())
    content[content.index(bytes(range(100, 120)))] ^= 1
    (at / name).write_bytes(content)
    assert fault_of(at) == f"{name} is cut or altered"
    assert fault_of(at, weights_only=True) == (None if name.startswith(("opt", "rng")) else fault_of(at))


def test_what_could_not_be_checked_is_said_of_all_it_is_true_of(tmp_path: Path) -> None:
    rest = ": of an earlier release, which kept no hashes, so a byte that was altered in the weights would not be "
    checkpoint(tmp_path / "a", 4, listed=False)
    checkpoint(tmp_path / "a", 6, listed=False, best=4)
    assert choose(tmp_path / "a").in_words() == f"from checkpoint-6; checkpoint-6 and checkpoint-4{rest}noticed"
    checkpoint(tmp_path / "b", 4, listed=False)
    checkpoint(tmp_path / "b", 6, best=4)
    assert choose(tmp_path / "b").in_words() == f"from checkpoint-6; checkpoint-4{rest}noticed"
    (checkpoint(tmp_path / "b", 8) / "optimizer.pt").unlink()
    assert choose(tmp_path / "b").in_words() == (
        f"from checkpoint-6; passed over: checkpoint-8 (optimizer.pt is missing); checkpoint-4{rest}noticed"
    )
