"""Matrices in few bits by llama.cpp's own quantiser, and what a clone loses by it: its completions and bits a byte.

The quantiser is llama.cpp's: its program ``llama-quantize`` where that is on the path, or its function of that name as
llama-cpp-python hands it on (the extra ``llama``). Nothing of it is our own.
"""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import LlamaFileType

from sft.demonstrations import stored
from sft.errors import PolicyError
from sft.policies.generation import complete, score
from sft.policies.policy import Policy
from sft.policies.rendering import Renderer
from sft.recipes import Recipe
from sft.recipes.sources import source_of
from sft.runs.run import Run

__all__ = ["QUANTS", "Kept", "kept_of", "quantise", "quantiser"]

#: llama.cpp's mixtures: 4, 5 and 6 bits a weight, some matrices in more.
QUANTS = {
    "q4_k_m": LlamaFileType.MOSTLY_Q4_K_M,
    "q5_k_m": LlamaFileType.MOSTLY_Q5_K_M,
    "q6_k": LlamaFileType.MOSTLY_Q6_K,
}
#: So many held-out prompts are answered again, and judged again.
_PROMPTS, _BATCH = 20, 8

_BY_CTYPES = """\
import ctypes, sys
import llama_cpp
asked = llama_cpp.llama_model_quantize_default_params()
asked.ftype, asked.nthread = int(sys.argv[3]), int(sys.argv[4])
sys.exit(int(llama_cpp.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), ctypes.byref(asked))))
"""


def quantiser(outtype: str) -> list[str]:
    """The command that quantises, up to the names of its files. Raises ``PolicyError`` where there is none."""
    if program := shutil.which("llama-quantize"):
        return [program]
    if importlib.util.find_spec("llama_cpp") is not None:
        return [sys.executable, "-c", _BY_CTYPES]  # in a process of its own: native code ends the one that it fails in
    raise PolicyError(
        f"--outtype {outtype}: needs llama.cpp's quantiser; put its program llama-quantize on the path, or compile it "
        'with pip install "behavioral-cloning[llama]"'
    )


def quantise(source: Path, target: Path, outtype: str) -> None:
    """Write the GGUF file ``source`` as ``target``, its matrices in ``outtype``, one of :data:`QUANTS`."""
    command, threads = quantiser(outtype), str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    kind = outtype.upper() if Path(command[0]).name == "llama-quantize" else str(int(QUANTS[outtype]))
    done = subprocess.run(
        [*command, str(source), str(target), kind, threads], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    if done.returncode or not target.is_file():
        said = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
        raise PolicyError(
            f"{target}: was not exported, for llama.cpp's quantiser failed ({(said or ['no reason'])[-1][:200]}); see "
            "whether the disk has room, or export another --outtype"
        )


@dataclass(frozen=True, slots=True)
class Kept:
    """What is left of the clone after quantising, on ``n`` held-out prompts.

    ``same``: completions that are the clone's own, letter by letter; ``bits``: bits a byte of the experts' completions,
    beside ``own_bits``, the clone's.
    """

    n: int
    same: int
    bits: float
    own_bits: float

    def to_text(self) -> str:
        """For a person."""
        return (
            f"{self.same} of {self.n} held-out completions are the clone's own, letter by letter; {self.bits:.4f} bits "
            f"a byte of what experts wrote there, the clone {self.own_bits:.4f}"
        )


def kept_of(run: Run, recipe: Recipe, renderer: Renderer, model: Any, read: Any) -> Kept:
    """How ``read``, weights of a quantised file, answers held-out prompts of ``run``, beside ``model``, the clone."""
    rows = sorted(stored.parts(run)["test"], key=lambda d: d.id)[:_PROMPTS]
    source = source_of(recipe.model)
    rendered = {d.id: one for d, one in renderer.render_all(rows)[0]}
    sizes = {d.id: len(d.completion.encode()) for d in rows}
    longest = recipe.fidelity.max_new_tokens
    longest = longest if isinstance(longest, int) else 256
    texts, bits = list[dict[str, str]](), list[float]()
    for one in (model, read):
        policy = Policy(one, renderer, source)
        prompts = {key: list(each.prompt_ids) for key, each in rendered.items()}
        written = complete(policy, prompts, max_new_tokens=longest, batch_size=_BATCH)
        texts.append({completion.id: completion.text for completion in written})
        bits.append(_bits_a_byte(list(score(policy, rendered, sizes, batch_size=_BATCH))))
    same = sum(texts[0][key] == texts[1][key] for key in texts[0])
    return Kept(len(texts[0]), same, bits[1], bits[0])


def _bits_a_byte(scores: Sequence[Any]) -> float:
    return sum(map(math.fsum, (one.nats for one in scores))) / math.log(2) / sum(one.bytes for one in scores)
