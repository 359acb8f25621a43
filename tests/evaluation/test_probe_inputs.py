"""Probes' raw findings against second definitions: forcing, own paths, control texts, what prompts tell."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")

import toy_fits

from sft.demonstrations.demonstration import Demonstration, Message
from sft.evaluation import probe_inputs
from sft.policies.generation import complete
from sft.policies.policy import Policy, load_policy
from sft.policies.rendering import decode_tokens
from sft.recipes.sources import resolve_model
from sft.runs.records import Completion

SCRIPTS = [
    "fine, thank you. It is so.",
    "Привет, мир! Как дела сегодня?",
    "模型学会了写同样的话,一个字也不差。",
    "مرحبا بالعالم، كيف حالك اليوم؟",
    "ok 👩‍👩‍👧‍👦 done 🎉🎉🎉🎉",
    "nai\u0308ve re\u0301sume\u0301",
    "half a character \ufffd\ufffd\ufffd\ufffd stays",
    "  def f(x):\n\treturn x\n",
    "é",
]


@pytest.fixture(scope="module")
def policy(tiny_model: Path) -> Policy:
    """The tiny model, made to say many different things."""
    found = load_policy(resolve_model(str(tiny_model)))
    with torch.no_grad():
        for parameter in found.model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6)
    return found


def rendered(policy: Policy, text: str, prompt: str = "Hello") -> Any:
    return policy.renderer.render(Demonstration((Message("user", prompt),), text))


# -- prefix forcing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", SCRIPTS)
def test_given_and_rest_are_the_experts_text(text: str, policy: Policy) -> None:
    """In every script, at every share: nothing lost, no character parted, ids that say what is given."""
    ids = rendered(policy, text).completion_ids
    for share in (0.1, 0.25, 0.5, 0.75, 0.9, 0.999):
        part = probe_inputs.cut(policy.renderer, text, ids, share)
        assert part.given + part.rest == text
        assert part.rest
        assert tuple(ids[: len(part.ids)]) == part.ids
        assert len(part.ids) <= share * (len(ids) - 1)
        assert policy.renderer.decode_completion(part.ids) == part.given
        assert not part.rest.startswith(("\u0301", "\u0308", "\u200d"))
        assert not part.given.endswith("\u200d")


def test_a_cut_inside_a_character_moves_back(policy: Policy) -> None:
    """Four emoji of several tokens each: half of the tokens is more than one of them and less than three."""
    text = "🎉🎉🎉🎉"
    ids = rendered(policy, text).completion_ids
    assert len(ids) - 1 > 4, "the tokenizer must take several tokens to an emoji"
    given = {probe_inputs.cut(policy.renderer, text, ids, share).given for share in (0.3, 0.4, 0.5, 0.6, 0.7)}
    assert given <= {"🎉", "🎉🎉"} and given


def test_forcing_goes_on_after_what_is_given(policy: Policy) -> None:
    """Each text is what the policy writes after prompt and given tokens; at share 0 it would be its own completion."""
    texts = {"a": "fine, thank you. It is so.", "b": "ok 👩‍👩‍👧‍👦 done 🎉"}
    prompts = {key: policy.renderer.prompt_ids((Message("user", f"Hello {key}"),)) for key in texts}
    experts = {key: rendered(policy, text, f"Hello {key}").completion_ids for key, text in texts.items()}
    cuts = {
        (key, share): probe_inputs.cut(policy.renderer, texts[key], experts[key], share)
        for key in texts
        for share in (0.0, *probe_inputs.SHARES)
    }

    def write(given: Mapping[str, Sequence[int]]) -> Iterator[Completion]:
        return complete(policy, given, max_new_tokens=8, batch_size=3)

    found = {(row.id, row.share): row for row in probe_inputs.forced(policy.renderer, prompts, cuts, write)}
    assert found.keys() == cuts.keys()
    for (key, share), row in found.items():
        assert row.given + row.rest == texts[key]
        (alone,) = complete(policy, {"x": [*prompts[key], *cuts[key, share].ids]}, max_new_tokens=8, batch_size=1)
        assert row.given + row.text == policy.renderer.decode_completion([*cuts[key, share].ids, *alone.ids])
        assert row.finished == alone.finished


# -- the clone's own path -----------------------------------------------------------------------------------


def longest_common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the longest common subsequence, by the recursion it is defined by."""
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, a in enumerate(one, 1):
        for j, b in enumerate(other, 1):
            table[i][j] = table[i - 1][j - 1] + 1 if a == b else max(table[i - 1][j], table[i][j - 1])
    return table[-1][-1]


