"""What probes need a policy for, beyond completions and scores: where forcing, own paths, control texts come from.

Each part is planned with the renderer alone (which rows there will be) and then made with a policy, so that an
interrupted evaluation knows what is missing.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from rapidfuzz.distance import LCSseq

from sft.demonstrations.demonstration import Demonstration
from sft.policies.generation import score
from sft.policies.policy import Policy
from sft.policies.rendering import Rendered, Renderer
from sft.runs.hashes import fingerprint
from sft.runs.records import Completion, ControlWindow, Forced, OwnPath, PromptValue

__all__ = [
    "SHARES",
    "ControlPiece",
    "Cut",
    "PromptContrast",
    "after",
    "control_windows",
    "cut",
    "forced",
    "own_paths",
    "prompt_values",
    "readings",
    "windows",
]

Ids = Sequence[int]

#: How much of the expert's completion is given in prefix forcing; nothing is what every system writes anyway.
SHARES = (0.25, 0.5, 0.75)

#: Tokens of a window of control text, and the most windows of one text.
WINDOW_TOKENS = 256
MOST_WINDOWS = 64

#: Training completions whose prompt is valued, and how many other prompts each is compared with.
VALUED = 100
OTHER_PROMPTS = 2

#: Rows scored in one forward pass; more of them would mean more padding, not more speed.
SCORED_AT_ONCE = 8


def after(prompt: Ids, completion: Ids) -> Rendered:
    """A completion after a prompt that need not be its own."""
    return Rendered((*prompt, *completion), (0,) * len(prompt) + (1,) * len(completion))


# -- prefix forcing -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cut:
    """An expert's completion in two: ``given + rest`` is all of it, and ``ids`` are the tokens of ``given``."""

    given: str
    rest: str
    ids: tuple[int, ...]


def cut(renderer: Renderer, completion: str, ids: Ids, share: float) -> Cut:
    """The first ``share`` of the completion's tokens (stop token not counted), and the rest, which is never empty.

    ``ids``: the completion's, end of turn included. Where the cut would part a character (several tokens to an
    emoji, a mark from its letter), it moves back to where it does not; the part given may come out empty.
    """
    words = len(ids) - len(renderer.end_of_turn)
    for count in range(math.floor(share * words), 0, -1):
        given = renderer.decode_completion(ids[:count])
        if len(given) < len(completion) and completion.startswith(given) and _is_clean(completion, len(given)):
            return Cut(given, completion[len(given) :], tuple(ids[:count]))
    return Cut("", completion, ())


def _is_clean(text: str, place: int) -> bool:
    """Whether ``text`` may be parted before ``place``: no replacement character, mark or joiner stands there."""
    if place == 0:
        return True
    before, behind = text[place - 1], text[place]
    # Half a character decodes to U+FFFD, which a text that holds one would seem to agree with.
    return before not in "\ufffd\u200d" and behind != "\u200d" and not unicodedata.category(behind).startswith("M")


def forced(
    renderer: Renderer,
    prompts: Mapping[str, Ids],
    cuts: Mapping[tuple[str, float], Cut],
    write: Callable[[Mapping[str, Ids]], Iterator[Completion]],
) -> Iterator[Forced]:
    """How a policy goes on after each cut, (id, share) -> :class:`Cut`. ``write``: completes prompts with it."""
    names = {f"{share} {key}": (key, share) for key, share in cuts}
    given = {name: [*prompts[key], *cuts[key, share].ids] for name, (key, share) in names.items()}
    for written in write(given):
        key, share = names[written.id]
        part = cuts[key, share]
        # Decoded as one: what decoders do to the beginning of a text must not be done in its middle.
        whole = renderer.decode_completion([*part.ids, *written.ids, *renderer.stop_token_ids[:1] * written.finished])
        text = whole.removeprefix(part.given) if whole.startswith(part.given) else written.text
        yield Forced(key, share, part.given, part.rest, text, written.finished)


