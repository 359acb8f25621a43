"""After the fit: the weights are saved, whole or not at all, and whoever loads them afresh gets what was fitted.

The fit leaves a witness: what the model in memory says (its logits) at a few supervised positions. A process of its
own, which shares nothing with the fit but the files, loads the base and what was saved, and compares; then it merges
the adapter and compares again. Engines have saved empty adapters, and embeddings that had lost their new rows.
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft.errors import PolicyError, TrainingError, UserError
from sft.policies.portable import as_both_majors_read
from sft.policies.sameness import deviation, logits_of, questions
from sft.runs.atomic_files import read_json, write_json
from sft.runs.machine import machine
from sft.runs.run import Run

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from sft.policies.rendering import Rendered
    from sft.recipes import Recipe
    from sft.training.trainer import CloningTrainer

_LAUNCHER = ("ACCELERATE_", "FSDP_", "TORCHELASTIC_", "MASTER_", "GROUP_", "ROLE_")
_RANK = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"}


def save(trainer: CloningTrainer, run: Run, *, lora: bool) -> None:
    """Save the fitted weights and the tokenizer, whole or not at all."""
    final = run.adapter_path if lora else run.model_path
    scratch = final.with_name(f".{final.name}-unfinished")
    if trainer.is_world_process_zero():
        shutil.rmtree(scratch, ignore_errors=True)
    trainer.model.config.use_cache = True  # the trainer has switched it off; whoever loads this generates
    trainer.save_model(str(scratch))
    if trainer.is_world_process_zero():
        for name in ("training_args.bin", "README.md"):  # the one names this machine, the other is a blank form
            (scratch / name).unlink(missing_ok=True)
        as_both_majors_read(scratch)
        _check_saved(trainer, scratch, lora=lora)
        shutil.rmtree(final, ignore_errors=True)
        scratch.rename(final)
        for damaged in run.checkpoints_path.glob("damaged-checkpoint-*"):  # nobody needs them any more
            shutil.rmtree(damaged, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()


def _check_saved(trainer: CloningTrainer, folder: Path, *, lora: bool) -> None:
    """Raise ``TrainingError`` where ``folder`` does not hold what was fitted."""
    import torch
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    from sft.policies.weights import count_of

    saved: dict[str, torch.Tensor] = {}
    count = 0
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118  (no mapping)
                count += math.prod(opened.get_slice(name).get_shape())
                if lora:
                    saved[name] = opened.get_tensor(name)
    if lora and not (trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled):
        fitted = get_peft_model_state_dict(trainer.accelerator.unwrap_model(trainer.model))
        whole = saved.keys() == fitted.keys() and all(
            torch.equal(saved[name], tensor.detach().cpu()) for name, tensor in fitted.items()
        )
    else:  # parts of it are with other processes; names of a full model's weights may change on the way
        whole = count > 0 and count >= count_of(p for p in trainer.model.parameters() if p.requires_grad)
    if not whole:
        raise TrainingError(
            f"{folder}: what the trainer saved is not what was fitted; the last checkpoint is kept, so change "
            "the versions of transformers and peft to those in constraints.txt and go on with --resume"
        )


# -- the witness -------------------------------------------------------------------------------------------


def bear_witness(trainer: CloningTrainer, rows: Sequence[tuple[Any, Rendered]], run: Run, recipe: Recipe) -> None:
    """Leave beside the checkpoints what the model that ``trainer`` has fitted says to the first of ``rows``.

    Every process calls it, since each may hold a part of the weights; the first one writes. Mixed precision is left
    out where the weights are whole: it belongs to the fit, and whoever loads them computes in their own format.
    """
    from safetensors.torch import save_file

    from sft.policies.weights import count_of

    sharded = trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled
    model = trainer.accelerator.unwrap_model(trainer.model)
    forward = trainer.model_wrapped if sharded else getattr(model, "_original_forward", model.forward)
    chosen = questions([rendered for _, rendered in rows])
    training = model.training
    trainer.model_wrapped.eval()
    logits = {str(number): logits_of(model, forward, row) for number, row in enumerate(chosen)}
    trainer.model_wrapped.train(training)
    if not trainer.is_world_process_zero():
        return
    quantised = recipe.adapter.method == "qlora"
    narrow = quantised or _in_tf32() or (sharded and trainer.args.bf16)
    request = {
        "tuned": str(run.model_path if recipe.adapter.method == "full" else run.adapter_path),
        "model": recipe.model.model_dump(),
        "quantised": quantised,
        "dtype": "bfloat16" if narrow else _name(model.dtype),
        "parameters": count_of(model.parameters()),
        "rows": chosen,
        "texts": [trainer.processing_class.decode(row["ids"]) for row in chosen],
    }
    run.checkpoints_path.mkdir(exist_ok=True)
    save_file(logits, run.checkpoints_path / "witness.safetensors")
    write_json(run.checkpoints_path / "witness.json", request)


def _in_tf32() -> bool:
    """Whether products in float32 are rounded to TF32. PyTorch 2.9 has two ways to ask, and fails on the older one."""
    import torch

    matmul = torch.backends.cuda.matmul
    precision = getattr(matmul, "fp32_precision", None)
    return bool(matmul.allow_tf32 if precision is None else precision == "tf32")


def _name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


# -- the process of its own -------------------------------------------------------------------------------


def _load(request: dict[str, Any], device: torch.device, dtype: str, *, quantised: bool) -> Any:
    """What was saved, as whoever has only the files gets it."""
    from sft.policies.policy import with_adapter
    from sft.policies.weights import is_adapter, load_weights
    from sft.recipes import Model
    from sft.recipes.sources import resolve_model, source_of

    tuned = Path(request["tuned"])
    if not is_adapter(tuned):
        return load_weights(resolve_model(str(tuned)), dtype).to(device).eval()
    base = load_weights(source_of(Model.model_validate(request["model"])), dtype, quantised=quantised)
    return with_adapter(base if quantised else base.to(device), tuned).eval()


def _room(request: dict[str, Any]) -> tuple[torch.device, str]:
    """Where the clone is loaded, and in which format: where there is room beside the process that fitted it.

    On the accelerator, unless its free memory is too little; on the CPU, where float32 weights would take more
    than a third of all memory, in bfloat16.
    """
    import torch

    from sft.policies.weights import resolved_dtype
    from sft.runs.machine import default_device

    device, dtype = default_device(), resolved_dtype(request["model"]["dtype"])
    if device.type == "cuda":
        if torch.cuda.mem_get_info(device)[0] > 1.3 * request["parameters"] * dtype.itemsize:
            return device, _name(dtype)
        if request["quantised"]:
            raise MemoryError("the GPU has no room for the base a second time")
        device = torch.device("cpu")
    if dtype.itemsize * request["parameters"] > (machine()["memory_bytes"] or float("inf")) / 3:
        dtype = torch.bfloat16
    return device, _name(dtype)


def _compare(folder: Path) -> dict[str, Any]:
    """Every difference between the witness in ``folder`` and what was saved, loaded here; a ``fault``, if any."""
    from safetensors.torch import load_file

    from sft.policies.weights import is_adapter, quiet_engine

    request = read_json(folder / "witness.json")
    fitted = load_file(folder / "witness.safetensors")
    tuned = Path(request["tuned"])
    if _texts(tuned, request["rows"]) != request["texts"]:
        raise PolicyError("its tokenizer reads the demonstrations' tokens as another text")
    device, dtype = _room(request)
    narrow = {dtype, request["dtype"]} != {"float32"}
    model = _load(request, device, dtype, quantised=request["quantised"])
    found: dict[str, Any] = {"dtype": dtype, "device": device.type}
    found["reloaded"], wrong = deviation(model, request["rows"], fitted, narrow=narrow)
    faults = [f"loaded afresh it {wrong}"] if wrong else []
    if is_adapter(tuned):
        if request["quantised"]:  # the plain weights are what the adapter is merged into, and judged on
            model = _load(request, device, dtype, quantised=False)
        with quiet_engine():
            merged: PreTrainedModel = model.merge_and_unload()
        found["merged"], wrong = deviation(merged, request["rows"], fitted, narrow=narrow)
        if wrong and not request["quantised"]:
            faults.append(f"merged into its base it {wrong}")
    return found | ({"fault": faults[0]} if faults else {})


def _texts(tuned: Path, rows: Sequence[dict[str, Any]]) -> list[str]:
    """The rows as the saved tokenizer reads them."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tuned)
    return [tokenizer.decode(row["ids"]) for row in rows]


