"""The model card of a published clone (``README.md``), from its run, without a model, a network or torch."""

from sft.publishing.card.card import card_of

__all__ = ["card_of"]
