"""The loop, step by step: gather demonstrations, fit the policy, measure the clone. One function per verb.

Every step leaves files in the run directory and can be repeated from them: what is there and still true is
reused, and said so. Under ``accelerate launch`` the first process decides and writes, the others follow.
What comes before fitting is in ``beginning``, and handed on from here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft import records
from sft.beginning import begin, load_others, load_recipe, load_splits, prepare, renderer_of
from sft.changes import trained_policy
from sft.demonstrations import Demonstration, Message
from sft.errors import DemonstrationsError, RunError, SplitError, UserError
from sft.ledger import Ledger
from sft.recipes import Recipe
from sft.runs import Run, write_json
from sft.scorecards import Scorecard
from sft.sharing import is_main, is_sharded, say, tell

if TYPE_CHECKING:
    from sft.policies import Policy
    from sft.rendering import Renderer
    from sft.training import Fitted

__all__ = [
    "Conversation",
    "begin",
    "converse",
    "demand_trained",
    "evaluate",
    "fit",
    "is_main",
    "load_others",
    "load_recipe",
    "load_splits",
    "prepare",
    "renderer_of",
    "say",
    "trained_policy",
]


# -- fit --------------------------------------------------------------------------------------------------


def fit(run: Run, recipe: Recipe, *, resume: bool = False) -> Fitted | None:
    """Render and train. Returns None when the run was trained already.

    The ledger learns of rows that are too long and of the tokens of every split; the manifest of the base,
    the template and the outcome. Raises ``UserError``; ``KeyboardInterrupt`` after Ctrl-C and ``signals.Terminated``
    after SIGTERM, with a checkpoint saved.
    """
    if trained_policy(run) is not None and "training" in run.manifest:
        say(f"train     reused: {run.path} is trained already")
        return None
    from sft import policies, proving, signals, sizing, training
    from sft.policies import default_device

    sizing.refuse_what_cannot_fit(recipe)
    made = load_splits(run)
    renderer = renderer_of(recipe)
    model = recipe.model
    context = policies.context_length(model.name, model.revision, model.trust_remote_code)
    rendered = {
        name: _render(
            renderer, part, recipe, limit=None if name == "test" else recipe.training.max_length, context=context
        )
        for name, part in made.parts.items()
    }
    if not rendered["test"][0]:
        raise SplitError(
            f"every held-out demonstration is longer than the base model's context of {context} tokens; shorten them, "
            "or choose a base model with a longer one"
        )
    if is_main():
        _account(run, rendered)
    if default_device().type == "cpu" and is_sharded():
        say("train     on a CPU accelerate shards nothing: every process holds the whole model, as with DDP")
    bf16 = _precision(run, recipe)
    try:
        fitted = training.train(
            recipe, rendered["train"][0], rendered["validation"][0],
            renderer=renderer, run=run, resume=resume, bf16=bf16,
        )  # fmt: skip
    except training.Interrupted as stop:
        raise signals.ending(stop.number, str(stop)) from stop
    policies.free_memory()
    if is_main():
        _account_for_steps(run, fitted)
        saved = proving.prove(run)
        say(f"saved     {proving.in_words(saved)}")
        run.update_manifest(training=asdict(fitted) | {"saved": saved})
    return fitted


def _precision(run: Run, recipe: Recipe) -> bool:
    """Whether to compute in bfloat16 where the recipe leaves it open: measured once, and on record from then on."""
    from sft import policies, precision

    found = run.manifest.get("precision")
    if is_main() and found is None:
        model = recipe.model
        shape = policies.layer_shape(model.name, model.revision, model.trust_remote_code)
        found = precision.choice(recipe, policies.default_device(), policies.accelerator_computes_bf16(), shape)
        run.update_manifest(precision=found)
        if line := precision.in_words(found):
            say(f"train     {line}")
    return tell(found["bf16"] if is_main() and found is not None else None)


def _render(
    renderer: Renderer, part: Sequence[Demonstration], recipe: Recipe, *, limit: int | None, context: int | None
) -> tuple[list[Any], list[Any]]:
    """The part rendered: (rows, rows that are too long). ``limit``: tokens a row may have at most, as the context."""
    from sft import renderings

    longest = min((size for size in (limit, context) if size is not None), default=None)
    try:
        return renderings.render_all(renderer, part, max_length=longest, too_long=recipe.training.too_long)
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


def _account(run: Run, rendered: Mapping[str, tuple[list[Any], list[Any]]]) -> None:
    """Add to the ledger what rendering found: rows that are too long, and tokens by fate."""
    ledger = records.ledger(run)
    if ledger.tokens:  # a resumed run has been through here before
        return
    fate_of = {"train": "trained", "validation": "validation", "test": "test"}
    tokens: dict[str, dict[str, int]] = {}
    for name, (kept, longer) in rendered.items():
        fate = fate_of[name]
        if longer:
            ledger = ledger.moved(len(longer), source=fate, to="too_long")
        for key, rows in ((fate, kept), ("too_long", longer)):
            if rows:
                known = tokens.setdefault(key, {"prompt": 0, "completion": 0})
                known["prompt"] += sum(len(row.prompt_ids) for _, row in rows)
                known["completion"] += sum(len(row.completion_ids) for _, row in rows)
    write_json(run.ledger_path, Ledger(ledger.rows, ledger.unrolled, ledger.fates, tokens).to_dict())


def _account_for_steps(run: Run, fitted: Fitted) -> None:
    """Rows that the steps ended before were not trained on, and the ledger says so."""
    ledger = records.ledger(run)
    if not fitted.rows_not_reached or "not_reached" in ledger.fates:
        return
    moved = ledger.moved(fitted.rows_not_reached, source="trained", to="not_reached")
    trained = {kind: count - fitted.tokens_not_reached[kind] for kind, count in ledger.tokens["trained"].items()}
    tokens = ledger.tokens | {"trained": trained, "not_reached": fitted.tokens_not_reached}
    write_json(run.ledger_path, Ledger(moved.rows, moved.unrolled, moved.fates, tokens).to_dict())


def demand_trained(run: Run) -> Path:
    """As :func:`trained_policy`; raises ``RunError`` before training has finished."""
    tuned = trained_policy(run)
    if tuned is None:
        raise RunError(f"{run.path}: is not trained yet; train it with `sft train RECIPE --output {run.path} --resume`")
    return tuned


# -- measure ----------------------------------------------------------------------------------------------


def evaluate(
    run: Run,
    recipe: Recipe,
    *,
    split: str = "test",
    profile: str | None = None,
    checker: str | None = None,
    purpose: str = "report",
) -> Scorecard:
    """Measure the run's clone on its held-out prompts. Raises ``RunError`` when the run is not trained.

    ``profile`` and ``checker``: in place of the recipe's; see ``measuring.measure``.
    """
    tuned = demand_trained(run)
    from sft import measuring

    return measuring.evaluate(
        run,
        recipe,
        load_splits(run),
        tuned,
        split=split,
        purpose=purpose,
        profile=profile,
        checker=checker,
        others=load_others(run),
    )


# -- talk -------------------------------------------------------------------------------------------------


class Conversation:
    """Turns with one policy, which sees all of them, and the ``system`` message before them, until it begins anew.

    ``why_none``: why there is no system message, where that needs a word.
    """

    def __init__(self, policy: Policy, max_new_tokens: int, system: str = "", why_none: str = "") -> None:
        self._policy = policy
        self._max_new_tokens = max_new_tokens
        self._turns: tuple[Message, ...] = ()
        self.system = system
        self.why_none = why_none

    def begin(self, *, system: str) -> None:
        """Begin anew, with this system message ("": none). Raises ``UserError`` for what is no message."""
        if system:
            _message("system", system)
        self._turns, self.system, self.why_none = (), system, ""

    def say(self, text: str, hand_on: Callable[[str], None]) -> str:
        """Answer ``text``, in pieces as they are written; returns a remark if the answer is cut or empty, or nothing.

        Raises ``UserError``, with the conversation as it was, where the context is full or the template refuses the
        turns. ``KeyboardInterrupt`` ends the answer, and what was written of it stays in the conversation.
        """
        from sft.generation import stream
        from sft.policies import context_length

        head = (Message("system", self.system),) if self.system else ()
        turns = (*self._turns, _message("user", text))
        ids = self._policy.renderer.prompt_ids((*head, *turns))
        context = context_length(self._policy.model)
        room = self._max_new_tokens if context is None else context - len(ids)
        if room < 1:
            raise UserError(
                f"the conversation is {len(ids)} tokens long with this message, and the model's context ends at "
                f"{context}; it was not sent: begin anew with /new, or send a shorter one"
            )
        pieces: list[str] = []

        def keep(piece: str) -> None:
            pieces.append(piece)
            hand_on(piece)

        try:
            answer, finished = stream(self._policy, ids, max_new_tokens=min(room, self._max_new_tokens), hand_on=keep)
        except KeyboardInterrupt:
            self._keep(turns, "".join(pieces))
            raise
        self._keep(turns, answer)
        if finished:
            return "" if answer.strip() else "(the answer is empty; neither it nor the message is remembered)"
        if room <= self._max_new_tokens:
            return f"(the answer is cut: the model's context of {context} tokens is full; /new begins anew)"
        return f"(the answer is cut at {self._max_new_tokens} tokens: --max-new-tokens)"

    def _keep(self, turns: tuple[Message, ...], answer: str) -> None:
        """The turns and what was answered; a question without any answer is forgotten, for roles take turns."""
        if answer.strip():
            self._turns = (*turns, Message("assistant", answer))


def _message(role: str, text: str) -> Message:
    try:
        return Message(role, text)
    except ValueError as error:
        raise UserError(f"{error}; it was not sent: write it otherwise") from None


def converse(run: Run, *, base: bool = False, max_new_tokens: int = 256) -> Conversation:
    """Load the run's clone (or its base model) to talk to, as its demonstrations did: with their system message.

    There is none where they have none, or several. Raises ``RunError`` when the run is not trained.
    """
    from sft.measuring import policy_of

    tuned = None if base else demand_trained(run)
    system, why_none = _system_of(load_splits(run).train)
    return Conversation(policy_of(load_recipe(run), tuned), max_new_tokens, system, why_none)


def _system_of(demonstrations: Sequence[Demonstration]) -> tuple[str, str]:
    """The system message that all have, and otherwise why there is none."""
    found = {d.prompt[0].content if d.prompt[0].role == "system" else "" for d in demonstrations}
    if len(found) < 2:
        return next(iter(found), ""), ""
    without = "some have none" if "" in found else "no two alike" if len(found) == len(demonstrations) else "several"
    return "", f" (the demonstrations differ in it: {without}; /system TEXT sets one)"
