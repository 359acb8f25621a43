"""Who writes for the held-out prompts where the recipe's engine is not transformers: vLLM, started here or running.

A server gets the token ids of the run's own renderer and gives ids back, so template, stop tokens and text are the
run's either way. What it wrote greedily is then read by transformers, token by token: the two write the same where
transformers finds every token the likeliest, and where it does not, that place is put on record.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch

from sft.errors import EndpointError, UserError
from sft.evaluation.endpoint import KEY, Endpoint, Question, ask_all
from sft.evaluation.probe_inputs import SCORED_AT_ONCE, after
from sft.evaluation.vllm_server import AT_ONCE, ServedModel, started
from sft.policies.generation import Draws, score
from sft.policies.policy import Policy, load_policy
from sft.policies.rendering import Renderer
from sft.policies.weights import base_folder, free_memory, is_adapter, quiet_engine, resolved_dtype
from sft.recipes.requirements import VLLM_REMEDY, Vllm, find_vllm
from sft.recipes.sources import BaseSource
from sft.runs.atomic_files import making
from sft.runs.patience import Patience
from sft.runs.processes import rank_and_world
from sft.runs.records import Completion, Departure, Served

__all__ = ["Hand", "Weights", "Writer", "agreement", "departures", "find"]

#: A parting by more nats than this is no rounding, of bfloat16 either; and a larger share of such partings than that
#: shows that a server has other weights.
ROUNDING, WRONG = 1.0, 0.05
#: Everything that a server may have set otherwise. Stop tokens are the renderer's, and no others.
_PLAIN = {
    "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0,
    "frequency_penalty": 0.0, "ignore_eos": True, "add_special_tokens": False, "return_token_ids": True,
    "logprobs": None,
}  # fmt: skip

_Door = Callable[[], AbstractContextManager[tuple[Endpoint, str]]]


@dataclass(frozen=True, slots=True)
class Weights:
    """Who is to write: the base of ``source`` or, with ``tuned``, a clone of it (an adapter's or a model's folder)."""

    source: BaseSource
    tuned: Path | None
    dtype: str
    renderer: Renderer


@dataclass(frozen=True, slots=True)
class Writer:
    """A vLLM that writes. ``name``: for the signature; ``vllm``: to start, None where it runs already at ``url``.

    ``names``: what a server that runs calls "base" and "tuned", as far as it serves them.
    """

    name: str
    vllm: Vllm | None = None
    url: str = ""
    names: Mapping[str, str] | None = None

    def serves(self, system: str) -> bool:
        """Whether it can write as ``system``: its own server can; one that runs may have the clone alone."""
        return self.vllm is not None or (system if system in ("tuned", "start") else "base") in (self.names or {})

    def hand(self, who: str, weights: Weights, folder: Path, longest: int) -> Hand | None:
        """What writes as ``who``, "base", "start" or "tuned"; None where the server that runs does not have it.

        ``folder``: of the run; a log lies there, and merged weights for as long as they are served. ``longest``: tokens
        of a prompt with its completion. A server is started by the first question, where there is one.
        """
        vllm, names = self.vllm, self.names or {}
        if vllm is not None:
            return Hand(lambda: _serving(vllm, weights, folder, longest), weights.renderer)
        return Hand(lambda: _running(self.url, names[who]), weights.renderer) if self.serves(who) else None


def find(engine: str, dtype: str, served_model: str = "") -> Writer | None:
    """The writer that ``engine`` names: "vllm", or the address of one that runs; None for "transformers".

    ``served_model``: what a server that runs calls the clone, where it serves several. Raises ``UserError``.
    """
    if engine == "transformers":
        return None
    if rank_and_world()[1] > 1:
        raise UserError(
            "fidelity.engine: vLLM asks for one process, and puts prompts together itself; train with several "
            "(accelerate launch -m sft train), then run `sft evaluate` alone"
        )
    if engine == "vllm":
        vllm = find_vllm()
        if vllm.wrong:
            raise UserError(f"fidelity.engine: is vllm, and {vllm.wrong}; {VLLM_REMEDY}, or write transformers")
        return Writer(f"vLLM {vllm.version}, {str(resolved_dtype(dtype)).removeprefix('torch.')}", vllm)
    with Endpoint(engine, os.environ.get(KEY, ""), Patience.lasting(30, answer_seconds=60)) as endpoint:
        version, models = endpoint.version(), {model.name: model for model in endpoint.models()}
        adapters = [model.name for model in models.values() if model.parent]
        clone = served_model or next(iter(adapters if len(adapters) == 1 else models if len(models) == 1 else ()), "")
        if not version or not models:
            raise EndpointError(
                f"{endpoint.root}: is no vLLM, which alone gives token ids back; start `vllm serve`, or compare what "
                "this server writes with --endpoint"
            )
        if clone not in models:
            what = f"does not serve {served_model}, but" if served_model else "serves"
            raise EndpointError(f"{endpoint.root}: {what} {', '.join(models)}; name the clone with --served-model")
        known = {"tuned": clone, "base": models[clone].parent}
        return Writer(f"vLLM {version}, running already", None, endpoint.root, {k: v for k, v in known.items() if v})


@contextmanager
def _running(url: str, model: str) -> Iterator[tuple[Endpoint, str]]:
    with Endpoint(url, os.environ.get(KEY, ""), Patience.lasting(60, answer_seconds=600)) as endpoint:
        yield endpoint, model


@contextmanager
def _serving(vllm: Vllm, weights: Weights, folder: Path, longest: int) -> Iterator[tuple[Endpoint, str]]:
    """A server of the very weights that transformers measures: an adapter is merged, whatever kind it is."""
    source, tuned = weights.source, weights.tuned
    name, revision = base_folder(source)[0], source.revision
    with ExitStack() as stack:
        if tuned is not None and is_adapter(tuned):
            scratch = stack.enter_context(making(folder / "merged-for-vllm"))
            _merge(weights, scratch)
            name, revision = str(scratch), None
        elif tuned is not None:
            name, revision = str(tuned), None
        name = str(Path(name).resolve()) if Path(name).is_dir() else name
        dtype = str(resolved_dtype(weights.dtype)).removeprefix("torch.")
        model = ServedModel(name, revision, dtype, longest, source.trust_remote_code)
        yield stack.enter_context(started(vllm, model, folder / "vllm.log"))


def _merge(weights: Weights, folder: Path) -> None:
    made = load_policy(
        weights.source, weights.renderer, dtype=weights.dtype, tuned=weights.tuned, device=torch.device("cpu")
    )
    with quiet_engine():
        made.model.save_pretrained(folder)
    del made
    free_memory()


class Hand:
    """Writes completions through the server behind ``door``, which opens at the first question. A context manager."""

    def __init__(self, door: _Door, renderer: Renderer) -> None:
        self._door, self._renderer, self._stack = door, renderer, ExitStack()
        self._opened: tuple[Endpoint, str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> bool | None:
        return self._stack.__exit__(*raised)  # type: ignore[arg-type]

    def complete(
        self, prompts: Mapping[str, Sequence[int]], room: Mapping[str, int], draws: Draws | None
    ) -> Iterator[Completion]:
        """As ``generation.complete``; ``room``: prompt id -> tokens that its completion may have.

        A sample's draws are vLLM's own, fixed by seed, round and id. Raises ``EndpointError``.
        """
        if self._opened is None:
            self._opened = self._stack.enter_context(self._door())
        endpoint, model = self._opened
        stops = {"stop_token_ids": sorted(self._renderer.stop_token_ids)}
        asked = [
            Question(
                key, "completions", (), ids, "", room[key], float(draws is not None), _PLAIN | stops | _seed(key, draws)
            )
            for key, ids in prompts.items()
        ]
        for answer in ask_all(endpoint, model, asked, AT_ONCE):
            yield self._completion(endpoint, answer)

    def _completion(self, endpoint: Endpoint, answer: Served) -> Completion:
        if answer.refused:
            raise EndpointError(f"{endpoint.root}: refuses a prompt ({answer.refused}); see to the server")
        if not answer.ids:
            raise EndpointError(f"{endpoint.root}: gives no token ids back; use vLLM 0.10.2 or later")
        finished = answer.ids[-1] in self._renderer.stop_token_ids
        kept = answer.ids[:-1] if finished else answer.ids
        return Completion(answer.id, self._renderer.decode_completion(kept), finished, len(answer.ids), kept)


def _seed(key: str, draws: Draws | None) -> dict[str, int]:
    if draws is None:
        return {}
    digest = hashlib.blake2b(f"{draws} {key}".encode("utf-8", "surrogatepass"), digest_size=7).digest()
    return {"seed": int.from_bytes(digest, "big")}


# -- whether transformers would have written the same ------------------------------------------------------------


def departures(
    policy: Policy, prompts: Mapping[str, Sequence[int]], written: Mapping[str, Completion]
) -> Iterator[Departure]:
    """Where each greedy completion leaves what ``policy`` writes: at the first token that is not its likeliest."""
    stops = sorted(policy.renderer.stop_token_ids, key=lambda token: token != policy.renderer.end_of_turn[-1])
    left = dict(written)
    for number, stop in enumerate(stops):
        ids = {key: (*one.ids, *[stop] * one.finished) for key, one in left.items()}
        rows = {key: after(prompts[key], own) for key, own in ids.items()}
        for found in score(policy, rows, dict.fromkeys(rows, 0), batch_size=SCORED_AT_ONCE):
            at = next((place for place, rank in enumerate(found.ranks) if rank), None)
            if at is not None and at == len(written[found.id].ids) and number + 1 < len(stops):
                continue  # which of the stop tokens ended it is not on file
            del left[found.id]
            yield Departure(found.id, at, 0.0 if at is None else found.nats[at] + math.log(found.confidences[at]))


def agreement(system: str, found: Sequence[Departure], name: str) -> str:
    """How many texts are what transformers writes, in words. Raises ``EndpointError`` where the weights are others."""
    apart = [one for one in found if one.token is not None]
    far = [one for one in apart if one.nats > ROUNDING]
    if len(far) > WRONG * len(found):
        raise EndpointError(
            f"{name}: {len(far)} of its {len(found)} texts are not what the weights of {system} write, by "
            f"{max(one.nats for one in far):.1f} nats, and are thrown away; let it serve this run's base and clone, "
            "or write fidelity.engine: transformers"
        )
    same = f"{len(found) - len(apart)} of {len(found)} texts are those that transformers writes"
    if not apart:
        return same
    widest = max(one.nats for one in apart)
    return f"{same}; the others part where it finds its own token at most {widest:.2g} nats likelier"
