"""Three experts, the same questions: one file of demonstrations from the three personas of Personality Chat.

    python benchmarks/personas.py make qna_chitchat_{friendly,professional,witty}.tsv -o personas.jsonl
    sft run benchmarks/personas.yaml --set demonstrations.expert=witty -o runs/witty
    python benchmarks/personas.py leads personas.jsonl runs/witty runs/friendly runs/professional

Each persona answers thousands of questions with about ninety answers. A *scenario* is the questions to which the
three give the same three answers. Held out are questions; with ``--by scenario`` whole scenarios, so that a held-out
question asks for an answer that no clone has read. Left out: questions that not all three answer, and crisis
questions, whose answer is a telephone number. ``leads`` says how much closer each clone is to its own persona than to
the others, with intervals by question and, since questions of one scenario have one answer, by scenario.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from sft import metrics
from sft.fidelity import stored
from sft.metrics import intervals
from sft.metrics.estimate import Estimate
from sft.runs.run import Run, read_jsonl


def answers_of(paths: Sequence[Path]) -> dict[str, dict[str, str]]:
    """Question -> persona -> answer, for questions that all personas answer."""
    answers: dict[str, dict[str, str]] = defaultdict(dict)
    for path in paths:
        persona = path.stem.rpartition("_")[2]
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                answers[row["Question"].strip()].setdefault(persona, row["Answer"].strip())
    return {
        question: by
        for question, by in answers.items()
        if question and len(by) == len(paths) and not any("suicide" in answer.lower() for answer in by.values())
    }


def make(paths: Sequence[Path], output: Path, by_scenario: bool) -> None:
    """Write the demonstrations, three a question, each with its expert and its scenario."""
    scenarios: dict[tuple[str, ...], str] = {}
    rows = []
    for question, by in answers_of(paths).items():
        scenario = scenarios.setdefault(tuple(by[p] for p in sorted(by)), f"scenario {len(scenarios)}")
        for persona, answer in sorted(by.items()):
            row = {"prompt": question, "completion": answer, "expert": persona, "scenario": scenario}
            rows.append(row | ({"group": scenario} if by_scenario else {}))
    output.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(f"{output}: {len(rows)} demonstrations, {len(scenarios)} scenarios")


def leads(demonstrations: Path, runs: Sequence[Path]) -> None:
    """A Markdown table: every clone against every persona, and its lead for its own."""
    lines = demonstrations.read_text(encoding="utf-8").splitlines()
    scenario = {row["prompt"]: row["scenario"] for row in map(json.loads, lines)}
    print("| clone of | against | chrF | lead of its own, by question | by scenario | p, by scenario, Holm |")
    print("|---|---|---|---|---|---|")
    for path in runs:
        run = Run.open(path)
        items = stored.read_held_out(run)
        wrote = {row["id"]: row["text"] for row in read_jsonl(run.completions_path("tuned"))}
        labels = [scenario[item.prompt[-1].content] for item in items]
        own = [metrics.chrf(wrote[item.id], item.references[0]) for item in items]
        name = items[0].experts[0]
        print(f"| {name} | **{name}** | {shown(intervals.clustered_t(own, labels))} | | | |")
        apart = {}
        for other in sorted({persona for item in items for persona, _ in item.others}):
            against = [metrics.chrf(wrote[item.id], dict(item.others)[other]) for item in items]
            apart[other] = (against, [a - b for a, b in zip(own, against, strict=True)])
        adjusted = intervals.holm([intervals.sign_flip(lead, labels) for _, lead in apart.values()])
        for (other, (against, lead)), p_value in zip(apart.items(), adjusted, strict=True):
            found = [intervals.clustered_t(lead), intervals.clustered_t(lead, labels)]
            cells = [shown(intervals.clustered_t(against, labels)), *map(shown, found), f"{p_value:.4f}"]
            print(f"| {name} | {other} | {' | '.join(cells)} |")


def shown(interval: Estimate) -> str:
    """``4.9 [2.2, 7.7]``."""
    return f"{interval.value:.1f} [{interval.low:.1f}, {interval.high:.1f}]"


def main() -> None:
    """Make the file, or judge runs by it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    making = verbs.add_parser("make")
    making.add_argument("paths", nargs="+", type=Path, help="one TSV a persona")
    making.add_argument("--output", "-o", type=Path, default=Path("personas.jsonl"))
    making.add_argument("--by", choices=["question", "scenario"], default="question", help="what is held out")
    judging = verbs.add_parser("leads")
    judging.add_argument("demonstrations", type=Path)
    judging.add_argument("runs", nargs="+", type=Path)
    options = parser.parse_args()
    if options.verb == "make":
        make(options.paths, options.output, options.by == "scenario")
    else:
        leads(options.demonstrations, options.runs)


if __name__ == "__main__":
    main()
