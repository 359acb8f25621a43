"""From files to splits: every option of the recipe, with every row accounted for; and what `sft check` foretells."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from selection_rows import WORDS, recipe, row, sizes, write

from sft import recipes
from sft.demonstrations.check import Audit, check_demonstrations
from sft.demonstrations.conflicts import majority
from sft.demonstrations.demonstration import Demonstration, Message, held_out
from sft.demonstrations.selection import Gathered, divide, gather, read
from sft.demonstrations.stored import load_others, load_recipe
from sft.errors import DemonstrationsError, RecipeError, RunError, SourceError, SplitError, UserError
from sft.metrics import chrf
from sft.recipes import Demonstrations, Model, Recipe, Split
from sft.runs.run import Run, write_json
from sft.training.start import prepare


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "x.jsonl", [row(n) for n in range(200)])


# -- gather -----------------------------------------------------------------------------------------------


def test_every_row_has_one_fate(tmp_path: Path) -> None:
    rows = [row(n) for n in range(200)] + [row(3), row(3), row(5, completion=" "), {"prompt": 3}]
    rows.append({"messages": []})
    file = write(tmp_path / "x.jsonl", rows)
    with pytest.raises(DemonstrationsError) as refused:
        gather(recipe(file))
    assert "3 of 205 rows cannot become demonstrations" in refused.value.summary
    assert "--keep-going" in refused.value.summary
    assert [problem.line for problem in refused.value.problems][:2] == [203, 204]

    made = gather(recipe(file), keep_going=True)
    fates = made.ledger.fates
    assert made.ledger.rows == sum(fates.values()) == 205
    assert (fates["invalid"], fates["duplicate"], len(made.rejected)) == (3, 2, 3)
    assert sizes(made) == {"train": fates["trained"], "validation": fates["validation"], "test": fates["test"]}


def test_duplicates_are_kept_if_asked(tmp_path: Path) -> None:
    file = write(tmp_path / "x.jsonl", [row(n) for n in range(100)] * 2)
    assert sum(sizes(gather(recipe(file))).values()) == 100
    assert sum(sizes(gather(recipe(file, duplicates="keep"))).values()) == 200


def test_one_expert_is_kept_and_a_stranger_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "x.jsonl", [row(n, expert="ann" if n % 2 else "bob") for n in range(200)])
    made = gather(recipe(file, expert="ann"))
    assert {d.expert for part in made.splits.parts.values() for d in part} == {"ann"}
    assert made.ledger.fates["filtered"] == 100
    with pytest.raises(UserError, match=r"nothing was written by 'eve'; experts are ann, bob"):
        gather(recipe(file, expert="eve"))


def test_a_limit_takes_the_same_rows_in_any_order(file: Path, tmp_path: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    turned = tmp_path / "turned.jsonl"
    turned.write_text("".join(reversed(lines)), encoding="utf-8")
    one, other = (gather(recipe(path, limit=50)) for path in (file, turned))
    ids = [{d.id for part in made.splits.parts.values() for d in part} for made in (one, other)]
    assert ids[0] == ids[1] and len(ids[0]) == 50
    assert one.ledger.fates["filtered"] == 150


def homes(made: Gathered) -> dict[str, str]:
    """Content -> its split."""
    return {d.content_hash: name for name, part in made.splits.parts.items() for d in part}


def test_groups_that_share_a_row_are_one_in_any_order_of_the_file(tmp_path: Path) -> None:
    """The row stayed in the group that came first: 1 of 10 such rows was held out or not as the file was turned."""
    rows = [row(n, group=f"g{n // 4}") for n in range(400)]
    rows += [rows[n * 40] | {"group": f"g{n * 10 + 5}"} for n in range(10)]
    turned = [write(tmp_path / name, rows[::step]) for name, step in (("one.jsonl", 1), ("other.jsonl", -1))]
    for duplicates in ("drop", "keep"):
        one, other = (gather(recipe(path, duplicates=duplicates)) for path in turned)
        assert homes(one) == homes(other) and len(homes(one)) == 400
        groups = {d.group for part in one.splits.parts.values() for d in part}
        assert len(groups) == 90
        placed = {d.prompt[-1].content: name for name, part in one.splits.parts.items() for d in part}
        for n in range(10):
            members = [each["prompt"] for each in (*rows[n * 40 : n * 40 + 4], *rows[n * 40 + 20 : n * 40 + 24])]
            assert len({placed[prompt] for prompt in members}) == 1


def test_prompts_that_look_the_same_stand_on_one_side_with_every_character(tmp_path: Path) -> None:
    marks = ["\u200b", "\xad", "\ufe0f", "\u200e", "\u2060"]
    twins = [
        (f"Which town is number {n}{mark}0{n}?", f"Which{mark} town is number {n}0{n}?")
        for n, mark in enumerate(marks * 40)
    ]
    rows = [{"prompt": text, "completion": f"town {n}"} for n, pair in enumerate(twins) for text in pair]
    made = gather(recipe(write(tmp_path / "x.jsonl", rows)))
    sides: dict[str, set[str]] = {}
    for name, part in made.splits.parts.items():
        for d in part:
            sides.setdefault(d.completion, set()).add(name)
    assert len(sides) == 200 and all(len(each) == 1 for each in sides.values())
    texts = {d.prompt[0].content for part in made.splits.parts.values() for d in part}
    assert texts == {text for pair in twins for text in pair}


def test_dialogues_that_open_with_one_greeting_have_no_row_in_common(tmp_path: Path) -> None:
    """Else one "Hello", answered in the same way, would make one group of all that the user has told apart."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": "Hello"},
                {"role": "assistant", "content": "What can I do?"},
                {"role": "user", "content": row(n)["prompt"]},
                {"role": "assistant", "content": f"answer {n}"},
            ],
            "group": f"talk {n}",
        }
        for n in range(100)
    ]
    turned = [write(tmp_path / name, rows[::step]) for name, step in (("one.jsonl", 1), ("other.jsonl", -1))]
    one, other = (gather(recipe(path)) for path in turned)
    assert homes(one) == homes(other)
    assert one.ledger.fates["duplicate"] == 99 and min(sizes(one).values()) > 5
    again = write(tmp_path / "again.jsonl", [*rows, rows[7] | {"group": "talk 8"}])
    assert len({d.group for part in gather(recipe(again)).splits.parts.values() for d in part}) == 99


