"""The prompts whose served text parts from the measured one, put again in other ways; and what unset settings give.

Costs requests for some prompts only (:data:`EXAMINED`), and the clone's weights where nothing else explains a parting.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from sft.errors import EndpointError, UserError
from sft.evaluation.endpoint import Endpoint, Question, ask_all
from sft.fidelity.served import Defaults, Evidence, cause_of, common
from sft.policies.policy import Policy, load_policy
from sft.policies.rendering import Renderer
from sft.recipes import Recipe
from sft.recipes.sources import source_of
from sft.runs.processes import say
from sft.runs.records import Completion, Served

__all__ = ["EXAMINED", "Further", "with_margins"]

#: Prompts that are looked into, of all whose texts part.
EXAMINED = 32
#: The clone's likeliest tokens, among which the one that was served is looked for; it is at least as far as the last.
LOOKED_AT = 50
#: Prompts that are asked without a temperature, and without a limit.
UNSET = 4


@dataclass(frozen=True, slots=True)
class Further:
    """Further questions to ``endpoint``, ``parallel`` at a time."""

    endpoint: Endpoint
    model: str
    parallel: int
    renderer: Renderer

    def evidence(
        self,
        questions: Mapping[str, Question],
        measured: Mapping[str, Completion],
        served: Mapping[str, Served],
        base: Mapping[str, str],
        apart: Sequence[str],
    ) -> dict[str, Evidence]:
        """What is known of every prompt in ``apart``; the first :data:`EXAMINED` of them are asked again."""
        looked_into = [questions[key] for key in apart[:EXAMINED]]
        again = self._ask(looked_into)
        rendered = self._ask([replace(one, route="completions") for one in looked_into if one.route == "chat"])
        found = {}
        for key in apart:
            one, shared = measured[key], common(measured[key].text, served[key].text)
            own = base.get(key)
            found[key] = Evidence(
                measured=one,
                served=served[key],
                examined=key in again,
                again=again.get(key),
                rendered=rendered.get(key),
                same_prompt=self._same_prompt(questions[key]) if key in again else None,
                base=own if own != one.text else None,
                prompt_tokens=len(questions[key].ids),
                token=_token_at(self.renderer, one, shared) if one.ids and key in again else None,
            )
        return found

    def other_prompt(self, question: Question) -> tuple[str, str] | None:
        """(The run's prompt, the server's) from where they differ to where they agree again; None where they do not."""
        theirs = self._rendered(question)
        if theirs is None or theirs == question.text:
            return None
        ours, first = question.text, common(question.text, theirs)
        last = common(ours[first:][::-1], theirs[first:][::-1])
        return ours[first : len(ours) - last], theirs[first : len(theirs) - last]

    def defaults(
        self, questions: Mapping[str, Question], served: Mapping[str, Served], order: Iterable[str]
    ) -> Defaults:
        """What prompts whose answers end by themselves give without a temperature, asked twice, and without a limit.

        ``order``: of the prompts, those first that would show it best.
        """
        fit = [key for key in order if served[key].finished and served[key].text]
        some = [replace(questions[key], temperature=None) for key in fit[:UNSET]]
        first, second = self._ask(some), self._ask(some)
        longest = sorted(fit, key=lambda key: -len(served[key].text))[:UNSET]
        free = self._ask([replace(questions[key], max_tokens=None) for key in longest])
        both = [key for key in first if key in second]
        cut = [one for key, one in free.items() if one.reason == "length" and one.text != served[key].text]
        return Defaults(
            asked=len(both),
            sampled=sum(not first[key].text == second[key].text == served[key].text for key in both),
            unlimited=len(free),
            cut=len(cut),
            cut_tokens=min((one.tokens for one in cut), default=0),
        )

    def _ask(self, questions: Sequence[Question]) -> dict[str, Served]:
        """The answers that come; a route that is not there gives none."""
        try:
            found = {one.id: one for one in ask_all(self.endpoint, self.model, questions, self.parallel)}
        except EndpointError as error:
            say(f"evaluate  left out: {error}")
            return {}
        return {key: one for key, one in found.items() if not one.refused}

    def _rendered(self, question: Question) -> str | None:
        """How the server renders the prompt of a question to the chat route, as text; None where it does not tell."""
        found = self.endpoint.prompt_of(self.model, question) if question.route == "chat" else None
        if isinstance(found, list):
            try:
                return self.renderer.tokenizer.decode(found, clean_up_tokenization_spaces=False)
            except (OverflowError, IndexError, TypeError):  # ids of another vocabulary
                return None
        bos = self.renderer.tokenizer.bos_token
        # llama.cpp leaves the first token to its tokenizer where the file says so.
        if found is not None and bos and question.text.startswith(bos) and not found.startswith(bos):
            return bos + found
        return found

    def _same_prompt(self, question: Question) -> bool | None:
        theirs = self._rendered(question)
        return None if theirs is None else theirs == question.text


def _token_at(renderer: Renderer, measured: Completion, shared: int) -> int:
    """How many of the measured tokens lie within the first ``shared`` characters of their text."""
    begun = measured.text[:shared]
    whole = [
        end for end in range(len(measured.ids) + 1) if begun.startswith(renderer.decode_completion(measured.ids[:end]))
    ]
    return max(whole, default=0)


@torch.inference_mode()
def with_margins(
    recipe: Recipe,
    tuned: Path,
    renderer: Renderer,
    questions: Mapping[str, Question],
    evidence: Mapping[str, Evidence],
) -> dict[str, Evidence]:
    """The evidence, with how much likelier the clone's own token was, where only its weights can tell more.

    The clone is loaded for this; where it cannot be, the evidence stays as it is, and why is said.
    """
    found = dict(evidence)
    open_ones = [
        key
        for key, one in found.items()
        if one.examined and one.token is not None and cause_of(one) in ("stop", "limit", "base", "weights")
    ]
    if not open_ones:
        return found
    try:
        policy = load_policy(source_of(recipe.model), renderer, dtype=recipe.model.dtype, tuned=tuned)
        return found | _margins(policy, questions, {key: found[key] for key in open_ones})
    except (UserError, MemoryError, torch.OutOfMemoryError) as error:  # the server may have the memory
        say(f"evaluate  left out: how likely the clone finds the served token where texts part ({error})")
        return found


def _margins(
    policy: Policy, questions: Mapping[str, Question], evidence: Mapping[str, Evidence]
) -> dict[str, Evidence]:
    found = {}
    for key, one in evidence.items():
        begun = list(one.measured.ids[: one.token])
        ids = torch.tensor([[*questions[key].ids, *begun]], device=policy.device)
        likeliest = policy.model(ids).logits[0, -1].float()
        likeliest = likeliest.topk(min(LOOKED_AT, len(likeliest)))
        pairs = list(zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True))
        served = (value for token, value in pairs if _goes_on_with(policy.renderer, begun, token, one.served))
        found[key] = replace(one, margin=pairs[0][1] - next(served, pairs[-1][1]))
    return found


def _goes_on_with(renderer: Renderer, begun: list[int], token: int, served: Served) -> bool:
    """Whether the served text can have gone on with ``token`` behind the tokens in ``begun``."""
    before = renderer.decode_completion(begun)
    if token in renderer.stop_token_ids:
        return served.finished and served.text == before
    after = renderer.decode_completion([*begun, token])
    return len(after) > len(before) and served.text.startswith(after)
