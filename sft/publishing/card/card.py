"""Writing the card: metadata on top, then the body from ``card.md.j2``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

from sft.demonstrations.demonstration import prompt_text
from sft.errors import RunError
from sft.fidelity.scorecard import Example, Scorecard
from sft.fidelity.stored import read_held_out, read_scorecard
from sft.publishing.card import facts, figures, metadata
from sft.publishing.screening import known_places
from sft.reports.names import RUNG_MEANINGS, metric_name
from sft.reports.report import warnings_of
from sft.reports.sections import body
from sft.reports.text import cell, coded_cell, fenced, grouped, in_groups
from sft.runs.private import shortened
from sft.runs.run import Run

__all__ = ["card_of"]

#: Of an example's texts, so many characters are shown; a card is no place for a whole document.
_LONGEST = 700
#: A chat template up to this length is shown whole.
_TEMPLATE = 1500


def card_of(
    run: Run,
    *,
    base_model: str,
    base_revision: str | None,
    repo: str,
    weights: Literal["adapter", "merged"],
    checksums: Mapping[str, str] | None = None,
) -> str:
    """The text of ``README.md`` for the clone of ``run`` as it will stand in the hub's repository ``repo``.

    ``base_model``, ``base_revision``: the base's id on the hub, and the commit if it is known. ``weights``: what the
    repository holds, an adapter or a whole model. ``checksums``: file -> sha256 of what is published; unless given,
    of the weights, the tokenizer and the template of the run's adapter or model. No path of this machine is in it.

    Raises ``RunError`` where the run has no scorecard, or its recipe does not say who the expert is, under which
    licences clone and demonstrations are, or in which language: the sentence names the keys.
    """
    card = read_scorecard(run)
    recipe, about = facts.about(run)
    folder = _weights_folder(run, weights)
    if checksums is None:
        # A merged model is made when it is published: of its files nothing is known here.
        checksums = facts.checksums_of(folder) if folder is not None else {}
    method = recipe.adapter.method
    view = {
        "name": repo.rpartition("/")[2],
        "repo": repo,
        "base": base_model,
        "revision": base_revision,
        "weights": weights,
        "method": method,
        "card": card,
        "about": about,
        "description": recipe.description,
        "meaning": RUNG_MEANINGS.get(card.verdict.rung, ""),
        "warnings": warnings_of(card, sum(look.get("split") == card.split for look in run.looks)),
        "base_facts": facts.base_facts(run, base_model),
        "splits": facts.splits(run),
        "withheld": facts.withheld(run),
        "manifest": run.manifest,
        "settings": facts.settings(run, recipe),
        "near": recipe.split.near_duplicates,
        "tables": figures.tables(card),
        "picture": figures.picture(card),
        "groups": in_groups(card.n, card.clusters, card.largest_cluster),
        "commands": facts.command(run),
        "template": _template(folder),
        "worst": [_example(one) for one in card.examples if one.kind == "worst"][:3],
        "best": [_example(one) for one in card.examples if one.kind == "best"][:1],
        "chapters": body(card).chapters,
        "snippet": metadata.snippet(
            repo, base_model, base_revision, weights=weights, messages=_messages(run, card),
            dtype=_dtype(run), max_new_tokens=_max_new_tokens(card),
        ),
        "checksums": "\n".join(f"{digest}  {name}" for name, digest in checksums.items()),
    }  # fmt: skip
    head = metadata.metadata(card, about, base_model=base_model, repo=repo, weights=weights, method=method)
    text = f"---\n{head}---\n\n{_environment().get_template('card.md.j2').render(view).strip()}\n"
    return str(shortened(text, known_places(run)))


def _weights_folder(run: Run, weights: str) -> Path | None:
    """Where the published files lie in the run: the adapter; the whole model of a full fit; None for a merged one."""
    if (run.model_path / "config.json").is_file():
        if weights == "adapter":
            raise RunError(
                f"{run.path}: every weight was fitted, so there is no adapter; publish a whole model (--merged)"
            )
        return run.model_path
    return run.adapter_path if weights == "adapter" else None


def _template(folder: Path | None) -> str:
    """The chat template that is published with the clone, where it is short enough to be read."""
    path = folder / "chat_template.jinja" if folder is not None else None
    text = path.read_text(encoding="utf-8") if path is not None and path.is_file() else ""
    return text if len(text) <= _TEMPLATE else ""


def _messages(run: Run, card: Scorecard) -> list[dict[str, str]]:
    """A prompt to try the clone with: the shortest of the held-out ones."""
    if run.held_out_path.exists() and (items := read_held_out(run)):
        shortest = min((item.prompt for item in items), key=lambda prompt: (len(text := prompt_text(prompt)), text))
        return [{"role": turn.role, "content": turn.content} for turn in shortest]
    prompts = sorted((one.prompt for one in card.examples), key=lambda text: (len(text), text))
    return [{"role": "user", "content": prompts[0] if prompts else "..."}]


def _dtype(run: Run) -> str:
    """The number format that the clone was proven in after saving."""
    saved = (run.manifest.get("training") or {}).get("saved") or {}
    return str(saved.get("dtype") or "float32")


def _max_new_tokens(card: Scorecard) -> int:
    found = card.signature.get("max_new_tokens")
    return found if isinstance(found, int) else 256


def _example(one: Example) -> dict[str, Any]:
    """Prompt, expert, clone and base model of one example, each cut to what a card can show."""
    texts = [("Prompt", one.prompt), ("The expert", one.expert)]
    for name, system in (("The clone", "tuned"), ("The base model", "B0")):
        if system in one.completions:
            score = f" ({one.scores[system]:.1f})" if system in one.scores else ""
            texts.append((name + score, one.completions[system]))
    return {"id": one.id[:8], "texts": [(label, _cut(text)) for label, text in texts]}


def _cut(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]}\N{HORIZONTAL ELLIPSIS} [{grouped(len(text) - _LONGEST)} more characters]"


def _paragraph(text: str) -> str:
    """``text`` as a paragraph of its own, though it begins as an entry of a list does."""
    return re.sub(r"^(\d*)([-+.)])", r"\1\\\2", cell(text))


def _code(text: str) -> str:
    """Python as a code block. A prompt in it may hold a fence, but never at the beginning of a line."""
    return f"```python\n{text}```"


def _drawn(text: str) -> str:
    """Our own picture as a code block."""
    return f"```text\n{text}\n```"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("sft.publishing.card", ""),
        autoescape=False,  # Markdown: every value goes through a filter of ``reports.text``
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": cell, "coded_cell": coded_cell, "fenced": fenced, "grouped": grouped}
    environment.filters |= {"metric": metric_name, "code": _code, "paragraph": _paragraph, "drawn": _drawn}
    return environment
