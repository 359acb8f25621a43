"""The report of a run: what was measured, in words, pictures and tables, for someone who knows none of it.

:func:`render` reads only files of the run and needs no model, no network and no torch. ``report.html`` is
one file that loads nothing and runs no script; ``report.md`` says the same in Markdown. Whatever a run does
not have (token scores, a training log, intervals) is said in words.

Completions are other people's text: everything is escaped, and characters that could hide or reorder
what is shown are spelled out (``text``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from sft.demonstrations import stored
from sft.demonstrations.ledger import FATES, Ledger
from sft.fidelity.completions_file import FROM_A_FILE
from sft.fidelity.conventions import rests_on_few, visible_points
from sft.fidelity.guardrails import VERBATIM, settled_in_words, status, written
from sft.fidelity.rounds import read_rounds
from sft.fidelity.scorecard import RUNGS, Guardrail, Scorecard
from sft.fidelity.size_curve import read_size_curve
from sft.fidelity.stored import read_scorecard
from sft.metrics.estimate import Estimate
from sft.reports.caveats import warnings_of
from sft.reports.names import GLOSSARY, METRIC_NAMES, RUNG_MEANINGS, kept_out, metric_name, system_name
from sft.reports.sections import examples
from sft.reports.sections.chapters import body, pictures
from sft.reports.sections.training import fate_kind, ledger_picture, losses
from sft.reports.text import (
    bold_places,
    cell,
    chance,
    coded,
    coded_cell,
    duration,
    fenced,
    figure,
    grouped,
    highlighted,
    in_groups,
    said,
    shown,
)
from sft.runs import sealed
from sft.runs.run import Run, write_text
from sft.runs.visible import plain

__all__ = ["render"]


def render(run: Run) -> Path:
    """Write ``report.html`` and ``report.md`` of ``run`` and return the path of the first.

    Raises ``RunError`` when the run has no scorecard yet, or a file of it cannot be read.
    """
    view = _view(run)
    page = _environment().get_template("report.html.j2").render(view)
    text = _environment().get_template("report.md.j2").render(view)
    # A block of the template that has nothing to say leaves its blank lines behind.
    write_text(run.report_md_path, re.sub(r"\n{3,}", "\n\n", text).strip() + "\n")
    write_text(run.report_html_path, page)
    return run.report_html_path


# What the templates see


def _view(run: Run) -> dict[str, Any]:
    card, found, sizes = read_scorecard(run), read_rounds(run), read_size_curve(run)
    manifest = run.manifest
    ledger = _ledger(run)
    log = sealed.rows(run, run.log_path) if sealed.there(run, run.log_path) else []
    sessions = [row for row in manifest.get("sessions", []) if isinstance(row, dict)]
    return {
        "name": plain(str(run.resolved_recipe.get("name") or run.path.resolve().name)),
        "date": str(sessions[-1].get("ended", "") if sessions else manifest.get("created", ""))[:10],
        "card": card,
        "rungs": _rungs(card),
        "meaning": "" if card.verdict.rung in RUNGS else RUNG_MEANINGS.get(card.verdict.rung, ""),
        "reasons_are": "Why not more" if card.verdict.rung in RUNGS[:-1] else "What else to know",
        "facts": _facts(manifest, card, ledger, sessions),
        "numbers": _numbers(card),
        "warnings": warnings_of(card, run.times_looked(card.split), manifest.get("start")),
        "headline": metric_name(card.headline),
        "kept_out": kept_out(card),
        "made_here": card.signature.get("source") != FROM_A_FILE,
        "gains": _gains(card),
        "body": body(card, found, sizes),
        "glossary": GLOSSARY,
        "pictures": pictures(run, card, log, found, sizes),
        "training": losses(log),
        "tables": _tables(card),
        "ledger": _ledger_view(ledger),
        "examples": [examples.example(one, card.names) for one in card.examples],
        "extent": examples.extent(card.examples, card.n),
        "kinds": examples.kinds(card.examples),
        "bands": examples.bands(card.examples),
        "guardrails": [_guardrail(g) for g in card.guardrails],
        "sessions": sessions,
        "versions": _section(manifest, "versions"),
        "hashes": list(
            _rows(
                {
                    k: manifest[k]
                    for k in ("data", "split", "base", "start", "template", "seeds", "launch", "changes")
                    if k in manifest
                }
            )
        ),
        "machine": _machine(_section(manifest, "machine")),
        "recipe": str(_section(manifest, "recipe").get("written") or ""),
        "signature": list(_rows(card.signature)),
    }


def _rungs(card: Scorecard) -> list[dict[str, Any]]:
    """The ladder, where the verdict stands on it. A bar is meant for one expert a prompt: "cloned" does not ask it."""
    if card.verdict.rung not in RUNGS:
        return []
    reached = RUNGS.index(card.verdict.rung)
    skipped = RUNGS.index("meets your bar") if reached == len(RUNGS) - 1 else -1
    return [
        {
            "name": rung,
            "meaning": "Not asked here: it is for prompts that one expert answered."
            if place == skipped
            else RUNG_MEANINGS[rung],
            "reached": place == reached,
            "passed": place < reached and place != skipped,
        }
        for place, rung in enumerate(RUNGS)
    ]


def _guardrail(rail: Guardrail) -> dict[str, Any]:
    measured, limit = written(rail)
    return {
        "name": rail.name,
        "meaning": rail.meaning,
        "state": rail.state,
        "status": status(rail),
        "settled": settled_in_words(rail) if rail.state == "amber" else "",
        "limit": f"{limit}, the experts\u2019 own" if rail.name == VERBATIM else limit,
        "measured": measured,
    }


def _ledger(run: Run) -> Ledger | None:
    return stored.ledger(run) if run.ledger_path.exists() else None


def _section(value: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def _rows(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested values as (dotted name, text) in the order written."""
    parts = value.items() if isinstance(value, Mapping) else enumerate(value, start=1)
    for key, part in parts:
        name = f"{prefix}{key}"
        if isinstance(part, Mapping) or (isinstance(part, list) and any(isinstance(p, Mapping) for p in part)):
            yield from _rows(part, f"{name}.")
        elif isinstance(part, list | tuple):
            yield name, plain(", ".join(map(str, part)))
        elif part is not None and part != "":
            yield name, plain(str(part))


