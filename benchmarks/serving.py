"""A clone served by llama.cpp beside its own run: are its texts in f16, q8_0 and q4_0 the measured ones, and how good?

    python benchmarks/serving.py RUN           # a finished run of a model that `sft export --gguf` knows

Files are exported as a user exports them (q4_0 by gguf's own quantiser from f32, for `sft export` writes none), served
by llama.cpp (xllamacpp), and asked by `sft evaluate RUN --endpoint`, whose answers stay in a folder beside the files.
The server's cache is in float32, so that weights alone are rounded; once more with llama.cpp's own settings. Prints
Markdown.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "toys"))

import xllamacpp
from llama_servers import in_four_bits, llama_server

from sft import metrics
from sft.cli import main as sft
from sft.fidelity import stored
from sft.metrics.intervals import estimates
from sft.runs.run import Run, read_json, read_jsonl


def own_settings(asked: Any) -> None:
    """llama.cpp's own: a cache in float16, and its quicker attention where it has one."""
    asked.cache_type_k = asked.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F16
    asked.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_AUTO


def done(*words: str) -> None:
    """Run `sft` with ``words``, and end where it cannot."""
    with contextlib.redirect_stdout(io.StringIO()):
        status = sft(list(words))
    if status:
        sys.exit(status)


def row(run: Path, name: str, file: Path, folder: Path, change: Callable[[Any], object]) -> tuple[str, list[str]]:
    """One line of the table, and where texts part."""
    began = time.perf_counter()
    with llama_server(file, change) as address:
        done("evaluate", str(run), "--endpoint", address, "--output", str(folder))
    seconds = time.perf_counter() - began
    found = read_json(folder / "served.json")
    items = stored.read_held_out(Run.open(run))
    wrote = {one["id"]: one["text"] for one in read_jsonl(folder / "completions-served.jsonl")}
    own = {one["id"]: one["text"] for one in read_jsonl(run / "completions-tuned.jsonl")}
    labels = [item.cluster for item in items]
    scores = [
        estimates.mean([metrics.chrf(texts[item.id], item.references[0]) for item in items], labels, (0, 100))
        for texts in (wrote, own)
    ]
    cells = [
        name,
        f"{file.stat().st_size / 1e6:.0f}",
        f"{found['same']} of {found['n']}",
        *(f"{one.value:.2f}" for one in scores),
    ]
    headline = [f"{found['scores'][which]['value']:.2f}" for which in ("served", "tuned")]
    apart = found["difference"]
    cells += [*headline, f"{apart['value']:+.2f} [{apart['low']:+.2f}, {apart['high']:+.2f}]"]
    cells += [
        f"{found['drift'][0]:.2g}" if found["drift"] else "",
        ", ".join(f"{c}: {k}" for c, k in found["causes"].items()),
    ]
    print(f"| {' | '.join(cells)} | {seconds:.0f} |", flush=True)
    places = [
        f"- {name}, token {one['token']}: {json.dumps(one['served'][:24])} for {json.dumps(one['measured'][:24])}"
        + (f", which led by {one['margin']:.2g} nats" if one["margin"] is not None else "")
        for one in found["partings"]
    ]
    return found["headline"], places


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("run", type=Path)
    options.add_argument("--keep", type=Path, help="a folder for the files and the answers")
    given = options.parse_args()
    headline = stored.scoring_of(Run.open(given.run)).headline
    scores = f"chrF, served | own | {headline}, served | own | difference"
    print(f"| weights | MB | equal texts | {scores} | drift, nats | why | s |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    places = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        files = {kind: folder / f"{kind}.gguf" for kind in ("f32", "f16", "q8_0", "q4_0")}
        for kind, file in files.items():
            if kind == "q4_0":
                in_four_bits(files["f32"], file)
            else:
                done("export", str(given.run), "--gguf", str(file), "--outtype", kind)
        for kind in ("f16", "q8_0", "q4_0", "f32"):  # what is asked for first: a busy machine takes minutes a line
            places += row(given.run, kind, files[kind], folder / f"answers-{kind}", lambda asked: None)[1]
        places += row(given.run, "f16, llama.cpp's own settings", files["f16"], folder / "answers-own", own_settings)[1]
    print("\nWhere texts part:\n\n" + "\n".join(places[:60]))


if __name__ == "__main__":
    main()