# -- the clone's own path -----------------------------------------------------------------------------------


def own_paths(
    policy: Policy,
    prompts: Mapping[str, Ids],
    completions: Mapping[str, Completion],
    references: Mapping[str, Sequence[Ids]],
) -> Iterator[OwnPath]:
    """The policy's own greedy ``completions``, token by token.

    ``references``: the ids of everything the experts wrote for a prompt, stop token included.
    """
    stop = policy.renderer.end_of_turn[-1]
    own = {key: [*written.ids, *[stop] * written.finished] for key, written in completions.items()}
    rows = {key: after(prompts[key], ids) for key, ids in own.items() if ids}
    for scores in score(policy, rows, dict.fromkeys(rows, 0), batch_size=SCORED_AT_ONCE):
        confidences = [math.exp(-nats) for nats in scores.nats]
        if completions[scores.id].finished:  # with the likeliest token, whichever of the stop tokens that was
            confidences[-1] = scores.confidences[-1]
        written = own[scores.id]
        yield OwnPath(
            scores.id,
            tuple(confidences),
            _hits(written, references[scores.id]),
            _left(written, references[scores.id]),
        )


def _hits(own: Ids, references: Sequence[Ids]) -> tuple[bool, ...]:
    """Which tokens are of the longest common subsequence with the reference that shares most; the first of equals."""
    nearest = max(references, key=lambda reference: LCSseq.similarity(own, reference))
    hits = [False] * len(own)
    for block in LCSseq.opcodes(own, nearest):
        if block.tag == "equal":
            hits[block.src_start : block.src_end] = [True] * (block.src_end - block.src_start)
    return tuple(hits)


def _left(own: Ids, references: Sequence[Ids]) -> int | None:
    """Index of the first token that no reference, agreed with so far, has; None if there is none."""
    agreed = max(
        sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(own, reference, strict=False)))
        for reference in references
    )
    return agreed if agreed < len(own) else None


# -- plain control text -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ControlPiece:
    """A piece of a control text: ``ids``, the first of them (after what opens every text) as context only.

    ``predicted``: how many, from the end, are predicted; ``bytes``: UTF-8 length of what they say.
    """

    number: int
    ids: tuple[int, ...]
    predicted: int
    bytes: int


