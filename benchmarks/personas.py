"""Three experts, the same questions: one file of demonstrations from the three personas of Personality Chat.

    python benchmarks/personas.py qna_chitchat_{friendly,professional,witty}.tsv -o personas.jsonl
    sft run benchmarks/personas.yaml --set demonstrations.expert=witty -o runs/witty

Each persona answers thousands of questions with about ninety answers, so questions are grouped by *scenario*: those to
which the three personas give the same three answers. A scenario is on one side of the split, and a held-out question
asks for an answer that no clone has read. Left out: questions that not all three answer, and crisis questions, whose
answer is a telephone number.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import Counter, defaultdict
from pathlib import Path


def rows_of(paths: list[Path]) -> list[dict[str, str]]:
    """Demonstrations with expert and scenario."""
    answers: dict[str, dict[str, str]] = defaultdict(dict)
    for path in paths:
        persona = path.stem.rpartition("_")[2]
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                answers[row["Question"].strip()].setdefault(persona, row["Answer"].strip())
    complete = {q: by for q, by in answers.items() if q and len(by) == len(paths)}
    scenarios: dict[tuple[str, ...], int] = {}
    rows = []
    for question, by in complete.items():
        if any("suicide" in answer.lower() for answer in by.values()):
            continue
        number = scenarios.setdefault(tuple(by[p] for p in sorted(by)), len(scenarios))
        rows += [
            {"prompt": question, "completion": answer, "expert": persona, "group": f"scenario {number}"}
            for persona, answer in sorted(by.items())
        ]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path, help="one TSV a persona")
    parser.add_argument("--output", "-o", type=Path, default=Path("personas.jsonl"))
    options = parser.parse_args()
    rows = rows_of(options.paths)
    options.output.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    sizes = Counter(row["group"] for row in rows)
    print(f"{options.output}: {len(rows)} demonstrations, {len(sizes)} scenarios, largest {sizes.most_common(3)}")


if __name__ == "__main__":
    main()
