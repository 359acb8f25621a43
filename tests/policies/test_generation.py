"""Batched completing and scoring give what one prompt at a time gives, for every batch, prefix and architecture."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")

import small_tokenizers
import toy_fits
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    DynamicCache,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from sft.demonstrations.demonstration import Demonstration, Message
from sft.policies import generation
from sft.policies.generation import Beside, complete, score, stream
from sft.policies.policy import Policy, load_policy, stops_with
from sft.policies.prefix_cache import ReservedLayer, common_prefix
from sft.policies.rendering import Rendered, renderer_for
from sft.recipes.sources import BaseSource, resolve_model
from sft.runs.records import Completion, TokenScores

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
MODELS: dict[str, tuple[Any, Any]] = {
    "llama": (LlamaForCausalLM, lambda n: LlamaConfig(vocab_size=n, num_key_value_heads=2, **SIZES)),
    "gpt2": (GPT2LMHeadModel, lambda n: GPT2Config(vocab_size=n, n_embd=32, n_layer=2, n_head=4, n_positions=256)),
    "qwen2": (Qwen2ForCausalLM, lambda n: Qwen2Config(vocab_size=n, num_key_value_heads=2, **SIZES)),
    "mistral, window of 8": (
        MistralForCausalLM,
        lambda n: MistralConfig(vocab_size=n, num_key_value_heads=2, sliding_window=8, **SIZES),
    ),
    "gemma3, window of 8": (
        Gemma3ForCausalLM,
        lambda n: Gemma3TextConfig(
            vocab_size=n, num_key_value_heads=2, head_dim=8, sliding_window=8,
            layer_types=["sliding_attention", "full_attention"], **SIZES,
        ),
    ),
    "bloom, no positions": (BloomForCausalLM, lambda n: BloomConfig(vocab_size=n, hidden_size=32, n_layer=2, n_head=4)),
    "mamba, no attention": (
        MambaForCausalLM,
        lambda n: MambaConfig(vocab_size=n, hidden_size=32, num_hidden_layers=2, state_size=4, conv_kernel=4),
    ),
}  # fmt: skip
PLAIN = [name for name in MODELS if "," not in name]
SLOW = [name for name in MODELS if "," in name]


def policy_of(kind: str, stops: Sequence[int] = ()) -> Policy:
    """A random model of that kind that says many different things; ``stops``: further ids that end a completion."""
    tokenizer = small_tokenizers.chatml()
    renderer = renderer_for(tokenizer)
    renderer.stop_token_ids = (*renderer.stop_token_ids, *stops)
    torch.manual_seed(3)
    made, config = MODELS[kind]
    model = made(config(len(tokenizer))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:  # random models are timid: they repeat one token whatever they are shown
                parameter.mul_(6)
    stops_with(model, renderer)
    return Policy(model, renderer, BaseSource(kind, None, None))


def prompts(count: int, *, shared: int = 0, seed: int = 0) -> dict[str, list[int]]:
    """Prompts of very different lengths (2 to 60 ids), the first ``shared`` ids in common."""
    draw = random.Random(seed)
    prefix = [draw.randrange(10, 400) for _ in range(shared)]
    lengths = [2, 60, *(draw.randrange(3, 45) for _ in range(count - 2))]
    return {f"p{n}": prefix + [draw.randrange(10, 400) for _ in range(length)] for n, length in enumerate(lengths)}


@torch.inference_mode()
def one_by_one(policy: Policy, ids: dict[str, list[int]], max_new_tokens: int) -> dict[str, list[int]]:
    """What ``model.generate`` writes for each prompt alone, stop token included."""
    found = {}
    for key, prompt in ids.items():
        given = torch.tensor([prompt])
        answer = policy.model.generate(
            input_ids=given, attention_mask=torch.ones_like(given), max_new_tokens=max_new_tokens, do_sample=False
        )
        found[key] = answer[0, len(prompt) :].tolist()
    return found


@pytest.fixture
def ids_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``complete``, with the ids in place of the text: key -> (ids, finished, tokens)."""

    def run(policy: Policy, given: dict[str, list[int]], **settings: Any) -> dict[str, tuple[list[int], bool, int]]:
        with monkeypatch.context() as patch:
            patch.setattr(policy.renderer, "decode_completion", lambda ids: list(ids))
            found = list(complete(policy, given, **settings))
        assert sorted(c.id for c in found) == sorted(given), "every prompt exactly once"
        return {c.id: (c.text, c.finished, c.tokens) for c in found}  # type: ignore[misc]

    return run


