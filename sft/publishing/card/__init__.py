"""The model card of a published clone (``README.md``): written from its run, complete or refused.

:func:`card_of` needs no model, no network and no torch. Every figure on the card is the scorecard's:
:func:`disagreements` reads them back from the text and says where they are not.
"""

from sft.publishing.card.card import card_of
from sft.publishing.card.figures import disagreements, figures_of, figures_on

__all__ = ["card_of", "disagreements", "figures_of", "figures_on"]
