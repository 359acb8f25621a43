"""The adapter alone as GGUF, for llama.cpp to put on a file of its base: ``llama-server -m BASE.gguf --lora FILE``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import MODEL_ARCH_NAMES, GGUFWriter, get_tensor_name_map

from sft.errors import PolicyError, RunError
from sft.policies.policy import with_adapter
from sft.policies.weights import config_of, is_adapter, load_weights
from sft.publishing.export.gguf_models import as_gguf_has, family_of
from sft.publishing.export.merged import recipe_of
from sft.recipes.sources import source_of
from sft.runs.atomic_files import appear, making, refuse_taken
from sft.runs.run import Run, demand_trained

__all__ = ["GgufAdapter", "export_gguf_adapter"]


@dataclass(frozen=True, slots=True)
class GgufAdapter:
    """What was written: ``pairs`` of matrices, in float32; ``template``: the chat template that goes with it."""

    file: Path
    bytes: int
    pairs: int
    template: Path

    def to_text(self) -> str:
        """For a person."""
        return (
            f"{self.file}: {self.bytes / 1e6:,.1f} MB, {self.pairs} pairs of matrices; on a GGUF file of the base: "
            f"llama-server -m BASE.gguf --lora {self.file} --jinja --chat-template-file {self.template}"
        )

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self) | {"file": str(self.file), "template": str(self.template)}


def export_gguf_adapter(run: Run, file: Path) -> GgufAdapter:
    """Write the adapter of ``run`` as GGUF into ``file``. Raises ``RunError`` for a run without one or a file that is
    there, ``PolicyError`` for what llama.cpp has no word for: DoRA, modules trained whole, biases, embeddings.
    """
    tuned = demand_trained(run)
    if not is_adapter(tuned):
        raise RunError(f"{tuned}: every weight was fitted, so there is no adapter; export the whole clone with --gguf")
    refuse_taken(file)
    source = source_of(recipe_of(run).model)
    family = family_of(config_of(source))
    model = with_adapter(load_weights(source, "float32"), tuned)
    config = model.peft_config["default"]
    strange = [
        what
        for what, there in (
            ("DoRA", getattr(config, "use_dora", False)),
            ("modules trained whole (modules_to_save)", config.modules_to_save),
            ("biases", config.bias != "none"),
            ("tokens of its own (trainable_token_indices)", getattr(config, "trainable_token_indices", None)),
        )
        if there
    ]
    if strange:
        raise PolicyError(
            f"{tuned}: has {strange[0]}, for which llama.cpp's adapters have no word; export it with --gguf"
        )
    pairs = 0
    with making(file) as scratch:
        writer = GGUFWriter(scratch / file.name, MODEL_ARCH_NAMES[family.arch])
        try:
            writer.add_type("adapter")
            writer.add_string("adapter.type", "lora")
            writer.add_float32("adapter.lora.alpha", float(config.lora_alpha))
            writer.add_name(run.path.resolve().name)
            for name, a, b in _pairs(model, float(config.lora_alpha)):
                writer.add_tensor(f"{name}.lora_a", a)
                writer.add_tensor(f"{name}.lora_b", b)
                pairs += 1
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()
        appear(scratch / file.name, file)
    return GgufAdapter(file, file.stat().st_size, pairs, tuned / "chat_template.jinja")


def _pairs(model: Any, alpha: float) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """GGUF's name of a weight, and A and B of its adapter as llama.cpp multiplies them: by ``alpha`` over their rank.

    What peft multiplies by instead (rsLoRA, ``alpha_pattern``) is put into B.
    """
    base = model.get_base_model()
    names = get_tensor_name_map(family_of(base.config).arch, base.config.num_hidden_layers)
    for name, module in base.named_modules():
        if not getattr(module, "lora_A", None):
            if getattr(module, "lora_embedding_A", None):
                raise PolicyError(f"{name}: an embedding has an adapter, for which llama.cpp has no word; use --gguf")
            continue
        a, b = (part["default"].weight.detach().float() for part in (module.lora_A, module.lora_B))
        written = names.get_name(f"{name}.weight", try_suffixes=(".weight",))
        if written is None:
            raise PolicyError(f"{name}: GGUF has no place for this weight; export the whole clone with --gguf")
        b = as_gguf_has(base.config, f"{name}.weight", b * (module.scaling["default"] * a.shape[0] / alpha))
        yield written, _array(a), _array(b)


def _array(values: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(values.numpy(), np.float32)
