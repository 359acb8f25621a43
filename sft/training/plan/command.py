"""``sft plan``: what a recipe's fit will take, counted by the trainer itself and measured by a short probe.

Everything is done by a process of its own, whose memory is therefore that of a fit; it tells the result in JSON.
Nothing is written but into a folder that is removed again.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from sft.demonstrations.headlines import suggestion
from sft.demonstrations.selection import gather
from sft.errors import SplitError, UserError
from sft.recipes import Recipe, load
from sft.recipes.requirements import refuse_unfit, refuse_without_effect
from sft.recipes.sources import source_of
from sft.runs.atomic_files import read_json, write_json
from sft.runs.machine import Machine, machine_here, ran_out
from sft.runs.run import Run
from sft.training.epoch import epoch_of
from sft.training.fit import render_parts
from sft.training.plan import costs
from sft.training.plan.parts import Batch, Disk, Fit, Memory, ModelSize, Plan, Time, Work
from sft.training.start import fetch_data, fetched


def plan(recipe: Recipe, reference: str, overrides: list[str], *, probe: bool = True) -> Plan:
    """What fitting ``recipe`` takes on this machine. ``reference`` and ``overrides``: as given, for the other process.

    Without ``probe`` no weights are read: memory is computed, and there is no time. Raises ``UserError``.
    """
    folder = Path("runs") / (recipe.name or Path(reference).stem)
    with tempfile.TemporaryDirectory(prefix="sft-plan-") as scratch:
        if not probe:
            found = observe(recipe, Path(scratch), probe=False, began=time.time())
            return assemble(recipe, found, machine_here(folder))
        request = Path(scratch) / "request.json"
        # The probe asks how much is free: this process takes nothing of a GPU, which one alone may have on a cluster.
        write_json(request, {"recipe": reference, "set": overrides, "folder": str(folder)})
        command = [sys.executable, "-m", "sft.training.plan.command", str(request), str(time.time())]
        status = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
        answer = Path(scratch) / "answer.json"
        if answer.exists():
            found = read_json(answer)
            if "error" in found:
                raise UserError(found["error"])
            if "ran_out" not in found:
                return assemble(recipe, found, Machine(**found["machine"]))
            note = "The probe ran out of memory, so as it is the fit does not go in; what follows is computed."
        elif status in (-9, 137):
            note = "The probe was ended by the system, as it does when memory runs out; what follows is computed."
        else:
            raise RuntimeError(f"the probe ended with status {status}; its own words are above")
        ran_short = answer.exists()
        found = observe(recipe, Path(scratch, "anew"), probe=False, began=time.time())
        found |= {"notes": [*found["notes"], note], "ran_out": ran_short}
        return assemble(recipe, found, machine_here(folder))


def observe(
    recipe: Recipe, scratch: Path, *, probe: bool, began: float, available: int | None = None
) -> dict[str, Any]:
    """What was counted and, with ``probe``, measured: JSON-ready. ``began``: when (Unix time) this process did.

    There is no probe where ``available`` bytes are too few for what the fit is computed to take.
    """
    from sft.policies import precision
    from sft.policies.policy import load_renderer
    from sft.policies.weights import accelerator_computes_bf16, config_of, context_length, layer_shape, quiet_engine
    from sft.runs.machine import default_device
    from sft.training import constructing
    from sft.training.plan import rehearsal
    from sft.training.proof import prove

    refuse_without_effect(recipe)
    waited = time.monotonic()
    refuse_unfit(recipe)
    constructing.refuse_what_the_engine_refuses(recipe)
    fetch_data(recipe, lambda line: None)  # what is made once for all runs counts for none
    base = fetched(recipe, lambda line: None)
    waited = time.monotonic() - waited
    gathered = gather(recipe, keep_going=True)
    recipe = gathered.recipe

    renderer, config = load_renderer(base, recipe), config_of(base)
    rendered = render_parts(renderer, gathered.splits.parts, recipe, context_length(config))
    epoch = epoch_of(renderer, gathered.splits, rendered["train"], recipe, context_length(config))
    training, validation = epoch.rows, rendered["validation"][0]
    if not training:
        raise SplitError("there is no demonstration left to train on; see `sft check` for where they went")
    counts = {name: len(kept) for name, (kept, _) in rendered.items()}
    counts |= {fate: epoch.fates.count(fate) for fate in ("repeated", "replayed") if fate in epoch.fates}
    number = precision.choice(recipe, default_device(), accelerator_computes_bf16(), layer_shape(config))
    given: dict[str, Any] = {
        "bf16": number["bf16"],
        "base": base,
        "renderer": renderer,
        "rows": counts,
        "too_long": sum(len(longer) for _, longer in rendered.values()),
    }
    read = time.time() - began - waited
    with quiet_engine():
        work = rehearsal.count(recipe, training, validation, scratch=scratch / "counted", **given)
        outlined, fit = costs.model_of(recipe, base), costs.fit_of(recipe)
    notes = []
    if gathered.rejected:
        notes.append(f"{len(gathered.rejected):,} rows cannot become demonstrations; a run needs --keep-going.")
    completions = [d.completion for part in gathered.splits.parts.values() for d in part]
    if said := suggestion(completions, recipe.fidelity.headline, recipe.fidelity.checker):
        notes.append(said)
    known: dict[str, Any] = {
        "work": asdict(work),
        "model": asdict(outlined),
        "fit": asdict(fit),
        "demonstrations": _bytes_of(gathered.splits.parts),
        "notes": notes,
        "measured": None,
    }
    computed = costs.estimate(outlined, fit, work.longest, device=default_device().type)
    if not probe:
        return known
    if available is not None and computed.peak > available:
        notes.append("Nothing was probed, because that would not fit either; memory is computed.")
        return known
    loading = time.monotonic()
    found = rehearsal.rehearse(recipe, training, validation, scratch=scratch / "probed", **given)
    with Run.open(scratch / "probed" / "run") as run:
        proof = prove(run)["wall_seconds"]
    known["measured"] = asdict(found) | {"proof": proof, "start": read + found.began - loading}
    return known


def _bytes_of(parts: Mapping[str, Any]) -> int:
    """Bytes of the run's file of demonstrations."""
    return sum(len(json.dumps(d.to_dict(), ensure_ascii=False).encode()) + 20 for part in parts.values() for d in part)


