"""A CUDA card where there is none: tensors that say ``cuda:0``, computed by the CPU, and held to what a card asks.

Run as a program, ``stand_in_card.py WORDS`` is ``sft WORDS`` on a machine with such a card. Everything is the product
as it is, PyTorch's own autograd and autocast among it. A few functions of ``torch.cuda`` are replaced, for they ask a
driver, and a few lines of C++ (``stand_in_card.cpp``, compiled once) tell PyTorch that the device exists.

An operation whose tensors lie partly on the card and partly off it is refused, as CUDA refuses it. So is what the
kernels of FlashAttention refuse, which are computed here row by row from the arguments that they would get. Figures
are a CPU's; what a kernel of the card would round otherwise is not seen. ``Card.waits`` counts how often the machine
would have waited for the card: each ``item()``, each copy back.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

_SOURCE = Path(__file__).with_suffix(".cpp")
_COMPILER = shutil.which("g++") or shutil.which("clang++")


def why_not() -> str:
    """Why there can be no such card here, or nothing."""
    if sys.platform != "linux":
        return "its few lines of C++ were written for Linux"
    return "" if _COMPILER else "its few lines of C++ need a compiler, such as g++"


def _libraries() -> Path:
    found = importlib.util.find_spec("torch")
    assert found is not None and found.origin is not None
    return Path(found.origin).parent


def compiled() -> Path:
    """The library that makes PyTorch believe in the device, compiled where it was not yet."""
    torch_folder = _libraries()
    source = _SOURCE.read_bytes() + str(torch_folder).encode() + (torch_folder / "version.py").read_bytes()
    folder = Path(tempfile.gettempdir()) / f"stand-in-card-{os.getuid()}"
    library = folder / f"{hashlib.sha256(source).hexdigest()[:16]}.so"
    if not library.exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        made = library.with_suffix(f".{os.getpid()}")
        headers = [torch_folder / "include", torch_folder / "include" / "torch" / "csrc" / "api" / "include"]
        subprocess.run(
            [str(_COMPILER), "-std=c++20", "-O0", "-fPIC", "-shared", *(f"-I{each}" for each in headers),
             str(_SOURCE), f"-L{torch_folder / 'lib'}", "-ltorch_cpu", "-lc10", "-o", str(made)],
            check=True,
        )  # fmt: skip
        made.rename(library)
    return library


def loaded() -> None:
    """Load it, which must be before anybody asks PyTorch for its devices."""
    assert "torch" not in sys.modules, "PyTorch has looked for its devices already"
    ctypes.CDLL(str(_libraries() / "lib" / "libtorch_cpu.so"), mode=ctypes.RTLD_GLOBAL)
    ctypes.CDLL(str(compiled()))


# -- what torch.cuda says -----------------------------------------------------------------------------------------

#: As an A100 of 40 GB says of itself, and a T4.
CARDS = {
    "A100": ("NVIDIA A100-SXM4-40GB", (8, 0), 40 * 2**30),
    "T4": ("Tesla T4", (7, 5), 15 * 2**30),
}


def put_in(card: str = "A100", count: int = 1) -> None:
    """Have ``torch.cuda`` answer for ``count`` cards of a kind of :data:`CARDS`."""
    import torch

    name, capability, memory = CARDS[card]
    properties = types.SimpleNamespace(
        name=name, major=capability[0], minor=capability[1], total_memory=memory, multi_processor_count=108,
    )  # fmt: skip
    answers: dict[str, Any] = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "_lazy_init": lambda: None,
        "_lazy_call": lambda call, **_: None,
        "device_count": lambda: count,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "_exchange_device": lambda device: 0,
        "_maybe_exchange_device": lambda device: 0,
        "synchronize": lambda device=None: None,
        "empty_cache": lambda: None,
        "mem_get_info": lambda device=None: (memory - 2**29, memory),
        "max_memory_allocated": lambda device=None: 2**30,
        "memory_allocated": lambda device=None: 2**29,
        "reset_peak_memory_stats": lambda device=None: None,
        "get_device_name": lambda device=None: name,
        "get_device_capability": lambda device=None: capability,
        "get_device_properties": lambda device=None: properties,
        "is_bf16_supported": lambda including_emulation=True: including_emulation or capability >= (8, 0),
        "manual_seed": lambda seed: None,  # one generator draws for both
        "manual_seed_all": lambda seed: None,
        "get_rng_state": lambda device="cuda": torch.get_rng_state(),
        "set_rng_state": lambda state, device="cuda": torch.set_rng_state(state),
        "get_rng_state_all": lambda: [torch.get_rng_state() for _ in range(count)],
        "set_rng_state_all": lambda states: torch.set_rng_state(states[0]),
    }
    for name, answer in answers.items():
        for module in (torch.cuda, torch.cuda.random, torch.cuda.memory):
            if hasattr(module, name):
                setattr(module, name, answer)
    torch._C._cuda_getCurrentRawStream = lambda index: 0  # type: ignore[attr-defined]
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device="cuda") is made off the card and moved

    def onto_card(storage: Any, where: str) -> Any:
        if not where.startswith("cuda"):
            return None
        read = torch.frombuffer(bytearray(bytes(storage)), dtype=torch.uint8) if len(storage) else torch.empty(0).byte()
        return read.to("cuda").untyped_storage()

    torch.serialization.register_package(5, lambda storage: None, onto_card)


# -- what it computes -----------------------------------------------------------------------------------------------

def card(**options: Any) -> Any:
    """The card: a context, in which tensors may be on it. After :func:`loaded` and :func:`put_in`."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_map_only, tree_leaves

    from torch.nn.attention import varlen

    aten = torch.ops.aten
    on, off = torch.ops.stand_in_card.on_card, torch.ops.stand_in_card.off_card
    here, there = torch.device("cuda", 0), torch.device("cpu")
    #: Of these some tensors may be elsewhere: places of an index, and what is copied.
    mixed = {aten.copy_.default, aten._to_copy.default, aten.index.Tensor, aten.set_.source_Storage}
    placed = {aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}

    class Card(TorchDispatchMode):
        def __init__(self, oldest: tuple[int, int] = (8, 0)) -> None:
            super().__init__()
            self.waits = 0
            self.calls: dict[str, int] = {}

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = dict(kwargs or {})
            if kwargs.get("pin_memory"):
                kwargs["pin_memory"] = False
            if func in (aten.is_pinned.default, aten._pin_memory.default):
                return func is aten._pin_memory.default and args[0].clone()
            given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
            cards = [one for one in given if one.device.type == "cuda"]
            wanted = kwargs.get("device")
            wanted = None if wanted is None else torch.device(wanted)
            if func._can_decompose() and (cards or "cuda" in str(args) + str(wanted)):  # in inference mode nobody has
                with self:
                    if (made := func.decompose(*args, **kwargs)) is not NotImplemented:
                        return made
            if not cards and (wanted is None or wanted.type != "cuda"):
                return func(*args, **kwargs)
            self.calls[str(func)] = self.calls.get(str(func), 0) + 1
            self._refuse_mixed(func, args, given)
            if func in (aten._local_scalar_dense.default, aten.nonzero.default, aten.equal.default):
                self.waits += 1
            if func is aten._to_copy.default and cards and wanted is not None and wanted.type == "cpu":
                self.waits += 1
            if func is aten.copy_.default and args[0].device.type == "cpu":
                self.waits += 1
            if func is aten._flash_attention_forward.default:
                return _flash_forward(*args, **kwargs)
            if func is aten._flash_attention_backward.default:
                return _flash_backward(*args, **kwargs)
            if func.namespace == "torch_attn":  # Python, and calls the kernels above
                with self:
                    return getattr(varlen, func._opname)._init_fn(*args, **kwargs)
            if func in (aten.set_.source_Storage, aten.set_.source_Storage_storage_offset):
                tensor, storage, *where = args
                size = storage.nbytes() // tensor.element_size()
                torch.ops.stand_in_card.set(tensor, storage, *(where or (0, [size], [1])))
                return tensor
            if wanted is not None:
                kwargs["device"] = there
            own, names = {}, {}

            def take_off(one: Any) -> Any:
                if one.device.type != "cuda":
                    return one
                if id(one) not in own:
                    own[id(one)] = off(one)
                    names[id(own[id(one)])] = one
                return own[id(one)]

            args, kwargs = tree_map_only(torch.Tensor, take_off, (args, kwargs))
            if func is aten.addmm.dtype_out:  # the card alone has it
                added, one, other, _ = args
                kwargs["out"].copy_(added + one.float() @ other.float())
                made = kwargs["out"]
            else:
                made = func(*args, **kwargs)
            stays = wanted is None or wanted.type == "cuda"
            if func is aten.copy_.default and args[0].device.type == "cpu" and id(args[0]) not in names:
                return made
            return tree_map_only(
                torch.Tensor, lambda one: names.get(id(one), None) if id(one) in names else on(one) if stays else one, made
            )

        def _refuse_mixed(self, func: Any, args: Any, given: Any) -> None:
            cards = [one for one in given if one.device.type == "cuda"]
            apart = [one for one in given if one.device.type == "cpu" and one.dim()]
            if not cards or not apart or func in mixed and args[0].device.type == "cuda":
                return
            if func in (aten.copy_.default, aten._to_copy.default):
                return
            if func in placed and args[0].device == args[2].device == here:
                return
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! ({func})"
            )

    return Card(**options)


