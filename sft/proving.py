"""After saving: whoever loads the clone afresh gets what was fitted.

The fit leaves a witness: what the model in memory says (its logits) at a few supervised positions. A process of its
own, which shares nothing with the fit but the files, loads the base and what was saved, and compares; then it merges
the adapter and compares again. Engines have saved empty adapters, and embeddings that had lost their new rows.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft.errors import PolicyError, TrainingError, UserError
from sft.files import read_json, write_json
from sft.provenance import machine
from sft.runs import Run

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from sft.recipes import Recipe
    from sft.rendering import Rendered

__all__ = ["answers", "bear_witness", "deviation", "in_words", "prove", "questions"]

#: So many rows, and so many supervised positions of each: every layer takes part in every one of them.
ROWS, POSITIONS = 4, 16

#: By the narrowest format involved, in standard deviations of the fitted logits: the largest difference, or, where
#: products are rounded to 8 bits in every layer, the mean one. SmolLM2-135M after 8 steps of LoRA: float32 differs by
#: 1e-5 at most after merging, bfloat16 from float32 by 0.02 on average, and a clone that lost its adapter by 0.15.
LARGEST_FLOAT32, MEAN_NARROW = 1e-3, 0.06

#: In the same unit: a lead of the likeliest token that rounding does not turn round.
CLEAR_LEAD = 0.5

_LAUNCHER = ("ACCELERATE_", "FSDP_", "TORCHELASTIC_", "MASTER_", "GROUP_", "ROLE_")
_RANK = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"}


def bear_witness(trainer: Any, rows: Sequence[tuple[Any, Rendered]], run: Run, recipe: Recipe) -> None:
    """Leave beside the checkpoints what the model that ``trainer`` has fitted says to the first of ``rows``.

    Every process calls it, since each may hold a part of the weights; the first one writes. Mixed precision is left
    out where the weights are whole: it belongs to the fit, and whoever loads them computes in their own format.
    """
    import torch
    from safetensors.torch import save_file

    sharded = trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled
    model = trainer.accelerator.unwrap_model(trainer.model)
    forward = trainer.model_wrapped if sharded else getattr(model, "_original_forward", model.forward)
    chosen = questions([rendered for _, rendered in rows])
    training = model.training
    trainer.model_wrapped.eval()
    logits = {str(number): _logits(model, forward, row) for number, row in enumerate(chosen)}
    trainer.model_wrapped.train(training)
    if not trainer.is_world_process_zero():
        return
    quantised = recipe.adapter.method == "qlora"
    narrow = quantised or torch.backends.cuda.matmul.allow_tf32 or (sharded and trainer.args.bf16)
    request = {
        "tuned": str(run.model_path if recipe.adapter.method == "full" else run.adapter_path),
        "model": [recipe.model.name, recipe.model.revision, recipe.model.dtype, recipe.model.trust_remote_code],
        "quantised": quantised,
        "dtype": "bfloat16" if narrow else _name(model.dtype),
        "parameters": sum(p.numel() for p in model.parameters()),
        "rows": chosen,
        "texts": [trainer.processing_class.decode(row["ids"]) for row in chosen],
    }
    run.checkpoints_path.mkdir(exist_ok=True)
    save_file(logits, run.checkpoints_path / "witness.safetensors")
    write_json(run.checkpoints_path / "witness.json", request)


def questions(rows: Sequence[Rendered]) -> list[dict[str, Any]]:
    """What two models are asked, to tell them apart: the first :data:`ROWS` of ``rows``."""
    return [
        {"ids": list(r.input_ids), "first": len(r.prompt_ids), "count": min(POSITIONS, len(r.completion_ids))}
        for r in rows[:ROWS]
    ]


def answers(model: Any, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """What ``model`` says to :func:`questions`: number of the row -> logits, ``(positions, vocab)``."""
    return {str(number): _logits(model, model, row) for number, row in enumerate(rows)}


def deviation(
    model: Any, rows: Sequence[dict[str, Any]], said: dict[str, torch.Tensor], *, narrow: bool
) -> tuple[dict[str, Any], str]:
    """How far ``model`` is from what another one ``said`` to the same rows, and what is wrong with that.

    The figures, and a few words, "" where it is the same model up to rounding: of float32 or, with ``narrow``, of
    a narrower format. Raises ``PolicyError`` where the two do not choose among the same tokens.
    """
    found = _differences(model, rows, said)
    return found, _beyond_rounding(found, narrow=narrow)


def _logits(model: Any, forward: Any, row: dict[str, Any]) -> torch.Tensor:
    """What ``model``, called by ``forward``, says at the supervised positions of the row: ``(positions, vocab)``."""
    import torch

    from sft.policies import supervised_only

    last = row["first"] + row["count"]
    ids = torch.tensor([row["ids"][:last]], device=next(model.parameters()).device)
    asked = torch.zeros(ids.shape, dtype=torch.bool)
    asked[0, row["first"] - 1 : last - 1] = True
    with torch.no_grad(), supervised_only(model, asked):
        return forward(input_ids=ids, use_cache=False).logits[0].float().cpu().contiguous()


def _name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


# -- the process of its own -------------------------------------------------------------------------------


def _load(request: dict[str, Any], device: torch.device, dtype: str, *, quantised: bool) -> Any:
    """What was saved, as whoever has only the files gets it."""
    from sft.policies import adapted, is_adapter, load_weights

    tuned, (name, revision, _, trusted) = Path(request["tuned"]), request["model"]
    if not is_adapter(tuned):
        return load_weights(str(tuned), dtype=dtype).to(device).eval()
    base = load_weights(name, revision, dtype, trusted, quantised=quantised)
    return adapted(base if quantised else base.to(device), tuned).eval()


def _room(request: dict[str, Any]) -> tuple[torch.device, str]:
    """Where the clone is loaded, and in which format: where there is room beside the process that fitted it.

    On the accelerator, unless its free memory is too little; on the CPU, where float32 weights would take more
    than a third of all memory, in bfloat16.
    """
    import torch

    from sft.policies import default_device, resolved_dtype

    device, dtype = default_device(), resolved_dtype(request["model"][2])
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
    """Every difference between the witness in ``folder`` and what was saved, loaded here."""
    from safetensors.torch import load_file

    from sft.policies import is_adapter, quiet_engine

    request = read_json(folder / "witness.json")
    fitted = load_file(folder / "witness.safetensors")
    tuned = Path(request["tuned"])
    if _texts(tuned, request["rows"]) != request["texts"]:
        raise PolicyError("its tokenizer reads the demonstrations' tokens as another text")
    device, dtype = _room(request)
    model = _load(request, device, dtype, quantised=request["quantised"])
    found = {"dtype": dtype, "device": device.type, "reloaded": _differences(model, request["rows"], fitted)}
    if is_adapter(tuned):
        if request["quantised"]:  # the plain weights are what the adapter is merged into, and judged on
            model = _load(request, device, dtype, quantised=False)
        with quiet_engine():
            merged: PreTrainedModel = model.merge_and_unload()
        found["merged"] = _differences(merged, request["rows"], fitted)
    return found


def _texts(tuned: Path, rows: Sequence[dict[str, Any]]) -> list[str]:
    """The rows as the saved tokenizer reads them."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tuned)
    return [tokenizer.decode(row["ids"]) for row in rows]


