"""``sft push GATHERING``: what experts wrote arrives as a data set, and nothing of who they are or when they worked."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forked_python
import pytest
from gatherings import asked, gathering, served
from loopback_hub import LoopbackHub, answer_lost, status
from toy_pushes import Outcome, connected, elsewhere

from sft.cli import main
from sft.gathering.folder import Gathering, HeldOutKeys
from sft.runs.atomic_files import read_json, read_jsonl, write_jsonl

DATA = "me/tides"
KEPT = f"datasets/{DATA}"
PUBLISHED = {"README.md", "demonstrations.jsonl", "items.jsonl", "sft_gathering.json"}
PEOPLE = ("ada-lovelace", "ben-nevis", "cat-stevens")


class Desk:
    """A gathering, a hub, and ``sft push`` between them."""

    def __init__(self, folder: Path, hub: LoopbackHub, capsys: Any) -> None:
        self.folder, self.hub, self._capsys = folder, hub, capsys

    def push(self, *words: str) -> Outcome:
        self._capsys.readouterr()
        code = main(["push", str(self.folder), DATA, *words])
        said = self._capsys.readouterr()
        return Outcome(code, said.out, said.err)

    @property
    def head(self) -> dict[str, bytes]:
        return self.hub.repos[KEPT].head() if KEPT in self.hub.repos else {}

    def rows(self, name: str = "demonstrations.jsonl") -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.head[name].splitlines()]


@pytest.fixture
def desk(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Iterator[Desk]:
    """A copy of the gathering, and this process as a client of the hub."""
    with LoopbackHub() as hub:
        connected(hub, monkeypatch, [])
        yield Desk(Path(shutil.copytree(written, tmp_path / "g")), hub, capsys)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three experts who answered six items each, of which two are a correction round's."""
    return filled(tmp_path_factory.mktemp("written") / "g")


def filled(folder: Path, answers: tuple[str, ...] = ()) -> Path:
    items = [*asked(4, shared=True, reference="the hidden reference"), *asked(2, round=1, shown="drafted", shared=True)]
    made = gathering(folder, items, PEOPLE, dialogues=True)
    write_jsonl(made.clone_path(1), ({"id": one.id, "text": "The clone's own words, of which enough", "finished": True}
                                     for one in items[4:]))  # fmt: skip
    facts = {"number": 1, "run": "../../secret-place/run", "weights_hash": "w1", "chosen_by": "random", "audit": 1.0}
    made.settings.rounds.append(facts | {"blind": 0.3, "decoding": "greedy", "when": "2026-03-01"})
    made.save()
    made.set_guidelines("Say who says so.\n")
    with made, served(made) as (_, clients):
        for place, name in enumerate(PEOPLE):
            one = clients[name]
            one.do("guidelines_seen", guidelines=made.guidelines()[0])
            for n in range(6):
                item = one.next()
                one.get(f"/item/{item}")
                one.do("draft", item=item, text=f"an early draft of {name}", rev=0)
                told = (
                    answers[n] if n < len(answers) and not place else f"Tide {item} turns at {n}, said voice {place}."
                )
                assert one.do("submitted", item=item, text=told, rev=1, seconds=31.5 + n)[0] == 200
    return folder


def test_the_data_set_is_one_commit_without_people_times_or_drafts(desk: Desk) -> None:
    done = desk.push("--license", "cc-by-4.0")
    assert done.code == 0, done.err
    repo = desk.hub.repos[KEPT]
    guidelines = Gathering.open(desk.folder).settings.guidelines
    assert set(desk.head) == PUBLISHED | {f"guidelines/{one}.md" for one in guidelines}
    assert repo.pushes == 1 and repo.private and f"{desk.hub.endpoint}/{KEPT}" in done.out
    sent = b"\n".join(desk.head.values())
    for word in (
        *PEOPLE,
        "early draft",
        "seconds",
        "pasted",
        "hidden reference",
        "secret-place",
        "The clone's own words",
    ):
        assert word.encode() not in sent, word
    events = (desk.folder / "events.jsonl").read_text(encoding="utf-8")
    assert not [stamp for stamp in re.findall(r'"at": "([^"]+)"', events) if stamp.encode() in sent]
    rows = desk.rows()
    assert len(rows) == 18 and {row["expert"] for row in rows} == {"expert-1", "expert-2", "expert-3"}
    assert {row["gathered"]["how"] for row in rows} == {"blind", "rewritten"}
    assert {row["gathered"]["weights_hash"] for row in rows if row["gathered"]["round"]} == {"w1"}
    assert len(desk.rows("items.jsonl")) == 6
    receipt = read_json(desk.folder / "push.json")["pushes"][0]
    assert receipt["commit"] == repo.refs["main"] and set(receipt["files"]) == set(desk.head)
    done = desk.push("--license", "cc-by-4.0")
    assert done.code == 0 and "nothing was sent" in done.out and repo.pushes == 1