def _facts(
    manifest: Mapping[str, Any], card: Scorecard, ledger: Ledger | None, sessions: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str]]:
    recorded = _section(manifest, "base")
    base = recorded.get("hub_id") or recorded.get("name") or "not recorded"
    groups = in_groups(card.n, card.clusters, card.largest_cluster)
    facts = [
        ("Base model", plain(str(base))),
        ("Trained on", f"{grouped(ledger.fates.get('trained', 0))} demonstrations" if ledger else "not recorded"),
    ]
    if name := _section(manifest, "start").get("name"):
        facts.insert(1, ("Fitted on from", plain(str(name))))
    facts = [] if card.signature.get("source") == FROM_A_FILE else facts
    facts.append(("Judged on", f"{grouped(card.n)} held-out prompts{groups}"))
    if changes := [row for row in manifest.get("changes", []) if isinstance(row, dict)]:
        said = (f"{c.get('what')} from {c.get('from')} to {c.get('to')} at step {c.get('step')}" for c in changes)
        facts.append(("Changed on the way", plain("; ".join(said))))
    seconds = sum(s["wall_seconds"] for s in sessions if isinstance(s.get("wall_seconds"), int | float))
    if seconds:
        facts.append(("Took", duration(seconds)))
    return facts


def _numbers(card: Scorecard) -> list[dict[str, Any]]:
    """The few numbers to remember, each with its interval and what it says."""
    tuned = card.scores_of("tuned").get(card.headline)
    name = metric_name(card.headline)
    found = [
        (f"{name} of the clone", tuned, "points", False, "agreement with the expert, 0 to 100"),
        (
            "over best shortcut",
            card.gain.estimate,
            "points",
            True,
            f"{name} points, against {system_name(card.gain.floor, card.names)}",
        ),
    ]
    base = next((gain for gain in card.gains if gain.floor == "B0"), None)
    if base is not None and base.floor != card.gain.floor:
        found.append(
            (
                "over base model",
                base.estimate,
                "points",
                True,
                f"{name} points, against the base model by itself",
            )
        )
    if card.closure is not None and not rests_on_few(card.closure.expert):
        way = "of the distance from the best shortcut to another expert"
        found.append(("of the way closed", card.closure.share, "share", False, way))
    saved = "bits per byte less surprise at the expert's own words"
    if card.imitation_gain is None:
        saved = "how likely the models find the expert's own words was not scored"
    found.append(("surprise saved", card.imitation_gain, "bits", False, saved))
    if (length := card.scores_of("tuned").get("length_ratio")) is not None:
        found.append(("length", length, "ratio", False, "characters written for each of the expert's; 1 is as long"))
    numbers = [
        {"label": label, "text": figure(value, style, signed=signed), "note": note} | _halves(value, style, signed)
        for label, value, style, signed, note in found
    ]
    if card.closure is not None and rests_on_few(card.closure.expert):
        said = "too few to say"
        note = f"how near another expert is: {card.closure.expert.n} prompts were answered by two"
        numbers.append(
            {"label": "of the way closed", "text": said, "note": note, "value": "\N{EM DASH}", "between": said}
        )
    return numbers


