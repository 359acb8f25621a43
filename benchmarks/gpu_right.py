"""Is it right on this card? Parts of ``benchmarks/gpu.py``: every way to fit beside the CPU's, deaths, rows, writing.

Nothing of the product is replaced: fits are ``python -m sft train`` of the shipped recipes, on the card and, with
``CUDA_VISIBLE_DEVICES=``, on the CPU in float32. Every fit ends with a process of its own that loads what was saved,
merges it, and compares both with what was fitted; its figures are in the table.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from gpu_made import (
    Scene,
    config_of,
    demonstrations_in,
    dialogues_in,
    in_one_line,
    model_in,
    now,
    refuse_a_lost_card,
    rows,
    weights,
)

#: Part -> recipe, and what is set in it.
WAYS: dict[str, tuple[str, list[str]]] = {
    "lora": ("demo", []),
    "full": ("smollm2-full", []),
    "packing": ("demo", ["training.packing=true", "training.max_length=256"]),
    "qlora": ("demo", ["adapter.method=qlora"]),
    "dora": ("demo", ["adapter.method=dora"]),
    "one_pass": ("demo", ["training.dialogues=one_pass"]),
    "float32": ("demo", ["model.dtype=float32", "training.bf16=false"]),
    "checkpointing": ("demo", ["training.gradient_checkpointing=true", "adapter.lora_dropout=0.1"]),
}


#: Whose versions the table names.
NAMED = ("torch", "triton", "transformers", "trl", "peft", "accelerate", "bitsandbytes", "cut-cross-entropy")


def prepare(scene: Scene) -> None:
    """What the other parts read; the card, the versions, and how fast it multiplies matrices."""
    import torch

    from sft.policies.weights import accelerator_computes_bf16

    if not (torch.cuda.is_available() or scene.rehearsal):
        raise RuntimeError("PyTorch sees no CUDA card; --rehearse runs the same parts on a CPU, with toys")
    model_in(scene.scratch / "model", scene.shape("0.027B"))
    demonstrations_in(scene.scratch)
    dialogues_in(scene.scratch)
    cuda, narrow = torch.cuda.is_available(), torch.bfloat16 if accelerator_computes_bf16() else torch.float16
    size, where = (8192, "cuda") if cuda else (256, "cpu")
    one, other = (torch.randn(size, size, device=where, dtype=narrow if cuda else torch.float32) for _ in range(2))
    for _ in range(3):
        one @ other
    began = now()
    for _ in range(10):
        one @ other
    rate = 10 * 2 * size**3 / (now() - began)
    found = {}
    for name in NAMED:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    scene.report(
        "machine",
        card=torch.cuda.get_device_name() if cuda else f"none: {os.cpu_count()} CPU cores",
        memory=torch.cuda.get_device_properties(0).total_memory if cuda else None,
        capability=".".join(map(str, torch.cuda.get_device_capability())) if cuda else None,
        cuda=torch.version.cuda,
        driver=driver() if cuda else None,
        product_rate=rate,
        product_in=str(one.dtype).removeprefix("torch."),
        python=platform.python_version(),
        **found,
    )  # fmt: skip


def driver() -> str | None:
    """The version of NVIDIA's driver, where its own program says it."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    with suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.split()
        return said[0] if said else None
    return None


# -- fits -----------------------------------------------------------------------------------------------------


def words_for(scene: Scene, way: str, *more: str) -> list[str]:
    """The words after ``sft train`` or ``sft run``, but the folder."""
    recipe, settings = WAYS[way]
    steps = 4 if scene.rehearsal else 16
    data = "dialogues.jsonl" if way == "one_pass" else "demonstrations.jsonl"
    every = [
        f"model.name={scene.scratch / 'model'}",
        f"demonstrations.path={scene.scratch / data}",
        "split.validation=0.1", "split.test=0.2", "split.near_duplicates=allow",
        f"training.max_steps={steps}", f"training.eval_steps={steps // 4}", "training.logging_steps=1",
        "fidelity.max_prompts=16", "fidelity.max_new_tokens=16",
        *settings, *more,
    ]  # fmt: skip
    once = {setting.partition("=")[0]: setting for setting in every}  # the last of a key counts
    return [recipe, *(word for setting in once.values() for word in ("--set", setting))]