def test_the_card_says_how_it_was_gathered(desk: Desk) -> None:
    assert desk.push("--license", "cc-by-4.0").code == 0
    card = desk.head["README.md"].decode()
    for words in ("license: cc-by-4.0", "data_files: demonstrations.jsonl", "18: 12 of round 0, 6 of round 1",
                  "expert-1 (6), expert-2 (6), expert-3 (6)", "| blind | 12 | 67% |", "| rewritten | 6 | 33% |",
                  "Say who says so.", "chrF", "on 4 prompts", "`w1`", "6 answers were written with a clone's text",
                  f'load_dataset("{DATA}"', "active minutes of all experts"):  # fmt: skip
        assert words in card, words
    sums = dict(reversed(line.split("  ")) for line in re.findall(r"^[0-9a-f]{64}  \S+$", card, re.MULTILINE))
    assert set(sums) == set(desk.head) - {"README.md"}


def test_whoever_has_the_id_loads_the_rows(desk: Desk, tmp_path: Path) -> None:
    """The card's own lines, in a process without sft; and a recipe's reference, which `sft check` reads."""
    assert desk.push().code == 0
    lines = re.search(r"^```python\n(.*?)^```$", desk.head["README.md"].decode(), re.MULTILINE | re.DOTALL)
    assert lines is not None
    began = f"import os\nos.environ.update(HF_ENDPOINT={desk.hub.endpoint!r}, HF_DATASETS_OFFLINE='0')\n"
    began += f"{elsewhere(desk.hub, tmp_path / 'home')}import datasets.config\n"
    began += f"datasets.config.HF_ENDPOINT = {desk.hub.endpoint!r}\ndatasets.config.HF_HUB_OFFLINE = False\n"
    own = "print(len(rows), sorted(set(rows['expert'])), rows[0]['prompt'][0]['role'])"
    program = f"{began}import sys\nsys.modules['sft'] = None\n{lines[1]}\n{own}\ndel sys.modules['sft']\n"
    recipe = f"model: {{name: me/none}}\ndemonstrations: {{path: 'hub:{DATA}'}}\nsplit: {{seed: 2}}\n"
    (tmp_path / "recipe.yaml").write_text(recipe, encoding="utf-8")
    words = ["check", "recipe.yaml"]
    program += f"from sft.cli import main\nraise SystemExit(main({words!r}))"
    done = forked_python.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("18 ['expert-1', 'expert-2', 'expert-3'] user\n")
    assert re.search(r"rows +18\n", done.stdout), done.stdout


def test_what_a_clone_is_judged_on_stays_or_is_marked(desk: Desk, capsys: Any) -> None:
    """Left out unless asked for, with items; then each row says so, and is refused for training."""
    with Gathering.open(desk.folder, writing=True) as made:
        held = made.items()[3]  # which no correction round repeats
        made.freeze(HeldOutKeys(frozenset({held.key}), run="r0"))
    done = desk.push("--dry-run")
    assert done.code == 0 and re.search(r"left out +answers that a clone is judged on \(3\)", done.out), done.out
    assert desk.push().code == 0
    assert len(desk.rows()) == 15 and held.id not in {row["id"] for row in desk.rows("items.jsonl")}
    assert "- 3 answers that a clone is judged on" in desk.head["README.md"].decode()
    assert desk.push("--with-held-out").code == 0
    marked = [row for row in desk.rows() if row.get("held_out")]
    assert len(desk.rows()) == 18 and len(marked) == 3 and {row["gathered"]["item"] for row in marked} == {held.id}
    (desk.folder / "again.jsonl").write_bytes(desk.head["demonstrations.jsonl"])
    assert main(["check", str(desk.folder / "again.jsonl")]) == 2
    assert "marked as held out" in capsys.readouterr().err


def test_flagged_and_withdrawn_answers_stay(desk: Desk) -> None:
    with Gathering.open(desk.folder, writing=True) as made, served(made) as (_, clients):
        first, second = (one.id for one in made.items()[:2])
        assert clients[PEOPLE[0]].do("withdrawn", item=first)[0] == 200
        clients[PEOPLE[1]].do("reopened", item=second)
        assert clients[PEOPLE[1]].do("flagged", item=second, reason="names somebody")[0] == 200
    assert desk.push().code == 0
    where = [(row["expert"], row["gathered"]["item"]) for row in desk.rows()]
    assert ("expert-1", first) not in where and second not in {item for _, item in where}
    card = desk.head["README.md"].decode()
    assert "- 1 withdrawn answers" in card and "answers to flagged items" in card and "names somebody" not in card


