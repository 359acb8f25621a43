"""One file for llama.cpp and what is built on it: weights, tokenizer, chat template and stop tokens in GGUF.

Written by ggml's own ``gguf`` package; read back by transformers, whose reader is not ours, and compared.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import MODEL_ARCH_NAMES, GGMLQuantizationType, GGUFWriter, LlamaFileType, quantize
from transformers import AutoModelForCausalLM, PreTrainedModel

from sft.errors import PolicyError
from sft.policies.rendering import Renderer
from sft.policies.sameness import deviation
from sft.policies.weights import config_of, no_gguf_bar, quiet_engine
from sft.publishing.export.gguf_models import add_settings, family_of, tensors_of
from sft.publishing.export.gguf_tokenizers import Vocabulary, begins_itself, vocabulary_of
from sft.publishing.export.merged import Clone, clone_of, recipe_of
from sft.publishing.export.modelfile import modelfile_of
from sft.publishing.export.quantised import QUANTS, Kept, kept_of, quantise, quantiser
from sft.recipes.sources import source_of
from sft.runs.atomic_files import appear, making, refuse_taken, write_text
from sft.runs.run import Run

__all__ = ["OUTTYPES", "Gguf", "export_gguf", "write_gguf"]

_Q8_BLOCK = 32

#: Name -> (type of the file, type of a matrix, what its rounding is compared as, largest rounding of a weight as a
#: share of the matrix's largest). In float32 there is one for norms alone, which some families store otherwise.
OUTTYPES = {
    "f32": (LlamaFileType.ALL_F32, GGMLQuantizationType.F32, torch.float32, 1e-6),
    "f16": (LlamaFileType.MOSTLY_F16, GGMLQuantizationType.F16, torch.float16, 2**-11),
    "bf16": (LlamaFileType.MOSTLY_BF16, GGMLQuantizationType.BF16, torch.bfloat16, 2**-8),
    "q8_0": (LlamaFileType.MOSTLY_Q8_0, GGMLQuantizationType.Q8_0, torch.int8, 1 / 127),
}


@dataclass(frozen=True, slots=True)
class Gguf:
    """What was written. ``modelfile``: Ollama's, beside ``file``; None where ``why_not`` says why there is none.

    ``deviation``: how far the weights as read back from ``file`` are from the clone, as in
    :class:`sft.publishing.export.merged.Merged`. ``kept``: what is left of the clone, where it was quantised.
    """

    file: Path
    outtype: str
    bytes: int
    deviation: dict[str, Any]
    modelfile: Path | None
    why_not: str
    kept: Kept | None = None

    def to_text(self) -> str:
        """For a person."""
        found = self.deviation
        lines = [
            f"{self.file}: {self.bytes / 1e6:,.0f} MB, {self.outtype}; read back, its logits differ by "
            f"{found['mean']:.1g} on average from the clone's, at {found['positions']} held-out positions"
        ]
        if self.kept is not None:
            lines.append(self.kept.to_text())
        if self.modelfile is None:
            lines.append(f"no Modelfile for Ollama: {self.why_not}")
        else:
            lines.append(f"{self.modelfile}: for Ollama, `ollama create NAME -f {self.modelfile}`")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self) | {"file": str(self.file), "modelfile": self.modelfile and str(self.modelfile)}


def export_gguf(run: Run, file: Path, outtype: str = "f16") -> Gguf:
    """Write the clone of ``run`` as GGUF into ``file``, and a Modelfile for Ollama beside it (``FILE.Modelfile``).

    ``outtype``: of matrices, one of :data:`OUTTYPES` or :data:`sft.publishing.export.quantised.QUANTS`; vectors are in
    float32. The file appears when its weights, read back, have been compared with the clone; one of few bits, when that
    was done with its float32, and it is known how it answers. Raises ``RunError`` for a run that is not trained and for
    files that are there already, ``PolicyError`` for a model or tokenizer that llama.cpp would read otherwise.
    """
    if outtype in QUANTS:
        quantiser(outtype)
    beside = file.with_name(f"{file.stem}.Modelfile")
    refuse_taken(file)
    refuse_taken(beside)
    family_of(config_of(source_of(recipe_of(run).model)))  # before anything large is read
    clone = clone_of(run)
    text, why_not = modelfile_of(clone.renderer, file.name)
    with making(file) as scratch:
        made, described = scratch / file.name, scratch / beside.name
        whole = scratch / "float32.gguf" if outtype in QUANTS else made
        plain = "f32" if outtype in QUANTS else outtype
        write_gguf(whole, clone.model, clone.renderer, name=run.path.resolve().name, outtype=plain)
        read = _read_back(whole, clone)
        found = clone.compare(read, str(file), OUTTYPES[plain][2])
        _refuse_other_weights(read, clone, file, OUTTYPES[plain][3])
        kept = None
        if outtype in QUANTS:
            quantise(whole, made, outtype)
            whole.unlink()
            read = _read_back(made, clone)
            found, _ = deviation(read, clone.rows, clone.said, narrow=True)  # as large as it may be: it is told
            kept = kept_of(run, recipe_of(run), clone.renderer, clone.model, read)
        if text:
            write_text(described, text)
            appear(described, beside)
        appear(made, file)
    return Gguf(file, outtype, file.stat().st_size, found, beside if text else None, why_not, kept)


def write_gguf(file: Path, model: PreTrainedModel, renderer: Renderer, *, name: str, outtype: str) -> None:
    """Write ``model`` and the tokenizer and template of ``renderer`` into ``file``. Raises ``PolicyError``.

    The header first, then one tensor after the other: no second copy of all weights is held.
    """
    file_type, matrices, *_ = OUTTYPES[outtype]
    vocabulary = vocabulary_of(renderer, int(model.get_input_embeddings().weight.shape[0]))
    writer = GGUFWriter(file, MODEL_ARCH_NAMES[family_of(model.config).arch])
    try:
        writer.add_name(name)
        writer.add_file_type(file_type)
        writer.add_quantization_version(2)
        add_settings(writer, model.config, len(vocabulary.tokens))
        _add_vocabulary(writer, vocabulary, renderer)
        made: list[tuple[GGMLQuantizationType, Callable[[], torch.Tensor]]] = []
        for tensor, shape, values in tensors_of(model):
            kind = matrices if len(shape) == 2 else GGMLQuantizationType.F32
            if kind == GGMLQuantizationType.Q8_0 and shape[-1] % _Q8_BLOCK:
                kind = GGMLQuantizationType.F16
            row = quantize(np.zeros((1, shape[-1]), np.float32), kind)
            stored = (*shape[:-1], row.shape[-1])
            writer.add_tensor_info(tensor, stored, row.dtype, row.nbytes * math.prod(shape[:-1]), raw_dtype=kind)
            made.append((kind, values))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for kind, values in made:
            try:
                writer.write_tensor_data(quantize(values().numpy(), kind))
            except OSError as error:
                if error.errno is not None or not writer.fout:
                    raise
                # numpy only counts what it could write; the system says why.
                os.write(writer.fout[0].fileno(), bytes(1 << 16))  # raises, with the number
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error  # some room has come back since
    finally:
        writer.close()


def _add_vocabulary(writer: GGUFWriter, vocabulary: Vocabulary, renderer: Renderer) -> None:
    tokenizer = renderer.tokenizer
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.scores:
        writer.add_token_scores(vocabulary.scores)
    if vocabulary.merges:
        writer.add_token_merges(vocabulary.merges)
    if vocabulary.model == "llama":
        writer.add_add_space_prefix(vocabulary.space_before)
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)
    # Generation stops at both: the template writes the one's text as its variable eos_token, and ends turns with the
    # other.
    writer.add_eos_token_id(int(tokenizer.eos_token_id))
    writer.add_eot_token_id(renderer.end_of_turn[-1])
    writer.add_pad_token_id(renderer.pad_token_id)
    if tokenizer.unk_token_id is not None:
        writer.add_unk_token_id(tokenizer.unk_token_id)
    writer.add_add_bos_token(begins_itself(renderer))
    writer.add_add_eos_token(False)
    writer.add_chat_template(renderer.template)


def _read_back(file: Path, clone: Clone) -> Any:
    """The model of ``clone`` with the weights in ``file``, as transformers reads them."""
    try:
        with quiet_engine(), no_gguf_bar():
            return AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, config=clone.model.config, dtype=torch.float32
            ).eval()
    except Exception as error:  # the reader's own errors, of several libraries
        reason = " ".join(str(error).split())[:200]
        raise PolicyError(f"{file}: cannot be read back ({type(error).__name__}: {reason})") from error


def _refuse_other_weights(read: Any, clone: Clone, file: Path, rounding: float) -> None:
    """``PolicyError`` for a weight further from the clone's than ``rounding``; logits alone would forgive some."""
    after = read.state_dict()
    for name, weight in clone.model.state_dict().items():
        expected = weight.float()
        furthest = float((after[name].float() - expected).abs().max())
        if not furthest <= rounding * max(float(expected.abs().max()), 1.0 if "norm" in name else 0.0):
            raise PolicyError(
                f"{file}: was not exported, for {name} is read back with values that differ by {furthest:.2g}; "
                "install the versions of transformers and gguf that constraints.txt names"
            )
