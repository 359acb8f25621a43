"""Shortcuts a clone has to beat: what needs no learning, and R, RK, K, L and P not even a model.

R answers with the completion of the nearest training prompt, RK with the most typical completion of the twenty
nearest, K with one constant completion, L, where answers are long, with some completion of the usual length, P with
the prompt itself. B3 prompts the base model with three demonstrations chosen here. All of them are functions of the
content alone: the order of the training rows, the machine and the run cannot change them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from sft.demonstrations.demonstration import Demonstration, HeldOut, Message, prompt_text
from sft.fidelity.conventions import FLOORS
from sft.fidelity.nearness import CharacterVectors, nearest_prompts
from sft.metrics.among import CountedTexts
from sft.metrics.text import words
from sft.runs.hashes import fingerprint
from sft.runs.machine import in_parts
from sft.runs.records import Completion

__all__ = [
    "b3_demonstrations",
    "b3_nearest",
    "constant",
    "copied_prompt",
    "demanded",
    "floor_completions",
    "length_matched",
    "nearest",
    "nearest_medoid",
    "nearness_to_training",
    "writes_at_length",
]

#: Similarities closer than this are ties: sums of floats may differ in the last digits.
_TIE = 9
#: Training completions that K is drawn from, and as many that it is held against.
DRAWN = 60
#: Median words of a training completion from which a text of the right length is a shortcut of its own, and how many
#: completions of about the median length L is drawn from.
LONG_WORDS, ALIKE_IN_LENGTH = 50, 100
#: Characters of completions whose n-grams are held at a time: about 1 GB at the most.
_COUNTED = 4_000_000
#: Prompts from which on RK takes seconds, and all cores.
MANY = 4_000


def _by_id(train: Sequence[Demonstration]) -> list[Demonstration]:
    """Training demonstrations in an order of their own. Raises ``ValueError`` when there are none."""
    if not train:
        raise ValueError("floors need at least one training demonstration")
    return sorted(train, key=lambda d: (d.id, d.completion))


def _texts(rows: Sequence[Demonstration] | Sequence[HeldOut]) -> tuple[str, ...]:
    return tuple(prompt_text(row.prompt) for row in rows)


def nearest(train: Sequence[Demonstration], held_out: Sequence[HeldOut]) -> dict[str, Completion]:
    """R: for each held-out prompt the completion of the most similar training prompt, by held-out id.

    Similarity is the cosine of character TF-IDF vectors fitted on the training prompts; ties go to the
    smallest training id. Raises ``ValueError`` without training demonstrations.
    """
    ordered = _by_id(train)
    places, _ = nearest_prompts(_texts(ordered), _texts(held_out))
    return {
        item.id: Completion(item.id, ordered[near[0]].completion, finished=True, thought=ordered[near[0]].thought)
        for item, near in zip(held_out, places.tolist(), strict=True)
    }


def nearest_medoid(train: Sequence[Demonstration], held_out: Sequence[HeldOut]) -> dict[str, Completion]:
    """RK: the most typical completion of the twenty most similar training prompts, by held-out id.

    That is the medoid by chrF: the one with the highest mean score against the twenty, of equals the one whose prompt
    is nearer. Where one neighbour answers oddly, as every expert does at times, R repeats that answer, and RK does
    not. Raises ``ValueError`` without training demonstrations.
    """
    ordered = _by_id(train)
    places, _ = nearest_prompts(_texts(ordered), _texts(held_out))
    texts = [d.completion for d in ordered]
    typical = [
        place
        for part in in_parts(_medoids, places.tolist(), texts, least=MANY, title="answers to near prompts")
        for place in part
    ]
    return {
        item.id: Completion(item.id, texts[place], finished=True) for item, place in zip(held_out, typical, strict=True)
    }


def _medoids(near: Sequence[Sequence[int]], texts: Sequence[str]) -> list[int]:
    """Of each row of places, the place of the text that is the medoid."""
    places, found = np.array(near), list[int]()
    for start, stop in _batches(places, [len(text) for text in texts]):
        used, seats = np.unique(places[start:stop], return_inverse=True)
        counted = CountedTexts([texts[place] for place in used])
        for row, seat in zip(places[start:stop], seats.reshape(stop - start, -1), strict=True):
            found.append(int(row[counted.chrf(seat).mean(axis=1).round(_TIE).argmax()]))
    return found


def _batches(places: NDArray[np.intp], lengths: Sequence[int]) -> list[tuple[int, int]]:
    """First and last row of parts of ``places`` that name no more than ``_COUNTED`` characters of texts, or one row."""
    bounds, known, held = [0], set[int](), 0
    for row, near in enumerate(places.tolist()):
        fresh = set(near) - known
        more = sum(lengths[place] for place in fresh)
        if held + more > _COUNTED and row > bounds[-1]:
            bounds.append(row)
            known, held, fresh = set(), 0, set(near)
            more = sum(lengths[place] for place in fresh)
        known |= fresh
        held += more
    return list(zip(bounds, [*bounds[1:], len(places)], strict=True))


def nearness_to_training(train: Sequence[Demonstration], held_out: Sequence[HeldOut]) -> dict[str, float]:
    """How like its nearest training prompt each held-out prompt is, by held-out id: the cosine R goes by, 0 to 1.

    Raises ``ValueError`` without training demonstrations.
    """
    _, cosines = nearest_prompts(_texts(_by_id(train)), _texts(held_out))
    return dict(zip((item.id for item in held_out), cosines[:, 0].tolist(), strict=True))


def _drawn(train: Sequence[Demonstration]) -> list[Demonstration]:
    """All training demonstrations in an order that is as good as drawn, and hangs on their content alone."""
    return sorted(_by_id(train), key=lambda d: fingerprint(d.to_dict(content_only=True)))


def constant(train: Sequence[Demonstration], held_out: Sequence[HeldOut]) -> dict[str, Completion]:
    """K: the most typical training completion, given to every held-out prompt.

    Of sixty that are drawn by their content, and the medoid of all under character TF-IDF, the one with the highest
    mean chrF against sixty others (against all where there are fewer than that); of equals the first. That medoid,
    which was K before, can be a long text with a little of everything, and easy to beat; where completions have
    little in common (shell commands), no sixty hold a better one.
    Raises ``ValueError`` without training demonstrations.
    """
    drawn = [d.completion for d in _drawn(train)[: 2 * DRAWN]]
    others = slice(DRAWN if len(drawn) == 2 * DRAWN else 0, len(drawn))
    candidates = [*range(min(DRAWN, len(drawn))), len(drawn)]
    texts = [*drawn, _central(train)]
    scores = CountedTexts(texts).chrf(range(len(texts)))[candidates, others]
    typical = texts[candidates[int(scores.mean(axis=1).round(_TIE).argmax())]]
    return {item.id: Completion(item.id, typical, finished=True) for item in held_out}


def _central(train: Sequence[Demonstration]) -> str:
    """The training completion with the highest mean cosine to all others under character TF-IDF, ties to the first id.

    Cosines of unit vectors add up, so one sum over the set takes the place of all pairs.
    """
    ordered = _by_id(train)
    vectors = CharacterVectors([d.completion for d in ordered]).fitted
    total = np.asarray(vectors.sum(axis=0)).ravel()
    return ordered[int(np.round((vectors @ total) / len(ordered), _TIE).argmax())].completion


def writes_at_length(train: Sequence[Demonstration]) -> bool:
    """Whether the expert's answers are long enough for L: 50 words or more at the median of training completions."""
    return bool(train) and float(np.median([len(words(d.completion)) for d in train])) >= LONG_WORDS


