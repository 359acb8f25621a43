"""Small real tokenizers, trained here, one for each family that renders differently; and chat templates.

Not called ``tokenizers.py``: pytest puts this folder on the path and the library of that name would hide.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "the expert wrote a short answer and the model learned to write it the same way",
    "Hello there. How are you today? I'm fine, thank you; and you?",
    "def add(a, b):\n    return a + b\n\nprint(add(1, 2))\n",
    "user system assistant model User: Assistant: words only\n\n",
    "naïve café, größer, Привет мир, 你好世界, مرحبا 👩‍👩‍👧 🎉",
] * 4

LLAMA2 = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + message['content'] "
    "+ ' [/INST]' }}{% elif message['role'] == 'system' %}{{ raise_exception('Only user and assistant roles!') }}"
    "{% else %}{{ ' ' + message['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)
ZEPHYR = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' "
    "+ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def trl_template(name: str) -> str:
    """A template text as TRL ships it."""
    import trl

    return (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


def _wrapped(
    backend: Tokenizer, template: str | None, *, bos: str | None, eos: str, unk: str | None = None
) -> PreTrainedTokenizerFast:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=bos, eos_token=eos, unk_token=unk, pad_token=eos, name_or_path="small"
    )
    tokenizer.chat_template = template
    return tokenizer


@cache
def _byte_level_state(special: tuple[str, ...], ordinary: tuple[str, ...], adds: str) -> str:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    backend.add_tokens([AddedToken(token, special=False, normalized=False) for token in ordinary])
    if adds:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{adds} $A", special_tokens=[(adds, backend.token_to_id(adds))]
        )
    return backend.to_str()


def byte_level(
    template: str | None,
    special: tuple[str, ...],
    *,
    eos: str,
    bos: str | None = None,
    ordinary: tuple[str, ...] = (),
    adds_bos: bool = False,
) -> PreTrainedTokenizerFast:
    """Byte-level BPE, as GPT-2, SmolLM, Qwen and Llama 3 have it."""
    state = _byte_level_state(special, ordinary, bos if adds_bos and bos else "")
    return _wrapped(Tokenizer.from_str(state), template, bos=bos, eos=eos)


def chatml(template: str | None = CHATML) -> PreTrainedTokenizerFast:
    """SmolLM/Qwen: no BOS, ends its turns with <|im_end|>, has <think> as an ordinary added token."""
    return byte_level(
        template,
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        eos="<|endoftext|>",
        ordinary=("<think>", "</think>"),
    )


def llama3(template: str | None) -> PreTrainedTokenizerFast:
    """Llama 3: adds BOS itself, and its template writes one too; ends turns with <|eot_id|>."""
    special = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    return byte_level(template, special, bos="<|begin_of_text|>", eos="<|end_of_text|>", adds_bos=True)


def phi3(template: str | None) -> PreTrainedTokenizerFast:
    """Phi 3's turn tokens, over byte-level BPE."""
    special = ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
    return byte_level(template, special, eos="<|endoftext|>")


def gpt2() -> PreTrainedTokenizerFast:
    """GPT-2: no chat template, one special token for everything."""
    return byte_level(None, ("<|endoftext|>",), bos="<|endoftext|>", eos="<|endoftext|>")


@cache
def _byte_fallback_state(prefix: str, special: tuple[str, ...]) -> str:
    """BPE over ▁words with byte fallback; ``prefix``: legacy (Llama 2), first (Llama 2, newer), none (Gemma)."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()  # words keep apart while training, as in SentencePiece
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        + ([decoders.Strip(" ", 1, 0)] if prefix != "none" else [])
    )
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<unk>", *special], max_token_length=8, show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    if prefix == "first":
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        replace = normalizers.Replace(" ", "▁")
        backend.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), replace] if prefix == "legacy" else [replace]
        )
    state = json.loads(backend.to_str())
    if prefix != "first":
        state["pre_tokenizer"] = None
    vocabulary = state["model"]["vocab"]
    for byte in range(256):
        vocabulary.setdefault(f"<0x{byte:02X}>", len(vocabulary))
    backend = Tokenizer.from_str(json.dumps(state))
    if prefix != "none":
        backend.post_processor = processors.TemplateProcessing(
            single=f"{special[0]} $A", special_tokens=[(special[0], backend.token_to_id(special[0]))]
        )
    return backend.to_str()


def llama2(template: str | None = LLAMA2, *, prefix: str = "legacy") -> PreTrainedTokenizerFast:
    """Llama 2 and Mistral: SentencePiece BPE that puts a space before texts and adds BOS."""
    state = _byte_fallback_state(prefix, ("<s>", "</s>"))
    return _wrapped(Tokenizer.from_str(state), template, bos="<s>", eos="</s>", unk="<unk>")


def gemma(template: str | None) -> PreTrainedTokenizerFast:
    """Gemma: SentencePiece BPE without a space in front; <end_of_turn> is not its eos."""
    state = _byte_fallback_state("none", ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"))
    return _wrapped(Tokenizer.from_str(state), template, bos="<bos>", eos="<eos>", unk="<unk>")


@cache
def _unigram_state() -> str:
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    return backend.to_str()


def unigram(template: str | None = ZEPHYR) -> PreTrainedTokenizerFast:
    """A SentencePiece unigram model whose vocabulary holds <s> and </s> as pieces of text."""
    return _wrapped(Tokenizer.from_str(_unigram_state()), template, bos="<s>", eos="</s>", unk="<unk>")
