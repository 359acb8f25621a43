"""What a policy writes for held-out prompts, and how likely it finds what the expert wrote.

Prompts are sorted by length and left-padded in batches; what all of them begin with (a system message, the
three demonstrations of the few-shot baseline) is computed once; rows that have stopped leave the batch.
Decoding is greedy, or at temperature 1 with a stream of draws for each prompt. Results are handed out as they
come, so an interrupted evaluation can continue.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from transformers import DynamicCache, LogitsProcessor, LogitsProcessorList, TextStreamer

from sft.policies.policy import Policy
from sft.policies.prefix_cache import (
    PREFILL_ROWS,
    is_recurrent,
    prefill,
    rows_of,
    shared_prefix,
    shares_prefixes,
)
from sft.policies.rendering import Rendered
from sft.policies.streamed import HandOn, StreamedAnswer
from sft.policies.weights import free_memory, supervised_only
from sft.runs.machine import ran_out
from sft.runs.processes import say
from sft.runs.records import Completion, TokenScores

#: Rows leave a batch when at least this share of it has stopped; each time copies the cache.
COMPACT_AT = 0.25

#: Supervised positions whose logits are held at once when scoring (times the vocabulary, in float32).
POSITIONS_AT_ONCE = 1024

#: Seed and round of samples at temperature 1. With the id of a prompt they fix every draw of its completion.
Draws = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Beside:
    """What is scored from the same reading of the prompts that completions are written from: it costs half as much.

    ``ids``: prompt id -> the expert's completion, stop token included; ``bytes``: its UTF-8 length. ``hand_on`` gets
    the scores as they are made, which is for no prompt where an architecture does not allow it.
    """

    ids: Mapping[str, Sequence[int]]
    bytes: Mapping[str, int]
    hand_on: Callable[[TokenScores], None]


@torch.inference_mode()
def complete(
    policy: Policy,
    prompts: Mapping[str, Sequence[int]],
    *,
    max_new_tokens: int,
    batch_size: int,
    draws: Draws | None = None,
    beside: Beside | None = None,
) -> Iterator[Completion]:
    """Completions of ``prompts`` (id -> prompt token ids), longest prompts first, as they are done.

    Greedy, or sampled at temperature 1 from the whole vocabulary with ``draws``: a sample then hangs on seed, round
    and id alone, not on the batch, the order or the number of processes. A completion ends with one of the
    renderer's stop tokens (``finished``) or after ``max_new_tokens``. A greedy one is the same as
    ``model.generate`` gives one prompt at a time. All of this up to rounding. Where memory runs out, fewer prompts than
    ``batch_size`` are completed at a time.
    """
    if is_recurrent(policy.model):
        yield from _complete_alone(policy, prompts, max_new_tokens, draws)
        return
    left = sorted(prompts, key=lambda key: (-len(prompts[key]), key))
    prefix, shared = shared_prefix(policy, list(prompts.values()))
    done: set[str] = set()
    scored: set[str] = set()
    while left:
        batch, short = {key: prompts[key][shared:] for key in left[:batch_size]}, False
        try:
            unscored = _not_yet(beside, scored)
            for made in _complete_batch(policy, batch, prefix, shared, max_new_tokens, draws, unscored):
                done.add(made.id)
                yield made
        except Exception as error:
            short = _may_be_split(batch, error)
        if short:  # not before: the error holds on to what it came from
            batch_size = _fewer(len(batch))
        left = [key for key in left if key not in done]


def _may_be_split(batch: Mapping[str, object], error: Exception) -> bool:
    """True where ``error`` says that memory ran out, and ``batch`` is more than one prompt; else raises it."""
    if len(batch) == 1 or not ran_out(error):
        raise error
    return True


def _fewer(size: int) -> int:
    """Half of ``size`` prompts, for memory ran out with so many at a time; what they took is given back."""
    free_memory()
    say(f"evaluate  memory ran out with {size} prompts at a time; goes on with {-(-size // 2)}")
    return -(-size // 2)


def _not_yet(beside: Beside | None, scored: set[str]) -> Beside | None:
    """``beside`` without what is ``scored`` already; what is scored from here on is noted there."""
    if beside is None:
        return None
    hand_on = beside.hand_on

    def note(scores: TokenScores) -> None:
        scored.add(scores.id)
        hand_on(scores)

    return replace(beside, ids={key: ids for key, ids in beside.ids.items() if key not in scored}, hand_on=note)


def _uniforms(keys: Sequence[str], count: int, draws: Draws) -> torch.Tensor:
    """The draws of each key's tokens, uniform on [0, 1), ``(keys, count)``, float64 on the CPU."""

    def stream(key: str) -> np.random.Generator:
        digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        return np.random.default_rng([*draws, int.from_bytes(digest, "big")])

    return torch.from_numpy(np.stack([stream(key).random(count) for key in keys]))


