"""A CUDA card where there is none: tensors that say ``cuda:0``, computed by the CPU, and held to what a card asks.

Whoever is started in the environment of :func:`everywhere` sees it, and so does what he starts. The product is as it
is, and so are PyTorch's own autograd and autocast. A few functions of ``torch.cuda`` are replaced, for they ask a
driver, and a few lines of C++ (``stand_in_card.cpp``, compiled once) tell PyTorch that the device exists.

An operation whose tensors lie partly on the card and partly off it is refused, as CUDA refuses it. So is what the
kernels of FlashAttention refuse, which are computed here row by row from the arguments that they would get. Figures
are a CPU's: what a kernel of the card would round otherwise is not seen, nor what it would not have.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import types
from collections import Counter
from pathlib import Path
from typing import Any

_SOURCE = Path(__file__).with_suffix(".cpp")
_COMPILER = shutil.which("g++") or shutil.which("clang++")


def why_not() -> str:
    """Why there can be no such card here, or nothing."""
    if sys.platform != "linux":
        return "its few lines of C++ are for Linux"
    if (_torch() / "lib" / "libtorch_cuda.so").exists():
        return "this PyTorch knows cards of its own"
    return "" if _COMPILER else "its few lines of C++ need a compiler, such as g++"


def everywhere(
    card: str = "A100", cards: int = 1, largest: int | None = None, alone: Path | None = None
) -> dict[str, str]:
    """The environment of a process that sees ``cards`` cards of a kind of :data:`CARDS`.

    ``largest``: of how many bytes a tensor may be before the memory runs out. ``alone``: a file by which they are held
    for one process at a time, as clusters set it (``nvidia-smi --compute-mode=EXCLUSIVE_PROCESS``).
    """
    here = Path(__file__).resolve().parent
    path = [str(here), str(here.parent), str(here.parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    kept = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    return kept | {
        "PYTHONPATH": os.pathsep.join(path),
        "STAND_IN_CARD": card,
        "STAND_IN_CARDS": str(cards),
        "STAND_IN_LARGEST": str(largest or 0),
        "STAND_IN_ALONE": str(alone or ""),
    }


_HELD: list[Any] = []


def _taken() -> None:
    """Raise what CUDA says where one process alone may have the card, and another has it."""
    place = os.environ.get("STAND_IN_ALONE")
    if not place or _HELD:
        return
    file = Path(place).open("a")  # noqa: SIM115  (let go when this process ends)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable") from None
    _HELD.append(file)


def _torch() -> Path:
    found = importlib.util.find_spec("torch")
    assert found is not None and found.origin is not None
    return Path(found.origin).parent


def compiled() -> Path:
    """The library that makes PyTorch believe in the device, compiled where it was not yet."""
    folder, torch = Path(tempfile.gettempdir()) / f"stand-in-card-{os.getuid()}", _torch()
    source = _SOURCE.read_bytes() + str(torch).encode() + (torch / "version.py").read_bytes()
    library = folder / f"{hashlib.sha256(source).hexdigest()[:16]}.so"
    if not library.exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        made = library.with_suffix(f".{os.getpid()}")
        headers = [f"-I{torch / 'include'}", f"-I{torch / 'include' / 'torch' / 'csrc' / 'api' / 'include'}"]
        command = [str(_COMPILER), "-std=c++20", "-O0", "-fPIC", "-shared", *headers, str(_SOURCE)]
        subprocess.run([*command, f"-L{torch / 'lib'}", "-ltorch_cpu", "-lc10", "-o", str(made)], check=True)
        made.rename(library)
    return library


def loaded() -> None:
    """Load it, which must be before anybody asks PyTorch for its devices."""
    assert "torch" not in sys.modules, "PyTorch has looked for its devices already"
    ctypes.CDLL(str(_torch() / "lib" / "libtorch_cpu.so"), mode=ctypes.RTLD_GLOBAL)
    ctypes.CDLL(str(compiled()))


# -- what torch.cuda says -----------------------------------------------------------------------------------------

#: Name, compute capability and memory.
CARDS = {
    "A100": ("NVIDIA A100-SXM4-40GB", (8, 0), 40 * 2**30),
    "T4": ("Tesla T4", (7, 5), 15 * 2**30),
    "GTX 1080": ("NVIDIA GeForce GTX 1080", (6, 1), 8 * 2**30),  # too old for any PyTorch that we take
}


def put_in(card: str = "A100", count: int = 1) -> None:
    """Have ``torch.cuda`` answer for ``count`` cards of a kind of :data:`CARDS`."""
    import torch

    name, capability, memory = CARDS[card]
    properties = types.SimpleNamespace(name=name, major=capability[0], minor=capability[1], total_memory=memory)
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
        "mem_get_info": lambda device=None: _taken() or (memory - 2**29, memory),
        "max_memory_allocated": lambda device=None: 2**30,
        "memory_allocated": lambda device=None: 2**29,
        "memory_reserved": lambda device=None: 2**29,
        "memory_stats": lambda device=None: {},
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
    for word, answer in answers.items():
        for module in (torch.cuda, torch.cuda.random, torch.cuda.memory):
            if hasattr(module, word):
                setattr(module, word, answer)
    torch.version.cuda = "12.8"
    torch._C._cuda_getCurrentRawStream = lambda index: 0  # bitsandbytes asks for it when it is imported
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device="cuda") is made off the card and moved

    def onto_card(storage: Any, where: str) -> Any:
        if not where.startswith("cuda"):
            return None
        read = torch.frombuffer(bytearray(bytes(storage)), dtype=torch.uint8) if len(storage) else torch.empty(0).byte()
        return read.to("cuda").untyped_storage()

    torch.serialization.register_package(5, lambda storage: None, onto_card)


# -- what it computes -----------------------------------------------------------------------------------------------

#: How often each operation was computed on the card, by its name; how often the machine would have waited for it, and
#: how often it was asked for float64, which Apple's GPUs do not have.
CALLS: Counter[str] = Counter()
WAITS, DOUBLE = "waits", "float64"
_RUNNING: list[Any] = []


def start(largest: int | None = None) -> None:
    """Have tensors on the card computed from here on, until Python ends. After :func:`loaded` and :func:`put_in`."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Card(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return _computed(self, func, args, dict(kwargs or {}), largest)

    _RUNNING.append(Card())
    _RUNNING[-1].__enter__()


