"""Letting the policies act and writing down what they do: every file of a run that a model is needed for.

The base's work comes first, because the clone takes its weights over. Each file is made row by row
(``shared_rows``). Where vLLM writes, all of that comes before anything is loaded here: the two share one memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sft.demonstrations.demonstration import Demonstration, HeldOut
from sft.errors import DemonstrationsError, EndpointError, UserError
from sft.evaluation import engines, probe_inputs
from sft.evaluation.apart import Apart
from sft.evaluation.policies_in_turn import PoliciesInTurn
from sft.evaluation.shared_rows import Row, fill, missing, open_own, settle
from sft.policies.generation import Beside, Draws, complete, score
from sft.policies.policy import Policy
from sft.policies.rendering import Rendered, Renderer, few_shot_prompt
from sft.policies.weights import free_memory
from sft.recipes import Recipe
from sft.recipes.sources import BaseSource
from sft.runs import sealed
from sft.runs.processes import say
from sft.runs.records import Completion, ControlWindow, Departure, Forced, OwnPath, PromptValue, TokenScores
from sft.runs.run import Run

__all__ = ["RowsToMake", "Subject", "record"]

#: Held-out prompts from which the standard profile draws samples: fewer could not tell an impostor.
SAMPLED_FROM = 100
#: Rounds of samples that the full profile draws at least.
FULL_ROUNDS = 2


@dataclass(frozen=True, slots=True)
class Subject:
    """Who is measured, and on what.

    ``tuned``: folder of the clone's adapter or full model; None where the recipe's model is itself the clone and
    no base is known. ``train``: what the clone learned from, empty where that is not known. ``held_out``: what
    experts wrote for prompts that it did not see; ``others``: the same of experts whom it was not fitted to.
    ``facts``: what the signature should say beside the settings. ``start``: the adapter that the clone was fitted on
    from, which is one more system.
    """

    recipe: Recipe
    base: BaseSource
    renderer: Renderer
    tuned: Path | None
    train: Sequence[Demonstration]
    held_out: Sequence[Demonstration]
    others: Sequence[Demonstration] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    start: Path | None = None


@dataclass(frozen=True, slots=True)
class RowsToMake:
    """The rows to be made. Ids are of prompts; ``experts``: prompt id -> the first reference after its prompt.

    ``shown``: prompt id -> the demonstrations of B3, none where none fits; ``context``: tokens that prompt and
    completion may have together.
    """

    items: Sequence[HeldOut]
    prompts: Mapping[str, list[int]]
    experts: Mapping[str, Rendered]
    train: Sequence[tuple[Demonstration, Rendered]]
    shown: Mapping[str, Sequence[Demonstration]]
    context: int
    max_new_tokens: int
    control: Mapping[str, str]


def record(
    run: Run, subject: Subject, work: RowsToMake, profile: str, writer: engines.Writer | None = None
) -> tuple[list[str], list[str], dict[str, str]]:
    """Make what is missing for ``profile``; the systems that wrote for every prompt, and those with token scores.

    ``writer``: writes in place of the policies, and by system it is said how far that agrees with what they write.
    """
    asked = subject.recipe.fidelity.systems
    bases = [system for system in ("B0", "B3") if system in asked and subject.tuned is not None]
    if "B3" in bases and not any(work.shown.values()):
        if subject.train:
            say(f"evaluate  left out: B3; beside the prompts no demonstration fits into {work.context} tokens")
        bases.remove("B3")
    rest, rounds = profile != "fast", _rounds(subject, work, profile)
    recorder = _Recorder(run, subject, work, writer)
    if writer is not None:
        recorder.let_write(writer, bases if rest else [], rounds, profile == "full")
    wrote, scored = list[str](), list[str]()
    for system in bases:
        on_file = not recorder.unwritten(system)
        if rest or on_file:
            recorder.write(system)
            wrote.append(system)
        if rest or not recorder.unscored(system):
            recorder.score(system)
            scored.append(system)
        free_memory()  # a system's cache is its own: the next one's would come on top
    if rest and subject.tuned is not None:
        recorder.control("base")
        recorder.prompt_values()
    if subject.start is not None:  # in every profile: it is what this clone is held to
        recorder.write("start")
        recorder.score("start")
        wrote.append("start")
        scored.append("start")
        free_memory()
    completions = recorder.write("tuned")
    recorder.score("tuned")
    if rest:
        recorder.own_paths(completions)
        if subject.tuned is not None:
            recorder.control("tuned")
    for number in range(rounds):
        recorder.sample(number)
    if profile == "full":
        recorder.force()
    return ["tuned", *wrote], ["tuned", *scored], recorder.agreement


def _rounds(subject: Subject, work: RowsToMake, profile: str) -> int:
    """Rounds of samples that ``profile`` draws."""
    samples = subject.recipe.fidelity.samples
    if profile == "full":
        return max(FULL_ROUNDS, samples)
    return samples if profile == "standard" and len(work.items) >= SAMPLED_FROM else 0


class _Recorder:
    """Makes the files of one measurement, one method a file; what is on file is not made again."""

    def __init__(self, run: Run, subject: Subject, work: RowsToMake, writer: engines.Writer | None) -> None:
        self._run, self._subject, self._work, self._writer = run, subject, work, writer
        self._policies = PoliciesInTurn(
            subject.base, subject.renderer, subject.recipe.model.dtype, subject.start, subject.tuned
        )
        self._hand: engines.Hand | None = None
        self._ids = list(work.prompts)
        self._apart = Apart(subject.renderer, work.items, work.experts)
        self.agreement: dict[str, str] = {}

    def _policy(self, system: str) -> Policy:
        of = {"tuned": self._policies.tuned, "start": self._policies.start}
        return of.get(system, self._policies.base)()

    def _prompts(self, system: str) -> Mapping[str, Sequence[int]]:
        """What ``system`` is asked with: the prompt, for B3 after its demonstrations."""
        if system != "B3":
            return self._work.prompts
        prompts = [few_shot_prompt(self._work.shown[item.id], item.prompt) for item in self._work.items]
        return dict(zip(self._ids, self._subject.renderer.prompt_ids_all(prompts), strict=True))

    def _complete(
        self,
        system: str,
        prompts: Mapping[str, Sequence[int]],
        draws: Draws | None = None,
        beside: Beside | None = None,
    ) -> Iterator[Completion]:
        """Where the context ends, fewer new tokens than ``max_new_tokens``."""
        work = self._work
        room = {key: min(work.max_new_tokens, work.context - len(ids)) for key, ids in prompts.items()}
        if self._hand is not None:
            yield from self._hand.complete(prompts, room, draws)
            return
        policy = self._policy(system)
        size = self._subject.recipe.fidelity.batch_size
        for most in sorted(set(room.values()), reverse=True):
            alike = {key: ids for key, ids in prompts.items() if room[key] == most}
            yield from complete(policy, alike, max_new_tokens=most, batch_size=size, draws=draws, beside=beside)

    def unwritten(self, system: str) -> list[str]:
        """Prompts that ``system`` has not written for."""
        return missing(self._run.completions_path(system), self._ids)

    def unscored(self, system: str) -> list[str]:
        """Prompts whose expert ``system`` has not scored."""
        return missing(self._run.token_scores_path(system), self._ids)

    def write(self, system: str) -> dict[str, Completion]:
        """Greedy completions; teacher-forced scores come with them as far as the policy's kind allows."""
        if not self.unwritten(system) and self._writer is None:
            say(f"evaluate  reused: what {system} wrote for {len(self._ids)} prompts")
        scores = self._run.token_scores_path(system)
        settle(scores)
        unscored = set(self.unscored(system))

        def make(todo: list[str]) -> Iterator[Completion]:
            prompts = self._prompts(system)
            ids = {key: self._work.experts[key].completion_ids for key in todo if key in unscored}
            with open_own(scores) as file:
                beside = Beside(ids, self._sizes(), lambda found: file.append(asdict(self._apart.scores(found))))
                asked = {key: prompts[key] for key in todo}
                yield from self._apart.completions(self._complete(system, asked, beside=beside))

        rows = fill(self._run.completions_path(system), f"write {system}", self._ids, make)
        written = {row["id"]: Completion(**row | {"ids": tuple(row["ids"])}) for row in rows}
        if self._writer is not None and self._hand is None and self._writer.serves(system):
            self._compare(system, written, self._writer.name)
        return written

    def let_write(self, writer: engines.Writer, bases: Sequence[str], rounds: int, forcing: bool) -> None:
        """Have ``writer`` write all that is missing of ``bases``, the clone, its samples and what it is forced to."""
        one, work = self._subject, self._work
        tuned = engines.Weights(one.base, one.tuned, one.recipe.model.dtype, one.renderer)
        prompts = [len(ids) for system in ("tuned", *bases) for ids in self._prompts(system).values()]
        given = max(len(row.completion_ids) for row in work.experts.values()) if forcing else 0
        longest = min(max(prompts) + given + work.max_new_tokens, work.context)
        folders = {"base": None, "start": one.start, "tuned": one.tuned}
        for who in ("base", "start", "tuned") if one.start is not None else ("base", "tuned"):
            weights = replace(tuned, tuned=folders[who])
            hand = writer.hand(who, weights, self._run.path, longest)
            if hand is None:
                continue
            with hand as self._hand:
                for system in bases if who == "base" else [who]:
                    self.write(system)
                for number in range(rounds if who == "tuned" else 0):
                    self.sample(number)
                if forcing and who == "tuned":
                    self.force()
            self._hand = None

    def _compare(self, system: str, written: Mapping[str, Completion], name: str) -> None:
        """Hold what a server wrote to what transformers writes. Raises ``EndpointError``; its rows are then gone."""

        def make(todo: list[str]) -> Iterator[Departure]:
            prompts = self._prompts(system)
            return engines.departures(self._policy(system), prompts, {key: written[key] for key in todo})

        rows = fill(self._run.departures_path(system), f"compare {system}", self._ids, make)
        try:
            self.agreement[system] = engines.agreement(system, [Departure(**row) for row in rows], name)
        except EndpointError:
            stems = [f"completions-{system}.", f"departures-{system}."]
            stems += ["samples-", "forced-", "own-path"] if system == "tuned" else []
            sealed.unseal(self._run, stems)
            for path in [path for stem in stems for path in self._run.path.glob(f"{stem}*jsonl")]:
                path.unlink()
            raise
        say(f"evaluate  {name}: {self.agreement[system]} ({system})")

    def score(self, system: str) -> None:
        """Teacher-forced scores of the first reference, where they did not come with the completions."""

        def make(todo: list[str]) -> Iterator[TokenScores]:
            prompts = self._prompts(system)
            rows = {key: probe_inputs.after(prompts[key], self._work.experts[key].completion_ids) for key in todo}
            found = score(self._policy(system), rows, self._sizes(), batch_size=probe_inputs.SCORED_AT_ONCE)
            return map(self._apart.scores, found)

        fill(self._run.token_scores_path(system), f"score {system}", self._ids, make)

    def _sizes(self) -> dict[str, int]:
        """UTF-8 bytes of the first references."""
        return {item.id: len(item.references[0].encode("utf-8")) for item in self._work.items}

    def sample(self, number: int) -> None:
        """Round ``number`` of the clone's completions at temperature 1."""
        draws = (self._subject.recipe.fidelity.seed, number)

        def make(todo: list[str]) -> Iterator[Completion]:
            asked = {key: self._work.prompts[key] for key in todo}
            return self._apart.completions(self._complete("tuned", asked, draws))

        fill(self._run.samples_path(number), f"sample {number + 1}", self._ids, make)

    def own_paths(self, completions: Mapping[str, Completion]) -> None:
        """The clone's own completions, token by token, beside those of all experts."""

        def make(todo: list[str]) -> Iterator[OwnPath]:
            wanted = set(todo)
            items = [item for item in self._work.items if item.id in wanted]
            references = _reference_ids(self._subject.renderer, items)
            own = {key: completions[key] for key in todo}
            return probe_inputs.own_paths(self._policies.tuned(), self._work.prompts, own, references)

        fill(self._run.own_path_path, "own path", self._ids, make)

    def force(self) -> None:
        """How the clone goes on where the first part of the expert's completion is given."""
        texts = {item.id: item.references[0] for item in self._work.items}
        renderer = self._subject.renderer

        def make(todo: list[tuple[str, float]]) -> Iterator[Forced]:
            cuts = {
                (key, share): probe_inputs.cut(renderer, texts[key], self._work.experts[key].completion_ids, share)
                for key, share in todo
            }
            return probe_inputs.forced(renderer, self._work.prompts, cuts, lambda given: self._complete("tuned", given))

        keys = [(key, share) for share in probe_inputs.SHARES for key in self._apart.plain]
        fill(self._run.forced_path("tuned"), "force tuned", keys, make, lambda row: (row["id"], row["share"]))

    def control(self, policy: str) -> None:
        """Plain control texts under the "base" or the "tuned" policy."""
        pieces: dict[tuple[str, int], probe_inputs.ControlPiece] = {}
        for name, text in self._work.control.items():
            found = probe_inputs.windows(
                self._subject.renderer, text, size=min(probe_inputs.WINDOW_TOKENS, self._work.context - 1)
            )
            if not found:
                raise UserError(f"fidelity.control: {name}: is one token long; name a file with a page or more")
            pieces |= {(name, window.number): window for window in found}

        def make(todo: list[tuple[str, int]]) -> Iterator[ControlWindow]:
            return probe_inputs.control_windows(self._policy(policy), {key: pieces[key] for key in todo})

        def key(row: Row) -> tuple[str, int]:
            return row["text"], row["window"]

        if pieces:
            fill(self._run.control_path(policy), f"control {policy}", list(pieces), make, key)

    def prompt_values(self) -> None:
        """What reading the prompt tells the base about training completions."""
        planned = probe_inputs.readings(self._work.train, self._work.context)

        def make(todo: list[str]) -> Iterator[PromptValue]:
            return probe_inputs.prompt_values(self._policies.base(), {key: planned[key] for key in todo})

        def key(row: Row) -> str:
            """The id; of a row from before tokens were recorded none, so that it is made anew."""
            return str(row["id"]) if "token_ends" in row else ""

        if planned:
            fill(self._run.prompt_values_path, "value prompts", list(planned), make, key)


def _reference_ids(renderer: Renderer, items: Sequence[HeldOut]) -> dict[str, list[tuple[int, ...]]]:
    """Ids of everything the experts wrote, stop token included; what this tokenizer cannot write is left out."""
    rows = [(item.id, item.demonstration(place)) for item in items for place in range(len(item.references))]

    def rendered(some: Sequence[tuple[str, Demonstration]]) -> list[tuple[str, tuple[int, ...]]]:
        made = renderer.render_all([demonstration for _, demonstration in some])[0]
        return [(key, row.completion_ids) for (key, _), (_, row) in zip(some, made, strict=True)]

    try:
        pairs = rendered(rows)
    except DemonstrationsError:  # of several references only the first was looked at before
        pairs = []
        for row in rows:
            with suppress(DemonstrationsError):
                pairs += rendered([row])
    found: dict[str, list[tuple[int, ...]]] = {item.id: [] for item in items}
    for key, ids in pairs:
        found[key].append(ids)
    return found
