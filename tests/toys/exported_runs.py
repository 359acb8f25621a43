"""Runs to export: trained as a user trains them, on a model that a test names."""

from __future__ import annotations

from pathlib import Path

from toy_demonstrations import write_demonstrations

from sft.cli import main


def trained(model: Path, folder: Path, *overrides: str, method: str = "lora") -> Path:
    """A run at ``folder/run`` of the model in ``model``, with ``overrides`` as on the command line."""
    data = write_demonstrations(folder / "demonstrations.jsonl", 60)
    recipe = folder / "recipe.yaml"
    size = "" if method == "full" else ", r: 4, lora_alpha: 8"
    recipe.write_text(
        f"model: {{name: {model}}}\ndemonstrations: {{path: {data}}}\nsplit: {{validation: 0.2, test: 0.4, "
        "near_duplicates: remove}\ntraining: {learning_rate: 1.0e-2, max_steps: 8, eval_steps: 4, logging_steps: 4}\n"
        f"adapter: {{method: {method}{size}}}\nfidelity: {{max_new_tokens: 12}}\n",
        encoding="utf-8",
    )
    settings = [word for override in overrides for word in ("--set", override)]
    assert main(["train", str(recipe), "--output", str(folder / "run"), *settings]) == 0
    return folder / "run"