def _computed(card: Any, func: Any, args: Any, kwargs: dict[str, Any], largest: int | None) -> Any:
    import torch
    from torch.utils._pytree import tree_leaves

    aten = torch.ops.aten
    if kwargs.get("pin_memory"):
        kwargs["pin_memory"] = False
    if func in (aten.is_pinned.default, aten._pin_memory.default):
        return func is aten._pin_memory.default and args[0].clone()
    given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
    there = any(one.device.type == "cuda" for one in given)
    wanted = kwargs.get("device")
    wanted = None if wanted is None else torch.device(wanted).type
    if func._can_decompose() and (there or "cuda" in f"{args} {wanted}"):  # as nobody has in inference mode
        with card:
            if (made := func.decompose(*args, **kwargs)) is not NotImplemented:
                return made
    if not there and wanted != "cuda":
        return func(*args, **kwargs)
    if torch.cuda.get_device_capability() < (7, 0) and func not in (aten._to_copy.default, aten.copy_.default):
        raise torch.AcceleratorError("CUDA error: no kernel image is available for execution on the device")
    _taken()
    CALLS[str(func)] += 1
    CALLS[WAITS] += _waits(func, args, wanted)
    CALLS[DOUBLE] += kwargs.get("dtype") is torch.float64 or any(
        one.dtype is torch.float64 and one.device.type == "cuda" for one in given
    )
    _refuse_mixed(func, args, given)
    if func is aten._flash_attention_forward.default:
        return _flash_forward(*args, **kwargs)
    if func is aten._flash_attention_backward.default:
        return _flash_backward(*args, **kwargs)
    if func.namespace == "torch_attn":  # Python, and calls the two above
        from torch.nn.attention import varlen

        with card:
            return getattr(varlen, func._opname)._init_fn(*args, **kwargs)
    if func in (aten.set_.source_Storage, aten.set_.source_Storage_storage_offset):
        tensor, storage, *where = args
        size = storage.nbytes() // tensor.element_size()
        torch.ops.stand_in_card.set(tensor, storage, *(where or (0, [size], [1])))
        return tensor
    return _by_the_cpu(func, args, kwargs, wanted, largest)