def test_near_duplicates_are_refused_removed_or_let_through(tmp_path: Path) -> None:
    """Each prompt stands there twice, told apart by one word: some pairs fall on two sides."""
    rows = [each for n in range(100) for each in (row(n), row(n) | {"prompt": row(n)["prompt"] + " please"})]
    file = write(tmp_path / "x.jsonl", rows)
    with pytest.raises(SplitError, match="would give held-out prompts away") as refused:
        gather(recipe(file))
    assert f"{file}:" in str(refused.value) and "near-duplicate" in str(refused.value)
    removed = gather(recipe(file, {"near_duplicates": "remove"}))
    assert removed.ledger.fates["leaked"] == len(removed.leaks) > 10
    allowed = gather(recipe(file, {"near_duplicates": "allow"}))
    assert not allowed.leaks and sum(sizes(allowed).values()) == 200


def test_ready_made_files_are_held_to_the_same(tmp_path: Path) -> None:
    """The same prompt on both sides is refused under every setting but `remove`, the same group too."""
    file = write(tmp_path / "train.jsonl", [row(n, group=f"g{n}") for n in range(20)])
    validation = write(tmp_path / "validation.jsonl", [row(n, group=f"g{n}") for n in range(20, 25)])
    leaky = [row(3, completion="again", group="other"), row(30, group="g4"), row(21, group="own"), row(31)]
    test = write(tmp_path / "test.jsonl", leaky)
    parts = {"validation": str(validation), "test": str(test)}
    for choice in ("refuse", "allow"):
        with pytest.raises(SplitError) as refused:
            gather(recipe(file, parts | {"near_duplicates": choice}))
        text = str(refused.value)
        assert f"{file}:4 (train) and {test}:1 (test): same prompt" in text
        assert f"{file}:5 (train) and {test}:2 (test): same group" in text
        assert f"{validation}:2 (validation) and {test}:3 (test): same prompt" in text
        found = check_text(tmp_path, file, parts | {"near_duplicates": choice})
        assert "A run refuses them" in found, "check and run agree"
    made = gather(recipe(file, parts | {"near_duplicates": "remove"}))
    assert sizes(made) == {"train": 18, "validation": 4, "test": 4}
    assert "A run leaves them out of training" in check_text(tmp_path, file, parts | {"near_duplicates": "remove"})


