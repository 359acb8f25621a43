"""Ten deaths by kill -9, one process and two: is the adapter the untouched run's, and was every row seen as it was?

    python benchmarks/resume.py > benchmarks/results/resume.md      # about three minutes on two cores

A tiny Llama with random weights is fitted with dropout for 24 steps over two and a half epochs, validation and
checkpoint every third step. One run is left alone; another is killed at ten steps drawn by chance (seeded), in a
process drawn by chance, and started again with --resume each time. What each step saw is written down by the
processes themselves. Several processes are real ones over gloo.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
STEPS, DEATHS = 24, 10

RECIPE = """\
model: {{name: {folder}/model}}
demonstrations: {{path: {folder}/demonstrations.jsonl}}
split: {{validation: 0.15, test: 0.25, near_duplicates: remove}}
adapter: {{r: 4, lora_dropout: 0.1}}
training: {{learning_rate: 1.0e-2, max_steps: 24, eval_steps: 3, logging_steps: 1, per_device_train_batch_size: 4}}
"""


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    _prepare(folder)
    print(f"# Resume after kill -9\n\n{DEATHS} deaths at steps drawn by chance, {STEPS} steps, checkpoint every 3.\n")
    print("| processes | killed at step (process) | exit codes | rows of every step | losses | adapter |")
    print("|---|---|---|---|---|---|")
    for processes in (1, 2):
        print(_row(folder, processes))
    print(
        "\nCommand: `python benchmarks/resume.py`. Rows: of the last time a step was taken, against the untouched run."
    )


def _prepare(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import small_tokenizers, torch\n"
        "from transformers import LlamaConfig, LlamaForCausalLM\nfrom test_loop import write_demonstrations\n"
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
    from toy_launches import rows_of

    draw = random.Random(processes)
    deaths = [(draw.randrange(1, STEPS + 1), draw.randrange(processes)) for _ in range(DEATHS)]
    deaths.sort()  # a step before the last checkpoint is never taken again, and nobody would die in it
    runs = [folder / f"{name}-{processes}" for name in ("untouched", "killed")]

    def train(run: Path, *words: str, die: tuple[int, int] | None = None) -> dict[str, object]:
        told = ["train", str(folder / "recipe.yaml"), "--output", str(run), *words]
        doom = None if die is None else {"step": die[0], "rank": die[1]}
        return {"words": told, "rows": str(run.with_suffix(".rows")), "processes": processes, "die": doom}

    plan = [train(runs[0]), *(train(runs[1], *["--resume"] * (n > 0), die=die) for n, die in enumerate(deaths))]
    program = [sys.executable, str(ROOT / "tests" / "toy_launches.py"), json.dumps([*plan, train(runs[1], "--resume")])]
    answer = subprocess.run(program, check=True, env=_environment(), capture_output=True, text=True)
    results = json.loads(answer.stdout)
    codes = sorted({tuple(sorted(result["codes"])) for result in results[1:-1]})
    assert results[0]["codes"] == results[-1]["codes"] == [0] * processes, results[-1]["said"]
    seen = [rows_of(run.with_suffix(".rows")) for run in runs]
    losses = [[r | {"wall_seconds": 0} for r in map(json.loads, (run / "log.jsonl").open())] for run in runs]
    first, second = (load_file(run / "adapter" / "adapter_model.safetensors") for run in runs)
    furthest = max(float((first[name] - second[name]).abs().max()) for name in first)
    exact = all(torch.equal(first[name], second[name]) for name in first)
    return (
        f"| {processes} | {', '.join(f'{step} ({rank})' for step, rank in deaths)} | {codes} | "
        f"{'the same' if seen[0] == seen[1] and len(seen[1]) == STEPS else 'DIFFER'} | "
        f"{'the same' if losses[0] == losses[1] else 'DIFFER'} | "
        f"{'equal to the bit' if exact else f'within {furthest:.1e}'} |"
    )


def _environment() -> dict[str, str]:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


if __name__ == "__main__":
    main()
