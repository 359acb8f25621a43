"""Modelfiles for Ollama: what its template writes is what the chat template writes, read as Ollama reads it.

Ollama is not here. Its reader of Modelfiles and as much of Go's template language as is needed are below; what they
give was compared with Go's own ``text/template`` once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

pytestmark = pytest.mark.engine
pytest.importorskip("torch")

from modelfile_templates import commands, go, template_of
from small_tokenizers import (
    CHATML,
    ZEPHYR,
    byte_level,
    chatml,
    gemma,
    gpt2,
    llama2,
    llama3,
    phi3,
    trl_template,
    unigram,
)
from toy_families import smollm2
from transformers import PreTrainedTokenizerBase

from sft.demonstrations.demonstration import Message
from sft.policies.conversations import prompt_strings
from sft.policies.rendering import renderer_for
from sft.publishing.export.modelfile import Around, around, modelfile_of

#: As Mistral's first: turns between [INST] and [/INST], no system turn, one <s> at the beginning.
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate!') }}{% endif %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %}{{ message['content'] + eos_token }}{% endif %}"
    "{% endfor %}"
)
FAMILIES: dict[str, Callable[[], PreTrainedTokenizerBase]] = {
    "ChatML": chatml,
    "SmolLM2, its first token in the template alone": smollm2,
    "Qwen 2.5, a system message of its own": lambda: chatml(trl_template("qwen2_5")),
    "Qwen 3, thoughts": lambda: chatml(trl_template("qwen3")),
    "Llama 2": llama2,
    "Llama 3": lambda: llama3(trl_template("llama3")),
    "Llama 3.2, a date": lambda: llama3(trl_template("llama3_2")),
    "Gemma": lambda: gemma(trl_template("gemma")),
    "Gemma 3": lambda: gemma(trl_template("gemma3")),
    "Mistral": lambda: llama2(MISTRAL),
    "Phi 3": lambda: phi3(trl_template("phi3")),
    "Zephyr": lambda: unigram(ZEPHYR),
    "no template": gpt2,
}
#: The first token, for whose tokenizer writes one.
BEGUN = {
    "Llama 2": "<s>", "Mistral": "<s>", "Llama 3": "<|begin_of_text|>", "Llama 3.2, a date": "<|begin_of_text|>",
}  # fmt: skip
WORDS = (
    'She said "no" \\ {{ .Content }} {{- end }}', "Why?", "größer, 你好\n\n世界 👩‍👩‍👧", "{% if x %}",
    "`'\"\"\"'`", "a  b\tc", "5",
)  # fmt: skip


def conversations() -> Iterator[tuple[Message, ...]]:
    """From one turn to seven, with and without a system message."""
    turns = [Message("assistant" if place % 2 else "user", words) for place, words in enumerate(WORDS)]
    for count in range(1, len(turns) + 1, 2):
        yield tuple(turns[:count])
        yield (Message("system", 'Be "brief".\nBe kind.'), *turns[:count])


# -- Ollama's reading of a Modelfile, and Go's templates ----------------------------------------------------


# -- what is written --------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_ollama_writes_what_the_clone_was_taught(family: str) -> None:
    """Every conversation, character by character; Ollama writes the first token itself where the tokenizer does."""
    renderer = renderer_for(FAMILIES[family]())
    template = template_of(renderer)
    for prompt in conversations():
        expected = prompt_strings(renderer.tokenizer, renderer.frame, [prompt])[0]
        assert BEGUN.get(family, "") + go(template, prompt) == expected


#: Before a system message, a first user message (without one, and after one), an answer, a later user message, and
#: the completion.
BETWEEN = {
    "ChatML": (
        "<|im_start|>system\n", "<|im_start|>user\n", "<|im_end|>\n<|im_start|>user\n",
        "<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>\n<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n",
    ),
    "Llama 2": ("[INST] ", "[INST] ", "\n\n", " [/INST] ", " </s><s>[INST] ", " [/INST]"),
    "Llama 3": (
        "<|start_header_id|>system<|end_header_id|>\n\n", "<|start_header_id|>user<|end_header_id|>\n\n",
        "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n",
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n",
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    "Gemma": (
        "<bos><start_of_turn>user\n", "<bos><start_of_turn>user\n", "\n\n", "<end_of_turn>\n<start_of_turn>model\n",
        "<end_of_turn>\n<start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n",
    ),
    "Mistral": ("[INST] ", "[INST] ", "\n\n", " [/INST]", "</s>[INST] ", " [/INST]"),
    "no template": ("", "User:\n", "\n\nUser:\n", "\n\nAssistant:\n", "<|endoftext|>\n\nUser:\n", "\n\nAssistant:\n"),
}  # fmt: skip


@pytest.mark.parametrize("family", BETWEEN)
def test_texts_around_messages(family: str) -> None:
    assert around(renderer_for(FAMILIES[family]())) == Around(*BETWEEN[family])


def test_the_whole_file() -> None:
    made, why_not = modelfile_of(renderer_for(chatml()), "clone.gguf")
    assert why_not == ""
    assert made == (
        "FROM ./clone.gguf\n\n"
        'TEMPLATE """{{- $system := false }}{{- $turns := false }}\n'
        "{{- range .Messages }}\n"
        '{{- if eq .Role "system" }}{{ "<|im_start|>system\\n" }}{{ .Content }}{{- $system = true }}\n'
        '{{- else if eq .Role "user" }}\n'
        '{{- if $turns }}{{ "<|im_end|>\\n<|im_start|>user\\n" }}'
        '{{- else if $system }}{{ "<|im_end|>\\n<|im_start|>user\\n" }}'
        '{{- else }}{{ "<|im_start|>user\\n" }}{{- end }}{{ .Content }}{{- $turns = true }}\n'
        '{{- else if eq .Role "assistant" }}{{ "<|im_end|>\\n<|im_start|>assistant\\n" }}{{ .Content }}\n'
        '{{- end }}\n{{- end }}{{ "<|im_end|>\\n<|im_start|>assistant\\n" }}"""\n\n'
        "# Where the clone was taught to stop.\n"
        'PARAMETER stop "<|im_end|>"\n'
        'PARAMETER stop "<|endoftext|>"\n\n'
        "# As it was measured: the likeliest token, always.\n"
        "PARAMETER temperature 0\n"
        "PARAMETER repeat_penalty 1\n"
    )


