"""Handing a clone on in the shapes that other programs load: merged weights, and GGUF for llama.cpp and Ollama.

Nothing is half-written, nothing overwritten, and everything is read back and compared with the run's own clone.
"""

from sft.publishing.export.gguf import Gguf, export_gguf
from sft.publishing.export.gguf_adapter import GgufAdapter, export_gguf_adapter
from sft.publishing.export.merged import Merged, export_merged

__all__ = ["Gguf", "GgufAdapter", "Merged", "export_gguf", "export_gguf_adapter", "export_merged"]
