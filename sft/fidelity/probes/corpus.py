"""Corpus BLEU and corpus chrF++, the figures of the literature, with several references at once.

sacreBLEU takes the sufficient statistics of each completion once; every figure, and every draw of the bootstrap
over clusters, is arithmetic on their sums. Texts are in NFC, as everywhere here, and BLEU has effective order on:
without it identical answers of fewer than four words score 0.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sft.demonstrations.demonstration import HeldOut
from sft.fidelity.probes import Absent
from sft.metrics import intervals, nfc
from sft.metrics.estimate import Estimate
from sft.metrics.intervals import estimates
from sft.metrics.text import unspaced
from sft.runs.machine import in_parts
from sft.runs.records import Completion

__all__ = ["ONE_OUT", "bleu", "chrf_pp", "corpus", "tokenizer"]

Floats = NDArray[np.float64]

#: Ends the name of a figure for which each prompt leaves one reference out, as another expert has to.
ONE_OUT = "_one_out"
#: References of a prompt that are left out in turn, at most: the work grows with its square.
TURNS = 3
#: Prompts from which on counting takes seconds, and all cores.
MANY = 2_000
#: BLEU counts word n-grams of orders 1 to 4; chrF++ character n-grams 1 to 6 and word n-grams 1 and 2.
_BLEU_ORDERS, _CHRF_ORDERS = 4, 8


def corpus(
    held_out: Sequence[HeldOut], completions: Mapping[str, Mapping[str, Completion]], *, seed: int
) -> tuple[dict[str, dict[str, Estimate]], dict[str, str]]:
    """System -> {"bleu", "chrf_pp"} in points, and sacreBLEU's signatures of the two.

    More references make both figures higher, and another expert has one less than the systems. So E is each reference
    in turn (3 of a prompt at most, drawn by ``seed``) against the others of its prompt, the statistics averaged so
    that a prompt counts once; and the clone has, beside its usual figures, "bleu_one_out" and "chrf_pp_one_out",
    which are against those same others: compare these with E. A prompt without a completion is left out.
    Raises ``Absent`` where no system wrote anything.
    """
    systems = {
        system: [item for item in held_out if item.id in written]
        for system, written in completions.items()
    }  # fmt: skip
    systems = {system: items for system, items in systems.items() if items}
    if not systems:
        raise Absent("no system wrote anything")
    tokenize = tokenizer([text for item in held_out for text in item.references])
    references = {item.id: [nfc(text) for text in item.references] for item in held_out}
    asked = [
        (references[item.id], {system: _text(completions[system], item.id) for system in systems}) for item in held_out
    ]
    turns = _turns(references, seed)
    found: dict[str, dict[str, Estimate]] = {system: {} for system in systems}
    signatures: dict[str, str] = {}
    for name, (make, figure) in {"bleu": (_bleu, bleu), "chrf_pp": (_chrf_pp, chrf_pp)}.items():
        blank = [
            [""] * len(texts) for texts in references.values()
        ]  # it says how many there are, and not what they say
        signatures[name] = f"{_Statistics(make(tokenize), blank).signature}|norm:NFC"
        counted = in_parts(_counted, asked, make, tokenize, least=MANY, title="corpus figures")
        for system, items in systems.items():
            rows = np.concatenate([part[system] for part in counted])
            labels = [item.cluster for item in items]
            kept = [item.id in completions[system] for item in held_out]
            found[system][name] = _estimate(rows[kept], figure, labels, seed)
        if turns:
            others = _Statistics(make(tokenize), [rest for _, _, rest in turns])
            rows = others.of([text for _, text, _ in turns])
            found.setdefault("E", {})[name] = _averaged(rows, held_out, [key for key, _, _ in turns], figure, seed)
            written = completions.get("tuned", {})
            kept = [key in written for key, _, _ in turns]
            if any(kept):
                rows = others.of([_text(written, key) for key, _, _ in turns])[kept]
                keys = [key for key, _, _ in turns if key in written]
                found["tuned"][name + ONE_OUT] = _averaged(rows, held_out, keys, figure, seed)
    return found, signatures


def tokenizer(references: Sequence[str]) -> str:
    """The sacreBLEU tokenizer for BLEU: "13a", or where most letters are of scripts without spaces "zh" or "char".

    "zh" where at least 19 in 20 of those letters are Han, "char" (Japanese, Thai, ...) otherwise.
    """
    letters = Counter({letter: count for letter, count in Counter("".join(references)).items() if letter.isalpha()})
    without = Counter({letter: count for letter, count in letters.items() if unspaced(letter)})
    if 2 * without.total() <= letters.total():
        return "13a"
    han = sum(count for letter, count in without.items() if "\u3400" <= letter <= "\u9fff" or letter >= "\uf900")
    return "zh" if 20 * han >= 19 * without.total() else "char"


def bleu(sums: Floats) -> Floats:
    """BLEU of summed statistics: shape (m, 10) to points (m,).

    Columns: words written, words of the nearest reference, matches of orders 1 to 4, n-grams of orders 1 to 4.
    sacreBLEU's exponential smoothing and effective order (Post 2018; Chen & Cherry 2014, method 3).
    """
    written, wanted = sums[:, 0], sums[:, 1]
    matches, totals = sums[:, 2 : 2 + _BLEU_ORDERS], sums[:, 2 + _BLEU_ORDERS :]
    seen = totals > 0
    # The first order without a match counts as half a match, the second as a quarter, and so on.
    halvings = np.cumsum(seen & (matches == 0), axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precisions = np.where(matches > 0, matches, 0.5**halvings) / totals
        logs = np.where(seen, np.log(precisions), 0.0).sum(axis=1) / seen.sum(axis=1)
        penalty = np.where(written < wanted, 1 - wanted / written, 0.0)
        points = 100 * np.exp(penalty + logs)
    return np.where(matches.any(axis=1), points, 0.0)


def chrf_pp(sums: Floats) -> Floats:
    """chrF++ of summed statistics: shape (m, 24) to points (m,).

    Columns: for each of 8 orders the n-grams written, those of the best reference, and the matches. Beta 2;
    precision and recall are means over the orders that both sides have (Popović 2017; sacreBLEU).
    """
    written, wanted, matches = (sums[:, start::3] for start in range(3))
    both = (written > 0) & (wanted > 0)
    orders = np.maximum(both.sum(axis=1), 1)
    precision = (np.divide(matches, written, where=both, out=np.zeros_like(matches))).sum(axis=1) / orders
    recall = (np.divide(matches, wanted, where=both, out=np.zeros_like(matches))).sum(axis=1) / orders
    # F of beta 2, in points: 100 (1 + 4) P R / (4 P + R).
    below = 4 * precision + recall
    return np.asarray(500 * precision * recall / np.where(below > 0, below, 1.0))


def _bleu(tokenize: str) -> Callable[..., Any]:
    from sacrebleu.metrics import BLEU

    return lambda references: BLEU(tokenize=tokenize, effective_order=True, force=True, references=references)


def _chrf_pp(_: str) -> Callable[..., Any]:
    from sacrebleu.metrics import CHRF

    return lambda references: CHRF(word_order=2, references=references)


class _Statistics:
    """One metric of sacreBLEU with the references of a corpus read once: ``references[i]`` for text i."""

    def __init__(self, make: Callable[..., Any], references: Sequence[Sequence[str]]) -> None:
        most = max(map(len, references))
        padded = [[*texts, *[None] * (most - len(texts))] for texts in references]
        self._metric = make(references=list(zip(*padded, strict=True)))
        self.signature = str(self._metric.get_signature())

    def of(self, texts: Sequence[str]) -> Floats:
        """Sufficient statistics of each text, shape (n, k).

        sacreBLEU has no public way to them that reads the references once; tests hold the figures to ``corpus_score``.
        """
        return np.array(self._metric._extract_corpus_statistics(texts, None), dtype=np.float64)


def _counted(
    asked: Sequence[tuple[Sequence[str], Mapping[str, str]]], make: Callable[[str], Callable[..., Any]], tokenize: str
) -> dict[str, Floats]:
    """Statistics of every system's texts, shape (n, k), of some prompts: (references, system -> text)."""
    known = _Statistics(make(tokenize), [references for references, _ in asked])
    return {system: known.of([texts[system] for _, texts in asked]) for system in asked[0][1]}