def length_matched(train: Sequence[Demonstration], held_out: Sequence[HeldOut]) -> dict[str, Completion]:
    """L: some training completion of the usual length, another for every held-out prompt.

    One is drawn, by the content of the prompt, of the hundred that are nearest in characters to the median training
    completion. Two long texts in one language share many n-grams whatever they say, if they are of one length.
    Raises ``ValueError`` without training demonstrations.
    """
    drawn = _drawn(train)
    median = float(np.median([len(d.completion) for d in drawn]))
    alike = sorted(drawn, key=lambda d: abs(len(d.completion) - median))[:ALIKE_IN_LENGTH]
    found: dict[str, Completion] = {}
    for item in held_out:
        place = int(fingerprint([message.to_dict() for message in item.prompt]), 16) % len(alike)
        found[item.id] = Completion(item.id, alike[place].completion, finished=True)
    return found


def copied_prompt(held_out: Sequence[HeldOut]) -> dict[str, Completion]:
    """P: the last user message, word for word.

    Not the whole prompt: a system message or earlier turns, the same for every row, would only dilute the
    copy and make the shortcut easier to beat.
    """
    asked = {item.id: next(turn for turn in reversed(item.prompt) if turn.role != "thought") for item in held_out}
    return {key: Completion(key, turn.content, finished=True) for key, turn in asked.items()}


