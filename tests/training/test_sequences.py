"""Rows in one line, joined or packed: every token is predicted from what it is predicted from when its row is alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")

import small_tokenizers
from random_sequences import APART, VOCABULARY, random_rows
from toy_fits import demonstrations, fit, recipe_for, rows_for
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
)

from sft.demonstrations.demonstration import Demonstration, Message, Source
from sft.errors import TrainingError
from sft.policies.rendering import Rendered, renderer_for
from sft.training.attention import attending_by_row, attends_by_row
from sft.training.batches import collator_for, largest_difference, nats_of
from sft.training.sequences import IGNORED, Collator, LineCollator, dataset_of, joined, packed

TOGETHER: dict[str, Any] = {
    "bloom": lambda: BloomForCausalLM(BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4)),
    "mamba": lambda: MambaForCausalLM(
        MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=4)
    ),
}


def alone(model: Any, rendered: Rendered) -> torch.Tensor:
    """-log p of the supervised tokens of one row by itself: no batch, no line, no hook."""
    ids = torch.tensor([rendered.input_ids])
    logp = model(input_ids=ids, use_cache=False).logits[0].log_softmax(-1)
    begin = len(rendered.prompt_ids)
    return -logp[begin - 1 : -1].gather(1, ids[0, begin:, None])[:, 0]


def in_a_line(model: Any, items: Sequence[Any]) -> torch.Tensor:
    with attending_by_row(model):
        return nats_of(model, model, LineCollator()(list(items)))


@pytest.fixture(params=sorted(APART))
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    return APART[request.param]().eval()


@pytest.mark.parametrize("beginning", [0, 9, 12])
def test_a_row_in_a_line_has_the_log_probabilities_that_it_has_alone(model: Any, beginning: int) -> None:
    rows = random_rows(beginning)
    with torch.no_grad():
        apart = torch.cat([alone(model, rendered) for _, rendered in rows])
        each = in_a_line(model, dataset_of(rows).to_list())
        pack = in_a_line(model, dataset_of(rows, [[[0], [1], [2], [3], [4]]]).to_list())
        packs = in_a_line(model, dataset_of(rows, [[[0], [1]], [[2], [3], [4]]]).to_list())
    for found in (each, pack, packs):
        torch.testing.assert_close(found, apart, rtol=0, atol=2e-5)


def test_gradients_of_a_line_are_those_of_rows_alone(model: Any) -> None:
    """Those that flow into a common beginning through every row included."""
    rows = random_rows(beginning=10)

    def gradients(loss: torch.Tensor) -> dict[str, torch.Tensor]:
        model.zero_grad()
        loss.backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    expected = gradients(torch.cat([alone(model, rendered) for _, rendered in rows]).mean())
    line = LineCollator()(dataset_of(rows).to_list())
    assert line["segments"][0] == 10
    found = gradients(in_a_line(model, dataset_of(rows).to_list()).mean())
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-5)


def test_a_packed_row_does_not_see_its_neighbours(model: Any) -> None:
    """To the last bit: other words in the other rows leave it as it was."""
    rows, others = random_rows(0), random_rows(0, seed=1)
    mixed = [*others[:2], rows[2], *others[3:]]
    with torch.no_grad():
        one, two = (in_a_line(model, dataset_of(r, [[[0], [1], [2], [3], [4]]]).to_list()) for r in (rows, mixed))
    begin = sum(len(rendered.completion_ids) for _, rendered in rows[:2])
    own = slice(begin, begin + len(rows[2][1].completion_ids))
    assert torch.equal(one[own], two[own])
    assert not torch.equal(one, two)


@pytest.mark.parametrize("name", sorted(TOGETHER))
def test_a_model_that_cannot_keep_rows_apart_gets_padding_and_refuses_packing(name: str, tiny_model: Path) -> None:
    torch.manual_seed(0)
    made = TOGETHER[name]()
    assert not attends_by_row(made)
    assert isinstance(collator_for(recipe_for(tiny_model), made, random_rows(0), filler=0), Collator)
    with pytest.raises(TrainingError, match=r"training\.packing: rows cannot be kept apart, because this model's"):
        collator_for(recipe_for(tiny_model, "training.packing=true"), made, random_rows(0), filler=0)


def test_a_model_that_only_seems_to_keep_rows_apart_is_found_out(tiny_model: Path) -> None:
    """A layer that mixes tokens beside attention: what the architecture promises is not believed but compared."""
    model = LlamaForCausalLM.from_pretrained(tiny_model)
    rows = random_rows(0)
    assert largest_difference(model, rows, filler=0) < 1e-5
    assert isinstance(collator_for(recipe_for(tiny_model), model, rows, filler=0), LineCollator)

    def mix(module: Any, arguments: Any, output: torch.Tensor) -> torch.Tensor:
        return output + 0.1 * output.cumsum(1)

    model.model.layers[0].mlp.register_forward_hook(mix)
    assert isinstance(collator_for(recipe_for(tiny_model), model, rows, filler=0), Collator)
    with pytest.raises(TrainingError, match=r"change by [\d.e-]+ nats when rows stand behind each other"):
        collator_for(recipe_for(tiny_model, "training.packing=true"), model, rows, filler=0)


def test_noise_and_dropout_are_drawn_for_every_row(tiny_model: Path) -> None:
    model = LlamaForCausalLM.from_pretrained(tiny_model)
    rows = random_rows(10)
    noisy = recipe_for(tiny_model, "training.neftune_noise_alpha=5.0")
    assert isinstance(collator_for(noisy, model, rows, filler=0), Collator)
    model.model.layers[0].mlp.drop = torch.nn.Dropout(0.1)
    line = collator_for(recipe_for(tiny_model), model, rows, filler=0)
    assert isinstance(line, LineCollator) and not line.share
    assert line(dataset_of(rows).to_list())["segments"] == (0, *(len(rendered) for _, rendered in rows))


def test_a_line_written_out() -> None:
    def row(prompt: str, completion: str) -> tuple[Demonstration, Rendered]:
        ids = tuple(map(ord, prompt + completion))
        mask = (0,) * len(prompt) + (1,) * len(completion)
        return Demonstration((Message("user", prompt),), completion), Rendered(ids, mask)

    items = dataset_of([row("the same beginning: one", "1."), row("the same beginning: two", "22.")]).to_list()
    line = LineCollator()(items)
    assert "".join(map(chr, line["input_ids"][0].tolist())) == "the same beginning: one1.two22."
    labels = "".join("_" if label == IGNORED else chr(label) for label in line["labels"][0].tolist())
    assert labels == "_" * 20 + "___1." + "___22."
    assert line["position_ids"][0].tolist() == [*range(20), *range(20, 25), *range(20, 26)]
    assert line["segments"] == (20, 5, 6)
    # The last token of a prompt predicts a supervised one, so it is never shared; a short beginning is not worth it.
    assert LineCollator()(dataset_of([row("the same prompt", "1."), row("the same prompt", "2.")]).to_list())[
        "segments"
    ] == (14, 3, 3)
    assert LineCollator()(dataset_of([row("short a", "1."), row("short b", "2.")]).to_list())["segments"][0] == 0


# -- dialogues --------------------------------------------------------------------------------------------


def dialogue(line: int, turns: int) -> list[Demonstration]:
    """A dialogue as reading unrolls it: one demonstration for each of the assistant's turns."""
    messages: list[Message] = []
    made = []
    for turn in range(turns):
        messages.append(Message("user", f"{line}: the expert wrote {turn}?"))
        made.append(Demonstration(tuple(messages), f"a short answer {turn}.", source=Source("d.jsonl", line)))
        messages.append(Message("assistant", f"a short answer {turn}."))
    return made


