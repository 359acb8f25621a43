"""How long `sft check` takes for a file of many rows, and how much memory.

    python benchmarks/check.py --rows 100000
    python benchmarks/check.py --rows 1000000 --glosses wordnet30.jsonl.gz --recipe
    python benchmarks/check.py --startup

Writes demonstrations of a common length (about 40 words in, 25 out; a few repetitions, near-duplicates and conflicts
among them), starts the command as a user would, and prints seconds and peak memory, all its processes together.
``--glosses``: real definitions (JSON Lines with lemmas, pos, definition, examples; .gz or not) instead of invented
words, as often as it takes: other words in the prompt, and other completions, every time. ``--recipe``: a recipe that
names the file is checked too, in which ``near_duplicates: remove``.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

Pair = tuple[str, str]

ASKED = (
    "What does {lemma} mean as {pos}, beside this: {other}?",
    "Define {lemma} ({pos}). You were told before: {other}.",
    "Somebody wrote about {lemma}, {other}. Say in one line what the {pos} stands for.",
    "A dictionary has '{other}' on the same page. Write its entry for the {pos} {lemma}.",
    "{other}: that is one thing. And {lemma}, {pos}?",
)
ANSWERED = ("{text}", "{text}.", "It is {text}.", "{Text}; compare {lemma}.", "As {pos}: {text}.")


def invented(draw: random.Random, words_each: tuple[int, int] = (40, 25)) -> Iterator[Pair]:
    """Prompts and completions of words that nobody uses, so many on average."""
    syllables = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u")]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(20_000)]

    def text(mean: int) -> str:
        return " ".join(draw.choices(words, k=max(3, round(draw.gauss(mean, mean / 3)))))

    while True:
        yield text(words_each[0]), text(words_each[1])


def defined(path: Path, draw: random.Random) -> Iterator[Pair]:
    """Prompts and completions made of the definitions in ``path``, each time in other words."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
        glosses = [json.loads(line) for line in file]
    for turn in itertools.count():
        draw.shuffle(glosses)
        for place, gloss in enumerate(glosses):
            other = glosses[place - 1]
            words = {
                "lemma": gloss["lemmas"][turn % len(gloss["lemmas"])],
                "pos": gloss["pos"],
                "other": draw.choice([other["definition"], *other["examples"]]),
                "text": gloss["definition"],
                "Text": gloss["definition"].capitalize(),
            }
            yield draw.choice(ASKED).format(**words), draw.choice(ANSWERED).format(**words)


def write_rows(path: Path, count: int, glosses: Path | None = None, words_each: tuple[int, int] = (40, 25)) -> None:
    """``count`` rows; of a hundred, two repeat, contradict or nearly repeat the one before."""
    draw = random.Random(0)
    pairs = invented(draw, words_each) if glosses is None else defined(glosses, draw)
    with path.open("w", encoding="utf-8") as file:
        prompt, completion = next(pairs)
        for _ in range(count):
            kind = draw.random()
            if kind > 0.02:  # else: an exact repetition, another completion, a prompt with one word more
                prompt, completion = next(pairs)
            elif kind < 0.005:
                completion = next(pairs)[1]
            elif kind < 0.01:
                prompt += " please"
            file.write(json.dumps({"prompt": prompt, "completion": completion}) + "\n")


def resident(process: int) -> int:
    """Bytes of memory that ``process`` and its descendants hold, what they share counted once (Linux); else 0."""
    total = 0
    try:
        rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
        total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) * 1024
        for task in Path(f"/proc/{process}/task").iterdir():
            total += sum(resident(int(child)) for child in (task / "children").read_text().split())
    except (OSError, StopIteration):  # it has just ended, or this is another system
        pass
    return total


def measured(target: Path) -> tuple[str, float, float, int]:
    """What `sft check` answers, its seconds, those of the processor, and the most memory it was seen to hold."""
    began, peak = time.perf_counter(), 0
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with subprocess.Popen(
        [sys.executable, "-m", "sft", "check", str(target)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while True:
            try:
                # Looking takes a while where there is much to look at.
                answer, complaint = process.communicate(timeout=min(0.25 + (time.perf_counter() - began) / 100, 5))
                break
            except subprocess.TimeoutExpired:
                peak = max(peak, resident(process.pid))
    if process.returncode not in (0, 2):  # 2: it found leaks, as it should
        sys.exit(complaint)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return answer, time.perf_counter() - began, busy, peak


def startup(times: int = 10) -> None:
    """Print the median seconds, and the slowest, of commands that have next to nothing to do."""
    with tempfile.TemporaryDirectory() as folder:
        write_rows(Path(folder) / "small.jsonl", 200)
        for words in (["--help"], ["check", "small.jsonl"]):
            seconds = []
            for _ in range(times):
                began = time.perf_counter()
                subprocess.run([sys.executable, "-m", "sft", *words], cwd=folder, capture_output=True, check=False)
                seconds.append(time.perf_counter() - began)
            print(f"sft {' '.join(words)}: {statistics.median(seconds):.2f} s, at most {max(seconds):.2f} s")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=100_000)
    options.add_argument("--glosses", type=Path, help="definitions to make rows of")
    options.add_argument(
        "--words",
        type=int,
        nargs=2,
        default=(40, 25),
        metavar="N",
        help="words of a prompt and a completion: 19 11 for 200 characters a row",
    )
    options.add_argument("--recipe", action="store_true", help="check a recipe that names the file too")
    options.add_argument("--startup", action="store_true", help="time `sft --help` and a small file instead")
    chosen = options.parse_args()
    if chosen.startup:
        return startup()
    with tempfile.TemporaryDirectory() as folder:
        path, recipe = Path(folder) / "demonstrations.jsonl", Path(folder) / "recipe.yaml"
        write_rows(path, chosen.rows, chosen.glosses, tuple(chosen.words))
        recipe.write_text(
            f"model: {{name: not-needed}}\ndemonstrations: {{path: {path}}}\nsplit: {{near_duplicates: remove}}\n"
        )
        size = path.stat().st_size
        for target in (path, recipe)[: 1 + chosen.recipe]:
            answer, seconds, busy, peak = measured(target)
            print(answer.split("\n\n")[0].replace(str(path), path.name))
            took = f"{seconds:.1f} s ({busy:.1f} s of the processor), {peak / 1e6:.0f} MB"
            print(f"\n{target.name}: {chosen.rows:,} rows, {size / 1e6:.0f} MB: {took}\n")
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
