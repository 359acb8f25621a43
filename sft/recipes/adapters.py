"""Which adapter a fit goes on from: a run of ours, a folder, or a hub id; and what its configuration says.

No torch is needed: the rows that its run held out are kept out of training by whoever only checks a recipe, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft.errors import RunError, SourceError
from sft.recipes.sources import expanded
from sft.runs.run import Run, trained_policy

__all__ = ["AdapterSource", "adapter_settings", "base_of", "go_on_from", "remedy_for", "resolve_adapter"]

_KEY = "adapter.start_from"


@dataclass(frozen=True, slots=True)
class AdapterSource:
    """``adapter.start_from`` as found. ``folder``: where it lies, None while it is on a hub only.

    ``run``: the folder of the run of ours that fitted it, None where nobody knows of one.
    """

    name: str
    folder: Path | None
    run: Path | None


def resolve_adapter(name: str) -> AdapterSource:
    """What ``name`` is: a run, an adapter's folder, or a hub id. Raises ``SourceError``."""
    path = expanded(name)
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError:  # too long a name, a loop of links
        is_folder = is_file = False
    if is_file:
        raise SourceError(f"{_KEY}: {name} is a file; name a run, the folder of an adapter, or a hub id")
    if is_folder and (path / "manifest.json").is_file():
        return AdapterSource(name, _of_run(path, name), path)
    if is_folder:
        if not (path / "adapter_config.json").is_file():
            if (path / "config.json").is_file():
                raise SourceError(f"{_KEY}: {name} holds a whole model; write model.name: {name}, and leave {_KEY} out")
            raise SourceError(
                f"{_KEY}: {name} holds no adapter_config.json, so it is no adapter; name a run, an adapter's folder, "
                "or a hub id"
            )
        return AdapterSource(name, path, _run_around(path))
    if name.startswith((".", "/", "~")) or name.count("/") != 1 or "\\" in name:
        raise SourceError(f"{_KEY}: {name}: no such run or folder; it is looked for where sft was started")
    return AdapterSource(name, None, None)


def _of_run(path: Path, name: str) -> Path:
    """The adapter of the run at ``path``."""
    try:
        found = trained_policy(Run.open(path))
    except RunError as error:
        raise SourceError(f"{_KEY}: {error}") from None
    if found is None:
        raise SourceError(
            f"{_KEY}: {name} is not trained yet; train it with `sft train RECIPE --output {name} --resume`, or name "
            "another"
        )
    if not (found / "adapter_config.json").is_file():
        raise SourceError(
            f"{_KEY}: {name} fitted every weight, so it has no adapter; write model.name: {found}, and leave {_KEY} out"
        )
    return found


def _run_around(folder: Path) -> Path | None:
    """The run whose adapter, or checkpoint, lies in ``folder``."""
    above = folder.resolve().parent
    for place in (above, above.parent if above.name == "checkpoints" else above):
        if (place / "manifest.json").is_file():
            try:
                return Run.open(place).path
            except RunError:  # a folder of somebody else's
                return None
    return None


def adapter_settings(folder: Path, name: str) -> dict[str, Any]:
    """What ``adapter_config.json`` in ``folder`` says. Raises ``SourceError`` where it is none of a LoRA adapter."""
    path = folder / "adapter_config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SourceError(f"{_KEY}: {path}: is no adapter's configuration ({error}); copy the adapter again") from None
    kind = found.get("peft_type") if isinstance(found, Mapping) else None
    if kind != "LORA":
        raise SourceError(
            f"{_KEY}: {name} is an adapter of the kind {kind!r:.40}, and sft goes on from LoRA's (DoRA and rsLoRA "
            "among them); name another"
        )
    return dict(found)


def base_of(source: AdapterSource) -> str:
    """The base model that an adapter on this machine names, as its run's recipe does where there is one; "" if none."""
    if source.run is not None:
        model = Run.open(source.run).resolved_recipe.get("model")
        if isinstance(model, Mapping) and isinstance(model.get("name"), str):
            return str(model["name"])
    if source.folder is None:
        return ""
    return str(adapter_settings(source.folder, source.name).get("base_model_name_or_path") or "")


def remedy_for(name: str) -> str:
    """What to write where ``model.name`` is ``name``, an adapter or the run of one; "" where it is neither."""
    path = expanded(name)
    try:
        if not ((path / "adapter_config.json").is_file() or (path / "manifest.json").is_file()):
            return ""
        return go_on_from(name, base_of(resolve_adapter(name)))
    except (OSError, SourceError) as error:
        return str(error).removeprefix(f"{_KEY}: ")


def go_on_from(name: str, base: str) -> str:
    """The sentence for whoever wrote the adapter ``name`` where its ``base`` belongs; "" for one that is not known."""
    named = f"model.name: {base}" if base else "its base as model.name"
    said = f"{name} is an adapter, and model.name takes a base model; to go on from it, write"
    return f"{said} {named} and {_KEY}: {name}"
