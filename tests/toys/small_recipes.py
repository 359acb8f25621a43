"""A recipe of the tiny model that is fitted many times in a test: of a curve's sizes, of a sweep's combinations."""

from __future__ import annotations

from pathlib import Path

from toy_demonstrations import write_demonstrations

_RECIPE = """\
model: {{name: {model}}}
demonstrations: {{path: {data}}}
split: {{validation: 0.2, test: 0.2, near_duplicates: remove}}
adapter: {{r: 4, lora_alpha: 8}}
training: {{learning_rate: 1.0e-2, {length}, eval_steps: 2, logging_steps: 1}}
"""


def small_recipe(folder: Path, model: Path, rows: int, length: str, *sections: str) -> Path:
    """A recipe in ``folder`` with ``rows`` beside it; ``length``: how long a fit is; ``sections``: more lines."""
    data = write_demonstrations(folder / "d.jsonl", rows)
    text = _RECIPE.format(model=model, data=data, length=length) + "".join(f"{line}\n" for line in sections)
    path = folder / "r.yaml"
    path.write_text(text, encoding="utf-8")
    return path