def _differences(model: Any, rows: Sequence[dict[str, Any]], fitted: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Mean and largest difference of the logits, in their own unit and beside their spread; the likeliest tokens.

    ``clear``: of the tokens that lead by more than :data:`CLEAR_LEAD`, the share that is the likeliest here too.
    """
    import torch

    highest = max(max(row["ids"]) for row in rows)
    if (known := model.get_input_embeddings().weight.shape[0]) <= highest:
        raise PolicyError(f"it knows {known} tokens, and was fitted to token {highest}")
    here = torch.cat([_logits(model, model, row) for row in rows])
    there = torch.cat([fitted[str(number)] for number in range(len(rows))])
    if here.shape != there.shape:
        raise PolicyError(f"it chooses among {here.shape[1]} tokens, and was fitted to choose among {there.shape[1]}")
    difference, spread = (here - there).abs(), float(there.std())
    best = there.topk(2).values
    same, clear = here.argmax(1) == there.argmax(1), best[:, 0] - best[:, 1] > CLEAR_LEAD * spread
    return {
        "positions": len(here),
        "mean": float(difference.mean()),
        "max": float(difference.max()),
        "spread": spread,
        "top1": float(same.float().mean()),
        "clear": float(same[clear].float().mean()) if clear.any() else 1.0,
    }


def main(folder: str) -> int:
    """The process of its own: ``python -m sft.proving FOLDER``; the answer is written beside the witness."""
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
    fault = answer.get("fault") or _fault(answer, request)
    if fault:
        _put_aside(Path(request["tuned"]), fault)
    for name in ("witness.safetensors", "witness.json", "answer.json"):
        (folder / name).unlink(missing_ok=True)
    return answer | {"wall_seconds": round(time.monotonic() - began, 3)}


def _in_a_process_of_its_own(folder: Path) -> dict[str, Any]:
    """The answer of :func:`main`, with nothing of this process in it, its launcher's settings neither."""
    package = str(Path(__file__).parent.parent)
    kept = {k: v for k, v in os.environ.items() if k not in _RANK and not k.startswith(_LAUNCHER)}
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    child = subprocess.run(
        [sys.executable, "-m", "sft.proving", str(folder)],
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


def _fault(answer: dict[str, Any], request: dict[str, Any]) -> str:
    """What is wrong with the figures, in a few words; "" if nothing is."""
    narrow = {answer.get("dtype"), request["dtype"]} != {"float32"}
    for name, how in (("reloaded", "loaded afresh"), ("merged", "merged into its base")):
        found = answer.get(name)
        if found is None or (name == "merged" and request["quantised"]):
            continue
        if wrong := _beyond_rounding(found, narrow=narrow):
            return f"{how} it {wrong}"
    return ""


def _beyond_rounding(found: dict[str, Any], *, narrow: bool) -> str:
    """What is wrong with one set of figures, in a few words; "" if nothing is."""
    if narrow:
        wrong = found["mean"] > MEAN_NARROW * found["spread"] or found["clear"] < 1
    else:
        wrong = found["max"] > LARGEST_FLOAT32 * max(1.0, found["spread"])
    if not wrong:
        return ""
    return (
        f"gives logits that differ by {found['mean']:.2g} on average and {found['max']:.2g} at most, "
        f"and {found['top1']:.0%} of the likeliest tokens"
    )


def _put_aside(tuned: Path, fault: str) -> None:
    aside = tuned.with_name(f"{tuned.name}-not-as-fitted")
    shutil.rmtree(aside, ignore_errors=True)
    tuned.rename(aside)
    raise TrainingError(
        f"{tuned}: what was saved is not what was fitted: {fault}; it is now {aside.name}, and the checkpoints are "
        "kept, so change the versions of transformers and peft to those in constraints.txt and go on with --resume"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
