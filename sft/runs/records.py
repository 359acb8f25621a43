"""What measuring writes down: completions, teacher-forced scores and the probes' raw findings, before any arithmetic.

One class per file of a run, one instance per line. A scorecard is computed from these alone, so it can be had
again without a model. ``fidelity`` reads them; ``evaluation`` makes them, and so may anybody else.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Completion", "ControlWindow", "Forced", "OwnPath", "PromptValue", "TokenScores"]


@dataclass(frozen=True, slots=True)
class Completion:
    """What a system wrote for one held-out prompt. ``finished``: it stopped by itself.

    ``tokens``: how many, stop token included. ``ids``: the tokens themselves, without the stop token; empty where
    no policy wrote it.
    """

    id: str
    text: str
    finished: bool
    tokens: int = 0
    ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenScores:
    """Teacher-forced scores of one expert completion under one policy.

    The tuples run over the completion's tokens, stop token last. ``nats``: -log p of the expert's token;
    ``ranks``: how many tokens the policy found likelier (0 = it would have written the same);
    ``entropies``: of the policy's next-token distribution, nats; ``confidences``: probability of the token the
    policy found likeliest (empty in runs measured before it was recorded).
    ``bytes``: UTF-8 length of the completion.
    """

    id: str
    nats: tuple[float, ...]
    ranks: tuple[int, ...]
    entropies: tuple[float, ...]
    bytes: int
    confidences: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class OwnPath:
    """The clone's own greedy completion of one held-out prompt, token by token, stop token included if it wrote one.

    ``confidences``: the probability it gave each token it wrote. ``hits``: whether that token belongs to the
    longest common subsequence with the tokens (stop token included) of the reference that shares most with it.
    ``left``: index of the first token that no reference has there, all before it agreeing with one reference;
    None where it wrote a reference word for word, or was cut at the length limit while it still agreed with one.
    """

    id: str
    confidences: tuple[float, ...]
    hits: tuple[bool, ...]
    left: int | None


@dataclass(frozen=True, slots=True)
class Forced:
    """How a policy goes on when the first part of the expert's completion is given (prefix forcing).

    ``share``: how much of the expert's tokens was given, 0.25, 0.5 or 0.75. ``given`` and ``rest``: the two parts
    of the expert's completion. ``text``: what the policy wrote after ``given``.
    """

    id: str
    share: float
    given: str
    rest: str
    text: str
    finished: bool


@dataclass(frozen=True, slots=True)
class ControlWindow:
    """One window of a plain control text (no template, no stop token) under one policy.

    ``text``: name of the control text; ``window``: its number within it; ``nats``: summed over the tokens
    predicted; ``bytes``: UTF-8 length of what was predicted.
    """

    text: str
    window: int
    nats: float
    bytes: int


@dataclass(frozen=True, slots=True)
class PromptValue:
    """How much reading the prompt tells the base policy about one *training* completion, whole and token by token.

    ``own_nats``: -log p of the completion, stop token included, after its own prompt; ``other_nats``: the mean of
    the same after prompts of other demonstrations, ``others`` of them. ``own_token_nats`` and ``other_token_nats``:
    the same of each token that writes a part of the completion, and ``token_ends``: the character of the completion
    before which it ends (all three are empty in runs measured before tokens were recorded).
    """

    id: str
    own_nats: float
    other_nats: float
    others: int
    bytes: int
    token_ends: tuple[int, ...] = ()
    own_token_nats: tuple[float, ...] = ()
    other_token_nats: tuple[float, ...] = ()
