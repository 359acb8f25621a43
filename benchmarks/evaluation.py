"""How fast held-out prompts are completed, beside what a user would write: ``model.generate`` on batches as they come.

    python benchmarks/evaluation.py RUN                    # a finished run, such as runs/demo
    python benchmarks/evaluation.py RUN --policy base      # its base model, which rambles where the clone stops

One process, the run's own held-out prompts, stop tokens and limit of new tokens, both greedy, one after the other in
turns. Prints completions and tokens a second, peak memory, and how many completions are the same to the letter.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers

from sft.demonstrations.stored import load_recipe
from sft.fidelity.stored import read_held_out
from sft.policies.generation import complete
from sft.policies.policy import Policy, load_policy, load_renderer
from sft.recipes.sources import source_of
from sft.runs.run import Run, read_json, trained_policy

#: Prompts that ``generate`` is given at once.
BATCH = 8

#: Prompt id -> (text, tokens written, stop token included).
Written = dict[str, tuple[str, int]]


@torch.inference_mode()
def as_they_come(policy: Policy, prompts: dict[str, list[int]], max_new_tokens: int) -> Written:
    """``model.generate`` on eight prompts at a time, in their order, left-padded."""
    filler, stops = policy.renderer.pad_token_id, set(policy.renderer.stop_token_ids)
    found = {}
    keys = list(prompts)
    for start in range(0, len(keys), BATCH):
        batch = keys[start : start + BATCH]
        longest = max(len(prompts[key]) for key in batch)
        rows = [[filler] * (longest - len(prompts[key])) + prompts[key] for key in batch]
        real = [[0] * (longest - len(prompts[key])) + [1] * len(prompts[key]) for key in batch]
        answer = policy.model.generate(
            input_ids=torch.tensor(rows, device=policy.device),
            attention_mask=torch.tensor(real, device=policy.device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=sorted(stops),
            pad_token_id=filler,
        )
        for key, ids in zip(batch, answer[:, longest:].tolist(), strict=True):
            end = next((place for place, token in enumerate(ids) if token in stops), None)
            found[key] = (policy.renderer.decode_completion(ids[:end]), len(ids) if end is None else end + 1)
    return found


def measured(make: Callable[[], Written]) -> tuple[Written, float, float]:
    """What ``make`` gives, its seconds, and the most memory the process had meanwhile, in MB (NaN but on Linux)."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again
    began = time.perf_counter()
    found = make()
    seconds = time.perf_counter() - began
    if torch.cuda.is_available():
        return found, seconds, torch.cuda.max_memory_allocated() / 1e6
    if sys.platform != "linux":
        return found, seconds, float("nan")
    lines = Path("/proc/self/status").read_text().splitlines()
    return found, seconds, next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("run", type=Path, metavar="RUN")
    options.add_argument("--policy", choices=("clone", "base"), default="clone")
    options.add_argument("--prompts", type=int, help="the first so many; all without")
    options.add_argument("--passes", type=int, default=2)
    given = options.parse_args()
    run = Run.open(given.run)
    recipe = load_recipe(run)
    base, tuned = source_of(recipe.model), trained_policy(run) if given.policy == "clone" else None
    renderer = load_renderer(base, recipe)
    policy = load_policy(base, renderer, dtype=recipe.model.dtype, tuned=tuned)
    items = read_held_out(run)[: given.prompts]
    ids = policy.renderer.prompt_ids_all([item.prompt for item in items])
    prompts = {item.id: list(row) for item, row in zip(items, ids, strict=True)}
    limit = read_json(run.measurement_path)["signature"]["max_new_tokens"]
    size = recipe.fidelity.batch_size

    def ours() -> Written:
        return {
            one.id: (one.text, one.tokens)
            for one in complete(policy, prompts, max_new_tokens=limit, batch_size=size)
        }  # fmt: skip

    contenders = {"generate": lambda: as_they_come(policy, prompts, limit), "sft": ours}
    first = dict(list(prompts.items())[:BATCH])
    as_they_come(policy, first, 2)  # neither pays for what is done once
    found: dict[str, list[tuple[Written, float, float]]] = {name: [] for name in contenders}
    for _ in range(given.passes):
        for name, make in contenders.items():
            found[name].append(measured(make))
            print(f"{name}: {found[name][-1][1]:.1f} s", file=sys.stderr, flush=True)
    lengths = sorted(map(len, prompts.values()))
    print(
        f"{recipe.model.name}, {given.policy}: {len(prompts)} prompts of {lengths[0]} to {lengths[-1]} tokens "
        f"(median {lengths[len(lengths) // 2]}), at most {limit} new ones"
    )
    for name, label in (("generate", f"generate, batch {BATCH}, as they come"), ("sft", f"sft, batch {size}")):
        written = found[name][0][0]
        tokens = sum(count for _, count in written.values())
        best = min(seconds for _, seconds, _ in found[name])
        memory = max(memory for *_, memory in found[name])
        each = ", ".join(f"{seconds:.1f}" for _, seconds, _ in found[name])
        print(
            f"{label}: {len(written) / best:.2f} completions/s, {tokens / best:.0f} tokens/s "
            f"({each} s), peak {memory:,.0f} MB"
        )
    pairs = zip(found["generate"], found["sft"], strict=True)
    ratios = ", ".join(f"{theirs / own:.2f}" for (_, theirs, _), (_, own, _) in pairs)
    best = min(s for _, s, _ in found["generate"]) / min(s for _, s, _ in found["sft"])
    same = sum(found["generate"][0][0][key][0] == found["sft"][0][0][key][0] for key in prompts)
    print(f"ratio {best:.2f} (pass by pass {ratios}); {same} of {len(prompts)} completions are the same text")
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} threads"
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {where}, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