def _text(written: Mapping[str, Completion], key: str) -> str:
    return nfc(written[key].text) if key in written else ""


def _turns(references: Mapping[str, Sequence[str]], seed: int) -> list[tuple[str, str, list[str]]]:
    """Held-out id, one reference, and the others of its prompt: for each reference drawn."""
    turns: list[tuple[str, str, list[str]]] = []
    generator = random.Random(seed)
    for key, texts in references.items():
        if len(texts) > 1:
            for chosen in sorted(generator.sample(range(len(texts)), min(TURNS, len(texts)))):
                turns.append((key, texts[chosen], [text for other, text in enumerate(texts) if other != chosen]))
    return turns


def _averaged(
    rows: Floats, held_out: Sequence[HeldOut], keys: Sequence[str], figure: Callable[[Floats], Floats], seed: int
) -> Estimate:
    """The figure of rows, several to a prompt, averaged so that each prompt counts once."""
    places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    index = np.array([places[key] for key in keys])
    sums = np.zeros((len(places), rows.shape[1]))
    np.add.at(sums, index, rows)
    labels = [item.cluster for item in held_out if item.id in places]
    return _estimate(sums / np.bincount(index)[:, None], figure, labels, seed)


def _estimate(rows: Floats, figure: Callable[[Floats], Floats], labels: Sequence[str], seed: int) -> Estimate:
    return estimates.scaled(intervals.cluster_bootstrap(list(rows.T), figure, labels, seed=seed), bounds=(0, 100))
