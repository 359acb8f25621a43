"""The model card of a published clone (``README.md``), from its run, without a model, a network or torch.

Metadata on top, then the body from ``card.md.j2``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

from sft.demonstrations.demonstration import prompt_text
from sft.errors import RunError
from sft.fidelity.findings import Example
from sft.fidelity.scorecard import Scorecard
from sft.fidelity.stored import read_held_out, read_scorecard
from sft.publishing import card_facts as facts
from sft.publishing.places import known_places
from sft.publishing.servers import Server
from sft.reports.caveats import warnings_of
from sft.reports.names import RUNG_MEANINGS, metric_name
from sft.reports.sections.chapters import body
from sft.reports.text import cell, coded_cell, fenced, grouped, in_groups
from sft.runs.private import shortened
from sft.runs.run import Run

__all__ = ["card_of"]

#: Of an example's texts, so many characters are shown; a card is no place for a whole document.
_LONGEST = 700
#: Of reasons and warnings, so many stand on top, and the others under the figures: before the details a card fits two
#: screens of 40 lines.
_ON_TOP = 3
#: A longer prompt is not written out in the lines that load the clone.
_LONGEST_PROMPT = 600
#: A prompt where none of the demonstrations may be shown.
_ANY = {"role": "user", "content": "..."}
#: A chat template up to this length is shown whole.
_TEMPLATE = 1500


def card_of(
    run: Run,
    *,
    base_model: str,
    base_revision: str | None,
    repo: str,
    weights: Literal["adapter", "merged"],
    checksums: Mapping[str, str],
    card: Scorecard | None = None,
    examples: bool = True,
    servers: Sequence[Server] = (),
) -> str:
    """The text of ``README.md`` for the clone of ``run`` as it will stand in the hub's repository ``repo``.

    ``base_model``, ``base_revision``: the base's id on the hub, and the commit if it is known. ``weights``: what the
    repository holds, an adapter or a whole model. ``checksums``: file -> sha256 of what is published. ``card``: the
    scorecard as it is published (default: the run's). ``examples``: whether texts of demonstrations may stand in it.
    ``servers``: which take it, with the lines that start them. No path of this machine is in it.

    Raises ``RunError`` where the run has no scorecard, or its recipe does not say who the expert is, under which
    licences clone and demonstrations are, or in which language: the sentence names the keys.
    """
    card = card if card is not None else read_scorecard(run)
    recipe, about = facts.about(run)
    folder = _weights_folder(run, weights)
    method = recipe.adapter.method
    warnings = warnings_of(card, sum(look.get("split") == card.split for look in run.looks), run.manifest.get("start"))
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
        "reasons": card.verdict.reasons[:_ON_TOP],
        "tool": facts.tool(),
        "warnings": warnings[:_ON_TOP],
        "further": [*card.verdict.reasons[_ON_TOP:], *warnings[_ON_TOP:]],
        "base_facts": facts.base_facts(run, base_model),
        "splits": facts.splits(run),
        "withheld": facts.withheld(run),
        "manifest": run.manifest,
        "settings": facts.settings(run, recipe),
        "near": recipe.split.near_duplicates,
        "tables": facts.tables(card),
        "picture": facts.picture(card),
        "groups": in_groups(card.n, card.clusters, card.largest_cluster),
        "commands": facts.command(run),
        "template": _template(folder),
        "worst": [_example(one) for one in card.examples if one.kind == "worst"][:3],
        "best": [_example(one) for one in card.examples if one.kind == "best"][:1],
        "chapters": body(card).chapters,
        "snippet": _snippet(
            repo, base_model, base_revision, weights=weights, messages=_messages(run, card) if examples else [_ANY],
            # The number format that the clone was proven in after saving.
            dtype=str(((run.manifest.get("training") or {}).get("saved") or {}).get("dtype") or "float32"),
            measured_with=run.manifest.get("versions") or {},
            max_new_tokens=longest if isinstance(longest := card.signature.get("max_new_tokens"), int) else 256,
        ),
        "servers": servers,
        "checksums": "\n".join(f"{digest}  {name}" for name, digest in checksums.items()),
    }  # fmt: skip
    head = _metadata(card, about, base_model=base_model, repo=repo, weights=weights, method=method)
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
        if len(prompt_text(shortest)) <= _LONGEST_PROMPT:
            return [turn.to_dict() for turn in shortest]
        return [_ANY]
    prompts = sorted((one.prompt for one in card.examples), key=lambda text: (len(text), text))
    return [{"role": "user", "content": prompts[0]} if prompts and len(prompts[0]) <= _LONGEST_PROMPT else _ANY]


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


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("sft.publishing", ""),
        autoescape=False,  # Markdown: every value goes through a filter of ``reports.text``
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": cell, "coded_cell": coded_cell, "fenced": fenced, "grouped": grouped}
    environment.filters |= {"metric": metric_name, "paragraph": _paragraph}
    return environment


# -- what other programs read of a card ----------------------------------------------------------------------


def _metadata(card: Scorecard, about: facts.About, *, base_model: str, repo: str, weights: str, method: str) -> str:
    """The YAML at the top of the card, as ``huggingface_hub.ModelCardData`` writes it and reads it back."""
    from huggingface_hub import EvalResult, ModelCardData

    data = about.datasets[0] if about.datasets else about.sets[0]
    results = [
        EvalResult(
            task_type="text-generation",
            task_name="Text generation",
            dataset_type=data,
            dataset_name=f"held-out demonstrations ({', '.join(about.sets)})",
            dataset_split=card.split,
            metric_type=one["type"],
            metric_name=one["name"],
            metric_value=one["value"],
        )
        for one in facts.metadata_of(card)
    ]
    relation = "adapter" if weights == "adapter" else "finetune"
    tags = ["behavioral-cloning", "sft", "trl", "transformers", *([] if method == "full" else [method])]
    found = ModelCardData(
        base_model=base_model,
        base_model_relation=relation,
        library_name="peft" if weights == "adapter" else "transformers",
        pipeline_tag="text-generation",
        license=about.license,
        language=list(about.languages),
        datasets=list(about.datasets) or None,
        tags=[*tags, f"base_model:{relation}:{base_model}"],
        model_name=repo.rpartition("/")[2],
        eval_results=results,
    )
    return found.to_yaml() + "\n"


def _snippet(
    repo: str,
    base_model: str,
    base_revision: str | None,
    *,
    weights: str,
    messages: Sequence[Mapping[str, Any]],
    dtype: str,
    max_new_tokens: int,
    measured_with: Mapping[str, Any],
) -> str:
    """Python that loads the clone from ``repo`` with transformers (and peft) alone, and writes one completion.

    Greedy, and stopped as it was measured: settings for sampling that came with the base are not taken over.
    """
    turns = "".join(f'    {{"role": "{turn["role"]}", "content": {turn["content"]!r}}},\n' for turn in messages)
    pinned = f', revision="{base_revision}"' if base_revision else ""
    if weights == "adapter":
        imports = "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM, AutoTokenizer"
        imports += ", GenerationConfig"
        load = (
            f'base = AutoModelForCausalLM.from_pretrained("{base_model}"{pinned}, dtype="{dtype}")\n'
            f'base.generation_config = GenerationConfig.from_pretrained("{repo}")  # where a turn ends\n'
            f'model = PeftModel.from_pretrained(base, "{repo}").eval()\n'
        )
    else:
        imports = "from transformers import AutoModelForCausalLM, AutoTokenizer"
        load = f'model = AutoModelForCausalLM.from_pretrained("{repo}", dtype="{dtype}").eval()\n'
    needed = ("torch", "transformers", *(("peft",) if weights == "adapter" else ()))
    told = ", ".join(f"{name} {measured_with[name]}" for name in needed if measured_with.get(name))
    return (
        f"# pip install {' '.join(needed)}{f'    (measured with {told})' if told else ''}\n"
        f"{imports}\n\n"
        f'tokenizer = AutoTokenizer.from_pretrained("{repo}")\n'
        f"{load}\n"
        f"messages = [\n{turns}]\n"
        "prompt = tokenizer.apply_chat_template(\n"
        '    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True\n'
        ")\n"
        f"written = model.generate(**prompt, max_new_tokens={max_new_tokens}, do_sample=False)\n"
        'print(tokenizer.decode(written[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))\n'
    )
