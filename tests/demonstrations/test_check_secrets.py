"""``sft check --secrets``: each secret with its line and its id, in every format and a recipe; the status says so."""

from __future__ import annotations

import csv
import json
import random
import string
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fresh_imports import HEAVY, modules_after

from sft.cli import main
from sft.demonstrations.demonstration import Demonstration, Message
from sft.demonstrations.secrets import in_demonstrations

Captured = pytest.CaptureFixture[str]

GITHUB, SENDGRID = (
    prefix + "".join(random.Random(3).choices(string.ascii_letters + string.digits, k=count))
    for prefix, count in (("ghp_", 36), ("SG.", 22))
)
SENDGRID += "." + "a1B2c3D4e5" * 4 + "xyz"
MAIL, HOME = "ann.lee@acme.co.uk", "/home/annabel/notes"
SECRETS = {GITHUB: "a GitHub token", SENDGRID: "a SendGrid API Key", MAIL: "an e-mail address", HOME: "a home folder"}


def pairs() -> list[tuple[str, str]]:
    """Thirty; row 5 has a token in its prompt, row 8 three secrets in its answer, row 20 the token once more."""
    rows = [(f"question {n} of {n * 7919}", f"answer {n} is {n * 104729}") for n in range(1, 31)]
    rows[4] = ("log in with " + GITHUB, "Done.")
    rows[7] = ("which one?", f"Write to {MAIL}, key {SENDGRID}, see {HOME}.")
    rows[19] = ("and again?", f"With {GITHUB}.")
    return rows


def as_jsonl(path: Path) -> None:
    path.write_text("".join(json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in pairs()), encoding="utf-8")


def as_json(path: Path) -> None:
    rows = ",\n".join(json.dumps({"prompt": p, "completion": c}) for p, c in pairs())
    path.write_text(f"[\n{rows}\n]\n", encoding="utf-8")


def as_table(path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writerows([("prompt", "completion"), *pairs()])


def as_parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([{"prompt": p, "completion": c} for p, c in pairs()]), path)