def _drawn(logits: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """The token at which the cumulated softmax of each row of ``logits`` passes its ``uniform``."""
    if logits.device.type == "mps":  # which has no float64
        return _drawn(logits.cpu(), uniform).to(logits.device)
    reached = logits.double().softmax(-1).cumsum(-1)
    aim = uniform.to(logits.device).unsqueeze(-1) * reached[:, -1:]
    return torch.searchsorted(reached, aim, right=True).squeeze(-1).clamp(max=logits.shape[-1] - 1)


class _Drawer(LogitsProcessor):
    """Logits with which greedy decoding takes the tokens that are drawn. ``uniforms``: one a token, in order."""

    def __init__(self, uniforms: torch.Tensor) -> None:
        self._coming = iter(uniforms)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """``scores``: logits, ``(1, vocab)``."""
        drawn = _drawn(scores, next(self._coming).reshape(1))
        return torch.full_like(scores, -torch.inf).scatter(-1, drawn.unsqueeze(-1), 0.0)


def _complete_alone(
    policy: Policy, prompts: Mapping[str, Sequence[int]], max_new_tokens: int, draws: Draws | None
) -> Iterator[Completion]:
    """One prompt at a time through ``model.generate``, which knows every model's state."""
    for key in sorted(prompts, key=lambda key: (-len(prompts[key]), key)):
        choose = None if draws is None else _Drawer(_uniforms([key], max_new_tokens, draws)[0])
        ids = _generate(policy, prompts[key], max_new_tokens, choose=choose)
        finished = bool(ids) and ids[-1] in policy.renderer.stop_token_ids
        yield _completion(policy, key, ids[:-1] if finished else ids, finished=finished)


def _generate(
    policy: Policy,
    prompt: Sequence[int],
    max_new_tokens: int,
    streamer: TextStreamer | None = None,
    choose: LogitsProcessor | None = None,
) -> list[int]:
    """Greedy ids after one prompt, stop token included; ``choose`` puts other logits in place of the model's."""
    ids = torch.tensor([list(prompt)], device=policy.device)
    answer = policy.model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=list(policy.renderer.stop_token_ids),
        pad_token_id=policy.renderer.pad_token_id,
        streamer=streamer,
        logits_processor=LogitsProcessorList([choose] if choose is not None else []),
    )
    return answer[0, ids.shape[1] :].tolist()


def _complete_batch(
    policy: Policy,
    prompts: Mapping[str, Sequence[int]],
    prefix: DynamicCache | None,
    shared: int,
    max_new_tokens: int,
    draws: Draws | None,
    beside: Beside | None,
) -> Iterator[Completion]:
    keys = list(prompts)
    uniforms = None if draws is None else _uniforms(keys, max_new_tokens, draws)
    logits, cache, mask = prefill(policy, [prompts[key] for key in keys], prefix, shared, max_new_tokens)
    if beside is not None and shares_prefixes(policy.model):
        _score_beside(policy, keys, logits, cache, mask, beside)
    position = mask.sum(1, keepdim=True)
    stops = frozenset(policy.renderer.stop_token_ids)
    written: dict[str, list[int]] = {key: [] for key in keys}
    running = [True] * len(keys)
    for step in range(max_new_tokens):
        token = logits.argmax(-1) if uniforms is None else _drawn(logits, uniforms[:, step])
        for row, value in enumerate(token.tolist()):  # the one time a token that an accelerator is waited for
            if not running[row]:
                continue
            if value in stops:
                running[row] = False
                yield _completion(policy, keys[row], written[keys[row]], finished=True)
            else:
                written[keys[row]].append(value)
        if not any(running) or step + 1 == max_new_tokens:
            break
        if running.count(False) >= COMPACT_AT * len(running):
            rows = [row for row, runs in enumerate(running) if runs]
            kept = torch.tensor(rows, device=policy.device)
            cache.batch_select_indices(kept)
            keys, running = [keys[row] for row in rows], [True] * len(rows)
            token, mask, position = token[kept], mask[kept], position[kept]
            uniforms = None if uniforms is None else uniforms[rows]
        mask = torch.cat([mask, mask.new_ones(len(keys), 1)], dim=1)
        answer = policy.model(
            input_ids=token.unsqueeze(1),
            attention_mask=mask,
            position_ids=position,
            past_key_values=cache,
            use_cache=True,
        )
        logits = answer.logits[:, -1]
        position = position + 1
    for row, key in enumerate(keys):
        if running[row]:
            yield _completion(policy, key, written[key], finished=False)