def check_text(folder: Path, file: Path, split: dict[str, Any]) -> str:
    path = folder / "recipe.yaml"
    options = "".join(f"  {key}: {value}\n" for key, value in split.items())
    path.write_text(f"model:\n  name: not-needed\ndemonstrations:\n  path: {file}\nsplit:\n{options}", encoding="utf-8")
    return check_demonstrations(str(path)).to_text()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([row(1)] * 500, "1 different prompt group left .* 499 rows repeat another word for word"),
        ([row(n) for n in range(3)], "3 different prompt groups left .* gather more demonstrations"),
    ],
    ids=["all rows identical", "three rows"],
)
def test_too_little_to_split_says_how_little(tmp_path: Path, rows: list[dict[str, Any]], words: str) -> None:
    file = write(tmp_path / "x.jsonl", rows)
    with pytest.raises(SplitError, match=words) as refused:
        gather(recipe(file))
    assert "\n" not in str(refused.value)
    finding = check_demonstrations(str(file))
    assert finding.undivided and finding.undivided in finding.to_text()
    with pytest.raises(SplitError, match="left the"):
        finding.demand()


# -- several experts --------------------------------------------------------------------------------------


PERSONAS = ("ann", "bob", "eve")


def by_personas(folder: Path, scenarios: int = 40, questions: int = 3) -> list[Path]:
    """A file per persona, in the shape of editorial chit-chat: many questions share one answer of each persona."""
    files = []
    for persona in PERSONAS:
        path = folder / f"{persona}.tsv"
        asked = [
            f"{row(n)['prompt']}\t{persona} on {WORDS[n // questions % 28]} {n // questions}\t{persona}\tx:y\n"
            for n in range(scenarios * questions)
        ]
        path.write_text("Question\tAnswer\tSource\tMetadata\n" + "".join(asked), encoding="utf-8")
        files.append(path)
    return files


def several(files: list[Path], group: str | None = None, **section: Any) -> Recipe:
    names = {"prompt": "Question", "completion": "Answer", "expert": "Source"} | ({"group": group} if group else {})
    return Recipe(
        model=Model(name="not-needed"),
        demonstrations=Demonstrations(path=tuple(map(str, files)), columns=recipes.Columns(**names), **section),
        split=Split(validation=0.2, test=0.2),
    )


def test_all_experts_rows_of_a_prompt_are_on_one_side(tmp_path: Path) -> None:
    made = gather(several(by_personas(tmp_path)))
    for part in made.splits.parts.values():
        answers = Counter(d.key for d in part)
        assert set(answers.values()) == {3}, "each persona answered each question"
    assert sum(sizes(made).values()) == made.ledger.rows == 360
    assert not made.others, "nobody was passed over"


