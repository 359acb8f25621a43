"""The recipe's adapter, put on a model: on the one that is fitted, and on one in outline that is only counted."""

from __future__ import annotations

from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from sft.errors import TrainingError
from sft.policies import quiet_engine
from sft.recipes import Recipe, lora_arguments

__all__ = ["adapted"]


def adapted(model: PreTrainedModel, recipe: Recipe, **others: Any) -> PreTrainedModel | PeftModel:
    """``model`` with the recipe's adapter, or as it is where every weight is fitted.

    ``others``: fields of ``peft.LoraConfig`` that come before the recipe's. Raises ``TrainingError`` where peft
    cannot put this adapter on this model.
    """
    lora = lora_arguments(recipe)
    if lora is None:
        return model
    try:
        with quiet_engine():
            return get_peft_model(model, LoraConfig(**(lora | others)))
    except ValueError as error:
        raise TrainingError(f"adapter: {' '.join(str(error).split())}; correct the recipe's adapter section") from error
