"""What a policy writes for held-out prompts, and how likely it finds what the expert wrote.

Prompts are sorted by length and left-padded in batches; what all of them begin with (a system message, the
three demonstrations of the few-shot baseline) is computed once; rows that have stopped leave the batch.
Decoding is greedy, or at temperature 1 with a stream of draws for each prompt. Results are handed out as they
come, so an interrupted evaluation can continue.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import takewhile

import numpy as np
import torch
from torch.nn.functional import pad
from transformers import DynamicCache, LogitsProcessor, LogitsProcessorList, PreTrainedModel, TextStreamer
from transformers.cache_utils import DynamicLayer

from sft.observations import Completion, TokenScores
from sft.policies import Policy, supervised_only
from sft.rendering import Rendered

__all__ = ["Draws", "complete", "score", "stream"]

#: A common beginning shorter than this is not worth a forward pass of its own.
SHORTEST_SHARED_PREFIX = 16

#: Rows leave a batch when at least this share of it has stopped; each time copies the cache.
COMPACT_AT = 0.25

#: Prompts computed at once before decoding starts; sorted by length, so few of their tokens are padding.
PREFILL_ROWS = 8

#: Supervised positions whose logits are held at once when scoring (times the vocabulary, in float32).
POSITIONS_AT_ONCE = 1024


#: Seed and round of samples at temperature 1. With the id of a prompt they fix every draw of its completion.
Draws = tuple[int, int]


def common_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """Number of leading ids that all ``prompts`` share, at most one less than the shortest has."""
    if len(prompts) < 2:
        return 0
    shortest, *_ = sorted(prompts, key=len)
    columns = zip(*prompts, strict=False)
    shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    return min(shared, len(shortest) - 1)


def _is_recurrent(model: PreTrainedModel) -> bool:
    """Whether the model carries a state of its own from token to token (Mamba, hybrids); padding would be in it."""
    return bool(getattr(model, "_is_stateful", False))


def _shares_prefixes(model: PreTrainedModel) -> bool:
    """Whether a cached beginning followed by padding is exact: not under sliding windows or recurrent state."""
    if _is_recurrent(model):
        return False
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    return kinds == {"full_attention"} and not (
        getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    )


def _shared_prefix(policy: Policy, rows: Sequence[Sequence[int]]) -> tuple[DynamicCache | None, int]:
    """The cache of what all ``rows`` begin with, and its length; ``(None, 0)`` where it does not pay."""
    shared = common_prefix(rows) if _shares_prefixes(policy.model) else 0
    if shared < SHORTEST_SHARED_PREFIX:
        return None, 0
    prefix = DynamicCache(config=policy.model.config)
    ids = torch.tensor([list(rows[0][:shared])], device=policy.device)
    policy.model(input_ids=ids, past_key_values=prefix, use_cache=True, logits_to_keep=1)
    return prefix, shared


@torch.inference_mode()
def complete(
    policy: Policy,
    prompts: Mapping[str, Sequence[int]],
    *,
    max_new_tokens: int,
    batch_size: int,
    draws: Draws | None = None,
) -> Iterator[Completion]:
    """Completions of ``prompts`` (id -> prompt token ids), longest prompts first, as they are done.

    Greedy, or sampled at temperature 1 from the whole vocabulary with ``draws``: a sample then hangs on seed, round
    and id alone, not on the batch, the order or the number of processes. A completion ends with one of the
    renderer's stop tokens (``finished``) or after ``max_new_tokens``. A greedy one is the same as
    ``model.generate`` gives one prompt at a time. All of this up to rounding.
    """
    if _is_recurrent(policy.model):
        yield from _complete_alone(policy, prompts, max_new_tokens, draws)
        return
    order = sorted(prompts, key=lambda key: (-len(prompts[key]), key))
    prefix, shared = _shared_prefix(policy, list(prompts.values()))
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        yield from _complete_batch(
            policy, {key: prompts[key][shared:] for key in batch}, prefix, shared, max_new_tokens, draws
        )


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


def _prefill(
    policy: Policy, prompts: list[Sequence[int]], prefix: DynamicCache | None, shared: int
) -> tuple[torch.Tensor, DynamicCache, torch.Tensor]:
    """Logits after each prompt ``(batch, vocab)``, the cache, and the attention mask so far."""
    longest = max(map(len, prompts))
    filler = policy.renderer.pad_token_id
    ids = torch.tensor([[filler] * (longest - len(row)) + list(row) for row in prompts], device=policy.device)
    real = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in prompts], device=policy.device)
    mask = torch.cat([real.new_ones(len(prompts), shared), real], dim=1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, shared:]
    cache = _repeated(policy, prefix, len(prompts))
    answer = policy.model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return answer.logits[:, -1], cache, mask


def _repeated(policy: Policy, prefix: DynamicCache | None, rows: int) -> DynamicCache:
    """A new cache that begins with ``prefix`` (one row) in each of ``rows`` rows."""
    cache = DynamicCache(config=policy.model.config)
    for index, layer in enumerate(prefix.layers if prefix is not None else ()):
        cache.update(layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1), index)
    return cache


class ReservedLayer(DynamicLayer):
    """A cache layer with room for tokens to come, so that a new token does not copy all earlier ones.

    ``pieces``: keys and values ``(rows, heads, length, width)`` of parts of the batch, set against the right end.
    """

    def __init__(self, pieces: Sequence[tuple[torch.Tensor, torch.Tensor]], room: int) -> None:
        super().__init__()
        self.length = max(keys.shape[-2] for keys, _ in pieces)
        self._keys, self._values = (
            torch.cat([pad(piece[side], (0, 0, self.length - piece[side].shape[-2], room)) for piece in pieces])
            for side in (0, 1)
        )
        self.dtype, self.device = self._keys.dtype, self._keys.device
        self.is_initialized = True
        self._show()

    def _show(self) -> None:
        self.keys, self.values = self._keys[:, :, : self.length], self._values[:, :, : self.length]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new states behind the old ones; ``(rows, heads, new, width)`` each."""
        end = self.length + key_states.shape[-2]
        self._keys[:, :, self.length : end] = key_states
        self._values[:, :, self.length : end] = value_states
        self.length = end
        self._show()
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep the rows ``indices`` only."""
        self._keys, self._values = self._keys[indices], self._values[indices]
        self._show()


def _prefill_in_pieces(
    policy: Policy, prompts: list[Sequence[int]], prefix: DynamicCache | None, shared: int, room: int
) -> tuple[torch.Tensor, DynamicCache, torch.Tensor]:
    """As :func:`_prefill`, a few rows of like length at a time (little padding), with ``room`` for new tokens."""
    if not _shares_prefixes(policy.model):
        return _prefill(policy, prompts, prefix, shared)
    pieces = [
        _prefill(policy, prompts[start : start + PREFILL_ROWS], prefix, shared)
        for start in range(0, len(prompts), PREFILL_ROWS)
    ]
    longest = max(mask.shape[1] for _, _, mask in pieces)
    mask = torch.cat([pad(mask, (longest - mask.shape[1], 0)) for _, _, mask in pieces])
    cache = DynamicCache()
    cache.layers = [
        ReservedLayer([(layer.keys, layer.values) for layer in layers], room)
        for layers in zip(*(piece.layers for _, piece, _ in pieces), strict=True)
    ]
    return torch.cat([logits for logits, _, _ in pieces]), cache, mask


def _complete_batch(
    policy: Policy,
    prompts: Mapping[str, Sequence[int]],
    prefix: DynamicCache | None,
    shared: int,
    max_new_tokens: int,
    draws: Draws | None,
) -> Iterator[Completion]:
    keys = list(prompts)
    uniforms = None if draws is None else _uniforms(keys, max_new_tokens, draws)
    logits, cache, mask = _prefill_in_pieces(policy, [prompts[key] for key in keys], prefix, shared, max_new_tokens)
    position = mask.sum(1, keepdim=True)
    stops = torch.tensor(sorted(policy.renderer.stop_token_ids), device=policy.device)
    written: dict[str, list[int]] = {key: [] for key in keys}
    running = torch.ones(len(keys), dtype=torch.bool, device=policy.device)
    for step in range(max_new_tokens):
        token = logits.argmax(-1) if uniforms is None else _drawn(logits, uniforms[:, step])
        stopped = torch.isin(token, stops)
        for row, (value, ends) in enumerate(zip(token.tolist(), stopped.tolist(), strict=True)):
            if not running[row]:
                continue
            if ends:
                running[row] = False
                yield _completion(policy, keys[row], written[keys[row]], finished=True)
            else:
                written[keys[row]].append(value)
        if not running.any() or step + 1 == max_new_tokens:
            break
        if (~running).float().mean() >= COMPACT_AT:
            kept = running.nonzero().squeeze(1)
            cache.batch_select_indices(kept)
            keys = [keys[row] for row in kept.tolist()]
            token, mask, position, running = token[kept], mask[kept], position[kept], running[kept]
            uniforms = None if uniforms is None else uniforms[kept.cpu()]
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


def _completion(policy: Policy, key: str, ids: list[int], *, finished: bool) -> Completion:
    return Completion(key, policy.renderer.decode_completion(ids), finished, len(ids) + finished, tuple(ids))


@torch.inference_mode()
def score(
    policy: Policy, rendered: Mapping[str, Rendered], byte_lengths: Mapping[str, int], *, batch_size: int
) -> Iterator[TokenScores]:
    """How likely the policy finds each expert completion (id -> rendered), teacher-forced, as they are done.

    ``byte_lengths``: UTF-8 bytes of each completion. Independent of batch size and padding up to rounding.
    """
    order = sorted(rendered, key=lambda key: (-len(rendered[key].input_ids), key))
    prefix, shared = _shared_prefix(policy, [rendered[key].prompt_ids for key in order])
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        longest = max(len(rendered[key].input_ids) for key in batch) - shared
        ids = torch.full((len(batch), longest), policy.renderer.pad_token_id)
        mask = torch.zeros((len(batch), shared + longest), dtype=torch.long)
        predicted = torch.zeros((len(batch), longest), dtype=torch.bool)  # t is set when t + 1 is supervised
        for row, key in enumerate(batch):
            own = rendered[key].input_ids[shared:]
            ids[row, : len(own)] = torch.tensor(own)
            mask[row, : shared + len(own)] = 1
            supervised = rendered[key].completion_mask[shared + 1 :]
            predicted[row, : len(own) - 1] = torch.tensor(supervised, dtype=torch.bool)
        with supervised_only(policy.model, predicted):
            logits = policy.model(
                input_ids=ids.to(policy.device),
                attention_mask=mask.to(policy.device),
                past_key_values=_repeated(policy, prefix, len(batch)) if prefix is not None else None,
                use_cache=prefix is not None,
            ).logits[0]
        targets = ids.roll(-1, 1)[predicted].to(policy.device)
        nats, ranks, entropies, confidences = _token_scores(logits, targets)
        ends = predicted.sum(1).cumsum(0).tolist()
        for key, begin, end in zip(batch, [0, *ends], ends, strict=False):
            yield TokenScores(
                key,
                tuple(nats[begin:end]),
                tuple(ranks[begin:end]),
                tuple(entropies[begin:end]),
                byte_lengths[key],
                tuple(confidences[begin:end]),
            )


def _token_scores(
    logits: torch.Tensor, targets: torch.Tensor
) -> tuple[list[float], list[int], list[float], list[float]]:
    """Of each target: -log p, how many tokens were likelier, the entropy, the likeliest token's p; float32, nats."""
    nats: list[float] = []
    ranks: list[int] = []
    entropies: list[float] = []
    confidences: list[float] = []
    for rows, aims in zip(logits.split(POSITIONS_AT_ONCE), targets.split(POSITIONS_AT_ONCE), strict=True):
        logp = rows.float().log_softmax(-1)
        taken = logp.gather(-1, aims.unsqueeze(-1))
        p = logp.exp()
        nats += (-taken.squeeze(-1)).tolist()
        ranks += (logp > taken).sum(-1).tolist()
        entropies += (-(p * logp).sum(-1)).tolist()
        confidences += p.max(-1).values.tolist()
    return nats, ranks, entropies, confidences


class _Pieces(TextStreamer):
    """Hands text on as soon as its words are complete."""

    def __init__(self, tokenizer: object, hand_on: Callable[[str], None]) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.hand_on = hand_on

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """One piece of text; the last one comes with ``stream_end``."""
        if text:
            self.hand_on(text)


@torch.inference_mode()
def stream(policy: Policy, prompt: Sequence[int], *, max_new_tokens: int, hand_on: Callable[[str], None]) -> str:
    """One greedy completion, its text handed on word by word; returns the whole of it."""
    ids = _generate(policy, prompt, max_new_tokens, _Pieces(policy.renderer.tokenizer, hand_on))
    return policy.renderer.decode_completion(ids)
