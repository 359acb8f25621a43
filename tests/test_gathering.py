"""From files to splits: every option of the recipe, with every row accounted for; and what `sft check` foretells."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from sft.checking import check
from sft.errors import DemonstrationsError, RecipeError, SourceError, SplitError, UserError
from sft.gathering import Gathered, gather
from sft.recipes import Demonstrations, Model, Recipe, Split

WORDS = [f"{a}{b}" for a in ("bar", "dun", "fel", "gor", "hin", "kal", "lom") for b in ("ado", "ent", "ipi", "ozu")]


def row(number: int, **fields: Any) -> dict[str, Any]:
    """A row whose prompt is near no other's."""
    words = " ".join(random.Random(number).choices(WORDS, k=9))
    return {"prompt": f"question {number}: {words}", "completion": f"answer {number}"} | fields


def write(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    return path


def recipe(path: Path, split: dict[str, Any] | None = None, **section: Any) -> Recipe:
    return Recipe(
        model=Model(name="not-needed"),
        demonstrations=Demonstrations(path=str(path), **section),
        split=Split(**{"validation": 0.2, "test": 0.2} | (split or {})),
    )


def sizes(gathered: Gathered) -> dict[str, int]:
    return {name: len(part) for name, part in gathered.splits.parts.items()}


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
    return check(str(path)).to_text()


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
    finding = check(str(file))
    assert finding.audit.undivided and finding.audit.undivided in finding.to_text()
    with pytest.raises(SplitError, match="left the"):
        finding.demand()


# -- check ------------------------------------------------------------------------------------------------


def test_check_foretells_what_a_run_gathers(file: Path, tmp_path: Path) -> None:
    """Same selection, same split: limit, expert and repetitions included."""
    write(file, [row(n, expert="ann" if n % 4 else "bob") for n in range(400)])
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"model:\n  name: not-needed\ndemonstrations:\n  path: {file}\n  expert: ann\n  limit: 120\n", encoding="utf-8"
    )
    made = gather(recipe(file, {"validation": 0.1, "test": 0.1}, expert="ann", limit=120))
    assert check(str(path)).audit.splits == sizes(made)
    assert sum(sizes(made).values()) == 120


def test_check_names_columns_and_refuses_what_is_none(file: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.jsonl", [{"ask": row(n)["prompt"], "say": "yes"} for n in range(100)])
    assert check(str(other), columns={"prompt": "ask", "completion": "say"}).audit.demonstrations == 100
    with pytest.raises(SourceError, match="no row has 'prompt' or 'completion'"):
        check(str(other))
    with pytest.raises(SourceError, match="--column target: is no field"):
        check(str(other), columns={"target": "say"})
    with pytest.raises(SourceError, match="--format alpacca: is no format"):
        check(str(other), format="alpacca")
    with pytest.raises(SourceError, match="--set changes a recipe"):
        check(str(file), overrides=["split.seed=1"])
    with pytest.raises(RecipeError, match="neither a file"):
        check(str(tmp_path / "none.yaml"))


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
    finding = check(str(path), rejected=tmp_path / "rejected.jsonl")
    written = [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(each["file"], each["line"]) for each in written] == [(str(train), 21), (str(test), 6)]
    assert finding.audit.rejected == 2 and finding.audit.rows == 32


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