def frequent_tokens(kind: str, given: dict[str, list[int]]) -> list[int]:
    """Ids that some completions hold early, some late and some never: as stop tokens, they end rows at all times."""
    written = one_by_one(policy_of(kind), given, 24)
    first = {}
    for ids in written.values():
        for place, token in enumerate(ids):
            first.setdefault(token, []).append(place)
    spread = sorted(first, key=lambda token: (-len(first[token]), token))
    return [token for token in spread if len(first[token]) < len(written)][:2]


# -- completing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [0, 40])
@pytest.mark.parametrize("kind", PLAIN)
def test_any_batch_writes_what_generate_writes_for_one_prompt(kind: str, shared: int, ids_of: Any) -> None:
    """With rows that stop at once, midway, and never; with and without a beginning that all share."""
    given = prompts(13, shared=shared)
    policy = policy_of(kind, frequent_tokens(kind, given))
    expected = one_by_one(policy, given, 24)
    stops = set(policy.renderer.stop_token_ids)
    ended = [ids[-1] in stops for ids in expected.values()]
    assert any(ended), "some rows must stop"
    assert len({len(ids) for ids in expected.values()}) > 2, "and at different times"
    for batch_size in (1, 3, 8, 13):
        found = ids_of(policy, given, max_new_tokens=24, batch_size=batch_size)
        for key, ids in expected.items():
            finished = ids[-1] in stops
            assert found[key] == (ids[:-1] if finished else ids, finished, len(ids)), (key, batch_size)


@pytest.mark.parametrize("shared", [0, 40])
@pytest.mark.parametrize("kind", SLOW)
def test_windows_and_states_are_exact_too(kind: str, shared: int, ids_of: Any) -> None:
    """Where a cached beginning before padding would not be exact, it is not used."""
    given = prompts(7, shared=shared)
    policy = policy_of(kind, frequent_tokens(kind, given))
    expected = one_by_one(policy, given, 16)
    stops = set(policy.renderer.stop_token_ids)
    for batch_size in (1, 3, 7):
        found = ids_of(policy, given, max_new_tokens=16, batch_size=batch_size)
        for key, ids in expected.items():
            finished = ids[-1] in stops
            assert found[key] == (ids[:-1] if finished else ids, finished, len(ids)), (key, batch_size)


