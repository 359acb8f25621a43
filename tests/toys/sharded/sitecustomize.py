"""Read by every Python that is started with this folder on its path: accelerate shards on CPUs too.

PyTorch's FSDP2 works over gloo; accelerate asks for it only where processes have accelerators (in
``AcceleratorState``, ``MULTI_CPU`` is not among the kinds that become ``FSDP``). Here it does for processes on CPUs
what it does for the others, and leaves word of it in the folder ``SHARDED``: a file per process, with the parameters
that it holds a part of. Nothing of ``sft`` is touched.
"""

import importlib.abc
import importlib.util
import os
import sys
from pathlib import Path


class Shard(importlib.abc.MetaPathFinder):
    """Has processes on CPUs shard, when ``sft.training`` is imported, and accelerate with it."""

    def find_spec(self, name, path=None, target=None):
        if name != "sft.training":
            return None
        sys.meta_path.remove(self)
        from accelerate import accelerator, state

        begin, prepare = state.AcceleratorState.__init__, accelerator.fsdp2_prepare_model

        def begin_and_shard(self, *words, fsdp_plugin=None, **settings):
            begin(self, *words, fsdp_plugin=fsdp_plugin, **settings)
            if fsdp_plugin is not None and self.distributed_type == state.DistributedType.MULTI_CPU:
                if self._mixed_precision != "no":
                    fsdp_plugin.set_mixed_precision(self._mixed_precision)
                self.fsdp_plugin = fsdp_plugin
                self.distributed_type = state.DistributedType.FSDP
                state.PartialState._shared_state["distributed_type"] = self.distributed_type

        def prepare_and_tell(accelerator, model):
            made = prepare(accelerator, model)
            parts = [f"{n} {tuple(p.shape)} {tuple(p.to_local().shape)}" for n, p in made.named_parameters()]
            Path(os.environ["SHARDED"], os.environ["RANK"]).write_text("\n".join(parts), encoding="utf-8")
            return made

        state.AcceleratorState.__init__, accelerator.fsdp2_prepare_model = begin_and_shard, prepare_and_tell
        return importlib.util.find_spec(name)


if "SHARDED" in os.environ:
    sys.meta_path.insert(0, Shard())