def main(folder: str) -> int:
    """The process of its own: ``python -m sft.training.proof FOLDER``; the answer is written beside the witness."""
    import torch

    try:
        answer = _compare(Path(folder))
    except UserError as error:
        answer = {"fault": str(error)}
    except (MemoryError, torch.cuda.OutOfMemoryError) as error:
        answer = {"left_out": " ".join(str(error).split())[:200] or "memory was too short"}
    write_json(Path(folder) / "answer.json", answer)
    return 0


# -- the judgement ----------------------------------------------------------------------------------------


def prove(run: Run) -> dict[str, Any]:
    """Have what was saved loaded in a fresh process and compared with the fit's witness; the figures.

    Raises ``TrainingError`` when it says something else. It is kept aside then, where no evaluation takes it, and
    so are the checkpoints. Where the process could not do its work (memory) the figures are one key, ``left_out``.
    """
    began = time.monotonic()
    folder = run.checkpoints_path
    request = read_json(folder / "witness.json")
    (folder / "answer.json").unlink(missing_ok=True)
    answer = _in_a_process_of_its_own(folder)
    if "fault" in answer:
        _put_aside(Path(request["tuned"]), answer["fault"])
    for name in ("witness.safetensors", "witness.json", "answer.json"):
        (folder / name).unlink(missing_ok=True)
    return answer | {"wall_seconds": round(time.monotonic() - began, 3)}


