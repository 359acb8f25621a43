"""The data sets that a configuration of another trainer names, as a recipe's ``demonstrations``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft.errors import Problem, RecipeError

if TYPE_CHECKING:
    from sft.recipes.translation import Translation

__all__ = ["take"]

_FILES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".ndjson", ".txt", ".gz", ".zst", ".bz2", ".arrow")
#: Names of builders of ``datasets``, under which files are given apart.
_BUILDERS = ("json", "csv", "parquet", "arrow", "text")
_OURS = {"user": "user", "assistant": "assistant", "system": "system", "tool": "tool"}


@dataclass(frozen=True, slots=True)
class _Source:
    """One data set: its ``path`` as a recipe names it, the layout of its rows, and the names of its columns."""

    path: str
    format: str = "auto"
    columns: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)

    def entry(self) -> str | dict[str, Any]:
        """It as an entry of ``demonstrations.path``, beside others that differ."""
        found: dict[str, Any] = {"path": self.path}
        if self.format != "auto":
            found["format"] = self.format
        if self.columns:
            found["columns"] = dict(self.columns)
        return found if len(found) > 1 else self.path


def take(made: Translation, given: Mapping[str, Any], folder: Path) -> None:
    """Take the data sets of ``given``, the configuration in ``folder``. Raises ``RecipeError`` where it names none."""
    sources = list(_sources(made, given, folder))
    if not sources:
        raise RecipeError([Problem(made.path, None, "", "names no data set with answers to learn", "name one there")])
    key = next(key for key in ("datasets", "dataset", "dataset_name") if key in given)
    first = sources[0]
    if all((one.format, dict(one.columns)) == (first.format, dict(first.columns)) for one in sources):
        made.put("demonstrations.path", first.path if len(sources) == 1 else [one.path for one in sources], key)
        if first.format != "auto":
            made.put("demonstrations.format", first.format, key)
        for name, column in first.columns.items():
            made.put(f"demonstrations.columns.{name}", column, key)
    else:
        made.put("demonstrations.path", [one.entry() for one in sources], key)
    if roles := {name: role for one in sources for name, role in one.roles.items()}:
        made.put("demonstrations.roles", roles, key)
    for name in ("test_datasets", "eval_dataset"):
        if given.get(name):
            made.leave(name, "write split.test or split.validation: the file, or a share of the demonstrations")
    for name in ("default_system", "default_system_message"):
        if isinstance(given.get(name), str) and given[name].strip():
            made.put("demonstrations.system", given[name], name)
    if "split.validation" not in made.values:
        made.notes.append("split.validation: 0.1 is held out to choose the checkpoint, of which nothing was said")
    made.notes.append("split.test: 0.1 is held out to judge the clone")


def _sources(made: Translation, given: Mapping[str, Any], folder: Path) -> Iterator[_Source]:
    if isinstance(given.get("datasets"), list):
        for place, entry in enumerate(given["datasets"], 1):
            if isinstance(entry, Mapping) and isinstance(entry.get("path"), str):
                yield from _of_axolotl(made, f"datasets[{place}]", entry, folder)
            else:
                made.leave(f"datasets[{place}]", "it names no path")
    elif isinstance(given.get("dataset"), str | list):
        names = given["dataset"].split(",") if isinstance(given["dataset"], str) else given["dataset"]
        known, where = _dataset_info(given, folder)
        for name in [str(name).strip() for name in names]:
            yield from _of_llama_factory(made, name, known.get(name), where)
    elif isinstance(given.get("dataset_name"), str):
        subset, split = given.get("dataset_config"), given.get("dataset_train_split")
        yield _Source(_reference(given["dataset_name"], split, folder, subset=subset))


# -- Axolotl ------------------------------------------------------------------------------------------------


def _of_axolotl(made: Translation, place: str, entry: Mapping[str, Any], folder: Path) -> Iterator[_Source]:
    kind = entry.get("type") or ("chat_template" if entry.get("field_messages") else "")
    files = entry.get("data_files")
    paths = [entry["path"]]
    if files and entry["path"] in _BUILDERS:
        paths = [files] if isinstance(files, str) else [str(file) for file in files]
    elif files:
        made.leave(f"{place}.data_files", "a data set of the hub is taken whole; download the files and name them")
    for key in ("shards", "preprocess_shards", "input_transform", "message_property_mappings_extra"):
        if entry.get(key):
            made.leave(f"{place}.{key}", "a data set of the hub is taken whole")
    if "[" in str(entry.get("split") or ""):
        made.leave(f"{place}.split", f"{entry['split']} is a part; write demonstrations.limit for fewer rows")
    if isinstance(kind, str) and kind.partition(".")[0].partition(":")[0] in ("completion", "pretrain", "input_output"):
        made.leave(place, f"its rows are of type {kind}, without a prompt that asks for them")
        return
    layout, columns, roles = _layout(made, place, entry, kind)
    for path in paths:
        named = {"subset": entry.get("name"), "revision": entry.get("revision")}
        yield _Source(_reference(path, entry.get("split"), folder, **named), layout, columns, roles)


def _layout(
    made: Translation, place: str, entry: Mapping[str, Any], kind: Any
) -> tuple[str, dict[str, str], dict[str, str]]:
    """The layout of a data set's rows, its columns, and what its roles are called."""
    if isinstance(kind, Mapping):
        names = {
            "field_instruction": "prompt",
            "field_input": "input",
            "field_output": "completion",
            "field_system": "system",
        }
        columns = {ours: str(kind[key]) for key, ours in names.items() if kind.get(key)}
        columns = {"prompt": "instruction", "completion": "output"} | columns
        for key in ("format", "no_input_format", "system_prompt", "system_format"):
            if kind.get(key) and str(kind[key]).strip() not in ("{instruction}", "{system}"):
                made.leave(
                    f"{place}.type.{key}", "the model's template puts its words around the prompt, and no others"
                )
        return "columns", columns, {}
    name = str(kind).partition(".")[0].partition(":")[0]
    if name in ("alpaca", "alpaca_chat", "alpaca_w_system"):
        return "alpaca", {}, {}
    if name not in ("chat_template", "sharegpt", ""):
        made.leave(f"{place}.type", f"{kind} is no layout here; the rows are recognised by their columns")
    roles = _roles(entry.get("roles"))
    if entry.get("roles_to_train") and list(entry["roles_to_train"]) not in (["assistant"], ["gpt"]):
        made.leave(f"{place}.roles_to_train", "the expert is the assistant, whose turns are learned")
    for key in ("chat_template", "chat_template_jinja"):
        if entry.get(key) and entry[key] not in ("tokenizer_default", "chatml"):
            made.leave(f"{place}.{key}", "write model.template: auto, or the path of a .jinja file")
    if not name:
        return "auto", {}, roles
    column = str(entry.get("field_messages") or ("conversations" if name == "sharegpt" else "messages"))
    properties = entry.get("message_property_mappings")
    said = properties if isinstance(properties, Mapping) else {}
    told = {key: str(said[key]) for key in ("role", "content") if key in said}
    return *_dialogue(column, told), roles


