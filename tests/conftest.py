"""What every test stands on: no network, no hub, a cache of its own, and one tiny real policy."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from loopback_only import Guard

os.environ.update(
    {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_EVALUATE_OFFLINE": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",
        "HF_HUB_DISABLE_XET": "1",  # it talks to the network in code of its own, where no guard of ours sees it
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
    }
)
# How long an example takes says something of the machine, and nothing of the product.
hypothesis.settings.register_profile("sft", deadline=None)
hypothesis.settings.load_profile("sft")

#: Files that take longest (a minute or half of one, mostly waiting for processes of their own): they begin first, so
#: that the last minute of the suite is not one of them on one core.
LONGEST = (
    "test_launch.py", "test_signals.py", "test_readme.py", "test_push_faults.py", "test_forwarded_effects.py",
    "test_four_bits.py", "test_served.py", "test_served_llama.py", "test_planted_words.py", "test_evaluate.py",
    "test_resuming.py", "test_main.py", "test_training.py", "test_chat.py",
)  # fmt: skip

#: From the first import of a test file on, fixtures of all scopes included.
only_loopback = Guard()
only_loopback.install()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The inner loop does not even import the engine: files that are engine tests as a whole are not read."""
    if config.option.markexpr != "not engine" or collection_path.suffix != ".py":
        return None
    whole = "\npytestmark = pytest.mark.engine\n" in collection_path.read_text(encoding="utf-8")
    return True if whole else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, everything else in its order; see :data:`LONGEST`."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


def pytest_collection_finish() -> None:
    """What is imported is no garbage; every fit and evaluation looked for it there, which took half their time."""
    gc.collect()
    gc.freeze()


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are cores, for a fifth of the suite waits for launched processes."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Whatever left this machine since the last test, in a fixture or a thread too, fails the test that is running."""
    try:
        return (yield)
    finally:
        only_loopback.demand()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """And so does what leaves it while the test is cleared away."""
    try:
        return (yield)
    finally:
        only_loopback.demand()


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read from, or left in, the user's cache."""
    monkeypatch.setenv("SFT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True, scope="module")
def proven_here(request: pytest.FixtureRequest) -> Iterator[None]:
    """What was saved is loaded again in the test's own process: a fresh one takes seconds. ``test_proof`` has it.

    Once a file and not once a test, so that what a file fits for all its tests is proven here too.
    """
    of_this_file = (item for item in request.session.items if item.path == request.path)
    if request.path.name == "test_proof.py" or not any(item.get_closest_marker("engine") for item in of_this_file):
        yield
        return
    from sft.runs.atomic_files import read_json
    from sft.training import proof

    def compared(folder: Path) -> dict[str, Any]:
        proof.main(str(folder))
        return read_json(folder / "answer.json")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proof, "_in_a_process_of_its_own", compared)
        yield


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a tiny Llama with random weights (seeded) and a ChatML tokenizer trained here."""
    import small_tokenizers
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = small_tokenizers.chatml()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    folder = tmp_path_factory.mktemp("tiny-model")
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    yield folder