def begin(verb: str, words: list[str], folder: Path, *, card: bool = True) -> subprocess.Popen[str]:
    """``python -m sft VERB WORDS`` writing into ``folder``, on the card or off it."""
    hidden = {} if card else {"CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        [sys.executable, "-m", "sft", verb, *words, "--output", str(folder)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | hidden,
    )  # fmt: skip


def ended(started: subprocess.Popen[str]) -> str:
    """What it said; raises ``RuntimeError`` with its last words where it failed."""
    said, _ = started.communicate()
    if started.returncode:
        sys.stderr.write(said)
        raise RuntimeError(f"exit status {started.returncode}: {' '.join(said.split())[-300:]}")
    return said


def log_of(folder: Path, key: str) -> list[float]:
    """The logged values of ``key``, in order."""
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [row[key] for row in map(json.loads, lines) if key in row]


def furthest(one: list[float], other: list[float]) -> float:
    """The largest difference of two logs, which are of one length."""
    assert len(one) == len(other) > 0, f"{len(one)} logged values beside {len(other)}"
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def way(scene: Scene) -> None:
    """One way to fit, on the card and on the CPU at the same time: losses, and what the files say when loaded."""
    name = scene.report.part
    folders = [scene.scratch / f"{name}-{where}" for where in ("card", "cpu")]
    started = [
        begin("train", words_for(scene, name), folders[0]),
        begin("train", words_for(scene, name, "model.dtype=float32", "training.bf16=false"), folders[1], card=False),
    ]
    said = ended(started[0])
    ended(started[1])
    manifest = json.loads((folders[0] / "manifest.json").read_text(encoding="utf-8"))
    saved = manifest["training"]["saved"]
    losses = [log_of(folder, "loss") for folder in folders]
    looks = [log_of(folder, "eval_loss") for folder in folders]
    scene.report(
        "right",
        fit=name,
        steps=len(losses[0]),
        loss=f"{losses[0][0]:.4f} to {losses[0][-1]:.4f}",
        on_the_cpu=f"{losses[1][0]:.4f} to {losses[1][-1]:.4f}",
        a_loss_differs_by=furthest(*losses),
        validation_differs_by=furthest(*looks),
        reloaded_differs_by=saved.get("reloaded", {}).get("max"),
        merged_differs_by=saved.get("merged", {}).get("max"),
        loaded_on=saved.get("device", saved.get("left_out")),
        said="; ".join(line[10:] for line in said.splitlines() if line.startswith("train     ")),
    )


def killed(scene: Scene) -> None:
    """``kill -9`` in the middle, then ``--resume``: the losses and the adapter of a run that was left alone."""
    from safetensors.torch import load_file

    # A card does sixteen steps before anybody has looked.
    longer = [] if scene.rehearsal else ["training.max_steps=120", "training.eval_steps=10"]
    words = words_for(scene, "lora", "adapter.lora_dropout=0.1", *longer)
    whole, torn = scene.scratch / "whole", scene.scratch / "torn"
    started = [begin("train", words, folder) for folder in (whole, torn)]
    deadline = time.monotonic() + scene.seconds
    while not list((torn / "checkpoints").glob("checkpoint-*/whole.json")) and time.monotonic() < deadline:
        if started[1].poll() is not None:
            break
        time.sleep(0.02)
    at = len(log_of(torn, "loss")) if (torn / "log.jsonl").exists() else 0
    died = started[1].poll() is None
    started[1].kill()
    started[1].communicate()
    ended(started[0])
    ended(begin("train", [*words, "--resume"], torn))
    adapters = [load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (whole, torn)]
    apart = max(float((adapters[0][name] - adapters[1][name]).abs().max()) for name in adapters[0])
    scene.report(
        "right",
        fit="killed" if died else "killed too late: it had ended",
        steps=len(log_of(whole, "loss")),
        killed_after_step=at,
        a_loss_differs_by=furthest(*(log_of(folder, "loss") for folder in (whole, torn))),
        adapter_differs_by=apart,
    )


# -- rows in one line -------------------------------------------------------------------------------------------


