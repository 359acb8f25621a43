"""Handing a clone on in the shapes that other programs load: merged weights, and GGUF for llama.cpp and Ollama.

Nothing is half-written, nothing overwritten, and everything is read back and compared with the run's own clone.
"""

from sft.exporting.merging import Merged, export_merged

__all__ = ["Merged", "export_merged"]
