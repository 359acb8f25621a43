"""Which chrF should be the headline? Three candidates side by side on runs that are there already.

    python benchmarks/beta.py runs/demo runs/aws ...

For every run: the mean of each system under chrF with beta 1, chrF with beta 2, and chrF2 with every completion cut at
the 99th percentile of the training completions' length, and the clone's paired gain over the untuned
base model (B0) with its 95 % interval. A headline that a rambler can win is not one: watch B0's length.
Needs no model. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from sft import metrics
from sft.demonstrations.demonstration import Demonstration, held_out
from sft.metrics import intervals
from sft.runs.run import read_jsonl

CANDIDATES = ("chrF1", "chrF2", "chrF2 cut")


def scores_of(text: str, references: Sequence[str], longest: int) -> tuple[float, float, float]:
    """Mean over references, in points, under each candidate."""
    whole = [metrics.score(text, reference) for reference in references]
    cut = [metrics.score(text[:longest], reference) for reference in references]
    return fmean(s["chrf"] for s in whole), fmean(s["chrf2"] for s in whole), fmean(s["chrf2"] for s in cut)


def table(run: Path) -> str:
    """One run's Markdown table."""
    rows = read_jsonl(run / "demonstrations.jsonl")
    split = json.loads((run / "measurement.json").read_text(encoding="utf-8"))["split"]
    lengths = sorted(len(row["completion"]) for row in rows if row["split"] == "train")
    longest = lengths[math.ceil(0.99 * len(lengths)) - 1]
    items = {item.id: item for item in held_out(Demonstration.from_dict(r) for r in rows if r["split"] == split)}
    scored: dict[str, dict[str, tuple[float, float, float]]] = {}
    words: dict[str, float] = {}
    for path in sorted(run.glob("completions-*.jsonl")):
        system = path.stem.removeprefix("completions-")
        written = {row["id"]: row["text"] for row in read_jsonl(path)}
        scored[system] = {key: scores_of(text, items[key].references, longest) for key, text in written.items()}
        words[system] = fmean(len(text.split()) for text in written.values())
    ids = list(scored["tuned"])
    expert = fmean(len(items[key].references[0].split()) for key in ids)
    lines = [f"## {run.name}: {len(ids)} prompts, expert {expert:.1f} words, cut at {longest} characters", ""]
    lines += ["| system | words | " + " | ".join(CANDIDATES) + " |", "|---|---|" + "---|" * len(CANDIDATES)]
    for system, by_id in sorted(scored.items(), key=lambda item: -fmean(s[0] for s in item[1].values())):
        means = [fmean(score[i] for score in by_id.values()) for i in range(len(CANDIDATES))]
        lines.append(f"| {system} | {words[system]:.1f} | " + " | ".join(f"{mean:.1f}" for mean in means) + " |")
    lines.append("")
    for index, candidate in enumerate(CANDIDATES):
        if "B0" in scored:
            gains = [scored["tuned"][key][index] - scored["B0"][key][index] for key in ids]
            found = intervals.clustered_t(gains, [items[key].cluster for key in ids])
            lines.append(f"- gain over B0, {candidate}: {found.value:+.1f} [{found.low:+.1f}, {found.high:+.1f}]")
    return "\n".join(lines)


def main() -> None:
    """Print the table of every run named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run directories with completions")
    for run in parser.parse_args().runs:
        print(table(run) + "\n")


if __name__ == "__main__":
    main()
