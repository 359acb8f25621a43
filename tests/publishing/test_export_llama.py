"""GGUF files in llama.cpp itself, through its Python package: the same tokens, the same logits, the same words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")
llama_cpp = pytest.importorskip("llama_cpp", reason="llama.cpp is not here; pip install -c constraints.txt '.[llama]'")

from llama_files import MOST, clone_file, family_file, smollm_file
from modelfile_templates import go, template_of
from toy_families import FAMILIES, TEXTS, model_of, tokenizer_of

from sft.demonstrations.demonstration import Message
from sft.policies.conversations import conversation
from sft.policies.rendering import Renderer, renderer_for
from sft.publishing.export.gguf import write_gguf


@contextmanager
def loaded(file: Path) -> Iterator[Any]:
    """As a user loads it, except that its cache is in float32 too: llama.cpp's default rounds it to float16."""
    model = llama_cpp.Llama(
        str(file), n_ctx=512, n_threads=1, logits_all=True, verbose=False, type_k=llama_cpp.GGML_TYPE_F32,
        type_v=llama_cpp.GGML_TYPE_F32,
    )  # fmt: skip
    try:
        yield model
    finally:
        model.close()


def written(renderer: Renderer, text: str) -> str:
    return renderer.tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_computes_in_llama_cpp_what_it_computes_here(family: str, tmp_path: Path) -> None:
    """Names, order of the rotated halves, norms, rotation of positions, windows, biases: one wrong, and logits whose
    spread is 2 differ by as much. Embedding rows that no token uses are among them."""
    toy = family_file(family, tmp_path)
    renderer = toy.renderer
    with loaded(toy.file) as read:
        for text in TEXTS:
            ids = renderer.prompt_ids((Message("user", text),))
            assert read.tokenize(written(renderer, text).encode(), add_bos=False, special=True) == ids
            assert read.tokenize(text.encode(), add_bos=False) == renderer.tokenizer.encode(
                text, add_special_tokens=False
            )
            read.reset()
            read.eval(ids)
            expected = toy.logits(ids)
            found = torch.tensor(read.scores[: len(ids)])
            assert expected.std() > 1
            assert (found - expected).abs().max() < (2e-3 if family.startswith("gemma3") else 5e-4)
            assert (found - expected).abs().mean() < (1e-4 if family.startswith("gemma3") else 2e-5)
        stops = [llama_cpp.llama_vocab_is_eog(read._model.vocab, token) for token in renderer.stop_token_ids]
        assert all(stops)


@pytest.mark.parametrize("kind", [*FAMILIES, "smollm2"])
def test_a_prompt_is_the_same_tokens_whoever_renders_it(kind: str, tmp_path: Path) -> None:
    """The template in the file, and Ollama's beside it: one first token or none, as the clone was taught."""
    renderer = renderer_for(tokenizer_of(kind))
    family = kind if kind in FAMILIES else "llama"
    write_gguf(tmp_path / "toy.gguf", model_of(family, len(renderer.tokenizer)), renderer, name="toy", outtype="f16")
    turns = (Message("user", "Hello there."), Message("assistant", "Fine."), Message("user", "How are you today?"))
    template = template_of(renderer)
    with loaded(tmp_path / "toy.gguf") as read:
        for prompt in (turns[:1], turns, (Message("system", "Be brief."), *turns)):
            ids = renderer.prompt_ids(prompt)
            assert read.tokenize(go(template, prompt).encode(), special=True) == ids
            messages = conversation(prompt, renderer.frame)
            read.create_chat_completion(messages, max_tokens=1, temperature=0.0)
            assert read.input_ids[: len(ids)].tolist() == ids and read.n_tokens - len(ids) in (0, 1)


def test_digits_cut_apart_as_smollm_does(tmp_path: Path) -> None:
    toy = smollm_file(tmp_path)
    with loaded(toy.file) as read:
        for text in TEXTS:
            expected = toy.renderer.tokenizer.encode(text, add_special_tokens=False)
            assert read.tokenize(text.encode(), add_bos=False) == expected


def test_a_clone_writes_in_llama_cpp_what_its_merged_weights_write(tiny_model: Path, tmp_path: Path) -> None:
    """Greedy, on twenty held-out prompts, rendered by the template in the file and stopped by its stop tokens."""
    file, answers = clone_file(tiny_model, tmp_path)
    with loaded(file) as read:
        for answer in answers:
            made = read.create_chat_completion(answer.prompt, max_tokens=MOST, temperature=0.0, repeat_penalty=1.0)
            choice = made["choices"][0]
            assert (choice["message"]["content"], choice["finish_reason"]) == (answer.text, answer.finish)
