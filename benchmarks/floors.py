"""What the shortcuts that need no model score on any demonstrations, and whether the newer ones are harder to beat.

    python benchmarks/floors.py FILE...            # as many as there are, in any format that sft reads
    python benchmarks/floors.py data:aws --held-out 300 --training 2000

A third of the groups is held out, 300 prompts at most, by the hash of the group; of the rest 2,000 rows at most are
training. Beside each floor stands its chrF against the expert's first completion, and paired differences with their
clustered 95 % intervals: K over the K of before (the medoid of all training completions under TF-IDF), RK over R,
and L over K.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from sft.demonstrations import formats
from sft.demonstrations.demonstration import Demonstration, HeldOut, held_out
from sft.fidelity import floors
from sft.fidelity.conventions import span
from sft.metrics import chrf, words
from sft.metrics.intervals import estimates
from sft.runs.hashes import fingerprint
from sft.runs.records import Completion

Written = dict[str, Completion]


def medoid_of_all(train: Sequence[Demonstration], items: Sequence[HeldOut]) -> Written:
    """K as it was: the training completion with the highest mean cosine of character TF-IDF to all others."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [d.completion for d in sorted(train, key=lambda d: (d.id, d.completion))]
    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), dtype=np.float64).fit_transform(texts)
    typical = texts[int(np.round(vectors @ np.asarray(vectors.sum(axis=0)).ravel(), 9).argmax())]
    return {item.id: Completion(item.id, typical, finished=True) for item in items}


def measured(name: str, most_held_out: int, most_training: int) -> list[str]:
    """The lines about one file."""
    rows = list(formats.read_source(name).demand())
    rows.sort(key=lambda d: (fingerprint(d.group or d.id), fingerprint(d.to_dict(content_only=True))))
    groups = list(dict.fromkeys(d.group or d.id for d in rows))
    apart = set(groups[: len(groups) // 3])
    items = held_out([d for d in rows if (d.group or d.id) in apart])[:most_held_out]
    train = [d for d in rows if (d.group or d.id) not in apart][:most_training]
    found = {"K before": medoid_of_all(train, items), **floors.floor_completions(train, items)}
    found["L"] = floors.length_matched(train, items)
    scores = {s: np.array([chrf(w[i.id].text, i.references[0]) for i in items]) for s, w in found.items()}
    labels = [item.cluster for item in items]
    count = len(set(labels))
    median = np.median([len(words(d.completion)) for d in train])
    lines = [f"{name}: {len(items)} prompts in {count} groups, {len(train)} training rows, median {median:g} words"]
    for system, values in scores.items():
        asked = "" if system != "L" or floors.writes_at_length(train) else "  (not a floor here: answers are short)"
        letters = np.median([len(one.text) for one in found[system].values()])
        lines.append(f"  {system:9} {span(estimates.mean(values, labels)):20} {letters:5.0f} characters{asked}")
    for one, other in (("K", "K before"), ("RK", "R"), ("L", "K")):
        lines.append(f"  {one} over {other}: {span(estimates.mean(scores[one] - scores[other], labels))}")
    return lines


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("files", nargs="+", metavar="FILE")
    options.add_argument("--held-out", type=int, default=300)
    options.add_argument("--training", type=int, default=2_000)
    given = options.parse_args()
    for name in given.files:
        print("\n".join(measured(name, given.held_out, given.training)))


if __name__ == "__main__":
    main()