def _by_the_cpu(func: Any, args: Any, kwargs: dict[str, Any], wanted: str | None, largest: int | None) -> Any:
    """``func`` over the same memory, off the card; what comes of it is on the card, unless ``wanted`` elsewhere."""
    import torch
    from torch.utils._pytree import tree_leaves, tree_map_only

    aten = torch.ops.aten
    if wanted is not None:
        kwargs["device"] = torch.device("cpu")
    off: dict[int, Any] = {}
    on: dict[int, Any] = {}

    def take_off(one: Any) -> Any:
        if one.device.type != "cuda":
            return one
        if id(one) not in off:
            off[id(one)] = torch.ops.stand_in_card.off_card(one)
            on[id(off[id(one)])] = one
        return off[id(one)]

    taken, words = tree_map_only(torch.Tensor, take_off, (args, kwargs))
    if func is aten.addmm.dtype_out:  # the card alone has it
        added, one, other, _ = taken
        made = words["out"].copy_(added + one.float() @ other.float())
    else:
        made = func(*taken, **words)
    sizes = [one.untyped_storage().nbytes() for one in tree_leaves(made) if isinstance(one, torch.Tensor)]
    if largest is not None and max(sizes, default=0) > largest:
        raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {max(sizes)} bytes.")
    if wanted == "cpu" or (func is aten.copy_.default and args[0].device.type == "cpu"):
        return made

    def put_on(one: Any) -> Any:
        return on[id(one)] if id(one) in on else torch.ops.stand_in_card.on_card(one)

    return tree_map_only(torch.Tensor, put_on, made)


def _waits(func: Any, args: Any, wanted: str | None) -> bool:
    """Whether the machine waits here for all that the card was given: for a number, or for how large something is."""
    import torch

    aten = torch.ops.aten
    if func in (aten._local_scalar_dense.default, aten.nonzero.default, aten.equal.default):
        return True
    if func is aten._to_copy.default:
        return wanted == "cpu" and args[0].device.type == "cuda"
    return func is aten.copy_.default and args[0].device.type == "cpu"


def _refuse_mixed(func: Any, args: Any, given: Any) -> None:
    """Raise what CUDA raises where tensors are on the card and off it; places of an index may be off it."""
    import torch

    aten = torch.ops.aten
    there = [one for one in given if one.device.type == "cuda"]
    apart = [one for one in given if one.device.type == "cpu" and one.dim()]
    if not there or not apart or func in (aten.copy_.default, aten._to_copy.default):
        return
    if func is aten.index.Tensor and args[0].device.type == "cuda":
        return
    puts = (aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default)
    if func in puts and args[0].device.type == args[2].device.type == "cuda":
        return
    raise RuntimeError(
        f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu: {func}"
    )


# -- FlashAttention ---------------------------------------------------------------------------------------------