def _score_beside(
    policy: Policy, keys: Sequence[str], logits: torch.Tensor, cache: DynamicCache, mask: torch.Tensor, beside: Beside
) -> None:
    """Scores of ``beside`` after prompts that have been read: ``logits`` after, ``cache`` and ``mask`` of each."""
    wanted = [row for row, key in enumerate(keys) if key in beside.ids]
    wanted.sort(key=lambda row: (-len(beside.ids[keys[row]]), keys[row]))
    for start in range(0, len(wanted), PREFILL_ROWS):
        group = wanted[start : start + PREFILL_ROWS]
        experts = [list(beside.ids[keys[row]]) for row in group]
        rows = torch.tensor(group, device=policy.device)
        aims = torch.tensor([ids[0] for ids in experts], device=policy.device)
        first, later = token_scores(logits[rows], aims), list[_Score]()  # prompts alone predict the first
        longest = len(experts[0]) - 1
        if longest:
            filler = [policy.renderer.pad_token_id] * longest
            ids = torch.tensor([(own[:-1] + filler)[:longest] for own in experts], device=policy.device)
            real = torch.tensor([[1] * (len(own) - 1) + [0] * (longest - len(own) + 1) for own in experts])
            real = real.to(policy.device)
            with supervised_only(policy.model, real.bool()):
                answer = policy.model(
                    input_ids=ids,
                    attention_mask=torch.cat([mask[rows], real], dim=1),
                    position_ids=mask[rows].sum(1, keepdim=True) + torch.arange(longest, device=policy.device),
                    past_key_values=rows_of(policy, cache, rows),
                    use_cache=True,
                )
            aims = torch.tensor([token for own in experts for token in own[1:]], device=policy.device)
            later = token_scores(answer.logits[0], aims)
        end = 0
        for place, (row, own) in enumerate(zip(group, experts, strict=True)):
            begin, end = end, end + len(own) - 1
            beside.hand_on(_recorded(keys[row], [first[place], *later[begin:end]], beside.bytes))


def _completion(policy: Policy, key: str, ids: list[int], *, finished: bool) -> Completion:
    return Completion(key, policy.renderer.decode_completion(ids), finished, len(ids) + finished, tuple(ids))


@torch.inference_mode()
def score(
    policy: Policy, rendered: Mapping[str, Rendered], byte_lengths: Mapping[str, int], *, batch_size: int
) -> Iterator[TokenScores]:
    """How likely the policy finds each expert completion (id -> rendered), teacher-forced, as they are done.

    ``byte_lengths``: UTF-8 bytes of each completion. Independent of batch size and padding up to rounding. Where memory
    runs out, fewer than ``batch_size`` are scored at a time.
    """
    left = sorted(rendered, key=lambda key: (-len(rendered[key].input_ids), key))
    prefix, shared = shared_prefix(policy, [rendered[key].prompt_ids for key in left])
    while left:
        batch, short = {key: rendered[key] for key in left[:batch_size]}, False
        try:
            made = _score_batch(policy, batch, prefix, shared, byte_lengths)
        except Exception as error:
            short = _may_be_split(batch, error)
        if short:
            batch_size = _fewer(len(batch))
            continue
        yield from made
        left = left[len(batch) :]


