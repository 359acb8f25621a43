"""Read by every Python that is started with this folder on its path: it sees a CUDA card (``stand_in_card``).

``STAND_IN_CARD`` says which one ("A100", "T4"), ``STAND_IN_CARDS`` how many, ``STAND_IN_LARGEST`` of how many bytes the
largest tensor may be before its memory runs out, ``STAND_IN_ALONE`` by which file one process alone has it. With
``CUDA_VISIBLE_DEVICES`` empty there is none, as on a machine with one. Nothing of ``sft`` is touched.
"""

import importlib.abc
import importlib.util
import os
import sys


class PutIn(importlib.abc.MetaPathFinder):
    """Puts the card in as soon as PyTorch is imported, and lets it compute in the thread that imports it."""

    def find_spec(self, name, path=None, target=None):
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        import stand_in_card

        stand_in_card.loaded()
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def load_and_put_in(module):
            load(module)
            stand_in_card.put_in(os.environ["STAND_IN_CARD"], int(os.environ.get("STAND_IN_CARDS", "1")))
            stand_in_card.start(int(os.environ.get("STAND_IN_LARGEST", "0")) or None)

        spec.loader.exec_module = load_and_put_in
        return spec


if "STAND_IN_CARD" in os.environ and os.environ.get("CUDA_VISIBLE_DEVICES") != "":
    sys.meta_path.insert(0, PutIn())