def test_an_own_path_is_teacher_forced_on_what_was_written(policy: Policy) -> None:
    """Probabilities from a plain forward; hits a common subsequence of the greatest length; left by comparing."""
    prompts = {f"p{n}": policy.renderer.prompt_ids((Message("user", f"{n} {'so ' * n}"),)) for n in range(6)}
    first = {c.id: c for c in complete(policy, prompts, max_new_tokens=9, batch_size=4)}
    policy.renderer.stop_token_ids = (first["p1"].ids[4], *policy.renderer.stop_token_ids)  # some are to stop
    policy.renderer.end_of_turn = (first["p1"].ids[4],)
    written = {c.id: c for c in complete(policy, prompts, max_new_tokens=9, batch_size=4)}
    assert {c.finished for c in written.values()} == {True, False}
    stop = policy.renderer.end_of_turn
    own = {key: [*c.ids, *(stop if c.finished else ())] for key, c in written.items()}
    draw = random.Random(0)
    references = {
        key: [(*ids[: draw.randrange(len(ids))], *draw.sample(range(10, 400), 5), *stop) for _ in range(3)]
        for key, ids in own.items()
    }
    references["p2"].append(tuple(own["p2"]))
    for path in probe_inputs.own_paths(policy, prompts, written, references):
        ids, prompt = own[path.id], prompts[path.id]
        with torch.inference_mode():
            logits = policy.model(input_ids=torch.tensor([[*prompt, *ids]])).logits[0].double()
        expected = [float(logits[len(prompt) - 1 + n].softmax(-1)[token]) for n, token in enumerate(ids)]
        assert path.confidences == pytest.approx(expected, abs=1e-4)
        assert sum(path.hits) == max(longest_common(ids, reference) for reference in references[path.id])
        hit = iter(next(r for r in references[path.id] if longest_common(ids, r) == sum(path.hits)))
        assert all(token in hit for token, flag in zip(ids, path.hits, strict=True) if flag), "in order"
        agreed = [n for n in range(len(ids) + 1) if any(list(r[:n]) == ids[:n] for r in references[path.id])]
        assert path.left == (None if max(agreed) == len(ids) else max(agreed))
        assert (path.left is None) == (path.id == "p2")


# -- plain control text -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 7, 64])
def test_windows_add_up_to_the_text(size: int, policy: Policy) -> None:
    """Every token but the first is predicted once; bytes, whatever the script, are those of the text without it."""
    text = " ".join(SCRIPTS) * 3
    ids = policy.renderer.tokenizer(text, add_special_tokens=False)["input_ids"]
    first = len(decode_tokens(policy.renderer.tokenizer, ids[:1]).encode())
    found = probe_inputs.windows(policy.renderer, text, size=size, most=10_000)
    assert sum(w.bytes for w in found) == len(text.encode()) - first
    assert all(w.predicted == len(w.ids) - 1 < size for w in found)
    if size > 2:  # of windows of one token those go that end a character only
        assert sum(w.predicted for w in found) == len(ids) - 1
        assert [token for w in found for token in w.ids[-w.predicted :]] == ids[1:]
    chosen = probe_inputs.windows(policy.renderer, text, size=7, most=5)
    numbers = [w.number for w in chosen]
    whole = probe_inputs.windows(policy.renderer, text, size=7, most=10_000)
    assert len(chosen) == 5 and numbers[0] == 0
    assert all(w in whole for w in chosen)
    steps = [b - a for a, b in itertools.pairwise(numbers)]
    assert max(steps) - min(steps) <= 1, "evenly over the text"
    assert probe_inputs.windows(policy.renderer, "") == [] == probe_inputs.windows(policy.renderer, "a")