def _held_to_the_kernel(query: Any, key: Any, value: Any, ends_q: Any, ends_k: Any) -> None:
    """What ``mha_varlen_fwd`` of PyTorch checks before it starts a kernel."""
    import torch

    major = torch.cuda.get_device_capability()[0]
    if major < 8:
        raise RuntimeError("FlashAttention only supports Ampere GPUs or newer.")
    if query.dtype not in (torch.float16, torch.bfloat16):
        raise RuntimeError("FlashAttention only support fp16 and bf16 data type")
    if not (query.dtype == key.dtype == value.dtype):
        raise RuntimeError("query and key must have the same dtype")
    for ends in (ends_q, ends_k):
        if ends.dtype != torch.int32 or ends.device != query.device or not ends.is_contiguous():
            raise RuntimeError("cu_seqlens must have dtype int32, be on the card and contiguous")
    for states in (query, key, value):
        if states.device.type != "cuda" or states.dim() != 3 or states.stride(-1) != 1:
            raise RuntimeError("Input tensor must have contiguous last dimension")
    width = query.shape[-1]
    if width > 256 or width % 8:
        raise RuntimeError("head_size should be a multiple of 8, and at most 256")
    if query.shape[1] % key.shape[1]:
        raise RuntimeError("Number of heads in key/value must divide number of heads in query")