def test_names_only_where_it_is_asked_for(desk: Desk) -> None:
    assert desk.push("--name-experts").code == 0
    assert {row["expert"] for row in desk.rows()} == set(PEOPLE)


def test_a_secret_is_found_in_answers_and_guidelines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Nothing is sent; the row is named; the finding can be allowed by its id, and a name in a text is a note."""
    token = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
    with LoopbackHub() as hub:
        connected(hub, monkeypatch, [])
        desk = Desk(filled(tmp_path / "g", (f"Log in with {token} and ask ben-nevis.",)), hub, capsys)
        done = desk.push()
        assert done.code == 2 and KEPT not in hub.repos and token not in done.err
        assert re.search(r"demonstrations\.jsonl:\d+", done.err) and "take the answer up again" in done.err
        found = re.search(r"\(id (\w+)\)", done.err)
        assert found is not None
        done = desk.push("--allow-finding", f"{found[1]}=made up for a test")
        assert done.code == 0 and "the name of expert-2 stands in the texts of 1 demonstrations" in done.err
        with Gathering.open(desk.folder, writing=True) as made:
            made.set_guidelines("Ask ada.byron@lighthouse-keepers.org what a tide is.")
        done = desk.push("--allow-finding", f"{found[1]}=made up for a test")
        assert done.code == 2 and re.search(r"guidelines/\w+\.md:1: an e-mail address", done.err), done.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--merged"], "--merged: is for a run"),
        (["--base-model", "me/x"], "--base-model: is for a run"),
        (["--allow-finding", "abc=x"], "no such finding"),
        (["--create-pr"], "nothing to ask for with --create-pr"),
        (["--tag", "refs/x"], "--tag refs/x: is no name"),
    ],
)
def test_what_is_refused(desk: Desk, words: list[str], says: str) -> None:
    done = desk.push(*words)
    assert done.code in (2, 4) and says in done.err and KEPT not in desk.hub.repos


def test_a_gathering_without_answers_or_a_place_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    gathering(tmp_path / "g", 2).close()
    with LoopbackHub() as hub:
        connected(hub, monkeypatch, [])
        assert main(["push", str(tmp_path / "g"), DATA]) == 2
        assert "no answer may be published yet; wait until somebody has submitted one" in capsys.readouterr().err
        assert main(["push", str(tmp_path / "g")]) == 2
        assert "where to? Name OWNER/NAME" in capsys.readouterr().err
        assert main(["push", str(tmp_path / "none"), DATA, "--name-experts"]) == 2
        assert hub.requests == []


def test_somebody_elses_data_set_is_not_written_over(desk: Desk) -> None:
    desk.hub.put(KEPT, {"train.csv": b"a,b\n"})
    done = desk.push()
    assert done.code == 4 and "holds train.csv of somebody else's making" in done.err and len(desk.head) == 1
    assert desk.push("--replace").code == 0 and "train.csv" in desk.head
    here = json.loads(desk.head["sft_gathering.json"])
    repo = desk.hub.repos[KEPT]
    repo.add(repo.head() | {"sft_gathering.json": json.dumps(here | {"id": "other"}).encode()})
    done = desk.push()
    assert done.code == 4 and "holds another gathering, other" in done.err


def test_an_older_version_of_the_guidelines_that_is_gone_is_removed_there(desk: Desk) -> None:
    assert desk.push().code == 0
    repo = desk.hub.repos[KEPT]
    repo.add(repo.commits[repo.refs["main"]].tree | {"guidelines/old.md": b"x", "notes.txt": b"mine"})
    assert desk.push().code == 0
    assert "guidelines/old.md" not in desk.head and "notes.txt" in desk.head


@pytest.mark.parametrize("fault", [answer_lost, status(503)], ids=["answer lost", "503 twice"])
def test_faults_of_the_hub_leave_one_commit(desk: Desk, fault: Any) -> None:
    desk.hub.fault("commit", fault, times=1 if fault is answer_lost else 2)
    done = desk.push()
    assert done.code == 0, done.err
    assert desk.hub.repos[KEPT].pushes == 1 and len(read_jsonl(desk.folder / "demonstrations.jsonl")) == 18
