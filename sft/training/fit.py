"""The fit of a run: render, account for every row and token, train, prove what was saved.

What is there and still true is reused, and said so. Under ``accelerate launch`` the first process decides and writes,
the others follow. What comes before is in ``start``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from sft.demonstrations import stored
from sft.demonstrations.demonstration import Demonstration
from sft.demonstrations.ledger import Ledger
from sft.demonstrations.stored import load_splits
from sft.errors import DemonstrationsError, SplitError, TrainingError, UserError
from sft.recipes import Recipe
from sft.recipes.sources import source_of
from sft.runs.processes import ending, is_main, say, sharding, tell
from sft.runs.run import Run, trained_policy, write_json
from sft.training.epoch import Epoch, epoch_of

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from sft.policies.rendering import Rendered, Renderer
    from sft.training.fitting import Fitted


def fit(
    run: Run, recipe: Recipe, *, resume: bool = False, looked: Callable[[int, float], bool] | None = None
) -> Fitted | None:
    """Render and train. Returns None when the run was trained already.

    ``looked``: see ``fitting.train``.

    The ledger learns of rows that are too long and of the tokens of every split; the manifest of the base,
    the template and the outcome. Raises ``UserError``; ``KeyboardInterrupt`` after Ctrl-C and ``processes.Terminated``
    after SIGTERM, with a checkpoint saved.
    """
    if trained_policy(run) is not None and "training" in run.manifest:
        say(f"train     reused: {run.path} is trained already")
        return None
    from sft.policies.policy import load_renderer
    from sft.policies.weights import config_of, context_length, free_memory, load_whole
    from sft.runs.machine import default_device, ran_out
    from sft.training import fitting, proof
    from sft.training.plan.costs import refuse_what_cannot_fit

    base = source_of(recipe.model)
    refuse_what_cannot_fit(recipe, base)
    made = load_splits(run)
    renderer, config = load_renderer(base, recipe), config_of(base)
    context = context_length(config)
    by_split = render_parts(renderer, made.parts, recipe, context)
    if not by_split["test"][0]:
        raise SplitError(
            f"every held-out demonstration is longer than the base model's context of {context} tokens; shorten them, "
            "or choose a base model with a longer one"
        )
    epoch = epoch_of(renderer, made, by_split["train"], recipe, context)
    if is_main():
        _account(run, by_split, epoch)
    if default_device().type == "cpu" and sharding() == "FSDP":
        say("train     on a CPU accelerate shards nothing: every process holds the whole model, as with DDP")
    bf16 = _precision(run, recipe, config)
    try:
        fitted = fitting.train(
            recipe, epoch.rows, by_split["validation"][0],
            base=base, renderer=renderer, run=run, resume=resume, bf16=bf16, fates=epoch.fates,
            looked=looked,
        )  # fmt: skip
    except fitting.Interrupted as stop:
        raise ending(stop.number, str(stop)) from stop
    except UserError:
        raise
    except Exception as error:
        if default_device().type == "cpu" or not ran_out(error):
            raise
        raise TrainingError(_with_less_memory(recipe)) from error
    load_whole()
    free_memory()
    if is_main():
        _account_for_steps(run, fitted)
        saved = proof.prove(run)
        say(f"saved     {proof.in_words(saved)}")
        run.update_manifest(training=asdict(fitted) | {"saved": saved})
    return fitted


def _with_less_memory(recipe: Recipe) -> str:
    """That the GPU's memory ran out in the fit, and the first setting that takes less of it."""
    from sft.training.plan import costs
    from sft.training.plan.parts import Remedy

    fit = costs.fit_of(recipe)
    less = next(costs.remedies(fit), None)
    remedy = f"write {Remedy(less.settings(fit), 0).to_text()}, or " if less is not None else ""
    return (
        f"training: the GPU's memory ran out; {remedy}choose among the settings that `sft plan` names "
        "(where a checkpoint was saved, --resume --allow-change goes on from it)"
    )