def _rows(states: Any, ends: Any, scale: float | None, causal: bool, left: int, right: int) -> Any:
    """Of each row its place, its states in float32, heads of keys repeated, and the shares of attention."""
    import torch

    query, key, value = states
    group = query.shape[1] // key.shape[1]
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    for begin, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        q, k, v = (one[begin:end].transpose(0, 1).float() for one in (query, key, value))
        k, v = (one.repeat_interleave(group, dim=0) for one in (k, v))
        seen = torch.ones(end - begin, end - begin, dtype=torch.bool)
        if causal or right >= 0:
            seen = seen.tril(max(right, 0))
        if left >= 0:
            seen = seen.triu(-left)
        shares = (q @ k.mT * scale).masked_fill(~seen, -torch.inf).softmax(-1)
        yield slice(begin, end), (q * scale, k * scale, v), shares


def _flash_forward(
    query: Any, key: Any, value: Any, ends_q: Any, ends_k: Any, max_q: int, max_k: int, dropout: float, causal: bool,
    return_debug_mask: bool, *, scale: Any = None, window_size_left: Any = None, window_size_right: Any = None,
    seqused_k: Any = None, alibi_slopes: Any = None, block_table: Any = None, num_splits: Any = None,
) -> Any:  # fmt: skip
    import torch

    _held_to_the_kernel(query, key, value, ends_q, ends_k)
    on, off = torch.ops.stand_in_card.on_card, torch.ops.stand_in_card.off_card
    ends = off(ends_q)
    if type(max_q) is not int or max_q < int(ends.diff().max()):
        raise RuntimeError("max_seqlen_q is below the longest row")
    if int(ends[-1]) != query.shape[0]:
        raise RuntimeError("cu_seqlens do not end where the rows end")
    own = [off(states) for states in (query, key, value)]
    made = torch.empty(query.shape, dtype=query.dtype)
    for place, (_, _, v), shares in _rows(own, ends, scale, causal, _none(window_size_left), _none(window_size_right)):
        made[place] = (shares @ v).transpose(0, 1).to(query.dtype)
    left = torch.zeros(query.shape[1], query.shape[0])
    return tuple(map(on, (made, left, torch.zeros(2, dtype=torch.uint64), torch.zeros(()), torch.zeros(0))))


def _flash_backward(
    grad: Any, query: Any, key: Any, value: Any, out: Any, lse: Any, ends_q: Any, ends_k: Any, max_q: int, max_k: int,
    dropout: float, causal: bool, state: Any, unused: Any, *, scale: Any = None, window_size_left: Any = None,
    window_size_right: Any = None,
) -> Any:  # fmt: skip
    import torch

    _held_to_the_kernel(query, key, value, ends_q, ends_k)
    if grad.stride(-1) != 1 or grad.dtype != query.dtype:
        raise RuntimeError("dout must have contiguous last dimension, and the same dtype as query")
    on, off = torch.ops.stand_in_card.on_card, torch.ops.stand_in_card.off_card
    own = [off(states) for states in (query, key, value)]
    heads, width = key.shape[1:]
    gradients = [torch.empty(states.shape, dtype=states.dtype) for states in own]
    windows = _none(window_size_left), _none(window_size_right)
    for place, (q, k, v), shares in _rows(own, off(ends_q), scale, causal, *windows):
        above = off(grad)[place].transpose(0, 1).float()
        towards = above @ v.mT
        within = shares * (towards - (towards * shares).sum(-1, keepdim=True))
        for made, found in zip(gradients, (within @ k, within.mT @ q, shares.mT @ above), strict=True):
            if made.shape[1] == heads:  # what several heads share is added up
                found = found.reshape(heads, -1, *found.shape[1:]).sum(1)
            made[place] = found.transpose(0, 1).to(made.dtype)
    return tuple(map(on, gradients))


def _none(window: Any) -> int:
    return -1 if window is None else int(window)


def main(words: list[str]) -> int:
    """``sft WORDS`` on such a machine; ``--card=T4`` before them: with another one, ``--cards=2``: with two."""
    kind, count = "A100", 1
    while words and words[0].startswith("--card"):
        name, _, value = words.pop(0).partition("=")
        if name == "--card":
            kind = value
        else:
            count = int(value)
    loaded()
    put_in(kind, count)
    from sft.cli import main as sft

    with card():
        return sft(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