def _held_to_the_kernel(query: Any, key: Any, value: Any, ends_q: Any, ends_k: Any, max_q: Any) -> None:
    """What PyTorch checks before it starts the kernel, and what it takes on trust."""
    import torch

    if torch.cuda.get_device_capability() < (8, 0):
        raise RuntimeError("FlashAttention only supports Ampere GPUs or newer.")
    if query.dtype not in (torch.float16, torch.bfloat16):
        raise RuntimeError("FlashAttention only support fp16 and bf16 data type")
    if not query.dtype == key.dtype == value.dtype:
        raise RuntimeError("query, key and value must have the same dtype")
    for ends in (ends_q, ends_k):
        if ends.dtype != torch.int32 or ends.device != query.device or not ends.is_contiguous():
            raise RuntimeError("cu_seqlens must be int32, on the card and contiguous")
    for states in (query, key, value):
        if states.device.type != "cuda" or states.dim() != 3 or states.stride(-1) != 1:
            raise RuntimeError("Input tensor must have contiguous last dimension")
    if query.shape[-1] > 256 or query.shape[-1] % 8:
        raise RuntimeError("head_size must be a multiple of 8, and at most 256")
    if query.shape[1] % key.shape[1]:
        raise RuntimeError("Number of heads in key/value must divide number of heads in query")
    ends = torch.ops.stand_in_card.off_card(ends_q)
    if type(max_q) is not int or max_q < int(ends.diff().max()):
        raise RuntimeError("max_seqlen_q is below the longest row")
    if int(ends[-1]) != query.shape[0]:
        raise RuntimeError("cu_seqlens do not end where the rows end")


def _rows(states: Any, ends: Any, scale: float | None, causal: bool, windows: Any) -> Any:
    """Of each row its place, its states in float32, heads of keys repeated, and the shares of attention."""
    import torch

    query, key, value = states
    group = query.shape[1] // key.shape[1]
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    left, right = (-1 if window is None else int(window) for window in windows)
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
    **others: Any,
) -> Any:  # fmt: skip
    import torch

    assert not dropout and all(one is None for one in others.values()), "is not computed here"
    _held_to_the_kernel(query, key, value, ends_q, ends_k, max_q)
    on, off = torch.ops.stand_in_card.on_card, torch.ops.stand_in_card.off_card
    own = [off(states) for states in (query, key, value)]
    made = torch.empty(query.shape, dtype=query.dtype)
    for place, (_, _, v), shares in _rows(own, off(ends_q), scale, causal, (window_size_left, window_size_right)):
        made[place] = (shares @ v).transpose(0, 1).to(query.dtype)
    sums = torch.zeros(query.shape[1], query.shape[0])
    return tuple(map(on, (made, sums, torch.zeros(2, dtype=torch.uint64), torch.zeros(()), torch.zeros(0))))


def _flash_backward(
    grad: Any, query: Any, key: Any, value: Any, out: Any, sums: Any, ends_q: Any, ends_k: Any, max_q: int, max_k: int,
    dropout: float, causal: bool, state: Any, unused: Any, *, scale: Any = None, window_size_left: Any = None,
    window_size_right: Any = None,
) -> Any:  # fmt: skip
    import torch

    _held_to_the_kernel(query, key, value, ends_q, ends_k, max_q)
    if grad.stride(-1) != 1 or grad.dtype != query.dtype:
        raise RuntimeError("dout must have contiguous last dimension, and the same dtype as query")
    on, off = torch.ops.stand_in_card.on_card, torch.ops.stand_in_card.off_card
    own = [off(states) for states in (query, key, value)]
    gradients = [torch.empty(states.shape, dtype=states.dtype) for states in own]
    windows = window_size_left, window_size_right
    for place, (q, k, v), shares in _rows(own, off(ends_q), scale, causal, windows):
        above = off(grad)[place].transpose(0, 1).float()
        towards = above @ v.mT
        within = shares * (towards - (towards * shares).sum(-1, keepdim=True))
        for made, found in zip(gradients, (within @ k, within.mT @ q, shares.mT @ above), strict=True):
            if made.shape[1] != found.shape[0]:  # what several heads share is added up
                found = found.reshape(made.shape[1], -1, *found.shape[1:]).sum(1)
            made[place] = found.transpose(0, 1).to(made.dtype)
    return tuple(map(on, gradients))
