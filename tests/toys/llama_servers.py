"""llama.cpp's server in this process (xllamacpp), and GGUF files with faults that people's files have."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xllamacpp
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType, quantize

__all__ = ["in_four_bits", "llama_server", "without_stop"]


@contextmanager
def llama_server(file: Path, change: Callable[[Any], object] = lambda asked: None) -> Iterator[str]:
    """The address of a server of ``file``. Its cache is in float32. ``change``: of its ``CommonParams``."""
    asked = xllamacpp.CommonParams()
    asked.model.path = str(file)
    asked.n_ctx, asked.n_parallel, asked.warmup, asked.verbosity = 2048, 4, False, -1
    asked.cpuparams.n_threads = asked.cpuparams_batch.n_threads = 1
    asked.cache_type_k = asked.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    asked.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    change(asked)
    server = xllamacpp.Server(asked)
    try:
        yield str(server.listening_address)
    finally:
        del server
        gc.collect()


def in_four_bits(source: Path, target: Path) -> Path:
    """``source`` with its matrices in Q4_0."""
    q4 = GGMLQuantizationType.Q4_0
    return _rewritten(source, target, {"general.file_type": int(LlamaFileType.MOSTLY_Q4_0)}, q4)


def without_stop(source: Path, target: Path) -> Path:
    """``source`` without the token that ends a turn among those that generation stops at."""
    return _rewritten(source, target, {"tokenizer.ggml.eot_token_id": None})


def _rewritten(
    source: Path, target: Path, fields: dict[str, Any], matrices: GGMLQuantizationType | None = None
) -> Path:
    """``source`` with other values of ``fields`` (None: without it), and of other types of ``matrices``."""
    reader = GGUFReader(source)
    writer = GGUFWriter(target, str(reader.fields["general.architecture"].contents()))
    for field in reader.fields.values():
        value = fields.get(field.name, field.contents())
        if field.name.startswith("GGUF.") or field.name == "general.architecture" or value is None:
            continue
        inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, value, field.types[0], sub_type=inner)
    for tensor in reader.tensors:
        values, kind = np.array(tensor.data), tensor.tensor_type
        if matrices is not None and len(tensor.shape) == 2:
            values, kind = quantize(values.astype(np.float32), matrices), matrices
        writer.add_tensor(tensor.name, values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target
