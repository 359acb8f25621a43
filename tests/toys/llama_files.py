"""GGUF files for llama.cpp itself, whichever program serves it, and what it must say of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from exported_runs import trained
from toy_families import HalfGelu, cutting_words_as, model_of, tokenizer_of
from transformers import PreTrainedModel

from sft.demonstrations.demonstration import Message
from sft.policies.policy import load_policy
from sft.policies.rendering import Renderer, renderer_for
from sft.publishing.export import export_gguf, export_merged
from sft.publishing.export.gguf import write_gguf
from sft.recipes.sources import resolve_model
from sft.runs.run import Run, read_jsonl


@dataclass(frozen=True)
class Toy:
    """A model in ``file``; ``model`` computes what llama.cpp should, ``renderer`` writes its prompts."""

    file: Path
    model: PreTrainedModel
    renderer: Renderer

    def logits(self, ids: list[int]) -> torch.Tensor:
        with torch.no_grad():
            return self.model(torch.tensor([ids])).logits[0]


@dataclass(frozen=True)
class Answer:
    """What a clone's merged weights write for ``prompt``, greedily, and whether that "stop"s or is cut ("length")."""

    prompt: list[dict[str, str]]
    text: str
    finish: str


MOST = 24  # tokens of an answer


def family_file(family: str, folder: Path) -> Toy:
    """One of ``FAMILIES`` in float32, with embedding rows that no token uses."""
    renderer = renderer_for(tokenizer_of(family))
    model = model_of(family, len(renderer.tokenizer) + 3)
    write_gguf(folder / "toy.gguf", model, renderer, name="toy", outtype="f32")
    if family.startswith("gemma3"):
        for layer in model.model.layers:
            layer.mlp.act_fn = HalfGelu()
    return Toy(folder / "toy.gguf", model, renderer)


def smollm_file(folder: Path) -> Toy:
    """A model whose tokenizer cuts digits apart as SmolLM's does."""
    renderer = renderer_for(cutting_words_as("smollm"))
    model = model_of("llama", len(renderer.tokenizer))
    write_gguf(folder / "toy.gguf", model, renderer, name="toy", outtype="f16")
    return Toy(folder / "toy.gguf", model, renderer)


def clone_file(base: Path, folder: Path) -> tuple[Path, list[Answer]]:
    """A clone fitted to ``base`` as a file, and its answers to twenty held-out prompts; some end by themselves."""
    run = Run.open(trained(base, folder, "training.max_steps=40"))
    export_merged(run, folder / "merged")
    made = export_gguf(run, folder / "clone.gguf", "f32")
    policy = load_policy(resolve_model(str(folder / "merged")), dtype="float32")
    prompts = [row["prompt"] for row in read_jsonl(run.demonstrations_path) if row["split"] == "test"][:20]
    answers = []
    for prompt in prompts:
        ids = policy.renderer.prompt_ids(tuple(Message(m["role"], m["content"]) for m in prompt))
        written = policy.model.generate(torch.tensor([ids]), max_new_tokens=MOST, do_sample=False)[
            0, len(ids) :
        ].tolist()
        ended = any(token in policy.renderer.stop_token_ids for token in written)
        answers.append(Answer(prompt, policy.renderer.decode_completion(written), "stop" if ended else "length"))
    assert len(answers) == 20 and any(answer.finish == "stop" for answer in answers)
    return made.file, answers