def test_what_all_prompts_begin_with_is_computed_once(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in tokens that go through the model before the first one is written."""
    policy = load_policy(resolve_model(str(tiny_model)))
    given = prompts(6, shared=50)
    seen: list[int] = []
    policy.model.register_forward_pre_hook(
        lambda _, args, given: seen.append(given["input_ids"].numel()), with_kwargs=True
    )
    list(complete(policy, given, max_new_tokens=1, batch_size=3))
    own = [len(ids) - 50 for ids in given.values()]
    assert seen[0] == 50
    assert sum(seen[1:]) <= 3 * max(own) + 3 * sorted(own)[2], "the rest, padded to the longest of each batch"


def test_rows_that_have_stopped_leave_the_batch(tiny_model: Path) -> None:
    """Else every batch would cost as much as its longest completion times its rows."""
    given = prompts(8)
    policy = policy_of("llama", frequent_tokens("llama", given))
    rows: list[int] = []
    policy.model.register_forward_pre_hook(
        lambda _, args, given: rows.append(given["input_ids"].shape[0]), with_kwargs=True
    )
    done = [c.id for c in complete(policy, given, max_new_tokens=24, batch_size=8)]
    assert rows[0] == 8
    assert rows == sorted(rows, reverse=True)
    assert rows[-1] < 8
    assert len(done) == 8


@pytest.mark.parametrize("room", [700, 330, 150])
def test_where_memory_runs_out_fewer_prompts_are_taken_at_a_time(room: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A device planted, with room for so many positions: it runs out while prompts are read, or in the middle of
    writing. An evaluation of a night ended there, and began anew with all that it had not on file."""
    policy = policy_of("llama")
    ids = prompts(12)
    wanted = {one.id: one.ids for one in complete(policy, ids, max_new_tokens=6, batch_size=1)}
    rows = {key: Rendered((*own, 5, 6, 7), (0,) * len(own) + (1,) * 3) for key, own in ids.items()}
    sizes = dict.fromkeys(rows, 3)
    expected = {one.id: one.nats for one in score(policy, rows, sizes, batch_size=1)}

    def refuse(_: Any, __: Any, words: dict[str, Any]) -> None:
        if words["attention_mask"].numel() > room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    handle = policy.model.register_forward_pre_hook(refuse, with_kwargs=True)
    try:
        beside: list[TokenScores] = []
        also = Beside({key: row.completion_ids for key, row in rows.items()}, sizes, beside.append)
        made = list(complete(policy, ids, max_new_tokens=6, batch_size=12, beside=also))
        scored = list(score(policy, rows, sizes, batch_size=12))
        with pytest.raises(torch.OutOfMemoryError):
            list(complete(policy, {"long": [10] * room}, max_new_tokens=6, batch_size=12))
    finally:
        handle.remove()
    assert [one.id for one in sorted(made, key=lambda one: one.id)] == sorted(ids), "each once"
    assert {one.id: one.ids for one in made} == wanted
    assert sorted(one.id for one in beside) == sorted(one.id for one in scored) == sorted(ids)
    for one in (*beside, *scored):
        assert one.nats == pytest.approx(expected[one.id], abs=1e-4)
    assert "memory ran out with 12 prompts at a time; goes on with 6" in capsys.readouterr().err


def test_completions_come_as_they_are_done(tiny_model: Path) -> None:
    """An evaluation that is interrupted keeps every batch that was finished."""
    policy = load_policy(resolve_model(str(tiny_model)))
    calls: list[int] = []
    policy.model.register_forward_pre_hook(lambda *_: calls.append(1))
    coming = complete(policy, prompts(6), max_new_tokens=3, batch_size=2)
    next(coming)
    assert len(calls) <= 3, "the first batch only"
    assert len(list(coming)) == 5


def test_longest_prompts_come_first(tiny_model: Path) -> None:
    """Memory runs out at the start, if it must, and not at the end."""
    policy = load_policy(resolve_model(str(tiny_model)))
    given = prompts(9)
    order = [c.id for c in complete(policy, given, max_new_tokens=1, batch_size=1)]
    assert order == sorted(given, key=lambda key: -len(given[key]))


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_a_completion_has_at_most_so_many_tokens(tiny_model: Path, limit: int, ids_of: Any) -> None:
    policy = load_policy(resolve_model(str(tiny_model)))
    given = prompts(3)
    expected = one_by_one(policy, given, limit)
    assert {
        key: ids for key, (ids, _, _) in ids_of(policy, given, max_new_tokens=limit, batch_size=3).items()
    } == expected
    assert all(len(ids) == limit for ids in expected.values())


def test_no_prompts_no_completions(tiny_model: Path) -> None:
    policy = load_policy(resolve_model(str(tiny_model)))
    assert list(complete(policy, {}, max_new_tokens=3, batch_size=2)) == []
    assert list(score(policy, {}, {}, batch_size=2)) == []


def test_the_common_beginning_leaves_every_prompt_a_token_of_its_own() -> None:
    """A prompt that is another's beginning still needs one token to predict from."""
    assert common_prefix([[1, 2, 3], [1, 2, 4]]) == 2
    assert common_prefix([[1, 2], [1, 2, 4]]) == 1
    assert common_prefix([[1, 2], [1, 2]]) == 1
    assert common_prefix([[1], [2]]) == 0
    assert common_prefix([[1, 2, 3]]) == 0
    assert common_prefix([]) == 0


def test_equal_prompts_get_equal_completions(tiny_model: Path) -> None:
    policy = load_policy(resolve_model(str(tiny_model)))
    prompt = prompts(2, shared=30)["p1"]
    texts = {c.text for c in complete(policy, {"a": prompt, "b": prompt, "c": prompt}, max_new_tokens=8, batch_size=2)}
    assert len(texts) == 1


@pytest.mark.parametrize("kind", [*PLAIN, "gemma3, window of 8"])
def test_the_reserved_cache_is_what_makes_room_and_nothing_else(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models without windows decode in the reserved cache; the others in transformers' own."""
    policy = policy_of(kind)
    caches: list[DynamicCache] = []
    policy.model.register_forward_pre_hook(
        lambda _, args, given: caches.append(given["past_key_values"]), with_kwargs=True
    )
    list(complete(policy, prompts(3), max_new_tokens=4, batch_size=3))
    reserved = [isinstance(layer, ReservedLayer) for layer in caches[-1].layers]
    assert all(reserved) if kind in PLAIN else not any(reserved)


# -- sampling ---------------------------------------------------------------------------------------------


def written(policy: Policy, given: dict[str, list[int]], **settings: Any) -> dict[str, Completion]:
    return {c.id: c for c in complete(policy, given, **settings)}


def test_ids_are_what_was_written_without_the_stop_token() -> None:
    given = prompts(8)
    policy = policy_of("llama", frequent_tokens("llama", given))
    stops = set(policy.renderer.stop_token_ids)
    expected = one_by_one(policy, given, 24)
    for key, found in written(policy, given, max_new_tokens=24, batch_size=3).items():
        assert found.ids == tuple(token for token in expected[key] if token not in stops)
        assert len(found.ids) + found.finished == found.tokens
        assert policy.renderer.decode_completion(found.ids) == found.text


@pytest.mark.parametrize("kind", ["llama", "mamba, no attention"])
def test_a_sample_hangs_on_seed_round_and_id_alone(kind: str) -> None:
    """In any batch, in any company, cut at any length: the same tokens; another seed, round or id: others."""
    given = prompts(7)
    policy = policy_of(kind)
    with torch.no_grad():
        policy.model.get_output_embeddings().weight.mul_(0.3)  # bold enough to differ, timid enough to surprise
    settings = {"max_new_tokens": 10, "draws": (5, 0)}
    expected = {key: c.ids for key, c in written(policy, given, batch_size=7, **settings).items()}
    assert len({ids[:5] for ids in expected.values()}) > 3
    backwards = dict(reversed(given.items()))
    assert {key: c.ids for key, c in written(policy, backwards, batch_size=2, **settings).items()} == expected
    alone = {"p3": given["p3"]}
    assert written(policy, alone, batch_size=1, **settings)["p3"].ids == expected["p3"]
    short = written(policy, alone, batch_size=1, max_new_tokens=4, draws=(5, 0))["p3"]
    assert short.ids == expected["p3"][:4]
    for other in ({"draws": (6, 0)}, {"draws": (5, 1)}):
        assert written(policy, alone, batch_size=1, **settings | other)["p3"].ids != expected["p3"]
    assert written(policy, {"q": given["p3"]}, batch_size=1, **settings)["q"].ids != expected["p3"]
    assert written(policy, alone, batch_size=1, max_new_tokens=10)["p3"].ids != expected["p3"], "greedy stays greedy"


def test_samples_are_distributed_as_the_softmax_says() -> None:
    """Chi-square of 2,000 first tokens, stop tokens among them, against the model's own probabilities."""
    from scipy.stats import chisquare

    policy = policy_of("llama")
    prompt = prompts(3)["p2"]
    with torch.inference_mode():
        logits = policy.model(input_ids=torch.tensor([prompt])).logits[0, -1].double()
        top = logits.topk(12)
        policy.renderer.stop_token_ids = (*policy.renderer.stop_token_ids, int(top.indices[1]))
        p = logits.softmax(-1)
    drawn = [
        c.ids[0] if c.ids else int(top.indices[1])
        for c in complete(policy, {f"{n}": prompt for n in range(2000)}, max_new_tokens=1, batch_size=500, draws=(0, 0))
    ]
    often = [int(token) for token in (p * 2000 > 8).nonzero().flatten()]
    assert len(often) > 3 and int(top.indices[1]) in often
    counts = [drawn.count(token) for token in often]
    shares = [float(p[token]) for token in often]
    observed, expected = [*counts, 2000 - sum(counts)], [2000 * q for q in (*shares, 1 - sum(shares))]
    assert chisquare(observed, expected).pvalue > 1e-3


# -- scoring ----------------------------------------------------------------------------------------------


def forced(given: dict[str, list[int]], seed: int = 5) -> dict[str, Rendered]:
    """Prompts with random completions of 1 to 30 ids after them."""
    draw = random.Random(seed)
    made = {}
    for key, prompt in given.items():
        completion = [draw.randrange(10, 400) for _ in range(draw.choice([1, 2, 7, 30]))]
        made[key] = Rendered((*prompt, *completion), (0,) * len(prompt) + (1,) * len(completion))
    return made


@torch.inference_mode()
def by_hand(policy: Policy, rendered: Rendered) -> tuple[list[float], list[int], list[float], list[float]]:
    """One row, all its logits, no cache: nats, ranks, entropies and confidences written as their definitions."""
    logits = policy.model(input_ids=torch.tensor([rendered.input_ids]), use_cache=False).logits[0].double()
    nats, ranks, entropies, confidences = [], [], [], []
    start = len(rendered.prompt_ids)
    for place, token in enumerate(rendered.completion_ids, start=start):
        p = logits[place - 1].softmax(-1)
        nats.append(-float(p[token].log()))
        ranks.append(int((p > p[token]).sum()))
        entropies.append(-float((p * p.clamp(min=1e-300).log()).sum()))
        confidences.append(float(p.max()))
    return nats, ranks, entropies, confidences


@pytest.mark.parametrize("shared", [0, 40])
@pytest.mark.parametrize("kind", MODELS)
def test_scores_are_those_of_a_plain_forward(kind: str, shared: int) -> None:
    """Any batch size, any padding, with and without the shared beginning: float32 to four digits."""
    policy = policy_of(kind)
    rows = forced(prompts(9, shared=shared))
    expected = {key: by_hand(policy, row) for key, row in rows.items()}
    for batch_size in (1, 4, 9):
        found = {s.id: s for s in score(policy, rows, dict.fromkeys(rows, 17), batch_size=batch_size)}
        assert found.keys() == rows.keys()
        for key, (nats, ranks, entropies, confidences) in expected.items():
            got = found[key]
            assert got.nats == pytest.approx(nats, abs=1e-4, rel=1e-4), (key, batch_size)
            assert got.entropies == pytest.approx(entropies, abs=1e-4, rel=1e-4)
            assert got.confidences == pytest.approx(confidences, abs=1e-4, rel=1e-4)
            near = [abs(a - b) for a, b in zip(got.ranks, ranks, strict=True)]
            assert max(near) <= 1, "tokens as likely as each other may change places by rounding"
            assert sum(near) <= 1
            assert got.bytes == 17


@pytest.mark.parametrize("shared", [0, 40])
@pytest.mark.parametrize("kind", [*PLAIN, *SLOW])
def test_scores_beside_completions_are_the_same_scores(kind: str, shared: int) -> None:
    """Read once, written and scored from: neither changes by it; under windows and states nothing is handed on."""
    policy = policy_of(kind)
    given = prompts(9, shared=shared)
    rows = forced(given)
    sizes = {key: 10 + place for place, key in enumerate(rows)}
    expected = {s.id: s for s in score(policy, rows, sizes, batch_size=4)}
    plain = {c.id: c for c in complete(policy, given, max_new_tokens=6, batch_size=4)}
    found: list[TokenScores] = []
    asked = {key: row.completion_ids for key, row in rows.items() if key != "p4"}
    beside = Beside(asked, sizes, found.append)
    assert {c.id: c for c in complete(policy, given, max_new_tokens=6, batch_size=4, beside=beside)} == plain
    if kind in SLOW and kind != "bloom, no positions":
        assert found == []
        return
    assert sorted(one.id for one in found) == sorted(asked)
    for one in found:
        other = expected[one.id]
        assert one.bytes == other.bytes
        for name in ("nats", "entropies", "confidences"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-4, rel=1e-4)
        assert sum(abs(a - b) for a, b in zip(one.ranks, other.ranks, strict=True)) <= 1


def test_more_positions_than_are_held_at_once() -> None:
    """Logits are turned into scores in pieces; the seams do not show."""
    torch.manual_seed(0)
    logits, targets = torch.randn(11, 50), torch.randint(50, (11,))
    whole, pieces = generation.token_scores(logits, targets), generation.token_scores(logits, targets, at_once=4)
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="none").tolist()
    assert [one.nats for one in whole] == pytest.approx(expected)
    assert whole == pieces


@pytest.mark.parametrize("kind", ["llama", "gemma3, window of 8"])
def test_a_greedy_completion_leaves_the_expert_at_the_first_rank_above_0(kind: str, ids_of: Any) -> None:
    """Survival, read off teacher-forced ranks, is where the clone's own writing would part from the expert's."""
    policy = policy_of(kind)
    given = prompts(8, shared=20)
    completed = ids_of(policy, given, max_new_tokens=12, batch_size=4)
    written = {key: ids for key, (ids, _, _) in completed.items() if ids}
    assert len(written) > 5
    draw = random.Random(1)
    experts = {}
    for place, key in enumerate(written):
        expert = list(written[key])
        if key != "p3":  # who writes as the policy does, to the end
            place = min(place, len(expert) - 1)
            expert[place] = (expert[place] + 1 + draw.randrange(300)) % 400
        experts[key] = Rendered((*given[key], *expert), (0,) * len(given[key]) + (1,) * len(expert))
    for scores in score(policy, experts, dict.fromkeys(experts, 1), batch_size=3):
        parted = next((place for place, rank in enumerate(scores.ranks) if rank > 0), None)
        pairs = zip(written[scores.id], experts[scores.id].completion_ids, strict=True)
        assert parted == next((place for place, (own, expert) in enumerate(pairs) if own != expert), None)


# -- end to end -------------------------------------------------------------------------------------------


def test_a_tuned_toy_says_exactly_what_it_was_taught_and_stops(tiny_model: Path, tmp_path: Path) -> None:
    """The template's end of turn is supervised in training and stopped at in generation: one and the same token.

    Where the two differ, as in many fine-tunes, a clone never stops.
    """
    words = "fine, thank you.\nI'm naïve 🎉"
    recipe = toy_fits.recipe_for(tiny_model, method="full", max_steps=60, eval_steps=30, per_device_train_batch_size=8)
    toy_fits.fit(
        recipe,
        tmp_path / "run",
        train=toy_fits.demonstrations(16, completion=words),
        validation=toy_fits.demonstrations(4, first=101, completion=words),
    )
    clone = load_policy(resolve_model(str(tiny_model)), tuned=tmp_path / "run" / "model")
    held_out = toy_fits.demonstrations(6, first=201)
    given = {d.id: clone.renderer.prompt_ids(d.prompt) for d in held_out}
    tokens = len(clone.renderer.render(Demonstration(held_out[0].prompt, words)).completion_ids)
    found = list(complete(clone, given, max_new_tokens=80, batch_size=4))
    assert {(c.text, c.finished, c.tokens) for c in found} == {(words, True, tokens)}
    base = load_policy(resolve_model(str(tiny_model)))
    assert words not in {c.text for c in complete(base, given, max_new_tokens=80, batch_size=4)}

    pieces: list[str] = []
    answer, thought, finished = stream(
        clone, given[held_out[0].id], max_new_tokens=80, hand_on=lambda piece, _: pieces.append(piece)
    )
    assert thought == ""
    assert answer == words and finished
    assert "".join(pieces).strip() == words
    assert len(pieces) > 1

    experts = {d.id: clone.renderer.render(Demonstration(d.prompt, words)) for d in held_out}
    for scores in score(clone, experts, dict.fromkeys(experts, len(words.encode())), batch_size=4):
        assert isinstance(scores, TokenScores)
        assert set(scores.ranks) == {0}
        assert len(scores.nats) == tokens
        assert sum(scores.nats) < 1


def test_a_completion_that_is_cut_off_is_not_finished(tiny_model: Path) -> None:
    policy = load_policy(resolve_model(str(tiny_model)))
    (found,) = complete(
        policy, {"a": policy.renderer.prompt_ids((Message("user", "Hello"),))}, max_new_tokens=4, batch_size=1
    )
    assert isinstance(found, Completion)
    assert (found.finished, found.tokens) == (False, 4)
