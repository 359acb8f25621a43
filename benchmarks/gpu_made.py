"""Made for ``benchmarks/gpu.py``, which may run where nothing can be fetched: models with random weights, and rows.

The shapes are those of published models; the words are a small tokenizer's, trained here. Lengths of rows are drawn
like dolly-15k's: 250 tokens on average, half of them below 150, a tail up to 2,048 that a cell may cut shorter.
"""

from __future__ import annotations

import json
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "toys")]

#: Llama-shaped: name -> (hidden, intermediate, layers, heads, heads of keys, vocabulary, tied).
SHAPES = {
    "0.027B": (576, 1536, 6, 9, 3, 8192, True),  # SmolLM2-135M's width, six of its layers
    "135M": (576, 1536, 30, 9, 3, 49152, True),  # SmolLM2-135M
    "1.3B": (2048, 5504, 24, 16, 16, 32000, False),  # TinyLlama's and Sheared-LLaMA-1.3B's kind
    "8B": (4096, 14336, 32, 32, 8, 128256, False),  # Llama 3.1 8B
    "toy": (64, 128, 2, 4, 2, 800, True),  # for a rehearsal
}
MEAN_LENGTH, LONGEST = 250, 2048


@dataclass(frozen=True, slots=True)
class Report:
    """Where a part writes what it finds, at once: JSON lines that the part before it may have begun."""

    path: Path
    part: str

    def __call__(self, section: str, **values: Any) -> None:
        """One row of the table of ``section``."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"section": section, "part": self.part} | values) + "\n")

    def begins(self, contender: str) -> None:
        """Note that ``contender`` begins: what has begun and left no row has ended the process."""
        self("begun", contender=contender)


@dataclass(frozen=True, slots=True)
class Scene:
    """What a part is given. ``rehearsal``: toy sizes; ``scratch``: for models and runs; ``skip``: tried before."""

    report: Report
    scratch: Path
    rehearsal: bool
    seconds: float
    skip: frozenset[str] = frozenset()

    def shape(self, name: str) -> str:
        """The shape to take for ``name``."""
        return "toy" if self.rehearsal else name


def config_of(shape: str) -> Any:
    """The configuration of a Llama of ``shape``."""
    from transformers import LlamaConfig

    width, wide, layers, heads, keys, vocabulary, tied = SHAPES[shape]
    return LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=wide, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=keys, tie_word_embeddings=tied,
        max_position_embeddings=4096, rope_theta=10000.0 if width < 4096 else 500000.0,
    )  # fmt: skip


def tokenizer_in(folder: Path, shape: str | None = None) -> Path:
    """``folder`` with a tokenizer in it and, of a ``shape``, a configuration, and nothing to load weights from."""
    import small_tokenizers

    small_tokenizers.chatml().save_pretrained(folder)
    if shape is not None:
        config_of(shape).save_pretrained(folder)
    return folder


def weights(shape: str, dtype: Any, device: Any, *, tied: bool | None = None) -> Any:
    """A model of ``shape`` on ``device``, drawn in float32 from one seed, so that all contenders begin alike.

    Where the card has no room for that, it is drawn in ``dtype``.
    """
    import torch
    from transformers import AutoModelForCausalLM

    config = config_of(shape)
    config.tie_word_embeddings = config.tie_word_embeddings if tied is None else tied
    with torch.device("meta"):
        count = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    room = torch.cuda.mem_get_info()[0] if torch.device(device).type == "cuda" else None
    torch.manual_seed(0)
    with torch.device(device):
        short = room is not None and 4.3 * count > room
        model = AutoModelForCausalLM.from_config(config, dtype=dtype if short else torch.float32)
    return model.to(dtype)


def model_in(folder: Path, shape: str) -> Path:
    """A model of ``shape`` with its tokenizer, saved as whoever publishes one saves it."""
    import torch

    if not (folder / "config.json").exists():
        tokenizer_in(folder)
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        made = weights(shape, torch.float32, "cpu")
        made.config.pad_token_id = config.get("pad_token_id")
        made.save_pretrained(folder)
    return folder


def demonstrations_in(folder: Path, count: int = 200) -> Path:
    """Rows with one habit, for fits that are compared and not judged."""
    from toy_demonstrations import write_demonstrations

    folder.mkdir(parents=True, exist_ok=True)
    return write_demonstrations(folder / "demonstrations.jsonl", count)


def dialogues_in(folder: Path, count: int = 40) -> Path:
    """Dialogues of three turns, which are unrolled into three rows each."""
    draw = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "dialogues.jsonl"
    words = ["box", "door", "hat", "leaf", "lamp", "ship", "stone", "wall"]
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            messages = []
            for turn in range(3):
                asked = f"{number}.{turn}: the {' '.join(draw.sample(words, 3))}?"
                messages += [{"role": "user", "content": asked}]
                messages += [{"role": "assistant", "content": f"{asked[-6:-1]}, {number}"}]
            file.write(json.dumps({"messages": messages}) + "\n")
    return path


def rows(count: int, vocabulary: int, *, mean: float = MEAN_LENGTH, longest: int = LONGEST) -> list[Any]:
    """``count`` rendered rows of random ids, their lengths like dolly's: log-normal, its sigma 1.

    Between 30 % and 80 % of a row is prompt. The same in every process.
    """
    from sft.demonstrations.demonstration import Demonstration, Message
    from sft.policies.rendering import Rendered

    draw = random.Random(0)
    made = []
    for number in range(count):
        length = int(min(longest, max(16, mean * draw.lognormvariate(-0.5, 1.0))))
        prompt = max(1, int(length * draw.uniform(0.3, 0.8)))
        ids = tuple(draw.randrange(10, vocabulary) for _ in range(length))
        mask = (0,) * prompt + (1,) * (length - prompt)
        made.append((Demonstration((Message("user", f"{number}"),), "made"), Rendered(ids, mask)))
    return made


def now() -> float:
    """Seconds of a clock, when all that the device was given is done."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_bytes() -> int:
    """Most memory held since :func:`forget_peak`: the card's or, on a CPU, the process's since it began."""
    import torch

    from sft.runs.machine import peak_memory_bytes

    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else peak_memory_bytes()


def forget_peak() -> None:
    """Hand back what nobody uses, and begin to measure anew."""
    import torch

    from sft.policies.weights import free_memory

    free_memory()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def refuse_a_lost_card() -> None:
    """Raise what CUDA says where an error before has cost this process its card: only another process has it again."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def in_one_line(error: BaseException) -> str:
    """What went wrong, short enough for a table."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}".replace("|", "/")
