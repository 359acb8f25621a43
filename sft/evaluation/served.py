"""Asking the server of a clone: the held-out prompts of a run, then those that part, in other ways.

The answers go into ``completions-served.jsonl`` row by row, and a call that was interrupted goes on where it was. One
that came to its end is made anew by the next: the server may have been mended since.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sft.demonstrations.demonstration import HeldOut
from sft.demonstrations.messages import written_calls
from sft.demonstrations.stored import load_recipe
from sft.demonstrations.thoughts import BrokenThought, parted
from sft.errors import EndpointError, RunError
from sft.evaluation import prompts_again
from sft.evaluation.answers import ListedModel
from sft.evaluation.endpoint import Endpoint, Question, ask_all
from sft.evaluation.shared_rows import fill
from sft.fidelity import served as comparing
from sft.fidelity import stored
from sft.fidelity.served import Serving
from sft.policies.conversations import conversation, prompt_strings, tools_of
from sft.policies.policy import load_renderer, saved_renderer
from sft.policies.rendering import Renderer
from sft.policies.weights import config_of, context_length
from sft.recipes import Recipe
from sft.recipes.sources import source_of
from sft.runs import sealed
from sft.runs.hashes import fingerprint
from sft.runs.processes import say
from sft.runs.records import Completion, Served
from sft.runs.run import Run, demand_trained, now, read_json, write_json

__all__ = ["ANSWERS", "Settings", "WhatIsAsked", "measure_served"]

#: The file of what the server wrote, a row a prompt.
ANSWERS = "completions-served.jsonl"
_COMPARISON = "served.json"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user asks for. ``model``: "" is the only one that the server lists; ``most``: prompts, None for all."""

    model: str = ""
    route: str = "chat"
    parallel: int = 4
    most: int | None = None


@dataclass(frozen=True, slots=True)
class WhatIsAsked:
    """What a run brings: its measured prompts, what its clone wrote, and how each prompt is put.

    ``confidences``: prompt id -> probability that the clone gave each token it wrote; empty where that is not on file.
    ``base``: prompt id -> what the base model wrote, likewise. ``questions``: prompt id -> on the route asked for.
    """

    run: Run
    recipe: Recipe
    tuned: Path
    renderer: Renderer
    items: Sequence[HeldOut]
    measured: Mapping[str, Completion]
    confidences: Mapping[str, Sequence[float]]
    base: Mapping[str, str]
    questions: Mapping[str, Question]
    max_tokens: int


def measure_served(run: Run, folder: Path, endpoint: Endpoint, settings: Settings) -> Serving:
    """Put the prompts that ``run`` was measured on to ``endpoint``, and compare. Writes two files into ``folder``.

    Raises ``RunError`` for a run that is not measured, ``EndpointError`` where the server cannot be asked.
    """
    asked = _asked(run, settings)
    model = _chosen(endpoint, settings.model)
    facts = {
        "endpoint": endpoint.root,
        "model": model.name,
        "route": settings.route,
        "temperature": 0,
        "max_tokens": asked.max_tokens,
        "measured": fingerprint([[key, one.text] for key, one in sorted(asked.measured.items())]),
    }
    _begin(run, folder, facts)
    keys = [item.id for item in asked.items]
    _try_one(endpoint, model, asked)

    def make(todo: list[str]) -> Iterator[Served]:
        return ask_all(endpoint, model.name, [asked.questions[key] for key in todo], settings.parallel)

    rows = fill(folder / ANSWERS, "ask the server", keys, make)
    answers = {row["id"]: Served(**row | {"nats": tuple(row["nats"]), "ids": ()}) for row in rows}
    answers = {key: _apart(asked.renderer, asked.questions[key], one) for key, one in answers.items()}
    found = _compared(asked, answers, endpoint, model, settings.parallel)
    told = facts | {"owner": model.owner, "weights": model.weights, "left_out": dict(endpoint.left_out), "when": now()}
    found = replace(found, facts=told | {"end_of_turn": _end_of_turn(asked.renderer)})
    write_json(folder / _COMPARISON, {"asked": facts, "finished": True} | found.to_dict())
    return found


def _apart(renderer: Renderer, question: Question, answer: Served) -> Served:
    """The answer as the measured text is: without a thought that the server left in it, its calls in our form."""
    text = answer.text
    if renderer.answers.thinks:
        with suppress(BrokenThought):
            text = parted(text)[1]
    if question.tools and renderer.frame.calls is not None:
        text = written_calls(*renderer.frame.calls.read(text, question.tools))
    return answer if text == answer.text else replace(answer, text=text)


# -- what is asked ---------------------------------------------------------------------------------------------