def test_a_dialogue_in_one_pass_supervises_every_answer_once(tiny_model: Path) -> None:
    made = [*dialogue(1, 3), *dialogue(2, 1)]
    rows = rows_for(recipe_for(tiny_model), made)
    assert joined(rows) == [[0, 1, 2], [3]]
    assert joined([rows[2], rows[3], rows[0]]) == [[1], [2, 0]], "in any order, and with a turn left out"
    items = dataset_of(rows, [[chain] for chain in joined(rows)]).to_list()
    assert items[0]["row"] == [0, 1, 2] and items[0]["input_ids"] == list(rows[2][1].input_ids)
    tokenizer = small_tokenizers.chatml()
    runs = "".join("|" if label == IGNORED else tokenizer.decode([label]) for label in items[0]["labels"])
    assert re.findall(r"[|]([^|].*?[|]im_end[|]>)", runs) == [f"a short answer {turn}.<|im_end|>" for turn in range(3)]


def test_a_dialogue_in_one_pass_has_the_loss_of_its_turns_apart(tiny_model: Path) -> None:
    rows = rows_for(recipe_for(tiny_model), [*dialogue(1, 3), *dialogue(2, 2)])
    model = LlamaForCausalLM.from_pretrained(tiny_model)

    def loss_and_gradient(items: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
        model.zero_grad()
        nats = in_a_line(model, items)
        nats.sum().backward()
        return nats.detach().sort().values, model.model.embed_tokens.weight.grad.clone()

    apart = loss_and_gradient(dataset_of(rows).to_list())
    whole = loss_and_gradient(dataset_of(rows, [[chain] for chain in joined(rows)]).to_list())
    for one, other in zip(apart, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_turns_that_a_template_writes_differently_later_stay_apart() -> None:
    """Qwen3 takes an earlier answer's thought out of the prompt: the tokens are others, so the passes are."""
    tokenizer = small_tokenizers.chatml()
    tokenizer.chat_template = small_tokenizers.trl_template("qwen3")
    first = (Message("user", "How are you?"),)
    made = [
        Demonstration(first, "fine", thought="the expert", source=Source("d.jsonl", 1)),
        Demonstration(
            (*first, Message("assistant", "fine", "the expert"), Message("user", "thank you")),
            "fine",
            thought="the expert",
            source=Source("d.jsonl", 1),
        ),
    ]
    assert joined(renderer_for(tokenizer).render_all(made)[0]) == [[0], [1]]


def test_rows_of_different_dialogues_are_never_joined(tiny_model: Path) -> None:
    """Even where one happens to go on as the other does, and where nobody knows where rows came from."""
    first, second = dialogue(1, 2)
    elsewhere = Demonstration(second.prompt, second.completion, source=Source("d.jsonl", 7))
    nowhere = [Demonstration(d.prompt, d.completion) for d in (first, second)]
    assert joined(rows_for(recipe_for(tiny_model), [first, elsewhere, *nowhere])) == [[0], [1], [2], [3]]


# -- packing ----------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 40), max_size=60), st.integers(1, 30))
def test_packs_hold_every_sequence_once_and_no_more_than_fits(lengths: list[int], capacity: int) -> None:
    packs = packed(lengths, capacity)
    assert sorted(number for pack in packs for number in pack) == list(range(len(lengths)))
    sizes = [sum(lengths[number] for number in pack) for pack in packs]
    assert all(size <= capacity or len(pack) == 1 for size, pack in zip(sizes, packs, strict=True))
    fitting = [size for size, pack in zip(sizes, packs, strict=True) if size <= capacity]
    half_empty = [size for size in fitting if size <= capacity / 2]
    assert len(half_empty) <= 1, "two half-empty packs would have been one"


def test_a_packed_fit_reaches_every_row_and_its_loss_is_that_of_the_rows(tiny_model: Path, tmp_path: Path) -> None:
    """One epoch in one step: the loss is the mean over all supervised tokens, however the rows were packed."""
    options = ["training.max_steps=-1", "training.num_train_epochs=1", "training.max_length=128"]
    whole = fit(recipe_for(tiny_model, *options, "training.per_device_train_batch_size=12"), tmp_path / "apart")
    fitted = fit(
        recipe_for(tiny_model, *options, "training.packing=true", "training.per_device_train_batch_size=12"),
        tmp_path / "packed",
    )
    rows = rows_for(recipe_for(tiny_model), demonstrations(12))
    assert 1 < len(packed([len(rendered) for _, rendered in rows], 128)) < 12
    assert fitted.steps == whole.steps == 1 and fitted.rows_not_reached == 0
    assert fitted.train_loss == pytest.approx(whole.train_loss, abs=1e-5)
    assert fitted.eval_loss == pytest.approx(whole.eval_loss, abs=1e-4)


def test_packing_and_one_pass_go_together(tiny_model: Path, tmp_path: Path) -> None:
    made = [demonstration for line in range(1, 7) for demonstration in dialogue(line, 1 + line % 3)]
    options = ["training.max_steps=-1", "training.num_train_epochs=1", "training.per_device_train_batch_size=64"]
    apart = fit(recipe_for(tiny_model, *options), tmp_path / "apart", train=made)
    together = fit(
        recipe_for(tiny_model, *options, "training.packing=true", "training.dialogues=one_pass"),
        tmp_path / "together",
        train=made,
    )
    assert together.rows_not_reached == 0 and together.supervised_tokens == apart.supervised_tokens
    assert together.train_loss == pytest.approx(apart.train_loss, abs=1e-5)
