"""GGUF files in llama.cpp itself, its server in this process: the same tokens, the same likelihoods, the same words.

Through xllamacpp, which comes ready-made for most machines. ``test_export_llama`` does the same by llama-cpp-python,
which has to be compiled, and sees every logit.
"""

from __future__ import annotations

import gc
import json
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")
xllamacpp = pytest.importorskip("xllamacpp", reason="there is no wheel of xllamacpp for this machine")

from llama_files import MOST, clone_file, family_file, smollm_file
from toy_families import FAMILIES, TEXTS

from sft.demonstrations.demonstration import Message


class Served:
    """A file as llama.cpp's server has it. Its cache is in float32, which by default rounds to float16."""

    def __init__(self, file: Path) -> None:
        asked = xllamacpp.CommonParams()
        asked.model.path = str(file)
        asked.n_ctx, asked.n_parallel, asked.warmup, asked.verbosity = 512, 1, False, -1
        asked.cpuparams.n_threads = asked.cpuparams_batch.n_threads = 1
        asked.cache_type_k = asked.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        asked.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self._server = xllamacpp.Server(asked)

    def _post(self, path: str, **body: Any) -> dict[str, Any]:
        address, data = f"{self._server.listening_address}/{path}", json.dumps(body).encode()
        request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def tokens(self, text: str, *, whole: bool = False) -> list[int]:
        """Of plain text; of a ``whole`` prompt with special tokens in it, and the first one put before it."""
        found: list[int] = self._post("tokenize", content=text, add_special=whole, parse_special=whole)["tokens"]
        return found

    def prompt(self, messages: Sequence[dict[str, str]]) -> str:
        """By the template in the file, without the token that begins every prompt."""
        return str(self._post("apply-template", messages=messages)["prompt"])

    def likelihoods(self, ids: Sequence[int]) -> dict[int, float]:
        """Token -> log-probability of following ``ids``."""
        # It tells them of whole characters only, so a whole one is written; they are from before that bias.
        asked = {"prompt": list(ids), "n_predict": 1, "n_probs": 10_000, "logit_bias": [["e", 1e3]]}
        answer = self._server.handle_completions(asked | {"temperature": 0.0, "cache_prompt": False})
        first = answer["choices"][0]["logprobs"]["content"][0]
        return {row["id"]: row["logprob"] for row in first["top_logprobs"]}

    def ends_at(self, token: int) -> bool:
        """Whether writing ``token`` ends an answer."""
        wanted = {"prompt": [0], "n_predict": 4, "temperature": 0.0, "logit_bias": [[token, 1e6]]}
        return str(self._server.handle_completions(wanted)["choices"][0]["finish_reason"]) == "stop"

    def answer(self, messages: Sequence[dict[str, str]], most: int) -> tuple[str, str]:
        """(text, why it ended), greedily."""
        asked = {"messages": list(messages), "max_tokens": most, "temperature": 0.0, "repeat_penalty": 1.0}
        choice = self._server.handle_chat_completions(asked)["choices"][0]
        return choice["message"]["content"] or "", choice["finish_reason"]


@contextmanager
def served(file: Path) -> Iterator[Served]:
    """As long as it is needed; it ends with its last reference."""
    one = Served(file)
    try:
        yield one
    finally:
        del one
        gc.collect()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_in_llama_cpp_what_it_is_here(family: str, tmp_path: Path) -> None:
    """Names, order of the rotated halves, norms, rotation of positions, windows, biases: one wrong, and likelihoods
    differ by factors. Embedding rows that no token uses are among them."""
    toy = family_file(family, tmp_path)
    renderer = toy.renderer
    with served(toy.file) as read:
        for text in TEXTS:
            ids = renderer.prompt_ids((Message("user", text),))
            assert read.tokens(read.prompt([{"role": "user", "content": text}]), whole=True) == ids
            assert read.tokens(text) == renderer.tokenizer.encode(text, add_special_tokens=False)
            for end in (len(ids) // 2, len(ids)):
                expected = toy.logits(ids[:end])[-1].log_softmax(-1)
                found = read.likelihoods(ids[:end])
                assert expected.std() > 1 and len(found) > 0.95 * len(expected)
                assert max(abs(value - float(expected[token])) for token, value in found.items()) < 4e-3
        assert all(read.ends_at(token) for token in renderer.stop_token_ids)
        assert not read.ends_at(renderer.tokenizer.encode("e", add_special_tokens=False)[-1])


def test_digits_cut_apart_as_smollm_does(tmp_path: Path) -> None:
    toy = smollm_file(tmp_path)
    with served(toy.file) as read:
        for text in TEXTS:
            assert read.tokens(text) == toy.renderer.tokenizer.encode(text, add_special_tokens=False)


def test_a_clone_writes_in_llama_cpp_what_its_merged_weights_write(tiny_model: Path, tmp_path: Path) -> None:
    """Greedy, on twenty held-out prompts, rendered by the template in the file and stopped by its stop tokens."""
    file, answers = clone_file(tiny_model, tmp_path)
    with served(file) as read:
        for answer in answers:
            assert read.answer(answer.prompt, MOST) == (answer.text, answer.finish)
