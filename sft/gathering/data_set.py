"""A gathering as a data set to publish: what experts submitted, as somebody else may have it.

demonstrations.jsonl   answers that count, with how each came about; people as pseudonyms, no times
items.jsonl            what is asked, without hidden references
guidelines (folder)    every version
sft_gathering.json     settings, rounds, hashes
README.md              the card

Events, drafts, links and what clones wrote stay in the gathering. So does what is flagged, and, unless it is asked for,
what a clone is judged on: who has it in training can no longer be judged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft import __version__
from sft.errors import UserError
from sft.gathering import export
from sft.gathering.data_set_card import Facts, card_of_data_set
from sft.gathering.folder import Gathering
from sft.gathering.items import Item
from sft.gathering.prompts import screened
from sft.gathering.state import Standing
from sft.runs.atomic_files import write_json, write_jsonl, write_text
from sft.runs.hashes import file_sha256

__all__ = ["DataSet", "write_data_set"]

#: Of how an answer came about, what says when and how quickly its expert worked.
_OF_A_PERSON = ("seconds", "pasted", "event")
#: Of the settings and of a round, what anybody may have: neither paths nor times.
_SETTINGS = ("id", "seed", "answers", "overlap", "order", "dialogues", "own_prompts", "guidelines")
_ROUND = ("number", "weights_hash", "recipe_hash", "template_hash", "chosen_by", "audit", "blind", "decoding")
#: Files of a gathering that stay in it, and why.
_STAYS = {
    "events.jsonl": "drafts, and when each expert did what",
    "experts.json": "names and links",
    "held-out-keys.json": "prompts that a clone is judged on",
    "clone-*.jsonl": "what a clone wrote, not an expert",
    "validation-*.jsonl": "what a clone wrote, not an expert",
    "events.damaged.jsonl": "kept by a repair",
}


@dataclass(frozen=True, slots=True)
class DataSet:
    """What was written into the folder: in a line, what was left out with the reason, and notes on it."""

    what: str
    left_out: Mapping[str, str]
    notes: tuple[str, ...]


def write_data_set(
    gathering: Gathering, folder: Path, *, repo: str, licence: str | None, named: bool, with_held_out: bool
) -> DataSet:
    """Fill the empty ``folder``. ``named``: experts by their names; ``with_held_out``: those rows too, each marked.

    Raises ``UserError`` where nothing was submitted that may be published.
    """
    state, clones, keys = gathering.state(), gathering.clone_texts(), gathering.held_out()
    names = {name: name if named else f"expert-{n}" for n, name in enumerate(_people(state), start=1)}
    asked = screened(state.items.values(), keys)
    judged = {item.id for item, _ in asked.refused}
    weights = {row["number"]: row.get("weights_hash", "") for row in gathering.settings.rounds}
    every = export.rows(state, clones, weights, gathering.path)
    flagged = [row for row in every if row["gathered"]["item"] in state.flags]
    held = [row for row in every if row["gathered"]["item"] in judged and row not in flagged]
    hidden = [*flagged, *(held if not with_held_out else ())]
    rows = [_row(row, names, row["gathered"]["item"] in judged) for row in every if row not in hidden]
    if not rows:
        raise UserError(f"{gathering.path}: no answer may be published yet; {_why(flagged, held)}")
    write_jsonl(folder / "demonstrations.jsonl", rows)
    answered = {row["gathered"]["item"] for row in rows}
    shut = set(state.flags) | (set() if with_held_out else judged)
    items = [one for one in state.items.values() if one.id not in shut and (not one.only or one.id in answered)]
    write_jsonl(folder / "items.jsonl", (_item(one, names) for one in items))
    for digest in gathering.settings.guidelines:
        (folder / "guidelines").mkdir(exist_ok=True)
        write_text(folder / "guidelines" / f"{digest}.md", gathering.guideline(digest))
    write_json(folder / "sft_gathering.json", _settings(gathering))
    left_out = {
        "withdrawn answers": sum(one.withdrawn for one in state.works.values()),
        "answers to flagged items": len(flagged),
        "answers that a clone is judged on": len(hidden) - len(flagged),
        "items that are flagged": len(state.flags),
        "items that a clone is judged on": 0 if with_held_out else len(judged),
    }
    written = {one.relative_to(folder).as_posix(): one for one in sorted(folder.rglob("*")) if one.is_file()}
    facts = Facts(
        gathering=gathering, state=state, clones=clones, rows=rows, items=items, names=names, repo=repo,
        licence=licence, left_out={what: count for what, count in left_out.items() if count},
        marked=with_held_out and bool(held), checksums={name: file_sha256(path) for name, path in written.items()},
    )  # fmt: skip
    write_text(folder / "README.md", card_of_data_set(facts))
    people = len({row["expert"] for row in rows})
    stays = {path.name: why for glob, why in _STAYS.items() for path in gathering.path.glob(glob)}
    return DataSet(
        f"{len(rows)} demonstrations of {people} expert{'' if people == 1 else 's'}",
        stays | {what: f"{count}" for what, count in facts.left_out.items()},
        tuple(_notes(rows, names, licence, named=named)),
    )


def _people(state: Standing) -> list[str]:
    """Everybody who wrote or may write, in the order in which they came: a new one moves nobody's number."""
    return list(dict.fromkeys([*state.experts, *(expert for _, expert in state.works)]))


def _row(row: Mapping[str, Any], names: Mapping[str, str], held_out: bool) -> dict[str, Any]:
    kept = {key: value for key, value in row["gathered"].items() if key not in _OF_A_PERSON}
    made = dict(row) | {"expert": names[row["expert"]], "gathered": kept}
    return made | ({"held_out": True} if held_out else {})


def _item(one: Item, names: Mapping[str, str]) -> dict[str, Any]:
    row = one.to_row()
    row.pop("reference", None)
    return row | ({"only": names[one.only]} if one.only else {})


def _settings(gathering: Gathering) -> dict[str, Any]:
    one = gathering.settings
    rounds = [{key: row[key] for key in _ROUND if key in row} for row in one.rounds]
    held = {key: one.held_out[key] for key in ("keys_hash", "groups_hash") if key in one.held_out}
    known = {name: getattr(one, name) for name in _SETTINGS}
    return {"schema_version": 1, **known, "rounds": rounds, "held_out": held, "sft": __version__}


def _why(flagged: Sequence[Any], held: Sequence[Any]) -> str:
    if held:
        return f"a clone is judged on {len(held)} of them; publish those too, marked: --with-held-out"
    if flagged:
        return f"{len(flagged)} are to flagged items; clear them on the owner's page"
    return "wait until somebody has submitted one"


def _notes(
    rows: Sequence[Mapping[str, Any]], names: Mapping[str, str], licence: str | None, *, named: bool
) -> list[str]:
    """What whoever publishes should know, of this plan and in no card."""
    notes = []
    if licence is None:
        notes.append("the card states no licence, so that nobody may use the data; say which: --license cc-by-4.0")
    if not named:
        texts = [json.dumps([row["prompt"], row["completion"]], ensure_ascii=False).casefold() for row in rows]
        for name, shown in names.items():
            word = re.compile(rf"(?<!\w){re.escape(name.casefold())}(?!\w)")
            if found := sum(bool(word.search(text)) for text in texts):
                notes.append(f"the name of {shown} stands in the texts of {found} demonstrations; read them")
    return notes
