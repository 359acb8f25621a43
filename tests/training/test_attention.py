"""Rows in one line in one call: what is handed to PyTorch's kernel, what comes of it, and when it is not taken.

The kernel itself needs an NVIDIA GPU (``benchmarks/gpu.py`` compares it there, and so does every fit before it takes
it). Here a stand-in computes what the kernel's documentation says, from the arguments that the kernel would get; the
real one is asked for shapes.
"""

from __future__ import annotations

import inspect
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")

from random_sequences import APART, VOCABULARY, random_rows
from torch.nn.attention.varlen import varlen_attn
from toy_fits import recipe_for
from transformers import AttentionInterface, AttentionMaskInterface, LlamaConfig, LlamaForCausalLM
from trl.trainer.utils import add_fused_lm_head
from varlen_stand_in import stand_in

from sft.errors import TrainingError
from sft.training.attention import BY_ROW, VARLEN, attending_by_row, by_row, varlen, why_not_varlen
from sft.training.batches import collator_for, nats_of
from sft.training.sequences import Collator, LineCollator, dataset_of

CUDA = torch.device("cuda")


def without_groups(
    query: Any, key: Any, value: Any, cu_seq_q: Any, cu_seq_k: Any, max_q: int, max_k: int, *,
    scale: float | None, window_size: tuple[int, int],
) -> Any:  # fmt: skip
    """As PyTorch 2.11 has it: as many heads of keys as of queries, and no word for fewer."""
    assert query.shape[1] == key.shape[1] == value.shape[1]
    ends = (cu_seq_q, cu_seq_k, max_q, max_k)
    return stand_in(query, key, value, *ends, scale=scale, window_size=window_size)


def leaky(*states: Any, **options: Any) -> Any:
    """One that lets rows see each other."""
    whole = torch.tensor([0, len(states[0])], dtype=torch.int32)
    return stand_in(*states[:3], whole, whole, len(states[0]), len(states[0]), **options)


for _name, _kernel in (("stand_in", stand_in), ("leaky", leaky)):
    AttentionInterface.register(_name, partial(varlen, kernel=_kernel))
    AttentionMaskInterface.register(_name, lambda *_, **__: None)


def test_the_kernel_is_asked_for_what_it_knows() -> None:
    """Arguments by the names and at the places that the installed one has; each other than its default."""
    words = {"scale": 0.1, "window_size": (3, 0), "enable_gqa": True}
    bound = inspect.signature(varlen_attn).bind(*"qkv", "ends", "ends", 7, 7, **words)
    assert list(bound.arguments)[:7] == ["query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k"]
    asked = set(inspect.signature(stand_in).parameters)
    assert asked <= set(inspect.signature(varlen_attn).parameters)


@pytest.mark.parametrize("window", [None, 1, 4, 100])
@pytest.mark.parametrize("keys", [1, 2, 4])
@pytest.mark.parametrize("kernel", [stand_in, without_groups])
def test_one_call_gives_what_a_call_a_row_gives(kernel: Any, keys: int, window: int | None) -> None:
    """PyTorch 2.11 has attention over rows of many lengths, but not one whose heads share keys."""
    torch.manual_seed(0)
    states = [torch.randn(1, count, 19, 8, requires_grad=True) for count in (4, keys, keys)]
    options: dict[str, Any] = {"segments": (0, 5, 1, 0, 13), "scaling": 0.3, "sliding_window": window}
    answers = []
    for attend in (by_row, partial(varlen, kernel=kernel)):
        found, weights = attend(torch.nn.Module(), *states, **options)
        assert weights is None and found.shape == (1, 19, 4, 8)
        answers.append([found, *torch.autograd.grad(found.square().sum(), states)])
    for one, other in zip(*answers, strict=True):
        torch.testing.assert_close(one, other)


def test_what_the_kernel_cannot_do_goes_by_row() -> None:
    """Without rows, with a common beginning, with dropout, with values of another width: the kernel is not called."""
    module = torch.nn.Module()
    module.is_causal = True  # what transformers' own attention asks
    states = [torch.randn(1, 2, 9, 8) for _ in range(3)]

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("it was called")

    for options in ({}, {"segments": (3, 2, 4)}, {"segments": (0, 5, 4), "dropout": 0.5}):
        torch.manual_seed(1)
        mine, _ = varlen(module, *states, kernel=never, **options)  # type: ignore[arg-type]
        torch.manual_seed(1)
        torch.testing.assert_close(mine, by_row(module, *states, **options)[0])  # type: ignore[arg-type]
    narrow = varlen(module, *states[:2], states[2][..., :4], segments=(0, 5, 4), kernel=never)[0]
    assert narrow.shape == (1, 9, 2, 4)


@pytest.mark.parametrize("family", sorted(APART))
def test_rows_of_a_line_stand_alone_in_a_model_that_attends_in_one_call(family: str) -> None:
    """Every family that stands in a line by row does so in one call: same log-probabilities, no sight of others."""
    torch.manual_seed(0)
    model, rows = APART[family]().eval(), random_rows(0)
    items, line = dataset_of(rows).to_list(), LineCollator(share=False)
    found = {}
    for name in (BY_ROW, "stand_in", "leaky"):
        with torch.no_grad(), attending_by_row(model, name):
            found[name] = nats_of(model, model, line(items))
    torch.testing.assert_close(found["stand_in"], found[BY_ROW], rtol=0, atol=2e-5)
    assert float((found["leaky"] - found[BY_ROW]).abs().max()) > 1e-3, "and a leak is seen"


