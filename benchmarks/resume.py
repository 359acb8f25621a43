"""Ten deaths by kill -9, one process and two: is the adapter the untouched run's, and was every row seen as it was?

    python benchmarks/resume.py > benchmarks/results/resume.md      # about five minutes on two cores

A tiny Llama with random weights is fitted with dropout for 24 steps over two and a half epochs, validation and
checkpoint every third step. One run is left alone; another is killed from outside, ten times, as soon as a step
drawn by chance (seeded) stands in its log, in a process drawn by chance, and started again with --resume each time.
What each process read is written down by hooks of torch's own (``tests/toys/watched``); the product is as users run it.
Several processes are real ones over gloo.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "toys")]
STEPS, DEATHS = 24, 10

RECIPE = """\
model: {{name: {folder}/model}}
demonstrations: {{path: {folder}/demonstrations.jsonl}}
split: {{validation: 0.15, test: 0.25, near_duplicates: remove}}
adapter: {{r: 4, lora_dropout: 0.1}}
training: {{learning_rate: 1.0e-2, max_steps: 24, eval_steps: 3, logging_steps: 1, per_device_train_batch_size: 4}}
"""


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    ).parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _prepare(folder)
        print(
            f"# Resume after kill -9\n\n{DEATHS} deaths at steps drawn by chance, {STEPS} steps, checkpoint every 3.\n"
        )
        print("| processes | killed after step (process) | exit codes | rows that were read | losses | adapter |")
        print("|---|---|---|---|---|---|")
        for processes in (1, 2):
            print(_row(folder, processes), flush=True)
    print("\nCommand: `python benchmarks/resume.py`. Rows: every life read a part of what the untouched run read.")


def _prepare(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import small_tokenizers, torch\n"
        "from transformers import LlamaConfig, LlamaForCausalLM\nfrom toy_demonstrations import write_demonstrations\n"
        "folder = Path(sys.argv[1]); t = small_tokenizers.chatml(); torch.manual_seed(0)\n"
        "LlamaForCausalLM(LlamaConfig(vocab_size=len(t), hidden_size=64, intermediate_size=128, num_hidden_layers=2,\n"
        "    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, pad_token_id=t.pad_token_id,\n"
        "    eos_token_id=t.eos_token_id)).save_pretrained(folder / 'model')\n"
        "t.save_pretrained(folder / 'model'); write_demonstrations(folder / 'demonstrations.jsonl')\n"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, env=_environment(), capture_output=True)
    (folder / "recipe.yaml").write_text(RECIPE.format(folder=folder), encoding="utf-8")


def _row(folder: Path, processes: int) -> str:
    import torch
    from safetensors.torch import load_file
    from toy_launches import launch, passes

    draw = random.Random(processes)
    # A death after the last step would come while the clone is saved, and no step would be taken again.
    deaths = sorted((draw.randrange(1, STEPS - 1), draw.randrange(processes)) for _ in range(DEATHS))
    untouched, killed = (folder / f"{name}-{processes}" for name in ("untouched", "killed"))

    def train(run: Path, *words: str, die: tuple[int, int] | None = None) -> dict[str, Any]:
        told = ["train", str(folder / "recipe.yaml"), "--output", str(run), *words]
        doom = None if die is None else {"step": die[0], "rank": die[1], "log": str(run / "log.jsonl")}
        return {"words": told, "watch": str(run.with_suffix(".watch")), "processes": processes, "kill": doom}

    plan = [train(untouched), *(train(killed, *["--resume"] * (n > 0), die=die) for n, die in enumerate(deaths))]
    results = [launch(**one) for one in [*plan, train(killed, "--resume")]]
    codes = sorted({tuple(sorted(result["codes"])) for result in results[1:-1]})
    assert results[0]["codes"] == results[-1]["codes"] == [0] * processes, results[-1]["said"]
    whole = passes(untouched.with_suffix(".watch"))
    lives = passes(killed.with_suffix(".watch"))
    same_rows = all(_within(whole[rank][0], life) for rank, all_of_one in lives.items() for life in all_of_one)
    losses = [
        [row | {"wall_seconds": 0} for row in map(json.loads, (run / "log.jsonl").open())]
        for run in (untouched, killed)
    ]
    first, second = (load_file(run / "adapter" / "adapter_model.safetensors") for run in (untouched, killed))
    furthest = max(float((first[name] - second[name]).abs().max()) for name in first)
    exact = all(torch.equal(first[name], second[name]) for name in first)
    return (
        f"| {processes} | {', '.join(f'{step} ({rank})' for step, rank in deaths)} | {codes} | "
        f"{'the same' if same_rows and len(whole[0][0]) == STEPS else 'DIFFER'} | "
        f"{'the same' if losses[0] == losses[1] else 'DIFFER'} | "
        f"{'equal to the bit' if exact else f'within {furthest:.1e}'} |"
    )


def _within(whole: list[Any], part: list[Any]) -> bool:
    """Whether ``part`` stands in ``whole`` in one piece."""
    return any(whole[n : n + len(part)] == part for n in range(len(whole) - len(part) + 1))


def _environment() -> dict[str, str]:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "toys")])
    return os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


if __name__ == "__main__":
    main()