@pytest.mark.parametrize("group", [None, "Answer"])
def test_other_experts_answers_to_held_out_prompts_are_kept_and_change_no_split(
    tmp_path: Path, group: str | None
) -> None:
    """Grouped by the chosen expert's answer, a whole scenario is on one side; the others follow by prompt."""
    files = by_personas(tmp_path)
    alone = gather(several([files[1]], group, expert="bob"))
    among = gather(several(files, group, expert="bob"))
    assert among.splits.parts.keys() == alone.splits.parts.keys()
    for name, part in among.splits.parts.items():
        assert [d.id for d in part] == [d.id for d in alone.splits.parts[name]]
    assert among.ledger.fates == alone.ledger.fates | {"filtered": 240}
    assert not alone.others

    held = [*among.splits.validation, *among.splits.test]
    assert len(among.others) == 2 * len(held)
    assert {d.expert for d in among.others} == {"ann", "eve"}
    assert not {d.prompt for d in among.others} & {d.prompt for d in among.splits.train}
    if group:
        answers = {name: {d.completion for d in part} for name, part in among.splits.parts.items()}
        assert not answers["test"] & answers["train"]
    for item in held_out(among.splits.test, among.others):
        (answer,) = item.references
        assert item.others == tuple((name, answer.replace("bob", name)) for name in ("ann", "eve"))


def test_what_only_others_were_asked_is_not_held_out(tmp_path: Path) -> None:
    """Nor does anybody count as another expert who has no name."""
    own = [row(n, expert="ann") for n in range(100)]
    theirs = [row(n, expert="bob", completion="yes") for n in range(200)]
    nameless = [row(n, completion="maybe") for n in range(100)]
    made = gather(recipe(write(tmp_path / "x.jsonl", own + theirs + nameless + theirs[:50]), expert="ann"))
    held = {d.prompt for part in (made.splits.validation, made.splits.test) for d in part}
    assert {d.prompt for d in made.others} == held and len(made.others) == len(held)
    assert {d.expert for d in made.others} == {"bob"}
    assert made.ledger.fates["filtered"] == 350


def said(prompt: str, *answers: str) -> list[Demonstration]:
    turn = (Message("user", prompt),)
    return [Demonstration(turn, text, expert=PERSONAS[place % 3]) for place, text in enumerate(answers)]


def kept(*rows: Demonstration) -> list[str]:
    """Completions that the vote leaves, the same whatever the order of the rows."""
    ballots = [list(rows), list(reversed(rows)), random.Random(0).sample(rows, len(rows))]
    (found,) = {tuple(sorted(d.completion for d in majority(each).kept)) for each in ballots}
    assert sorted(majority(rows).kept + majority(rows).outvoted, key=rows.index) == list(rows), (
        "every row is on one side"
    )
    return list(found)


def test_the_answer_that_most_gave_is_kept() -> None:
    """Case, white space and outer punctuation make no other answer; every row that gave it stays."""
    assert kept(*said("p", "Paris", "Rome", "paris.", "Oslo")) == ["Paris", "paris."]
    assert kept(*said("p", "Paris", " PARIS ")) == [" PARIS ", "Paris"]
    assert kept(*said("p", "3.14", "314", "314")) == ["314", "314"]
    assert kept(*said("p", "yes"), *said("P ", "no", "no")) == ["no", "no"], "it is the same prompt"
    assert kept(*said("p", "yes"), *said("q", "no", "no")) == ["no", "no", "yes"], "each prompt has its own vote"
    assert kept(*said("p", "!", "?", "?")) == ["?", "?"], "punctuation alone is an answer too"


def test_a_tie_goes_to_the_answer_most_like_the_rest() -> None:
    assert kept(*said("p", "a red house", "a red horse", "blue")) in (["a red house"], ["a red horse"])
    assert kept(*said("p", "blue", "a red house", "a red house now", "a red house then")) == ["a red house"]
    assert kept(*said("p", "one", "one", "two", "two", "two more")) == ["two", "two"]
    assert len(kept(*said("p", "ab", "cd"))) == 1, "as like as each other: the content decides"


def test_many_different_answers_to_one_prompt_are_voted_on_in_reasonable_time() -> None:
    """Each is compared with some of the others only: all pairs of 2,000 would be two million."""
    rows = said("p", *(f"answer {n} of many {WORDS[n % 28]}" for n in range(2000)))
    assert len(majority(rows).kept) == 1