def _score_batch(
    policy: Policy, batch: Mapping[str, Rendered], prefix: DynamicCache | None, shared: int,
    byte_lengths: Mapping[str, int],
) -> list[TokenScores]:  # fmt: skip
    longest = max(len(one.input_ids) for one in batch.values()) - shared
    ids = torch.full((len(batch), longest), policy.renderer.pad_token_id)
    mask = torch.zeros((len(batch), shared + longest), dtype=torch.long)
    predicted = torch.zeros((len(batch), longest), dtype=torch.bool)  # t is set when t + 1 is supervised
    for row, one in enumerate(batch.values()):
        own = one.input_ids[shared:]
        ids[row, : len(own)] = torch.tensor(own)
        mask[row, : shared + len(own)] = 1
        predicted[row, : len(own) - 1] = torch.tensor(one.completion_mask[shared + 1 :], dtype=torch.bool)
    with supervised_only(policy.model, predicted):
        logits = policy.model(
            input_ids=ids.to(policy.device),
            attention_mask=mask.to(policy.device),
            past_key_values=rows_of(policy, prefix, [0] * len(batch)) if prefix is not None else None,
            use_cache=prefix is not None,
        ).logits[0]
    targets = ids.roll(-1, 1)[predicted].to(policy.device)
    found = iter(token_scores(logits, targets))
    counts = predicted.sum(1).tolist()
    return [_recorded(key, list(islice(found, count)), byte_lengths) for key, count in zip(batch, counts, strict=True)]


class _Score(NamedTuple):
    """Of one target: -log p, how many tokens were likelier, the entropy, the likeliest token's p; nats."""

    nats: float
    rank: int
    entropy: float
    confidence: float


def _recorded(key: str, scores: Sequence[_Score], byte_lengths: Mapping[str, int]) -> TokenScores:
    nats, ranks, entropies, confidences = zip(*scores, strict=True)
    return TokenScores(key, nats, ranks, entropies, byte_lengths[key], confidences)


def token_scores(logits: torch.Tensor, targets: torch.Tensor, at_once: int = POSITIONS_AT_ONCE) -> list[_Score]:
    """Scores of ``targets``, shape (n,), under ``logits``, (n, vocab), in float32, ``at_once`` positions at a time."""
    found: list[_Score] = []
    for rows, aims in zip(logits.split(at_once), targets.split(at_once), strict=True):
        logp = rows.float().log_softmax(-1)
        taken = logp.gather(-1, aims.unsqueeze(-1))
        p = logp.exp()
        each = -taken.squeeze(-1), (logp > taken).sum(-1), -(p * logp).sum(-1), p.max(-1).values
        found += map(_Score, *(values.tolist() for values in each))
    return found


class _Pieces(TextStreamer):
    """Hands text on as soon as its words are complete, and it is certain whether they are a thought's."""

    def __init__(self, policy: Policy, hand_on: HandOn) -> None:
        super().__init__(policy.renderer.tokenizer, skip_prompt=True, skip_special_tokens=False)
        self._answer = StreamedAnswer(policy.renderer.answers, hand_on)
        self._stops = frozenset(policy.renderer.stop_token_ids)

    def put(self, value: torch.Tensor) -> None:
        """Ids: the prompt's, then one after another; the one that ends the turn is no text."""
        if self.next_tokens_are_prompt or int(value.flatten()[-1]) not in self._stops:
            super().put(value)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """One piece of text; the last one comes with ``stream_end``."""
        self._answer.add(text, last=stream_end)


@torch.inference_mode()
def stream(policy: Policy, prompt: Sequence[int], *, max_new_tokens: int, hand_on: HandOn) -> tuple[str, str, bool]:
    """One greedy completion, its text handed on word by word: (words, thought, whether it ended by itself)."""
    ids = _generate(policy, prompt, max_new_tokens, _Pieces(policy, hand_on))
    thought, said = policy.renderer.answers.parted_ids(ids)
    return said, thought, bool(ids) and ids[-1] in policy.renderer.stop_token_ids