STOPS = {
    "ChatML": ["<|im_end|>", "<|endoftext|>"],
    "Llama 2": ["</s>"],
    "Llama 3": ["<|eot_id|>", "<|end_of_text|>"],
    "Gemma": ["<end_of_turn>", "<eos>"],
    "Mistral": ["</s>"],
    "Phi 3": ["<|end|>", "<|endoftext|>"],
    "no template": ["<|endoftext|>"],
}


@pytest.mark.parametrize("family", STOPS)
def test_stop_tokens_and_greedy_decoding(family: str) -> None:
    made, _ = modelfile_of(renderer_for(FAMILIES[family]()), "my clone.gguf")
    found = commands(made)
    assert [name for name, _ in found[:2]] == ["FROM", "TEMPLATE"] and found[0][1] == "./my clone.gguf"
    assert found[2:] == [*(("stop", stop) for stop in STOPS[family]), ("temperature", "0"), ("repeat_penalty", "1")]


def test_a_stop_token_that_cannot_stand_between_quotes_is_left_to_the_file() -> None:
    """Ollama knows no escapes there; the GGUF file has the token's number, which ends a turn as well."""
    template = CHATML.replace("<|im_end|>", '<"end">')
    renderer = renderer_for(byte_level(template, ("<|endoftext|>", "<|im_start|>", '<"end">'), eos="<|endoftext|>"))
    assert len(renderer.stop_token_ids) == 2
    made, why_not = modelfile_of(renderer, "clone.gguf")
    assert why_not == ""
    assert [line for line in made.splitlines() if " stop " in line] == ['PARAMETER stop "<|endoftext|>"']


@pytest.mark.parametrize(
    "mark", ["\u200b", "\u3000", "\u00a0", "\ufeff", "\x7f", "\U000e0001", '"""', "\\", "\t", "｜▁👩‍👧", "{{ }}"]
)
def test_no_character_of_the_template_is_lost(mark: str) -> None:
    """Ollama's reader drops what cannot be printed (spaces of other scripts too), so it is written as an escape."""
    marked = f"(message['role'] == 'user' and {json.dumps(mark, ensure_ascii=False)} or '') + message['content'] +"
    renderer = renderer_for(chatml(CHATML.replace("message['content'] +", marked)))
    prompt = (Message("user", "Why?"),)
    expected = prompt_strings(renderer.tokenizer, renderer.frame, [prompt])[0]
    assert mark in expected
    assert go(template_of(renderer), prompt) == expected


def test_a_template_that_trims_says_so() -> None:
    """Ollama's language cannot trim, and most templates of the families here do."""
    said = "# The chat template drops white space around a message; here it stays, so send none.\n"
    trimming, _ = modelfile_of(renderer_for(llama3(trl_template("llama3"))), "clone.gguf")
    keeping, _ = modelfile_of(renderer_for(chatml()), "clone.gguf")
    assert said in trimming and said not in keeping
    assert dict(commands(trimming)).keys() == dict(commands(keeping)).keys()


# -- what is refused --------------------------------------------------------------------------------------

#: As Mistral's third: what the system says stands in the last user message.
SYSTEM_LAST = (
    "{% if messages[0]['role'] == 'system' %}{% set told = messages[0]['content'] %}{% set turns = messages[1:] %}"
    "{% else %}{% set told = '' %}{% set turns = messages %}{% endif %}{{ bos_token }}{% for message in turns %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + (told if loop.last or loop.revindex == 2 and "
    "turns[-1]['role'] == 'assistant' else '') + message['content'] + '[/INST]' }}"
    "{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
)
REFUSED = {
    "single turns": (
        lambda: chatml("{% if messages|length > 3 %}{{ raise_exception('No.') }}{% endif %}" + CHATML),
        "its chat template writes single turns only",
    ),
    "the system's words last": (lambda: llama2(SYSTEM_LAST), "its chat template writes single turns only"),
    "numbered turns": (
        lambda: chatml(
            CHATML.replace(
                "message['content'] +", "(loop.index if message['role'] == 'user' else '') ~ message['content'] +"
            )
        ),
        "its chat template does more than put fixed texts around messages",
    ),
    "answers shortened": (
        lambda: chatml(CHATML.replace("message['content'] +", "message['content'].replace('thank you', '') +")),
        "its chat template does more than put fixed texts around messages",
    ),
    "five messages at most": (
        lambda: chatml("{% if messages|length > 5 %}{{ raise_exception('Too long.') }}{% endif %}" + CHATML),
        "its chat template refuses a conversation (Too long.)",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_no_modelfile_with_the_reason_and_what_to_do(what: str) -> None:
    make, reason = REFUSED[what]
    assert modelfile_of(renderer_for(make()), "clone.gguf") == (
        "",
        f"{reason}; write one with a TEMPLATE of your own, or serve the file with llama.cpp, which reads it",
    )