def test_a_vote_is_about_training_and_held_out_prompts_keep_every_answer(tmp_path: Path) -> None:
    rows = [
        each
        for n in range(100)
        for each in (
            row(n, expert="ann", completion="Yes."),
            row(n, expert="bob", completion="yes"),
            row(n, expert="eve"),
        )
    ]
    file = write(tmp_path / "x.jsonl", rows)
    everything = gather(recipe(file))
    voted = gather(recipe(file, conflicts="majority"))
    assert voted.splits.test == everything.splits.test, "the test split is what it would be without the vote"
    for name in ("train", "validation"):
        before, after = everything.splits.parts[name], voted.splits.parts[name]
        assert list(after) == [d for d in before if d.expert != "eve"]
    lost = len(everything.splits.train + everything.splits.validation) // 3
    assert voted.ledger.fates["outvoted"] == lost
    assert "outvoted" not in everything.ledger.fates
    assert sum(voted.ledger.fates.values()) == voted.ledger.rows == 300


# -- prepare ----------------------------------------------------------------------------------------------


def resolved(path: Path, files: list[Path], *overrides: str, more: str = "") -> recipes.Resolved:
    path.write_text(
        f"model:\n  name: not-needed\ndemonstrations:\n  path: [{', '.join(map(str, files))}]\n"
        "  columns: {prompt: Question, completion: Answer, expert: Source}\n"
        f"split: {{validation: 0.2, test: 0.2}}\n{more}",
        encoding="utf-8",
    )
    return recipes.resolve(path, overrides)


def test_a_run_keeps_what_others_wrote(tmp_path: Path) -> None:
    files = by_personas(tmp_path)
    chosen = resolved(tmp_path / "r.yaml", files, "demonstrations.expert=ann")
    folder = tmp_path / "run"
    with prepare(chosen, folder) as run:
        others = load_others(run)
        assert others == list(gather(chosen.recipe).others) and {d.expert for d in others} == {"bob", "eve"}
        run.others_path.unlink()
        with pytest.raises(RunError, match=r"others\.jsonl: is gone; restore it"):
            load_others(run)
        run.update_manifest(files={})
        assert load_others(run) == []
    with prepare(chosen, folder, resume=True) as run:
        assert load_others(run) == others, "a run from before others were kept is given them"
        run.others_path.write_text('{"prompt": 3}\n', encoding="utf-8")
        with pytest.raises(RunError, match=r"others\.jsonl:1: 'prompt' is a number, not a list; restore it"):
            load_others(run)
    with prepare(resolved(tmp_path / "all.yaml", files), tmp_path / "all") as run:
        assert not run.others_path.exists() and load_others(run) == []


NEW_KEYS = {
    "demonstrations": ["conflicts"],
    "fidelity": ["profile", "samples", "control", "checker", "seed"],
}


