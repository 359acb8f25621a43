"""How long the scorecard of many prompts takes without a model, and how much memory.

    python benchmarks/scoring.py                   # 10,000 prompts, 3 systems, 5,000 training rows
    python benchmarks/scoring.py --fast            # without the corpus figures
    python benchmarks/scoring.py --recompute       # then `sft report RUN --recompute`, everything again from the run
    python benchmarks/scoring.py --prompts 50000 --page     # then report.html in Chromium: how large, how long to open
    python benchmarks/scoring.py --open RUN/report.html     # that alone, of a page that is there

Functions of the standard library are prompts, the first sentences of their docstrings completions, varied by a seeded
draw until there are enough; modules are groups. A clone gets most words right, one base rambles, one answers another
function. Runs ``sft score`` as a user would, and prints seconds and peak memory.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import re
import resource
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "toys"))

from browser import browser, installed

Shown = tuple[str, str, str]

#: Longest prompt, in characters.
LONGEST = 1500


def functions() -> list[Shown]:
    """(module, code without docstring, first sentence) of the standard library's documented functions."""
    found = {}
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if {"site-packages", "test", "tests", "lib2to3"} & set(path.parts):
            continue
        try:
            source = path.read_text(encoding="utf-8")
            tree = ast.parse(source)
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            text = ast.get_docstring(node) if isinstance(node, ast.FunctionDef) else None
            if not text or not isinstance(node, ast.FunctionDef) or len(node.body) < 2:
                continue
            lines = source.splitlines()
            body = node.body[1]
            code = "\n".join([lines[node.lineno - 1], *lines[body.lineno - 1 : node.end_lineno]])[:LONGEST]
            sentence = " ".join(re.split(r"(?<=\.)\s|\n\n", text)[0].split())
            if len(sentence) > 10:
                found.setdefault(code, (path.stem, code, sentence))
    return list(found.values())


def varied(text: str, words: list[str], draw: random.Random, share: float) -> str:
    """``text`` with that share of its words, one at least, put in place by others."""
    places = [match.span() for match in re.finditer(r"[A-Za-z]{3,}", text)]
    chosen = sorted(draw.sample(places, min(len(places), max(1, round(share * len(places))))), reverse=True)
    for begin, end in chosen:
        text = text[:begin] + draw.choice(words) + text[end:]
    return text


def write(folder: Path, prompts: int, training: int) -> tuple[Path, Path]:
    """The file of completions, and that of what the clone is said to have learned from."""
    draw = random.Random(0)
    known = functions()
    words = sorted({word for *_, text in known for word in re.findall(r"[A-Za-z]{3,}", text)})
    made: dict[str, Shown] = {}
    while len(made) < prompts + training:
        module, code, sentence = draw.choice(known)
        copy = draw.randrange(20)
        other = varied(code, words, draw, 0.3)
        made.setdefault(other, (f"{module}-{copy}", other, varied(sentence, words, draw, 0.2)))
    by_group: dict[str, list[Shown]] = {}
    for one in made.values():
        by_group.setdefault(one[0], []).append(one)
    groups = sorted(by_group)
    draw.shuffle(groups)
    ordered = [one for group in groups for one in by_group[group]]
    asked, learned = ordered[:prompts], [one for one in ordered[prompts:] if one[0] != ordered[prompts - 1][0]]
    sentences = [text for *_, text in learned]
    with (folder / "completions.jsonl").open("w", encoding="utf-8") as file:
        for group, code, sentence in asked:
            ramble = " ".join(varied(draw.choice(sentences), words, draw, 0.5) for _ in range(4))
            texts = {
                "tuned": varied(sentence, words, draw, 0.4),
                "B0": f"This function {ramble}",
                "B3": draw.choice(sentences),
            }
            for system, text in texts.items():
                row = {"prompt": code, "group": group, "reference": sentence, "system": system, "completion": text}
                file.write(json.dumps(row | {"finished": system != "B0"}) + "\n")
    with (folder / "training.jsonl").open("w", encoding="utf-8") as file:
        for group, code, sentence in learned:
            file.write(json.dumps({"prompt": code, "completion": sentence, "group": group}) + "\n")
    return folder / "completions.jsonl", folder / "training.jsonl"


def timed(*arguments: str) -> float:
    """Seconds that ``sft`` takes with ``arguments``."""
    print(
        f"sft {arguments[0]} ...", file=sys.stderr, flush=True
    )  # with 50,000 prompts it is minutes until the next word
    began = time.perf_counter()
    answer = subprocess.run([sys.executable, "-m", "sft", *arguments], capture_output=True, text=True)
    if answer.returncode:
        sys.exit(answer.stderr)
    return time.perf_counter() - began


#: Milliseconds from the click until something of the page is seen, and until its load event is over; and what is in it.
OPENED = """new Promise(done => requestAnimationFrame(() => setTimeout(done, 50))).then(() => {
const paint = performance.getEntriesByName('first-contentful-paint')[0];
return [paint ? paint.startTime : null, performance.getEntriesByType('navigation')[0].loadEventEnd,
document.querySelectorAll('*').length, document.querySelectorAll('article.example').length]; })"""


def opened(page: Path, profile: Path) -> str:
    """How large ``page`` is, and how long Chromium takes to open it, the quickest and the slowest of three times."""
    times = []
    with browser(installed(), profile) as window:
        for _ in range(3):
            window.show(page, 1280, dark=False)
            times.append(window.tell(OPENED))
    seen, loaded = (sorted(row[column] for row in times if row[column] is not None) for column in (0, 1))
    painted = f"first paint after {seen[0]:.0f} to {seen[-1]:.0f} ms, " if seen else ""
    return (
        f"{page.name}: {page.stat().st_size / 1e6:.2f} MB, {times[0][2]:,} elements, {times[0][3]} examples; "
        f"{painted}load event after {loaded[0]:.0f} to {loaded[-1]:.0f} ms"
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--prompts", type=int, default=10_000)
    options.add_argument("--training", type=int, default=5_000)
    options.add_argument("--fast", action="store_true")
    options.add_argument("--recompute", action="store_true")
    options.add_argument("--page", action="store_true")
    options.add_argument("--open", type=Path, metavar="PAGE", help="a page that is there: open it, and nothing else")
    options.add_argument("--keep", type=Path, help="a folder for the files, to look at or to profile")
    given = options.parse_args()
    if (given.page or given.open) and not installed():
        sys.exit("no Chromium is installed here (apt-get install chromium)")
    if given.open:
        with tempfile.TemporaryDirectory() as temporary:
            print(opened(given.open, Path(temporary)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        file, training = write(folder, given.prompts, given.training)
        more = ["--fast"] if given.fast else []
        run = folder / "run"
        kept = given.recompute or given.page
        if kept:
            more += ["--output", str(run)]
        what = "sft score" + (" --fast" if given.fast else "") + (" --output RUN" if kept else "")
        seconds = {what: timed("score", str(file), "--train", str(training), *more)}
        if given.recompute:
            seconds["sft report RUN --recompute"] = timed("report", str(run), "--recompute")
        size = file.stat().st_size
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        page = opened(run / "report.html", folder / "profile") if given.page else ""
    memory = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(
        f"{given.prompts:,} prompts, 3 systems beside R, RK, K and P; {given.training:,} training rows; "
        f"{size / 1e6:.0f} MB"
    )
    for name, value in seconds.items():
        print(f"{name}: {value:.1f} s")
    print(f"{used.ru_utime + used.ru_stime:.1f} s of processors")
    print(page, end="\n" if page else "")
    print(f"peak memory {memory / 1e6:.0f} MB; Python {sys.version.split()[0]}, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
