"""Two rounds with scripted experts through the real page: what is asked, what is learned, what is said of it."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from gatherings import Client, asked, attended, gathering, served
from toy_demonstrations import write_demonstrations

from sft import recipes
from sft.cli import main
from sft.demonstrations.stored import load_recipe, load_splits
from sft.fidelity.rounds import read_rounds
from sft.gathering.fixed_parts import recipe_of_parts
from sft.gathering.folder import Gathering
from sft.gathering.rounds import round_of, union, write_union
from sft.runs.run import Run
from sft.training.start import prepare

pytestmark = pytest.mark.engine

#: Ten steps: after four the clone writes nothing that an expert could let stand.
RECIPE = """\
model: {{name: {model}}}
demonstrations: {{path: {data}}}
split: {{validation: 0.15, test: 0.25, near_duplicates: remove}}
adapter: {{r: 4, lora_alpha: 8}}
training: {{learning_rate: 1.0e-2, max_steps: 10, logging_steps: 5, per_device_train_batch_size: 8}}
fidelity: {{profile: fast, max_prompts: 12, max_new_tokens: 6, systems: [tuned, R, K, P]}}
"""


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A run of round 0 on toy demonstrations."""
    folder = tmp_path_factory.mktemp("rounds")
    write_demonstrations(folder / "d.jsonl", 90)
    (folder / "r.yaml").write_text(RECIPE.format(model=tiny_model, data=folder / "d.jsonl"), encoding="utf-8")
    assert main(["run", str(folder / "r.yaml"), "--output", str(folder / "r0")]) == 0
    return folder / "r0"


def pool(folder: Path, count: int = 60, *, more: list[Any] | None = None) -> Path:
    rows = [{"prompt": f"Which tide comes {n} hours after another one, and who says so?"} for n in range(count)]
    path = folder / "pool.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *(more or [])]), encoding="utf-8")
    return path


def oracle(client: Client, n: int) -> None:
    """Writes what is right, whatever stands above, and is asked how the clone's text would have done."""
    item = client.next()
    client.get(f"/item/{item}")
    client.do("submitted", item=item, text=f"The {n}. tide, says the harbour master.", rev=0, seconds=30)
    client.do("judged", item=item, reason="no")


def wordy(client: Client, n: int) -> None:
    """Writes more than any fit takes."""
    item = client.next()
    client.get(f"/item/{item}")
    client.do("submitted", item=item, text=f"{n}: " + "gulls and more gulls, " * 400, rev=0, seconds=30)
    client.do("judged", item=item, reason="no")


def copycat(client: Client, n: int) -> None:
    """Lets the clone's text stand wherever there is one."""
    item = client.next()
    client.get(f"/item/{item}")
    if client.do("submitted", item=item, accept=True, rev=0, seconds=5)[0] != 200:
        client.do("submitted", item=item, text=f"The {n}. tide, says the harbour master.", rev=0, seconds=30)
        client.do("judged", item=item, reason="no")


def all_by(behave: Any) -> Any:
    def everything(clients: dict[str, Client]) -> None:
        n = 0
        while clients["ada"].next():
            behave(clients["ada"], n)
            n += 1

    return everything


