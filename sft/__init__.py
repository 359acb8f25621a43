"""Clone an expert's writing into a language model, and prove how well the clone worked."""

__version__ = "0.1.0"
