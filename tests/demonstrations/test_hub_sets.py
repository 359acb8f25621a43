"""Data sets of the hub: subset, split and revision are named, the commit is recorded, changed rows are seen."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hub_clients import client, environment, with_subsets
from loopback_hub import LoopbackHub, connection_cut

from sft.demonstrations.hub_sets import HubSet
from sft.errors import SourceError

NAMED = ("--column", "prompt=question", "--column", "completion=answer")


def rows(about: str, count: int) -> list[dict[str, str]]:
    return [{"question": f"{about} {n}: what is it?", "answer": f"It is number {n} of {about}."} for n in range(count)]


def gsm8k(hub: LoopbackHub, count: int = 60) -> str:
    """The data set that has two subsets and no default; of ``count`` training rows."""
    main = {"train": rows("sums", count), "test": rows("tests", 20)}
    return with_subsets(hub, "openai/gsm8k", {"main": main, "socratic": {"train": rows("talks", 30)}})


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("hub:a/b", ("a/b", "", "", "train")),
        ("hub:a/b:test", ("a/b", "", "", "test")),
        ("hub:a/b:main/test", ("a/b", "", "main", "test")),
        ("hub:a/b:main/", ("a/b", "", "main", "train")),
        ("hub:a/b@v1.0", ("a/b", "v1.0", "", "train")),
        ("hub:a/b@refs/pr/3:x/y/train[:10%]", ("a/b", "refs/pr/3", "x/y", "train[:10%]")),
    ],
)
def test_a_reference_names_revision_subset_and_split(reference: str, parts: tuple[str, ...]) -> None:
    found = HubSet.of(reference)
    assert (found.repo, found.revision, found.subset, found.split) == parts
    assert HubSet.of(str(found)) == found


@pytest.mark.parametrize("reference", ["hub:a", "hub:", "hub:a/b/c", "hub:a/b@", "hub:a b/c", "hub:/b"])
def test_what_names_no_data_set_is_told_the_form(reference: str) -> None:
    with pytest.raises(SourceError, match="write hub:OWNER/NAME, hub:OWNER/NAME:SPLIT, hub:OWNER/NAME:SUBSET/SPLIT"):
        HubSet.of(reference)


def test_a_data_set_with_subsets_from_its_first_row_to_the_day_without_a_network(tmp_path: Path) -> None:
    """`gsm8k` could not be named at all, and rows that had changed on the hub were never seen."""
    with LoopbackHub() as hub, client(hub.endpoint, tmp_path) as sft:
        first = gsm8k(hub)
        asked = "hub:openai/gsm8k:main/train"
        found = sft.checked(asked, *NAMED)
        pinned = f"hub:openai/gsm8k@{first}:main/train"
        assert found["demonstrations"] == 60
        assert found["notes"] == [
            f"{asked} is of commit {first} (downloaded). To stay with it whatever comes, write {pinned}."
        ]
        # What is refused says what there is, and what to write; following it works.
        for wrong, says in (
            ("hub:openai/gsm8k", f"has several subsets; name one of main, socratic: {asked.removesuffix('/train')}"),
            ("hub:openai/gsm8k:main", f"has several subsets; name one of main, socratic: {asked}"),
            (
                "hub:openai/gsm8k:man/test",
                "has no subset 'man'; name one of main, socratic: hub:openai/gsm8k:main/test",
            ),
            (
                "hub:openai/gsm8k:main/tests",
                f"has no split 'tests'; name one of train, test: {asked.removesuffix('/train')}",
            ),
            ("hub:openai/gsm8k@v9:main/test", "has no revision 'v9'; name a commit, a tag or a branch"),
            ("hub:openai/gsm9k", "there is no such data set, or it is private; check OWNER/NAME"),
        ):
            assert sft.refused("check", wrong, *NAMED).startswith(f"{wrong}: {says}")
        # Rows that have changed are seen; the commit that is named stays what it was, and nobody is asked about it.
        second = gsm8k(hub, count=70)
        assert sft.checked(asked, *NAMED)["demonstrations"] == 70
        before = len(hub.requests)
        assert sft.checked(pinned, *NAMED)["demonstrations"] == 60
        assert sft.checked(pinned, *NAMED)["notes"] == [f"{pinned} is of commit {first} (kept from before)."]
        assert len(hub.requests) == before
        # The hub is gone: the newest rows that are kept, and it is said.
        hub.fault("info", connection_cut, times=99)
        found = sft.checked(asked, *NAMED)
        assert found["demonstrations"] == 70
        assert found["notes"][0].startswith(
            f"{asked} is of commit {second} (kept from before). The hub cannot be asked ("
        )
        assert "none of it is kept from before" in sft.refused("check", "hub:openai/gsm8k:socratic/train", *NAMED)
    with client("http://127.0.0.1:9", tmp_path, HF_HUB_OFFLINE="1") as sft:
        assert "(HF_HUB_OFFLINE is set): these are the newest rows" in sft.checked(asked, *NAMED)["notes"][0]


BEGIN = """
import sys
from pathlib import Path
from sft import recipes
from sft.training.start import prepare
with prepare(recipes.resolve("recipe.yaml"), Path("run"), resume=sys.argv[1] == "resume"):
    pass