def floor_completions(train: Sequence[Demonstration], held_out: Sequence[HeldOut]) -> dict[str, dict[str, Completion]]:
    """The floors that need no model, L for long answers only: system -> held-out id -> completion."""
    found = {
        "R": nearest(train, held_out),
        "RK": nearest_medoid(train, held_out),
        "K": constant(train, held_out),
        "P": copied_prompt(held_out),
    }
    if writes_at_length(train):
        found["L"] = length_matched(train, held_out)
    return found


def demanded(train: Sequence[Demonstration], more: Iterable[str] = ()) -> list[str]:
    """The floors that a clone of ``train`` has to beat: L where its answers are long, or where it is among ``more``."""
    return [floor for floor in FLOORS if floor != "L" or "L" in more or writes_at_length(train)]


def _length(demonstration: Demonstration) -> int:
    """Characters of prompt and completion."""
    return len(prompt_text(demonstration.prompt)) + len(demonstration.completion)


def b3_nearest(
    train: Sequence[Demonstration], held_out: Sequence[HeldOut], count: int = 3
) -> dict[str, list[Demonstration]]:
    """The demonstrations shown in B3 where they are the nearest: by held-out id, the most similar prompt's last.

    Similarity is R's. A prompt is shown once. Raises ``ValueError`` without training demonstrations.
    """
    ordered = _by_id(train)
    places, _ = nearest_prompts(_texts(ordered), _texts(held_out))
    found: dict[str, list[Demonstration]] = {}
    for item, near in zip(held_out, places.tolist(), strict=True):
        once = {ordered[place].prompt: ordered[place] for place in reversed(near)}
        found[item.id] = list(once.values())[-count:]
    return found


def b3_demonstrations(train: Sequence[Demonstration], count: int = 3) -> list[Demonstration]:
    """The demonstrations shown to the base model in B3: ``count`` of them (fewer if the set is smaller).

    Among those whose prompt and completion together are no longer, in characters, than the median, those
    with the smallest content hash: fixed for a data set, of no one's choosing, and short enough to fit.
    A prompt, and as far as possible a completion, is shown once; a set too small for that gives its
    shortest. Raises ``ValueError`` without any.
    """
    ordered = _drawn(train)
    median = float(np.median([_length(d) for d in ordered]))
    pool = [d for d in ordered if _length(d) <= median]
    if len({d.prompt for d in pool}) < count:
        pool = sorted(ordered, key=_length)
    chosen: list[Demonstration] = []
    spare: list[Demonstration] = []
    prompts: set[tuple[Message, ...]] = set()
    for demonstration in pool:
        if demonstration.prompt in prompts:
            continue
        prompts.add(demonstration.prompt)
        repeats = any(demonstration.completion == other.completion for other in chosen)
        (spare if repeats else chosen).append(demonstration)
        if len(chosen) == count:
            break
    return [*chosen, *spare][:count]
