"""Rows too long for one GPU: what a process holds and how long a step takes when two share each row.

    python benchmarks/long_rows.py FOLDER            # about twelve minutes on two cores

A Llama with random weights (hidden 256, eight layers) is fitted by LoRA to rows of about ``--tokens`` tokens, one row a
step: by one process, by two that share each row (``recipes/accelerate/long-rows.yaml``, over gloo on CPUs), both
without and with gradient checkpointing. Memory is the main process's peak, as its manifest has it, less that of the
same fit to rows of a few tokens, which is Python, libraries and weights. One process has both cores, two have one each.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "toys")]

LONGEST = 32_768
RECIPE = """\
model: {{name: {folder}/model}}
demonstrations: {{path: {data}}}
split: {{validation: 0.15, test: 0.15}}
adapter: {{r: 8}}
training: {{learning_rate: 1.0e-3, max_steps: 4, eval_steps: 4, logging_steps: 1, per_device_train_batch_size: 1,
  gradient_accumulation_steps: 1, gradient_checkpointing: {kept}, max_length: {longest}}}
"""


def main() -> None:
    """Four fits, and the same to short rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokens", type=int, default=8192)
    options = parser.parse_args()
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    _model(folder / "model")
    sizes = {"short": 16, "long": options.tokens}
    files = [_demonstrations(folder / f"{name}.jsonl", size) for name, size in sizes.items()]
    print(f"# Rows of {options.tokens} tokens that two processes share\n")
    print("| processes | gradient checkpointing | above short rows, MB | seconds a step | loss of each step |")
    print("|---|---|---|---|---|")
    for kept in (False, True):
        for processes in (1, 2):
            short, long = (_fit(folder, data, kept=kept, processes=processes) for data in files)
            grown = (_peak(long) - _peak(short)) / 1e6
            steps = [row for row in _log(long) if "loss" in row]
            seconds = (steps[-1]["wall_seconds"] - steps[0]["wall_seconds"]) / (len(steps) - 1)
            losses = ", ".join(f"{row['loss']:.5f}" for row in steps)
            print(f"| {processes} | {'yes' if kept else 'no'} | {grown:,.0f} | {seconds:.1f} | {losses} |", flush=True)


def _model(folder: Path) -> None:
    import small_tokenizers
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = small_tokenizers.chatml()
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=256, intermediate_size=1024, num_hidden_layers=8,
            num_attention_heads=8, num_key_value_heads=4, max_position_embeddings=LONGEST,
            pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        )
    ).save_pretrained(folder)  # fmt: skip
    tokenizer.save_pretrained(folder)


def _demonstrations(path: Path, tokens: int) -> Path:
    """Forty rows whose completions have about ``tokens`` tokens: letters, of which the tokenizer makes one each."""
    draw = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(40):
            text = "".join(draw.choice("abcdefghij") for _ in range(tokens))
            file.write(json.dumps({"prompt": f"Row {number} {draw.random()}", "completion": text}) + "\n")
    return path


def _fit(folder: Path, data: Path, *, kept: bool, processes: int) -> Path:
    run = folder / f"{data.stem}-{processes}{'-kept' if kept else ''}"
    recipe = run.with_suffix(".yaml")
    recipe.write_text(
        RECIPE.format(folder=folder, data=data, kept=str(kept).lower(), longest=LONGEST), encoding="utf-8"
    )
    launcher = ["-m", "accelerate.commands.launch", "--config_file", str(ROOT / "recipes/accelerate/long-rows.yaml")]
    launcher += ["--num_processes", str(processes)]
    words = [
        sys.executable,
        *(launcher if processes > 1 else []),
        "-m",
        "sft",
        "train",
        str(recipe),
        "--output",
        str(run),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(2 // processes)}
    with run.with_suffix(".txt").open("w", encoding="utf-8") as said:
        subprocess.run(words, check=True, env=environment, stdout=said, stderr=subprocess.STDOUT)
    return run


def _peak(run: Path) -> int:
    sessions = json.loads((run / "manifest.json").read_text(encoding="utf-8"))["sessions"]
    return int(sessions[-1]["peak_memory_bytes"])


def _log(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