def _asked(run: Run, settings: Settings) -> WhatIsAsked:
    items = stored.read_held_out(run)[: settings.most]
    signature = stored.read_measurement(run).get("signature") or {}
    most, path = signature.get("max_new_tokens"), run.completions_path("tuned")
    rows = sealed.rows(run, path) if sealed.there(run, path) else []
    written = {row["id"]: Completion(row["id"], row["text"], row["finished"], row.get("tokens", 0),
                                     tuple(row.get("ids", ()))) for row in rows}  # fmt: skip
    if not isinstance(most, int) or any(item.id not in written for item in items):
        raise RunError(f"{run.path}: is not measured to its end; run `sft evaluate {run.path}` first")
    recipe, tuned = load_recipe(run), demand_trained(run)
    base = source_of(recipe.model)
    renderer = saved_renderer(tuned, recipe) or load_renderer(base, recipe)
    context = context_length(config_of(base))
    ids = renderer.prompt_ids_all([item.prompt for item in items])
    questions = {
        item.id: Question(
            item.id,
            settings.route,
            conversation(item.prompt, renderer.frame),
            own,
            prompt_strings(renderer.tokenizer, renderer.frame, [item.prompt])[0],
            most if context is None else min(most, context - len(own)),
            tools=tools_of(item.prompt) or (),
        )
        for item, own in zip(items, ids, strict=True)
    }
    return WhatIsAsked(
        run, recipe, tuned, renderer, items, {item.id: written[item.id] for item in items},
        {row["id"]: row["confidences"] for row in _rows(run, run.own_path_path)},
        {row["id"]: row["text"] for row in _rows(run, run.completions_path("B0"))},
        questions, most,
    )  # fmt: skip


def _rows(run: Run, path: Path) -> list[dict[str, Any]]:
    return sealed.rows(run, path) if sealed.there(run, path) else []


def _end_of_turn(renderer: Renderer) -> str:
    """The text of the token that ends every completion."""
    text = renderer.tokenizer.convert_ids_to_tokens(renderer.end_of_turn[-1])
    return str(text)


def _chosen(endpoint: Endpoint, wanted: str) -> ListedModel:
    """The model to ask for. Raises ``EndpointError`` where several could be meant."""
    models = endpoint.models()
    known = {model.name: model for model in models}
    if wanted:
        return known.get(wanted) or ListedModel(wanted, models[0].owner if models else "")
    if not models:
        raise EndpointError(f"{endpoint.root}: lists no model at /v1/models; name one with --served-model")
    if len(known) > 1:
        raise EndpointError(f"{endpoint.root}: serves {', '.join(known)}; name the clone with --served-model")
    return models[0]


def _begin(run: Run, folder: Path, facts: Mapping[str, Any]) -> None:
    """Keep the rows of a call that was interrupted while it asked the same; what is of another goes."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, answer = folder / ANSWERS, folder / _COMPARISON
    if folder.resolve() == run.path.resolve():
        sealed.unseal(run, [f"{rows.stem}."])
    begun = read_json(answer) if answer.exists() else {}
    if rows.exists() and begun.get("asked") == facts and begun.get("finished") is False:
        say(f"evaluate  goes on with what is in {rows}; remove it where the server was changed meanwhile")
        return
    rows.unlink(missing_ok=True)
    write_json(answer, {"asked": dict(facts), "finished": False})


def _try_one(endpoint: Endpoint, model: ListedModel, asked: WhatIsAsked) -> None:
    """Ask with the shortest prompt first: a server that refuses it refuses all. Raises ``EndpointError``."""
    first = min(asked.questions.values(), key=lambda one: (len(one.ids), one.id))
    answer = endpoint.ask(model.name, first)
    if answer.refused:
        raise EndpointError(
            f"{endpoint.root}: refuses the shortest prompt ({answer.refused}); check --served-model and --route"
        )


# -- what is made of it ----------------------------------------------------------------------------------------


def _compared(
    asked: WhatIsAsked, answers: Mapping[str, Served], endpoint: Endpoint, model: ListedModel, parallel: int
) -> Serving:
    apart = [key for key, one in asked.measured.items() if answers[key].text != one.text]
    further = prompts_again.Further(endpoint, model.name, parallel, asked.renderer)
    evidence = further.evidence(asked.questions, asked.measured, answers, asked.base, apart)
    evidence = prompts_again.with_margins(asked.recipe, asked.tuned, asked.renderer, asked.questions, evidence)
    prompt = further.other_prompt(asked.questions[apart[0] if apart else asked.items[0].id])
    shared = [(answers[key], _shared_tokens(one, evidence.get(key))) for key, one in asked.measured.items()]
    return comparing.compare(
        asked.items,
        asked.measured,
        answers,
        evidence,
        defaults=further.defaults(asked.questions, answers, _least_sure(asked)),
        drift=comparing.drift(shared, asked.confidences) if not prompt else None,
        scoring=stored.scoring_of(asked.run),
        prompt=prompt,
    )


def _shared_tokens(measured: Completion, known: comparing.Evidence | None) -> int:
    """How many tokens of the measured text the served one begins with; all of it, its end too, where they are alike."""
    if known is None:
        return len(measured.ids) + measured.finished
    return known.token or 0


def _least_sure(asked: WhatIsAsked) -> Iterable[str]:
    """Prompt ids, those first whose tokens the clone was least sure of, or else the longest."""

    def sureness(key: str) -> tuple[float, int]:
        found = asked.confidences.get(key)
        return (min(found) if found else 1.0, -len(asked.measured[key].ids))

    return sorted(asked.measured, key=lambda key: (*sureness(key), key))