def windows(
    renderer: Renderer, text: str, *, size: int = WINDOW_TOKENS, most: int = MOST_WINDOWS
) -> list[ControlPiece]:
    """``text`` cut once into windows of ``size`` tokens, without a template; of more than ``most`` an even choice.

    A window begins with the last token of the one before, so every token but the first is predicted once, and
    the bytes of all windows add up to those of the text without its first token. None where it has fewer than two.
    """
    tokenizer = renderer.tokenizer
    read = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids = read["input_ids"]
    opening = tokenizer("a", verbose=False)["input_ids"][:1]
    opening = opening if opening == [tokenizer.bos_token_id] else []
    # Where several tokens make one character, all of its bytes count where the first of them is predicted.
    ends, sizes, reached = [], [], 0
    for _, end in read["offset_mapping"]:
        reached = max(reached, end)
        ends.append(reached)
    if ends:
        ends[-1] = len(text)
    for begin, end in zip([0, *ends], ends, strict=False):
        sizes.append(len(text[begin:end].encode("utf-8")))
    stride = size - 1
    starts = range(0, len(ids) - 1, stride)
    chosen = range(len(starts)) if len(starts) <= most else [place * len(starts) // most for place in range(most)]
    made = [
        ControlPiece(
            number,
            (*opening, *ids[starts[number] : starts[number] + size]),
            len(ids[starts[number] + 1 : starts[number] + size]),
            sum(sizes[starts[number] + 1 : starts[number] + size]),
        )
        for number in chosen
    ]
    return [window for window in made if window.bytes]  # the last one may be the end of a character only


def control_windows(policy: Policy, pieces: Mapping[tuple[str, int], ControlPiece]) -> Iterator[ControlWindow]:
    """How likely the policy finds each window, (name of the text, number) -> :class:`ControlPiece`."""
    names = {f"{number} {text}": (text, number) for text, number in pieces}
    rows = {}
    for name, key in names.items():
        context = len(pieces[key].ids) - pieces[key].predicted
        rows[name] = after(pieces[key].ids[:context], pieces[key].ids[context:])
    sizes = {name: pieces[key].bytes for name, key in names.items()}
    for scores in score(policy, rows, sizes, batch_size=SCORED_AT_ONCE):
        yield ControlWindow(*names[scores.id], math.fsum(scores.nats), scores.bytes)


# -- what the prompt tells ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PromptContrast:
    """A training completion to be read after its own prompt and after ``others``: ids, stop token included.

    ``text``: what the expert wrote, which ``completion`` are the ids of.
    """

    own: tuple[int, ...]
    others: tuple[tuple[int, ...], ...]
    completion: tuple[int, ...]
    text: str


def readings(
    rendered: Sequence[tuple[Demonstration, Rendered]], context: int, most: int = VALUED
) -> dict[str, PromptContrast]:
    """At most ``most`` training demonstrations, chosen by content, each with prompts of the next ones that differ.

    ``context``: tokens that prompt and completion may have together; what does not fit is passed over, and so are
    calls and what follows a thought.
    """
    ranked = sorted(rendered, key=lambda pair: fingerprint(pair[0].to_dict(content_only=True)))
    found: dict[str, PromptContrast] = {}
    for place, (demonstration, row) in enumerate(ranked):
        if len(found) == most:
            break
        if demonstration.thought or demonstration.calls:
            continue  # what is valued is the words of an answer
        others: dict[str, tuple[int, ...]] = {}
        for other, its in (*ranked[place + 1 :], *ranked[:place]):
            if len(others) == OTHER_PROMPTS:
                break
            if other.key != demonstration.key and len(its.prompt_ids) + len(row.completion_ids) <= context:
                others.setdefault(other.key, its.prompt_ids)
        if others and len(row) <= context:
            contrast = PromptContrast(
                row.prompt_ids, tuple(others.values()), row.completion_ids, demonstration.completion
            )
            found[demonstration.id] = contrast
    return found


def prompt_values(base: Policy, planned: Mapping[str, PromptContrast]) -> Iterator[PromptValue]:
    """How much likelier its own prompt makes each training completion for the base policy, as they are done."""
    owners: dict[str, str] = {}
    rows: dict[str, Rendered] = {}
    for key, reading in planned.items():
        for number, prompt in enumerate((reading.own, *reading.others)):
            owners[f"{number} {key}"] = key
            rows[f"{number} {key}"] = after(prompt, reading.completion)
    nats: dict[str, dict[str, tuple[float, ...]]] = {}
    for scores in score(base, rows, dict.fromkeys(rows, 0), batch_size=SCORED_AT_ONCE):
        key = owners[scores.id]
        known = nats.setdefault(key, {})
        known[scores.id] = scores.nats
        if len(known) == len(planned[key].others) + 1:
            del nats[key]
            own = known.pop(f"0 {key}")
            yield _prompt_value(key, base.renderer, planned[key], own, list(known.values()))


def _prompt_value(
    key: str, renderer: Renderer, contrast: PromptContrast, own: tuple[float, ...], others: list[tuple[float, ...]]
) -> PromptValue:
    """``own`` and each of ``others``: nats of the completion's tokens, stop token included."""
    ends = renderer.token_ends(contrast.text)
    mean = [math.fsum(column) / len(others) for column in zip(*others, strict=True)]
    return PromptValue(
        key,
        math.fsum(own),
        math.fsum(mean),
        len(others),
        len(contrast.text.encode("utf-8")),
        ends,
        own[: len(ends)],
        tuple(mean[: len(ends)]),
    )