def of_before(folder: Path) -> None:
    """Make the run one that was recorded before there were :data:`NEW_KEYS`."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    values = manifest["recipe"]["resolved"]
    for section, keys in NEW_KEYS.items():
        for key in keys:
            del values[section][key]
    write_json(folder / "manifest.json", manifest)
    written = recipes.parse((folder / "recipe.resolved.yaml").read_text(encoding="utf-8"))
    assert written.to_dict()["fidelity"]["samples"] == 1
    lines = (folder / "recipe.resolved.yaml").read_text(encoding="utf-8").splitlines(keepends=True)
    new = tuple(f"  {key}:" for keys in NEW_KEYS.values() for key in keys if key != "seed")
    (folder / "recipe.resolved.yaml").write_text("".join(x for x in lines if not x.startswith(new)), encoding="utf-8")


def test_a_run_recorded_before_a_key_existed_goes_on_with_its_default(tmp_path: Path) -> None:
    """What an older release did not know it cannot have done otherwise; another value than the default is a change."""
    files = by_personas(tmp_path)
    folder = tmp_path / "run"
    prepare(resolved(tmp_path / "r.yaml", files), folder).close()
    of_before(folder)
    prepare(resolved(tmp_path / "r.yaml", files), folder, resume=True).close()
    prepare(resolved(tmp_path / "r.yaml", files, "fidelity.samples=1"), folder, resume=True).close()
    for override in ("fidelity.samples=2", "demonstrations.conflicts=majority", "fidelity.control=[page.txt]"):
        with pytest.raises(RunError, match=f"started with another recipe.{override.partition('=')[0]}"):
            prepare(resolved(tmp_path / "r.yaml", files, override), folder, resume=True)
    assert load_recipe(Run.open(folder)) == resolved(tmp_path / "r.yaml", files).recipe


def test_a_record_that_is_no_recipe_any_more_is_compared_as_it_stands(tmp_path: Path) -> None:
    values = resolved(tmp_path / "r.yaml", by_personas(tmp_path)).to_dict()
    assert recipes.as_of_now(values) == values
    values["fidelity"]["gone"] = 3
    assert recipes.as_of_now(values) == values


# -- check ------------------------------------------------------------------------------------------------


def test_check_foretells_what_a_run_gathers(file: Path, tmp_path: Path) -> None:
    """Same selection, same split: limit, expert and repetitions included."""
    write(file, [row(n, expert="ann" if n % 4 else "bob") for n in range(400)])
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"model:\n  name: not-needed\ndemonstrations:\n  path: {file}\n  expert: ann\n  limit: 120\n", encoding="utf-8"
    )
    made = gather(recipe(file, {"validation": 0.1, "test": 0.1}, expert="ann", limit=120))
    assert check_demonstrations(str(path)).splits == sizes(made)
    assert sum(sizes(made).values()) == 120


def test_check_foretells_what_is_left_when_leaks_are_removed(tmp_path: Path) -> None:
    rows = [each for n in range(100) for each in (row(n), row(n) | {"prompt": row(n)["prompt"] + " please"})]
    file = write(tmp_path / "x.jsonl", rows)
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"model: {{name: not-needed}}\ndemonstrations: {{path: {file}}}\n"
        "split: {near_duplicates: remove, validation: 0.2, test: 0.2}\n",
        encoding="utf-8",
    )
    assert check_demonstrations(str(path)).splits == sizes(gather(recipe(file, {"near_duplicates": "remove"})))


def test_check_foretells_what_becomes_of_several_experts(tmp_path: Path) -> None:
    """The rows a vote leaves out, before and after it is chosen; and the answers one expert is compared with."""
    files = by_personas(tmp_path)
    keep = check_of(tmp_path, files)
    assert (keep.several.conflicts, keep.several.others, keep.handling.conflicts) == (120, 0, "keep")
    voted = resolved(tmp_path / "r.yaml", files, "demonstrations.conflicts=majority")
    outvoted = gather(voted.recipe).ledger.fates["outvoted"]
    held_out_for_the_test = len({d.prompt for d in gather(voted.recipe).splits.test})
    assert outvoted == 2 * (120 - held_out_for_the_test)
    majority_ = check_of(tmp_path, files, "demonstrations.conflicts=majority")
    for found in (keep, majority_):
        assert found.handling.outvoted == outvoted
        assert found.handling.tied == 120 - held_out_for_the_test, "three personas, three answers"

    one = check_of(tmp_path, files, "demonstrations.expert=eve").handling
    others = gather(resolved(tmp_path / "r.yaml", files, "demonstrations.expert=eve").recipe).others
    assert (one.expert, one.others, one.others_prompts) == ("eve", len(others), len(others) // 2)


def test_check_says_how_alike_experts_are(tmp_path: Path) -> None:
    """Of two experts there is one pair of answers to each prompt, whose chrF anybody can work out."""
    rows = [
        each
        for n in range(30)
        for each in (row(n, expert="ann"), row(n, expert="bob", completion=f"the {WORDS[n % 28]} answer {n * n}"))
    ]
    found = check_demonstrations(str(write(tmp_path / "x.jsonl", rows)))
    assert found.handling.agreement is not None and found.handling.agreement.agreement is not None
    figure = found.handling.agreement.agreement
    pairs = [chrf(rows[2 * n]["completion"], rows[2 * n + 1]["completion"]) for n in range(30)]
    assert figure.value == pytest.approx(sum(pairs) / 30) and figure.n == 30
    assert f"Two answers to one prompt are {figure.value:.1f} [" in found.to_text()
    assert json.loads(json.dumps(found.to_dict()))["handling"]["agreement"]["agreement"]["n"] == 30


def check_of(folder: Path, files: list[Path], *overrides: str) -> Audit:
    resolved(folder / "r.yaml", files)
    return check_demonstrations(str(folder / "r.yaml"), overrides=overrides)


def test_check_names_columns_and_refuses_what_is_none(file: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.jsonl", [{"ask": row(n)["prompt"], "say": "yes"} for n in range(100)])
    assert (
        check_demonstrations(str(other), columns={"prompt": "ask", "completion": "say"}).to_dict()["demonstrations"]
        == 100
    )
    with pytest.raises(SourceError, match="no row has 'prompt' or 'completion'"):
        check_demonstrations(str(other))
    with pytest.raises(SourceError, match="--column target: is no field"):
        check_demonstrations(str(other), columns={"target": "say"})
    with pytest.raises(SourceError, match="--format alpacca: is no format"):
        check_demonstrations(str(other), format="alpacca")
    with pytest.raises(SourceError, match="--set changes a recipe"):
        check_demonstrations(str(file), overrides=["split.seed=1"])
    with pytest.raises(RecipeError, match="neither a file"):
        check_demonstrations(str(tmp_path / "none.yaml"))


def test_check_writes_rejected_rows_of_every_file(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", [row(n) for n in range(20)] + [{"prompt": "a", "completion": ""}])
    validation = write(tmp_path / "validation.jsonl", [row(n) for n in range(20, 25)])
    test = write(tmp_path / "test.jsonl", [row(n) for n in range(30, 35)] + [{"prompt": " ", "completion": "b"}])
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"model:\n  name: not-needed\ndemonstrations:\n  path: {train}\n"
        f"split:\n  validation: {validation}\n  test: {test}\n",
        encoding="utf-8",
    )
    finding = check_demonstrations(str(path), rejected=tmp_path / "rejected.jsonl")
    written = [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(each["file"], each["line"]) for each in written] == [(str(train), 21), (str(test), 6)]
    assert len(finding.reading.rejected) == 2 and finding.reading.rows == 32


def test_check_of_many_rows_answers_without_the_engine(tmp_path: Path) -> None:
    """20,000 rows in a process of their own: seconds, where an import of torch alone would take some."""
    file = write(tmp_path / "x.jsonl", (row(n) for n in range(20_000)))
    code = (
        "import sys; from sft.cli import main; status = main(['check', sys.argv[1], '--json'])\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pyarrow', 'sklearn', 'scipy'} & set(sys.modules)\n"
        "print(status, sorted(heavy), file=sys.stderr)"
    )
    answer = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True)
    assert answer.stderr == "0 []\n"
    found = json.loads(answer.stdout)
    assert found["rows"] == sum(found["splits"].values()) == 20_000


def test_what_other_experts_wrote_is_collected_once(tmp_path: Path) -> None:
    """It was collected before the loop over the parts and in it again, which is twice the rows."""
    file = write(tmp_path / "x.jsonl", [row(n, expert="ann" if n % 2 else "bob") for n in range(200)])
    asked = recipe(file, expert="ann")
    division = divide(asked, read(asked))
    assert len(division.passed_over) == len({d.id for d in division.passed_over}) == 100
    assert {d.expert for d in division.passed_over} == {"bob"}