def _precision(run: Run, recipe: Recipe, config: PretrainedConfig) -> bool:
    """Whether to compute in bfloat16 where the recipe leaves it open: measured once, and on record from then on."""
    from sft.policies import precision
    from sft.policies.weights import accelerator_computes_bf16, layer_shape
    from sft.runs.machine import default_device

    found = run.manifest.get("precision")
    if is_main() and found is None:
        found = precision.choice(recipe, default_device(), accelerator_computes_bf16(), layer_shape(config))
        run.update_manifest(precision=found)
        if line := precision.in_words(found):
            say(f"train     {line}")
    return tell(found["bf16"] if is_main() and found is not None else None)


def render_parts(
    renderer: Renderer, parts: Mapping[str, Sequence[Demonstration]], recipe: Recipe, context: int | None
) -> dict[str, tuple[list[Any], list[Any]]]:
    """Every part rendered: (rows, rows that are too long for ``context`` or, where they are fitted, for the recipe)."""
    from sft.policies import rendering_cache

    found = {}
    for name, part in parts.items():
        limit = None if name == "test" else recipe.training.max_length
        longest = min((size for size in (limit, context) if size is not None), default=None)
        try:
            found[name] = rendering_cache.render_all(
                renderer, part, max_length=longest, too_long=recipe.training.too_long
            )
        except DemonstrationsError as error:
            if longest == limit:
                raise
            # It is not the recipe's max_length that they exceed, and raising it would not help.
            problems = [
                replace(p, message=p.message.replace("max_length is", "the base model's context is"),
                        remedy=p.remedy.replace("raise training.max_length", "choose a base model with a longer one"))
                for p in error.problems
            ]  # fmt: skip
            raise DemonstrationsError(problems) from None
    return found


def _account(run: Run, rendered: Mapping[str, tuple[list[Any], list[Any]]], epoch: Epoch) -> None:
    """Add to the ledger what rendering found: rows that are too long, and tokens by fate."""
    ledger = stored.ledger(run)
    if ledger.tokens:  # a resumed run has been through here before
        return
    tokens: dict[str, dict[str, int]] = {}

    def count(fate: str, row: Rendered) -> None:
        known = tokens.setdefault(fate, {"prompt": 0, "completion": 0})
        known["prompt"] += row.context
        known["completion"] += len(row) - row.context

    longer = epoch.too_long | {name: rendered[name][1] for name in ("validation", "test")}
    ledger = ledger.with_passes(epoch.fates.count("repeated"))
    for fate, rows in longer.items():
        if rows:
            ledger = ledger.moved(len(rows), source=fate, to="too_long")
        for _, row in rows:
            count("too_long", row)
    for (_, row), fate in zip(epoch.rows, epoch.fates, strict=True):
        count(fate, row)
    for name in ("validation", "test"):
        for _, row in rendered[name][0]:
            count(name, row)
    pages = ledger.fates.get("replayed", 0) - epoch.fates.count("replayed")
    if pages > 0:  # of a token or none, in which there is nothing to predict
        ledger = ledger.moved(pages, source="replayed", to="spare")
    write_json(run.ledger_path, Ledger(ledger.rows, ledger.unrolled, ledger.fates, tokens).to_dict())


def _account_for_steps(run: Run, fitted: Fitted) -> None:
    """Rows that the steps ended before were not trained on, and the ledger says so."""
    ledger = stored.ledger(run)
    if not fitted.rows_not_reached or "not_reached" in ledger.fates:
        return
    tokens = dict(ledger.tokens)
    unseen = {"prompt": 0, "completion": 0}
    for fate, missed in fitted.fates_not_reached.items():
        tokens[fate] = {kind: count - missed[kind] for kind, count in tokens[fate].items()}
        if fate == "repeated":
            ledger = ledger.with_passes(ledger.fates["repeated"] - missed["rows"])
            continue
        ledger = ledger.moved(missed["rows"], source=fate, to="not_reached")
        unseen = {kind: count + missed[kind] for kind, count in unseen.items()}
    tokens = {fate: found for fate, found in tokens.items() if fate in ledger.fates} | {"not_reached": unseen}
    write_json(run.ledger_path, Ledger(ledger.rows, ledger.unrolled, ledger.fates, tokens).to_dict())