def _halves(estimate: Estimate | None, style: str, signed: bool) -> dict[str, str]:
    """A figure as its large and its small part."""
    value, bracket, interval = figure(estimate, style, signed=signed).partition(" [")
    if estimate is None:
        return {"value": "\N{EM DASH}", "between": "not measured"}
    return {"value": value, "between": f"[{interval}" if bracket else f"no interval: {estimate.method}"}


def _gains(card: Scorecard) -> list[dict[str, Any]]:
    """The clone's lead over each shortcut, smallest first."""
    return [
        {
            "name": system_name(gain.floor, card.names),
            "text": figure(gain.estimate, signed=True),
            "visible": visible_points(gain.smallest_visible),
            "p": chance(gain.p_value),
            "counts": gain.floor == card.gain.floor,
        }
        for gain in sorted(card.gains, key=lambda gain: gain.estimate.value)
    ]


def _tables(card: Scorecard) -> list[dict[str, Any]]:
    """Every number of the scorecard, as tables of systems by metrics."""
    likelihood: dict[str, dict[str, Estimate]] = {}
    for part in (card.bits_per_byte, card.action):
        for system, scores in part.items():
            likelihood.setdefault(system, {}).update(scores)
    wanted = [
        ("What they wrote", {s.system: s.scores for s in card.systems}),
        ("How likely they find what the expert wrote", likelihood),
    ]
    notes = [f"{system_name(s.system, card.names)}: {s.note}" for s in card.systems if s.note]
    tables = []
    for title, systems in wanted:
        names = list(dict.fromkeys(name for scores in systems.values() for name in scores))
        columns = [(name, *METRIC_NAMES.get(name, (name.replace("_", " "), "", "bits"))) for name in names]
        rows = [
            {
                "system": s,
                "name": system_name(s, card.names),
                "cells": [figure(scores[n], style) if n in scores else "\N{EM DASH}" for n, _, _, style in columns],
            }
            for s, scores in systems.items()
        ]
        tables.append(
            {"title": title, "columns": columns, "rows": rows, "notes": notes if systems is wanted[0][1] else []}
        )
    return tables


def _ledger_view(ledger: Ledger | None) -> dict[str, Any] | None:
    if ledger is None:
        return None
    total = ledger.total
    rows = []
    for fate, meaning in FATES.items():
        number = ledger.fates.get(fate, 0)
        if number or fate in ("trained", "validation", "test"):
            tokens = ledger.tokens.get(fate)
            rows.append(
                {
                    "fate": fate.replace("_", " "),
                    "meaning": meaning,
                    "kind": fate_kind(fate),
                    "count": grouped(number),
                    "share": f"{100 * number / total:.1f} %" if total else "\N{EM DASH}",
                    "tokens": f"{grouped(tokens['prompt'])} + {grouped(tokens['completion'])}"
                    if tokens
                    else "\N{EM DASH}",
                }
            )
    return {
        "rows": rows,
        "total": grouped(total),
        "read": grouped(ledger.rows),
        "unrolled": grouped(ledger.unrolled) if ledger.unrolled else "",
        "picture": ledger_picture(ledger),
        "tokens": bool(ledger.tokens),
    }


def _machine(machine: Mapping[str, Any]) -> str:
    memory = machine.get("memory_bytes")
    parts = [
        " ".join(str(machine[k]) for k in ("system", "architecture") if machine.get(k)),
        f"{machine['cores']} cores" if machine.get("cores") else "",
        f"{memory / 2**30:.0f} GiB memory" if isinstance(memory, int | float) else "",
        str(machine.get("accelerator") or "no accelerator") if machine else "",
    ]
    return plain(", ".join(part for part in parts if part))


# Templates


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("sft.reports"),
        autoescape=lambda name: bool(name and ".html" in name),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
    )
    environment.filters |= {
        "begin": _begin,
        "shown": shown,
        "plain": plain,
        "figure": figure,
        "cell": cell,
        "coded": coded,
        "coded_cell": coded_cell,
        "fenced": fenced,
        "highlighted": highlighted,
        "bold_places": bold_places,
        "said": said,
    }
    return environment


def _begin(text: str) -> str:
    """``text`` with a capital at its start; the rest keeps its case, which names need."""
    return text[:1].upper() + text[1:]