def assemble(recipe: Recipe, found: Mapping[str, Any], here: Machine) -> Plan:
    """The plan from what :func:`observe` tells, for the machine ``here``."""
    measured = found["measured"]
    counted = (measured or {}).get("work") or found["work"]
    work = Work(**counted | {"batches": tuple(Batch(**batch) for batch in counted["batches"])})
    model, fit = ModelSize(**found["model"]), Fit(**found["fit"])
    memory = costs.estimate(model, fit, work.longest, device=here.device)
    if found.get("ran_out") and here.available is not None:  # what was computed was too little by this, at the least
        short = max(0, here.available + 1 - memory.peak)
        memory = replace(memory, activations=memory.activations + short)
    spent, notes = None, list(found["notes"])
    clone = model.trainable_bytes
    checkpoint = clone + sum(costs.certain_bytes(model, fit)[2:])
    if measured is not None:
        batches = [Batch(**batch) for batch in measured["batches"]]
        memory = _parts(measured, memory)
        terms = costs.fitted_cost(batches, measured["seconds"])
        saved = measured["checkpoint_bytes"] > 0
        spent = Time(
            start=measured["start"],
            steps=work.total(costs.cost_of(b, terms) for b in work.taken) + work.steps * measured["per_step"],
            validation=work.validation_passes * measured["validation"],
            saving=work.checkpoints * measured["checkpoint"] + measured["clone"] + measured["proof"],
        )
        clone, checkpoint = measured["clone_bytes"], measured["checkpoint_bytes"] or checkpoint
        if not saved:
            notes.append("Checkpoints are too large to write one for its time alone; their time is not in the sum.")
    if len(work.taken) < min(work.passes, work.batches_in_epoch):
        notes.append(f"{len(work.taken):,} of {work.batches_in_epoch:,} batches of an epoch were looked at.")
    made = Plan(
        name=recipe.name,
        work=work,
        model=model,
        fit=fit,
        memory=memory,
        time=spent,
        disk=Disk(clone, checkpoint, min(work.checkpoints, 3), found["demonstrations"]),
        machine=here,
        measured=measured is not None,
        notes=tuple(notes),
    )
    if made.fits:
        return made
    known = memory if measured is not None or found.get("ran_out") else None
    base = source_of(recipe.model)
    remedy = costs.remedy_for(recipe, base, fit, work.longest, here.available or 0, device=here.device, known=known)
    return replace(made, remedy=remedy)


def _parts(measured: Mapping[str, Any], computed: Memory) -> Memory:
    """The measured peak taken apart; what the parts do not explain is the rest."""
    logits = 2 * measured["held_logits"] or computed.logits
    activations = measured["held"] - measured["held_logits"]
    parts = (measured["weights"], measured["gradients"], measured["optimizer"], activations, logits)
    return Memory(*parts, rest=measured["peak"] - sum(parts))


def _main(request: str, began: str) -> None:
    """The process of the probe: read the request, leave the answer beside it."""
    asked = read_json(Path(request))
    folder = Path(request).parent
    try:
        recipe, here = load(asked["recipe"], asked["set"]), machine_here(Path(asked["folder"]))
        found = observe(recipe, folder, probe=True, began=float(began), available=here.available)
        answer = found | {"machine": asdict(here)}
    except UserError as error:
        answer = {"error": str(error)}
    except Exception as error:
        if not ran_out(error):
            raise
        answer = {"ran_out": True}
    write_json(folder / "answer.json", answer)


if __name__ == "__main__":
    _main(*sys.argv[1:])