def _dialogue(column: str, keys: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The layout and the columns of rows with a dialogue in ``column``; ``keys``: of its messages, ours -> theirs."""
    known = dict(keys) in ({}, {"role": "role", "content": "content"}, {"role": "from", "content": "value"})
    named = {} if known else dict(keys)
    if column in ("messages", "conversations"):
        return {"messages": "messages", "conversations": "sharegpt"}[column], named
    return "auto", {"messages": column, **named}


def _roles(named: Any) -> dict[str, str]:
    """``{user: [human, customer]}`` as ``{customer: user}``; what a recipe knows anyway is left out."""
    known = ("human", "gpt", "user", "assistant", "system", "tool", "model", "bot", "developer")
    pairs = named.items() if isinstance(named, Mapping) else ()
    return {
        str(name): _OURS[ours]
        for ours, names in pairs
        for name in (names if isinstance(names, list) else [names])
        if ours in _OURS and str(name) not in known
    }


def _reference(path: str, split: Any, folder: Path, *, subset: Any = None, revision: Any = None) -> str:
    """A recipe's name for a file or a data set of the hub."""
    local = path.startswith((".", "/", "~")) or path.lower().endswith(_FILES) or "://" in path
    if local or Path(path).exists() or (folder / path).exists() or path.count("/") > 1:
        return path
    name = str(split or "").partition("[")[0].strip()
    at = f"@{revision}" if revision else ""
    if subset:
        return f"hub:{path}{at}:{subset}/{name or 'train'}"
    return f"hub:{path}{at}:{name}" if name and name != "train" else f"hub:{path}{at}"


# -- LLaMA-Factory ------------------------------------------------------------------------------------------


def _dataset_info(given: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], Path]:
    """What ``dataset_info.json`` says, looked for where the trainer would be started, and its folder."""
    named = Path(str(given.get("dataset_dir") or "data"))
    places = [Path(), folder, *folder.resolve().parents[:3]]
    for place in [(base / named) for base in places]:
        try:
            found = json.loads((place / "dataset_info.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(found, dict):
            return found, place
    return {}, named


def _of_llama_factory(made: Translation, name: str, entry: Any, where: Path) -> Iterator[_Source]:
    place = f"dataset.{name}"
    if not isinstance(entry, Mapping):
        made.notes.append(f"{where / 'dataset_info.json'} does not say which file {name} is: mend demonstrations.path")
        yield _Source(str(where / f"{name}.json"))
        return
    if entry.get("ranking") or (entry.get("columns") or {}).get("chosen"):
        made.leave(place, "its rows are preferences, which are not learned")
        return
    for key in ("folder", "num_samples"):
        if entry.get(key):
            made.leave(f"{place}.{key}", "a data set of the hub is taken whole")
    url, subset = entry.get("hf_hub_url"), entry.get("subset")
    own = str(where / str(entry.get("file_name") or name))
    path = _reference(str(url), entry.get("split"), where, subset=subset) if url else own
    named = {str(key): str(value) for key, value in (entry.get("columns") or {}).items()}
    if entry.get("formatting") == "sharegpt":
        column = named.get("messages", "conversations")
        tags = {str(key): str(value) for key, value in (entry.get("tags") or {}).items()}
        told = {"user_tag": "user", "assistant_tag": "assistant", "system_tag": "system", "observation_tag": "tool"}
        roles = _roles({ours: [tags[tag]] for tag, ours in told.items() if tag in tags})
        keys = {ours: tags[tag] for tag, ours in (("role_tag", "role"), ("content_tag", "content")) if tag in tags}
        layout, columns = _dialogue(column, keys)
        yield _Source(path, layout, columns | ({"system": named["system"]} if "system" in named else {}), roles)
        return
    prompt, answer = named.get("prompt", "instruction"), named.get("response", "output")
    if (prompt, answer, named.get("query", "input")) == ("instruction", "output", "input"):
        yield _Source(path, "alpaca")
        return
    columns = {"prompt": prompt, "completion": answer}
    if named.get("query"):
        columns["input"] = named["query"]
    if "system" in named:
        columns["system"] = named["system"]
    yield _Source(path, "columns", columns)