def alone(scene: Scene) -> None:
    """Do rows in one line stand alone on this card? By every attention that could be chosen, forward and backward."""
    import torch
    from gpu_flex import FLEX

    from sft.runs.machine import default_device
    from sft.training.attention import BY_ROW, VARLEN, attending_by_row
    from sft.training.batches import nats_of
    from sft.training.sequences import Collator, LineCollator, dataset_of

    device, shape = default_device(), scene.shape("135M")
    vocabulary = config_of(shape).vocab_size
    model = weights(shape, torch.bfloat16 if device.type == "cuda" else torch.float32, device).train()
    made = rows(6, vocabulary)
    apart = _nats(model, Collator(0)(dataset_of(made).to_list()), nats_of)
    for name in (VARLEN, BY_ROW, FLEX):
        if name in scene.skip:
            continue
        scene.report.begins(name)
        mixed = [one if number == 2 else (one[0], _other_words(one[1])) for number, one in enumerate(made)]
        try:
            with attending_by_row(model, name):
                line = _nats(model, LineCollator(share=False)(dataset_of(made).to_list()), nats_of)
                beside = _nats(model, LineCollator(share=False)(dataset_of(mixed).to_list()), nats_of)
        except Exception as error:
            scene.report("rows", contender=name, failed=in_one_line(error))
            refuse_a_lost_card()
            continue
        begin = sum(len(rendered.completion_ids) for _, rendered in made[:2])
        own = slice(begin, begin + len(made[2][1].completion_ids))
        gradients = [part[1] / part[1].norm() for part in (apart, line)]
        scene.report(
            "rows",
            contender=name,
            nats_differ_from_padded_by=float((line[0] - apart[0]).abs().max()),
            gradient_differs_by=float((gradients[0] - gradients[1]).norm()),
            other_neighbours_change_it_by=float((line[0][own] - beside[0][own]).abs().max()),
        )


def _other_words(row: Any) -> Any:
    """A row of the same lengths that says something else."""
    from sft.policies.rendering import Rendered

    return Rendered(tuple(reversed(row.input_ids)), row.completion_mask)


def _nats(model: Any, inputs: dict[str, Any], nats_of: Any) -> tuple[Any, Any]:
    """The nats of a batch, and the gradient that their mean gives the embeddings."""
    import torch

    model.zero_grad()
    inputs = {k: v.to(model.device) if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}
    nats = nats_of(model, model, inputs)
    nats.mean().backward()
    return nats.detach().float().cpu(), model.get_input_embeddings().weight.grad.float().cpu().flatten()


# -- writing ----------------------------------------------------------------------------------------------------


def writing(scene: Scene) -> None:
    """``sft run`` on the card, then the same prompts through ``model.generate``, one at a time: are the ids equal?"""
    import torch

    from sft.demonstrations.stored import load_recipe
    from sft.fidelity.stored import read_held_out
    from sft.policies.generation import complete
    from sft.policies.policy import load_policy, load_renderer
    from sft.recipes.sources import source_of
    from sft.runs.run import Run, trained_policy

    folder = scene.scratch / "written"
    steps = [] if scene.rehearsal else ["training.max_steps=60", "training.eval_steps=30"]
    ended(begin("run", words_for(scene, "full", "training.learning_rate=1.0e-3", *steps), folder))
    run = Run.open(folder)
    recipe = load_recipe(run)
    base = source_of(recipe.model)
    renderer = load_renderer(base, recipe)
    items = read_held_out(run)
    ids = dict(
        zip((one.id for one in items), map(list, renderer.prompt_ids_all([i.prompt for i in items])), strict=True)
    )
    for dtype in ("float32", "auto"):
        policy = load_policy(base, renderer, dtype=dtype, tuned=trained_policy(run))
        ours = {one.id: one.text for one in complete(policy, ids, max_new_tokens=16, batch_size=len(ids))}
        same = 0
        with torch.inference_mode():
            for key, prompt in ids.items():
                given = torch.tensor([prompt], device=policy.device)
                answer = policy.model.generate(
                    input_ids=given, attention_mask=torch.ones_like(given), max_new_tokens=16, do_sample=False,
                    eos_token_id=list(renderer.stop_token_ids), pad_token_id=renderer.pad_token_id,
                )[0, len(prompt) :].tolist()  # fmt: skip
                end = next((n for n, token in enumerate(answer) if token in renderer.stop_token_ids), len(answer))
                same += renderer.decode_completion(answer[:end]) == ours[key]
        scene.report(
            "right",
            fit=f"sft run; then generate, {str(policy.model.dtype).removeprefix('torch.')}",
            steps=len(log_of(folder, "loss")),
            same_completions=f"{same} of {len(ids)}",
            loaded_on=policy.device.type,
        )