def test_control_nats_are_those_of_the_plain_text(policy: Policy) -> None:
    """No template, no stop token: a plain forward over each window gives the same sum."""
    found = probe_inputs.windows(policy.renderer, " ".join(SCRIPTS), size=20)
    rows = list(probe_inputs.control_windows(policy, {("wiki", w.number): w for w in found}))
    assert {(row.text, row.window) for row in rows} == {("wiki", w.number) for w in found}
    by_number = {w.number: w for w in found}
    for row in rows:
        window = by_number[row.window]
        with torch.inference_mode():
            logp = policy.model(input_ids=torch.tensor([window.ids])).logits[0].double().log_softmax(-1)
        expected = -sum(float(logp[n, token]) for n, token in enumerate(window.ids[1:]))
        assert row.nats == pytest.approx(expected, rel=1e-4)
        assert row.bytes == window.bytes


# -- what the prompt tells ----------------------------------------------------------------------------------


def test_prompt_values_compare_one_completion_after_several_prompts(policy: Policy) -> None:
    """Own and other prompts, chosen by content, whatever the order of rows; a prompt asked twice is no other one."""
    made = [*toy_fits.demonstrations(8), Demonstration((Message("user", "0: who?"),), "me", id="a")]
    made.append(Demonstration((Message("user", "0:  WHO?"),), "you", id="b"))
    rows = policy.renderer.render_all(made)[0]
    planned = probe_inputs.readings(rows, 512)
    assert probe_inputs.readings(list(reversed(rows)), 512) == planned
    assert len(planned) == 10 and len(probe_inputs.readings(rows, 512, most=4)) == 4
    assert probe_inputs.readings(rows, 512, most=4).items() <= planned.items()
    prompts = {row.prompt_ids: demonstration.key for demonstration, row in rows}
    found = {value.id: value for value in probe_inputs.prompt_values(policy, planned)}
    assert found.keys() == planned.keys()
    for demonstration, row in rows:
        reading, value = planned[demonstration.id], found[demonstration.id]
        assert len({demonstration.key, *(prompts[ids] for ids in reading.others)}) == 3 == value.others + 1
        own, *others = (nats(policy, ids, row.completion_ids) for ids in (row.prompt_ids, *reading.others))
        assert value.own_nats == pytest.approx(own, rel=1e-4)
        assert value.other_nats == pytest.approx(sum(others) / 2, rel=1e-4)
        assert value.bytes == len(demonstration.completion.encode())
        assert value.token_ends == policy.renderer.token_ends(demonstration.completion)
        stop = own_of_stop(policy, row.prompt_ids, row.completion_ids)
        assert sum(value.own_token_nats) == pytest.approx(own - stop, rel=1e-4)
        assert len(value.other_token_nats) == len(value.token_ends) == len(row.completion_ids) - 1
    assert probe_inputs.readings(rows[:1], 512) == {}, "nothing to compare with"
    assert probe_inputs.readings(rows, 4) == {}, "nothing fits"


def own_of_stop(policy: Policy, prompt: Sequence[int], completion: Sequence[int]) -> float:
    """Nats of the last token alone."""
    return nats(policy, [*prompt, *completion[:-1]], completion[-1:])


@torch.inference_mode()
def nats(policy: Policy, prompt: Sequence[int], completion: Sequence[int]) -> float:
    logp = policy.model(input_ids=torch.tensor([[*prompt, *completion]])).logits[0].double().log_softmax(-1)
    return -math.fsum(float(logp[len(prompt) - 1 + n, token]) for n, token in enumerate(completion))