def test_a_round_is_asked_learned_from_and_reported(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held_out = load_splits(Run.open(first)).test[0]
    trained = load_splits(Run.open(first)).train[0]
    leaky = [{"prompt": d.prompt[-1].content} for d in (held_out, trained)]
    capsys.readouterr()
    words = ["correct", str(first), "--prompts", str(pool(tmp_path, more=leaky)), "--into", str(tmp_path / "g"),
             "--items", "40", "--expert", "ada"]  # fmt: skip
    status, said = attended(words, all_by(copycat))
    assert status == 0
    assert re.search(r"would change \d+% of the words; 0 of \d+ validation answers are right as they stand", said)
    assert "Most answers will be rewritten" in said and "1 prompts are held out in r0" in said
    assert (
        "1 prompts were answered already" in said
        and "40 items, 40 of them drawn at random; 12 are written blind" in said
    )
    assert any(look["split"] == "pool" for look in Run.open(first).manifest["looks"])
    gathering = Gathering.open(tmp_path / "g")
    assert {one.shown for one in gathering.items()} == {"blind", "drafted"}
    assert main(words) == 2 and "round 1 was begun on" in capsys.readouterr().err

    new = tmp_path / "r1"
    assert main(["correct", str(first), "--train", str(new), "--from", str(tmp_path / "g")]) == 0
    run = Run.open(new)
    before, after = load_splits(Run.open(first)), load_splits(run)
    assert {d.id for d in before.test} == {d.id for d in after.test}  # frozen
    assert {d.id for d in before.validation} == {d.id for d in after.validation}
    assert len(after.train) == len(before.train) + 40 and round_of(run) == 1
    assert sum(d.origin is not None and d.origin.how == "accepted" for d in after.train) == 28
    ledger = json.loads((new / "ledger.json").read_text())
    assert sum(ledger["fates"].values()) == ledger["rows"]
    rounds = read_rounds(run)
    assert rounds is not None and [p.round for p in rounds.points] == [0, 1]
    assert rounds.points[0].fresh is not None and rounds.points[0].fresh.n == 12
    asked = rounds.asked[0]
    assert asked.acceptance is not None and asked.acceptance.value == 1.0 and asked.acceptance.n == 28
    assert (
        asked.judged is not None and asked.judged.value == 0.0 and asked.talked is not None and asked.talked.low > 0.5
    )  # type: ignore[operator]
    assert asked.fates == {"trained": 40, "withdrawn": 0, "not trained": 0}
    assert rounds.anchoring is not None and rounds.anchoring.difference.low > 0  # type: ignore[operator]
    kinds = Counter(one.why for one in rounds.examples)
    assert kinds == {"accepted": 3, "blind": 3, "among the largest edits": 3}
    for name in ("report.html", "report.md"):
        page = (new / name).read_text(encoding="utf-8")
        assert "What did correcting bring?" in page and "more demonstrations" in page
        assert "is what the draft itself talked the expert into" in page
    assert "rounds-minutes" in (new / "report.html").read_text(encoding="utf-8")
    assert "What did correcting bring?" not in (first / "report.html").read_text(encoding="utf-8")

    # The control needs as many blind answers as there are corrections, and says how many are missing.
    capsys.readouterr()
    assert main(["correct", str(first), "--train", str(tmp_path / "p"), "--from", str(tmp_path / "g"), "--plain"]) == 2
    assert (
        "needs 40 blind answers to random prompts" in (error := capsys.readouterr().err) and "gather 28 more" in error
    )
    assert not (tmp_path / "p").exists()
    for where in (new, first):  # a round is trained once in a folder, and in no folder of another run
        manifest = (where / "manifest.json").read_bytes()
        assert main(["correct", str(first), "--train", str(where), "--from", str(tmp_path / "g")]) == 2
        assert f"{where} already holds a run" in capsys.readouterr().err
        assert (where / "manifest.json").read_bytes() == manifest
    more = tmp_path / "more.jsonl"
    more.write_text("".join(json.dumps({"prompt": f"Who counts the gulls of pier {n}?"}) + "\n" for n in range(28)))
    status, _ = attended(["collect", str(more), "--into", str(tmp_path / "g")], all_by(oracle))
    assert status == 0
    assert main(["correct", str(first), "--train", str(tmp_path / "p"), "--from", str(tmp_path / "g"), "--plain"]) == 0
    plain = load_splits(Run.open(tmp_path / "p"))
    assert len(plain.train) == len(after.train) and {d.id for d in plain.test} == {d.id for d in before.test}
    assert not any(d.origin is not None and d.origin.drafted for d in plain.train)
    capsys.readouterr()
    assert main(["compare", "--rounds", str(first), str(new), "--plain", str(tmp_path / "p")]) == 0
    said = capsys.readouterr().out
    assert "with 1 and 1 runs that says nothing of correcting" in said and "plain" in said
    assert "The curve: correction" in (new / "report.html").read_text(encoding="utf-8")


def test_an_answer_that_the_fit_cannot_take_is_named_in_the_users_file(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The union's own copy was named, which is nobody's to mend."""
    folder = tmp_path / "g"
    words = ["correct", str(first), "--prompts", str(pool(tmp_path)), "--into", str(folder), "--items", "10"]
    assert attended([*words, "--expert", "ada"], all_by(wordy))[0] == 0
    capsys.readouterr()
    assert main(["correct", str(first), "--train", str(tmp_path / "z"), "--from", str(folder)]) == 2
    file, line = re.findall(r"(\S+\.jsonl):(\d+) and 6 more .*: is \d+ tokens long", capsys.readouterr().err)[0]
    assert Path(file) == folder / "demonstrations.jsonl" and not (tmp_path / "z").exists()
    assert "gulls and more gulls" in Path(file).read_text(encoding="utf-8").splitlines()[int(line) - 1]


def test_a_second_round_and_three_seeds(first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, folder = pool(tmp_path), tmp_path / "g"
    words = ["correct", str(first), "--prompts", str(path), "--into", str(folder), "--items", "10", "--expert", "ada"]
    assert attended(words, all_by(oracle))[0] == 0
    new = tmp_path / "r1"
    assert main(["correct", str(first), "--train", str(new), "--from", str(folder), "--seeds", "2"]) == 0
    assert [one.name for one in sorted(tmp_path.glob("r1*"))] == ["r1", "r1-seed-1"]
    seeds = [Run.open(one).resolved_recipe["training"]["seed"] for one in sorted(tmp_path.glob("r1*"))]
    assert seeds == [0, 1]
    words = [
        "correct",
        str(new),
        "--prompts",
        str(path),
        "--into",
        str(folder),
        "--items",
        "8",
        "--choose",
        "uncertain",
    ]
    status, said = attended(words, all_by(oracle))
    assert status == 0 and "Round 2: 8 items, 2 of them drawn at random" in said and "10 prompts were answered" in said
    items = [one for one in Gathering.open(folder).items() if one.round == 2]
    assert sum(one.drawn == "chosen" for one in items) == 6 and all(one.score is not None for one in items)
    unions = {path: path.read_bytes() for path in (folder / "unions").rglob("*.jsonl")}
    assert len(unions) == 3  # the seeds learn from the same
    last = tmp_path / "elsewhere" / "r1"  # named as another run: what that one learned from is not written over
    assert main(["correct", str(new), "--train", str(last), "--from", str(folder)]) == 0
    assert all(path.read_bytes() == was for path, was in unions.items())
    assert len(list((folder / "unions").rglob("*.jsonl"))) == 6
    rounds = read_rounds(Run.open(last))
    assert rounds is not None and [p.round for p in rounds.points] == [0, 1, 2]
    assert [p.seeds for p in rounds.points] == [1, 2, 1] and rounds.points[2].answers == 18
    assert rounds.asked[1].chosen is not None and rounds.asked[1].chosen_by == "uncertain"
    assert main(["report", str(last)]) == 0
    capsys.readouterr()
    assert main(["compare", "--rounds", str(last)]) == 0  # the chain is found from its end
    assert "round 2" in capsys.readouterr().out

    # What is gone on with is what was begun with, though an answer was taken back since.
    with Gathering.open(folder, writing=True) as held, served(held) as (_, clients):
        assert clients["ada"].do("withdrawn", item=items[0].id)[0] == 200
    parts = load_splits(Run.open(last)).parts
    assert main(["correct", str(new), "--train", str(last), "--from", str(folder), "--resume"]) == 0
    assert load_splits(Run.open(last)).parts == parts and len(list((folder / "unions").rglob("*.jsonl"))) == 6
    damaged = folder / "unions" / Run.open(new).manifest["parent"]["union"] / "train.jsonl"
    damaged.write_text(damaged.read_text(encoding="utf-8").replace("harbour", "castle"), encoding="utf-8")
    capsys.readouterr()
    assert main(["correct", str(first), "--train", str(tmp_path / "again"), "--from", str(folder)]) == 2
    assert f"{damaged}: is not as it was written" in capsys.readouterr().err and not (tmp_path / "again").exists()
    damaged.rename(tmp_path / "away")
    made, _ = union(Run.open(first), Gathering.open(folder), plain=False)
    assert write_union(Gathering.open(folder), made) == damaged.parent and damaged.read_bytes() == unions[damaged]


def corrects(run: Path, folder: Path, *words: str) -> list[str]:
    """The words of ``sft correct`` that end when the page would open: its port is none."""
    return ["correct", str(run), "--into", str(folder), "--expert", "ada", "--no-open", "--port", "99999", *words]


def test_a_round_that_was_killed_goes_on_with_the_items_it_had(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """While the clone wrote, and between two files. Its page was opened all the same, with drafted items that had no
    draft, and a round that went on drew other items beside those that were there.
    """
    folder, prompts = tmp_path / "g", ["--prompts", str(pool(tmp_path)), "--items", "6"]
    assert main(corrects(first, folder, *prompts)) == 2 and "--port 99999" in capsys.readouterr().err
    texts, items = folder / "clone-1.jsonl", folder / "items.jsonl"
    written, asked = texts.read_bytes(), items.read_bytes()
    texts.write_bytes(b"".join(written.splitlines(keepends=True)[:2]))
    assert main(["collect", str(folder), "--no-open", "--port", "99999"]) == 2
    said = f"written for 2 of 6 items of round 1; let it go on: sft correct {first} --into {folder} --resume\n"
    assert said in capsys.readouterr().err
    assert main(corrects(first, folder, "--resume")) == 2 and "--port 99999" in capsys.readouterr().err
    assert (sorted(texts.read_bytes().splitlines()), items.read_bytes()) == (sorted(written.splitlines()), asked)
    for path in (texts, items):
        path.unlink()
    assert main(["collect", str(folder), "--no-open", "--port", "99999"]) == 2
    assert "for 0 of 0 items of round 1" in (error := capsys.readouterr().err) and "--resume --prompts FILE" in error
    assert main(corrects(first, folder, "--resume")) == 2 and "name prompts" in capsys.readouterr().err
    assert main(corrects(first, folder, "--resume", *prompts)) == 2 and "--port 99999" in capsys.readouterr().err
    assert (sorted(texts.read_bytes().splitlines()), items.read_bytes()) == (sorted(written.splitlines()), asked)


def test_another_clone_than_the_one_that_was_measured_is_not_corrected(
    first: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights that were fitted elsewhere since, and a template that was changed in the base."""
    run, prompts = Path(shutil.copytree(first, tmp_path / "r0")), ["--prompts", str(pool(tmp_path, 5))]
    weights = run / "adapter" / "adapter_model.safetensors"
    raw = weights.read_bytes()
    weights.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    assert main(corrects(run, tmp_path / "g", *prompts)) == 2
    assert f"{run}: its weights are not those that were measured" in capsys.readouterr().err
    weights.write_bytes(raw)
    base = Path(shutil.copytree(tiny_model, tmp_path / "base"))
    recipe = Run.open(run).resolved_recipe_path
    recipe.write_text(recipe.read_text(encoding="utf-8").replace(str(tiny_model), str(base)), encoding="utf-8")
    template = base / "chat_template.jinja"
    template.write_text(template.read_text("utf-8").replace("<|im_start|>", "<|im_start|> "), encoding="utf-8")
    assert main(corrects(run, tmp_path / "g", *prompts)) == 2
    assert f"{run}: its template is another now" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["correct", "RUN"], "--into: into which gathering"),
        (["correct", "RUN", "--train", "x"], "--train x: from which gathering"),
        (["correct", "RUN", "--plain", "--into", "g"], "--plain: goes with --train"),
        (["correct", "RUN", "--into", "g"], "was trained on single turns; name prompts"),
        (["correct", "none", "--into", "g", "--prompts", "pool.jsonl"], "none is not a folder"),
        (["correct", "RUN", "--into", "g", "--prompts", "held.jsonl"], "has no prompt that may be asked"),
        (["correct", "RUN", "--train", "x", "--from", "g"], "there is no gathering"),
        (["compare", "--rounds", "RUN"], "is of round 0"),
        (["compare", "RUN", "--plain", "RUN"], "goes with --rounds"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    first: Path, tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    held = load_splits(Run.open(first)).test
    (tmp_path / "held.jsonl").write_text("".join(json.dumps({"prompt": d.prompt[-1].content}) + "\n" for d in held))
    assert main([str(first) if word == "RUN" else word for word in words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "g").exists() and not (tmp_path / "x").exists()


def test_only_answers_about_this_clone_are_learned_from(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Answers of another clone's round were taken, and those of the round before once more where a round had none."""
    held = gathering(tmp_path / "g", asked(2, round=1, shown="blind"))
    how = {"chosen_by": "random", "audit": 0.2, "blind": 0.3, "decoding": "greedy"}
    of = {"run": "r0", "weights_hash": "weights v2:0", "recipe_hash": "", "template_hash": ""}
    held.settings.rounds.append({"number": 1, "when": "today"} | how | of)
    held.save()
    words = ["correct", str(first), "--train", str(tmp_path / "x"), "--from", str(tmp_path / "g")]
    with held, served(held) as (_, who):
        assert main(words) == 2
        assert "nothing was submitted in round 1; correct first: sft correct" in capsys.readouterr().err
        for n in range(2):
            who["ada"].answer(f"answer number {n} of hers")
    assert main(words) == 2
    assert f"round 1 corrects another clone than that of {first}" in capsys.readouterr().err
    later = Run.open(first)
    later.update_manifest(round=1)
    try:
        assert main(words) == 2
        assert "nothing was submitted in round 2" in capsys.readouterr().err
    finally:
        later.update_manifest(round=0)
    assert not (tmp_path / "x").exists()


def test_a_pool_that_is_too_small_is_used_whole_and_a_run_without_weights_refused(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "correct",
        str(first),
        "--prompts",
        str(pool(tmp_path, 3)),
        "--into",
        str(tmp_path / "g"),
        "--expert",
        "ada",
    ]
    status, said = attended([*words, "--items", "9"], all_by(copycat))
    assert status == 0 and "has 3 prompts that may be asked, fewer than 9: all of them are." in said
    capsys.readouterr()
    bare = tmp_path / "r"
    with prepare(recipes.resolve(str(first / "recipe.yaml")), bare):
        pass
    assert main(["correct", str(bare), *words[2:4], "--into", str(tmp_path / "h"), "--no-open"]) == 2
    assert "is not trained yet; train it with" in capsys.readouterr().err and not (tmp_path / "h").exists()


def test_dialogues_are_corrected_in_the_states_the_clone_comes_to(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = []
    for n in range(60):
        turns = [f"Box {n}, which colour?", f"Box {n} is red.", "And its lid?", f"The lid of {n} is blue."]
        roles = ("user", "assistant", "user", "assistant")
        rows.append({"messages": [{"role": r, "content": t} for r, t in zip(roles, turns, strict=True)]})
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "r.yaml").write_text(RECIPE.format(model=tiny_model, data=tmp_path / "d.jsonl"), encoding="utf-8")
    assert main(["run", str(tmp_path / "r.yaml"), "--output", str(tmp_path / "r0")]) == 0
    capsys.readouterr()
    words = ["correct", str(tmp_path / "r0"), "--into", str(tmp_path / "g"), "--items", "12", "--expert", "ada"]
    status, said = attended(words, all_by(oracle))
    assert status == 0 and "6 dialogues, 12 turns with the clone's own before them" in said
    items, clones = Gathering.open(tmp_path / "g").items(), Gathering.open(tmp_path / "g").clone_texts()
    later = [one for one in items if one.turn == 1]
    assert len(later) == 6
    for one in later:
        assert one.prompt[1].content == (clones[f"{one.dialogue}-0"] if clones[f"{one.dialogue}-0"].strip() else "…")
    assert main(["correct", str(tmp_path / "r0"), "--train", str(tmp_path / "r1"), "--from", str(tmp_path / "g")]) == 0
    rounds = read_rounds(Run.open(tmp_path / "r1"))
    assert rounds is not None and rounds.dialogues and rounds.asked[0].answers == 12
    assert rounds.points[1].own is not None and rounds.points[1].own_gain is not None and rounds.points[1].own.n > 3
    own = [json.loads(line) for line in (tmp_path / "r1" / "own-dialogues.jsonl").read_text("utf-8").splitlines()]
    assert {row["id"].rpartition("-")[2] for row in own} == {"0", "1"}
    assert "That is on its own path" in (tmp_path / "r1" / "report.html").read_text(encoding="utf-8")
    before, after = load_splits(Run.open(tmp_path / "r0")), load_splits(Run.open(tmp_path / "r1"))
    assert {d.id for d in before.test} == {d.id for d in after.test}
    assert len(after.train) == len(before.train) + 12

    # Dialogues that it has not learned: theirs are the user's turns, and nothing else of the file is seen.
    unseen = []
    for n in range(70, 76):
        turns = [f"Crate {n}, which colour?", "NEVER SEEN", f"And the lid of crate {n}?", "NEVER SEEN"]
        unseen.append({"messages": [{"role": r, "content": t} for r, t in zip(roles, turns, strict=True)]})
    held = load_splits(Run.open(tmp_path / "r0")).test[0]
    unseen.append({"messages": [turn.to_dict() for turn in (*held.prompt, held.answer)] if len(held.prompt) > 1 else
                   [{"role": "user", "content": held.prompt[0].content}, *unseen[0]["messages"][1:]]})  # fmt: skip
    (tmp_path / "unseen.jsonl").write_text("".join(json.dumps(row) + "\n" for row in unseen), encoding="utf-8")
    words = ["correct", str(tmp_path / "r0"), "--prompts", str(tmp_path / "unseen.jsonl"), "--expert", "ada"]
    words += ["--into", str(tmp_path / "g2"), "--items", "50"]
    status, said = attended(words, all_by(oracle))
    assert status == 0 and "6 dialogues, 12 turns with the clone's own before them" in said
    assert "1 prompts are held out in r0" in said
    items, clones = Gathering.open(tmp_path / "g2").items(), Gathering.open(tmp_path / "g2").clone_texts()
    assert {one.prompt[0].content for one in items} == {row["messages"][0]["content"] for row in unseen[:-1]}
    assert "NEVER SEEN" not in (tmp_path / "g2" / "items.jsonl").read_text(encoding="utf-8")
    for one in (one for one in items if one.turn == 1):
        assert one.prompt[1].content == (clones[f"{one.dialogue}-0"] if clones[f"{one.dialogue}-0"].strip() else "…")


def test_what_was_learned_more_than_once_is_again_in_the_next_round(tmp_path: Path) -> None:
    """The union has files of its own, and the weights of the run's sources would be gone with the sources."""
    data, more = (write_demonstrations(tmp_path / f"{seed}.jsonl", 60, seed) for seed in (0, 1))
    written = f"""\
model: {{name: base}}
demonstrations:
  path: [{data}, {{path: {more}, weight: 2.5}}]
  system: You are Ada.
split: {{validation: 0.15, test: 0.25, near_duplicates: remove}}
"""
    with prepare(recipes.parse(written), tmp_path / "r0") as run:
        known = load_splits(run)
        with Gathering.create(tmp_path / "gathered") as gathering:
            again = recipe_of_parts(load_recipe(run), write_union(gathering, known), "r1", seed=0)
    with prepare(again, tmp_path / "r1") as run:
        made = load_splits(run)
    assert {d.content_hash for d in made.train} == {d.content_hash for d in known.train}
    assert made.times == known.times and set(known.times.values()) == {2, 3}