def _in_a_process_of_its_own(folder: Path) -> dict[str, Any]:
    """The answer of :func:`main`, with nothing of this process in it, its launcher's settings neither."""
    package = str(Path(__file__).parents[2])  # where `sft` lies
    kept = {k: v for k, v in os.environ.items() if k not in _RANK and not k.startswith(_LAUNCHER)}
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    child = subprocess.run(
        [sys.executable, "-m", "sft.training.proof", str(folder)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=kept,
    )  # fmt: skip
    if (folder / "answer.json").exists():
        return read_json(folder / "answer.json")
    if child.returncode < 0:
        return {"left_out": f"the process that loads it afresh was ended by signal {-child.returncode}"}
    reason = (child.stderr.strip().splitlines() or ["it gave no reason"])[-1]
    return {"fault": f"the process that loads it afresh failed ({reason[:240]})"}


def in_words(saved: dict[str, Any]) -> str:
    """The figures of :func:`prove` as a line of progress."""
    if "left_out" in saved:
        return f"not compared with what was fitted: {saved['left_out']}"
    worst = max(saved[name]["max"] for name in ("reloaded", "merged") if name in saved)
    merged = " and merged" if "merged" in saved else ""
    return f"as fitted: loaded afresh{merged}, its logits differ by {worst:.1g} at most"


def _put_aside(tuned: Path, fault: str) -> None:
    aside = tuned.with_name(f"{tuned.name}-not-as-fitted")
    shutil.rmtree(aside, ignore_errors=True)
    tuned.rename(aside)
    raise TrainingError(
        f"{tuned}: what was saved is not what was fitted: {fault}; it is now {aside.name}, and the checkpoints are "
        "kept, so change the versions of transformers and peft to those in constraints.txt and go on with --resume"
    )


def _hide_a_gpu_that_cannot_be_had(folder: str) -> None:
    """Begin anew on the CPU where the process that fitted alone may have the GPU, as clusters set it, or has filled it.

    Libraries find a GPU by themselves, and put the adapter there.
    """
    import torch

    if not torch.cuda.is_available():
        return
    try:
        torch.cuda.mem_get_info()
    except RuntimeError:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        os.execv(sys.executable, [sys.executable, "-m", "sft.training.proof", folder])


if __name__ == "__main__":
    _hide_a_gpu_that_cannot_be_had(sys.argv[1])
    sys.exit(main(sys.argv[1]))
