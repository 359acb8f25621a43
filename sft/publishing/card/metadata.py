"""What other programs read of a card: its metadata, and the lines of Python that load the clone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sft.fidelity.scorecard import Scorecard
from sft.publishing.card.facts import About
from sft.publishing.card.figures import metadata_of

__all__ = ["metadata", "snippet"]


def metadata(card: Scorecard, about: About, *, base_model: str, repo: str, weights: str, method: str) -> str:
    """The YAML at the top of the card, as ``huggingface_hub.ModelCardData`` writes it and reads it back."""
    from huggingface_hub import EvalResult, ModelCardData

    data = about.datasets[0] if about.datasets else about.sets[0]
    results = [
        EvalResult(
            task_type="text-generation",
            task_name="Text generation",
            dataset_type=data,
            dataset_name=f"held-out demonstrations ({', '.join(about.sets)})",
            dataset_split=card.split,
            metric_type=one["type"],
            metric_name=one["name"],
            metric_value=one["value"],
        )
        for one in metadata_of(card)
    ]
    adapter = weights == "adapter"
    tags = ["behavioral-cloning", "sft", "trl", "transformers", *([] if method == "full" else [method])]
    found = ModelCardData(
        base_model=base_model,
        base_model_relation="adapter" if adapter else "finetune",
        library_name="peft" if adapter else "transformers",
        pipeline_tag="text-generation",
        license=about.license,
        language=list(about.languages),
        datasets=list(about.datasets) or None,
        tags=[*tags, f"base_model:{'adapter' if adapter else 'finetune'}:{base_model}"],
        model_name=repo.rpartition("/")[2],
        eval_results=results,
    )
    return found.to_yaml() + "\n"


def snippet(
    repo: str,
    base_model: str,
    base_revision: str | None,
    *,
    weights: str,
    messages: Sequence[Mapping[str, Any]],
    dtype: str,
    max_new_tokens: int,
) -> str:
    """Python that loads the clone from ``repo`` with transformers (and peft) alone, and writes one completion.

    Greedy, and stopped as it was measured: settings for sampling that came with the base are not taken over.
    """
    turns = "".join(f'    {{"role": "{turn["role"]}", "content": {turn["content"]!r}}},\n' for turn in messages)
    pinned = f', revision="{base_revision}"' if base_revision else ""
    if weights == "adapter":
        imports = "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM, AutoTokenizer"
        imports += ", GenerationConfig"
        load = (
            f'base = AutoModelForCausalLM.from_pretrained("{base_model}"{pinned}, dtype="{dtype}")\n'
            f'base.generation_config = GenerationConfig.from_pretrained("{repo}")  # where a turn ends\n'
            f'model = PeftModel.from_pretrained(base, "{repo}").eval()\n'
        )
    else:
        imports = "from transformers import AutoModelForCausalLM, AutoTokenizer"
        load = f'model = AutoModelForCausalLM.from_pretrained("{repo}", dtype="{dtype}").eval()\n'
    return (
        f"{imports}\n\n"
        f'tokenizer = AutoTokenizer.from_pretrained("{repo}")\n'
        f"{load}\n"
        f"messages = [\n{turns}]\n"
        "prompt = tokenizer.apply_chat_template(\n"
        '    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True\n'
        ")\n"
        f"written = model.generate(**prompt, max_new_tokens={max_new_tokens}, do_sample=False)\n"
        'print(tokenizer.decode(written[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))\n'
    )