def test_the_real_kernel_takes_a_model_s_states_forward_and_backward() -> None:
    """On a device without numbers: names, shapes, formats and the way back are those of the installed PyTorch."""
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    with torch.device("meta"):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
        states = torch.zeros(1, 11, 64, dtype=torch.bfloat16)
        turned = torch.zeros(1, 11, 16, dtype=torch.bfloat16)
    layer = model.model.layers[0].self_attn
    with attending_by_row(model, VARLEN):
        found, _ = layer(states, position_embeddings=(turned, turned), attention_mask=None, segments=(0, 5, 6))
    found.sum().backward()
    assert found.shape == (1, 11, 64)
    assert layer.k_proj.weight.grad is not None and layer.k_proj.weight.grad.shape == (32, 64)


# -- when it is taken ---------------------------------------------------------------------------------------


def test_a_kernel_that_is_not_there_or_wrong_is_not_taken(tiny_model: Path) -> None:
    model, cpu = LlamaForCausalLM.from_pretrained(tiny_model), torch.device("cpu")
    assert why_not_varlen(model, cpu, torch.bfloat16, stand_in) == ""
    assert why_not_varlen(model, cpu, torch.bfloat16, without_groups) == ""
    assert "computes in 16 bits, and this fit in float32" in why_not_varlen(model, cpu, torch.float32, stand_in)
    assert "gives other values here, by" in why_not_varlen(model, cpu, torch.bfloat16, leaky)

    def not_a_number(*states: Any, **options: Any) -> Any:
        return stand_in(*states, **options) * float("nan")

    def not_there(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no kernel\nfor this card")

    assert "gives other values here" in why_not_varlen(model, cpu, torch.bfloat16, not_a_number)
    said = why_not_varlen(model, cpu, torch.bfloat16, not_there)
    assert said.endswith("cannot be had here (RuntimeError: no kernel for this card)")
    assert "cannot be had here (NotImplementedError" in why_not_varlen(model, cpu, torch.bfloat16), "the real one"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_on_a_gpu_without_the_kernel_rows_have_padding_and_it_is_said(
    tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A card that is not there stands for one that lacks the kernel. Packed rows are attended to one by one."""
    model, rows = LlamaForCausalLM.from_pretrained(tiny_model), random_rows(0)
    plain, packed = recipe_for(tiny_model), recipe_for(tiny_model, "training.packing=true")
    half = {"filler": 0, "narrow": torch.bfloat16, "device": CUDA}
    assert isinstance(collator_for(plain, model, rows, **half), Collator)  # type: ignore[arg-type]
    collator_for(plain, model, rows, **half)  # type: ignore[arg-type]
    said = capsys.readouterr().err
    assert said.count("train     with padding: attention over rows of many lengths cannot be had here (") == 1
    line = collator_for(packed, model, rows, **half)  # type: ignore[arg-type]
    assert isinstance(line, LineCollator) and (line.attention, line.share) == (BY_ROW, False)
    assert "train     row by row: attention over rows of many lengths cannot be had here (" in capsys.readouterr().err
    assert isinstance(collator_for(plain, model, rows, filler=0, device=CUDA), Collator)
    assert "computes in 16 bits, and this fit in float32" in capsys.readouterr().err
    model.config.attention_dropout = 0.1
    assert isinstance(collator_for(plain, model, rows, **half), Collator)  # type: ignore[arg-type]
    assert "this model's attention_dropout is above 0" in capsys.readouterr().err


def test_packing_is_refused_with_its_reason_on_a_gpu_too(tiny_model: Path) -> None:
    model = LlamaForCausalLM.from_pretrained(tiny_model)
    model.model.layers[0].mlp.register_forward_hook(lambda module, arguments, output: output + output.cumsum(1))
    with pytest.raises(TrainingError, match=r"change by [\d.e-]+ nats when rows stand behind each other"):
        collator_for(recipe_for(tiny_model, "training.packing=true"), model, random_rows(0), filler=0, device=CUDA)


# -- the head ---------------------------------------------------------------------------------------------------


def test_the_trainer_s_kernel_for_the_head_scores_a_line_as_we_do(tiny_model: Path) -> None:
    """On CUDA it scores lines too: same log-probabilities of the same positions, same gradients."""
    model = LlamaForCausalLM.from_pretrained(tiny_model)
    items = dataset_of(random_rows(0)).to_list()
    line = LineCollator(share=False)(items)
    line.pop("row")
    answers = []
    with attending_by_row(model):
        nats = nats_of(model, model, line)
        answers.append((nats, *torch.autograd.grad(nats.sum(), [model.model.embed_tokens.weight])))
        add_fused_lm_head(model)
        output = model(**line, use_cache=False, fused_lm_head=True)
        theirs = -output.log_probs[output.label_mask]
        answers.append((theirs, *torch.autograd.grad(theirs.sum(), [model.model.embed_tokens.weight])))
    for one, other in zip(*answers, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