"""


def test_a_run_records_the_commits_and_goes_on_with_them(tmp_path: Path) -> None:
    """The normal case: the test file is the hub's own test split. A run that goes on keeps the rows it began with."""
    made = {"train": rows("sums", 24), "validation": rows("choices", 4), "test": rows("tests", 4)}
    (tmp_path / "recipe.yaml").write_text(
        "model: {name: not-needed}\n"
        "demonstrations: {path: hub:lab/sums, columns: {prompt: question, completion: answer}}\n"
        "split: {validation: hub:lab/sums:validation, test: hub:lab/sums:default/test}\n"
    )

    def begun(word: str) -> str:
        """What preparing the run says, in a process that knows the hub here."""
        command, env = [sys.executable, "-c", BEGIN, word], environment(hub.endpoint, tmp_path)
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stderr

    with LoopbackHub() as hub:
        first = with_subsets(hub, "lab/sums", {"default": made})
        assert f"data      hub:lab/sums at commit {first}" in begun("new")
        manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
        named = ("hub:lab/sums", "hub:lab/sums:validation", "hub:lab/sums:default/test")
        assert manifest["data"]["commits"] == dict.fromkeys(named, first)
        assert manifest["split"]["counts"] == {"train": 24, "validation": 4, "test": 4}
        with_subsets(hub, "lab/sums", {"default": made | {"train": rows("sums", 30)}})
        asked = len(hub.requests)
        assert f"data      hub:lab/sums at commit {first}" in begun("resume")
        assert json.loads((tmp_path / "run" / "manifest.json").read_text())["data"] == manifest["data"]
        assert len(hub.requests) == asked
        # No validation split, as in gsm8k: a share of the training rows beside a test split of the hub, whose columns
        # may be called otherwise.
        renamed = [{"problem": row["question"], "solution": row["answer"]} for row in rows("tests", 20)]
        with_subsets(hub, "lab/more", {"main": {"train": rows("sums", 60)}, "hard": {"test": renamed}})
        test = "{path: hub:lab/more:hard/test, columns: {prompt: problem, completion: solution}}"
        (tmp_path / "recipe.yaml").write_text(
            "model: {name: not-needed}\n"
            "demonstrations: {path: hub:lab/more:main/train, columns: {prompt: question, completion: answer}}\n"
            f"split: {{validation: 0.2, near_duplicates: allow, test: {test}}}\n"
        )
        shutil.rmtree(tmp_path / "run")
        begun("new")
        manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
        assert set(manifest["data"]["commits"]) == {"hub:lab/more:main/train", "hub:lab/more:hard/test"}
        counts = manifest["split"]["counts"]
        assert counts["test"] == 20 and counts["validation"] and counts["train"] + counts["validation"] == 60