def as_alpaca(path: Path) -> None:
    rows = [{"instruction": p, "input": "", "output": c} for p, c in pairs()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def as_messages(path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": p}, {"role": "assistant", "content": c}]} for p, c in pairs()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def as_sharegpt(path: Path) -> None:
    rows = [{"conversations": [{"from": "human", "value": p}, {"from": "gpt", "value": c}]} for p, c in pairs()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


FORMATS: dict[str, Callable[[Path], None]] = {
    "x.jsonl": as_jsonl, "x.json": as_json, "x.csv": as_table, "x.tsv": as_table, "x.parquet": as_parquet,
    "alpaca.jsonl": as_alpaca, "messages.jsonl": as_messages, "sharegpt.jsonl": as_sharegpt,
}  # fmt: skip


def checked(words: list[object], capsys: Captured) -> tuple[int, str, str]:
    """Status and what was said; no secret may be in it."""
    status = main(["check", *map(str, words)])
    out, err = capsys.readouterr()
    assert not any(secret in out + err for secret in SECRETS)
    return status, out, err


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_each_finding_at_its_row(name: str, tmp_path: Path, capsys: Captured) -> None:
    """Rows are counted as every complaint counts them: tables have a line above their first, and so has an array."""
    path = tmp_path / name
    FORMATS[name](path)
    status, out, _ = checked([path, "--secrets", "--json"], capsys)
    found = json.loads(out)["secrets"]
    above = 1 if path.suffix in (".csv", ".tsv", ".json") else 0
    assert status == 2 and {one["what"] for one in found} == set(SECRETS.values())
    for one in found:
        line, again = (5, (20,)) if one["what"] == "a GitHub token" else (8, ())
        assert (one["path"], one["line"]) == (str(path), line + above)
        assert one["others"] == [f"{path}:{n + above}" for n in again]
        assert set(one) == {"id", "path", "line", "address", "what", "excerpt", "others", "around"}


def test_a_person_reads_what_where_and_what_to_do(tmp_path: Path, capsys: Captured) -> None:
    """One line a finding on stdout, one sentence on stderr; the ids are those that a push asks for."""
    path = tmp_path / "x.jsonl"
    as_jsonl(path)
    status, out, err = checked([path, "--secrets"], capsys)
    (token,) = in_demonstrations([Demonstration((Message("user", "?"),), f"With {GITHUB}.")])
    assert status == 2
    told = f"\n  {path}:5 (also {path}:20): a GitHub token, ghp_… (40 characters) (id {token.id}) in "
    assert told in out and "[...]" in out.partition(told)[2].partition("\n")[0]
    assert "4 secrets: " in out and "Nothing to mend" not in out and "split" in out
    assert err.count("\n") == 1 and err.startswith(f"sft: {path}: 4 secrets in ")
    assert "mask them" in err and "sft push" in err and "--allow-finding ID=REASON" in err


def test_without_the_option_nothing_is_looked_for(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "x.jsonl"
    as_jsonl(path)
    status, out, err = checked([path], capsys)
    assert status == 0 and "Nothing to mend." in out and not err
    assert "secrets" not in json.loads(checked([path, "--json"], capsys)[1])


def test_where_there_are_none_the_status_is_0(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "x.jsonl"
    rows = [{"prompt": f"question {n * 7919}", "completion": "write to ann@example.com"} for n in range(20)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    status, out, err = checked([path, "--secrets"], capsys)
    assert status == 0 and "Nothing to mend." in out and "No secrets" in out and not err
    assert json.loads(checked([path, "--secrets", "--json"], capsys)[1])["secrets"] == []


def test_a_recipe_is_looked_through_with_every_file_it_names(tmp_path: Path, capsys: Captured) -> None:
    """The held-out file too: what is measured stands in the report."""
    as_jsonl(tmp_path / "x.jsonl")
    held = [{"prompt": f"held {n * 31}?", "completion": f"kept {n}"} for n in range(5)]
    held[2]["completion"] = "ask bob@acme.org"
    (tmp_path / "held.jsonl").write_text("".join(json.dumps(row) + "\n" for row in held), encoding="utf-8")
    (tmp_path / "val.jsonl").write_text(json.dumps({"prompt": "last of all?", "completion": "yes"}), encoding="utf-8")
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"model: {{name: not-needed}}\ndemonstrations: {{path: {tmp_path / 'x.jsonl'}}}\n"
        f"split: {{validation: {tmp_path / 'val.jsonl'}, test: {tmp_path / 'held.jsonl'}}}\n",
        encoding="utf-8",
    )
    status, out, err = checked([recipe, "--secrets"], capsys)
    assert status == 2 and f"{recipe}: 5 secrets" in err
    assert f"{tmp_path / 'held.jsonl'}:3: an e-mail address" in out and f"{tmp_path / 'x.jsonl'}:5 (also" in out


def test_rows_that_are_refused_are_told_first(tmp_path: Path, capsys: Captured) -> None:
    """Both are printed; what stops a run is the sentence at the end, as without the option."""
    path = tmp_path / "x.jsonl"
    as_jsonl(path)
    with path.open("a", encoding="utf-8") as file:
        file.write('{"prompt": "why?", "completion": ""}\n')
    status, out, err = checked([path, "--secrets"], capsys)
    assert status == 2 and "4 secrets: " in out and f"{path}:31: 'completion'" in err and "sft push" not in err
    status, out, err = checked([path, "--secrets", "--keep-going"], capsys)
    assert status == 2 and "Nothing else to mend" not in out and "sft push" in err


def test_thousands_of_one_kind_do_not_drown_the_rest(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "x.jsonl"
    rows = [{"prompt": f"who is {n}?", "completion": f"ann{n}@acme.org"} for n in range(300)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    _, out, err = checked([path, "--secrets"], capsys)
    assert "300 secrets: an e-mail address (300)" in out and "... and 200 more; --json has all of them" in out
    assert out.count("\n") < 130 and err.count("\n") == 1
    assert len(json.loads(checked([path, "--secrets", "--json"], capsys)[1])["secrets"]) == 300


def test_no_engine_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    rows = [{"prompt": f"question {n * 7919}", "completion": f"answer {n}"} for n in range(20)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    loaded = modules_after(["check", path, "--secrets"], tmp_path)
    assert not loaded & set(HEAVY) and "detect_secrets" in loaded
    assert "detect_secrets" not in modules_after(["check", path], tmp_path)
