"""How long `sft check` takes for a file of many rows, and how much memory.

    python benchmarks/check.py --rows 100000

Writes demonstrations of a common length (about 40 words in, 25 out; a few repetitions, near-duplicates and
conflicts among them), starts the command as a user would, and prints seconds and peak memory.
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
from pathlib import Path


def write_rows(path: Path, count: int) -> None:
    draw = random.Random(0)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u")]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(20_000)]

    def text(mean: int) -> str:
        return " ".join(draw.choices(words, k=max(3, round(draw.gauss(mean, mean / 3)))))

    with path.open("w", encoding="utf-8") as file:
        prompt, completion = text(40), text(25)
        for _ in range(count):
            kind = draw.random()
            if kind > 0.02:  # else: an exact repetition, another completion, a prompt with one word more
                prompt, completion = text(40), text(25)
            elif kind < 0.005:
                completion = text(25)
            elif kind < 0.01:
                prompt += " please"
            file.write(json.dumps({"prompt": prompt, "completion": completion}) + "\n")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=100_000)
    rows = options.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "demonstrations.jsonl"
        write_rows(path, rows)
        began = time.perf_counter()
        answer = subprocess.run([sys.executable, "-m", "sft", "check", str(path)], capture_output=True, text=True)
        seconds = time.perf_counter() - began
        size = path.stat().st_size
    if answer.returncode not in (0, 2):  # 2: it found leaks, as it should
        sys.exit(answer.stderr)
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(answer.stdout.split("\n\n")[0].replace(str(path), path.name))
    print(f"\n{rows:,} rows, {size / 1e6:.0f} MB: {seconds:.1f} s, peak memory {memory / 1e6:.0f} MB")
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
