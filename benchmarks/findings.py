"""What `sft check --secrets` and `sft push` find in files that people wrote, by kind.

    python benchmarks/findings.py FILE [FILE ...]

Rows of CSV, TSV and JSON lines, also gzipped; every text of a row counts. With Presidio installed also what each of its
pattern recognisers finds, those that are taken and those that are not. Prints Markdown.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from sft.demonstrations.demonstration import Demonstration, Message, Source
from sft.demonstrations.secrets import in_demonstrations
from sft.runs.private import texts_in

SHOWN = 3


def rows_of(path: Path) -> Iterator[str]:
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig", "replace")
    name = path.name.removesuffix(".gz")
    if name.endswith(("csv", "tsv")):
        table = csv.reader(io.StringIO(text), delimiter="\t" if name.endswith("tsv") else ",")
        yield from ("\n".join(row) for row in table)
    else:
        yield from ("\n".join(texts_in(json.loads(line))) for line in text.split("\n") if line.strip())


def main() -> None:
    paths = [Path(word) for word in sys.argv[1:]]
    texts = [
        (path.name, number, text) for path in paths for number, text in enumerate(rows_of(path), 1) if text.strip()
    ]
    rows = [Demonstration((Message("user", "?"),), text, source=Source(name, n)) for name, n, text in texts]
    started = time.perf_counter()
    found = in_demonstrations(rows, environment={})
    took = time.perf_counter() - started
    size = sum(len(text.encode()) for *_, text in texts)
    print(f"{len(rows):,} rows, {size / 1e6:.1f} MB, {took:.1f} s: {len(found):,} findings\n")
    for what, count in Counter(one.what for one in found).most_common():
        print(f"- {what}: {count:,}")
        for one in [one for one in found if one.what == what][:SHOWN]:
            print(f"    - {one}")
    by_presidio([text for *_, text in texts])


def by_presidio(texts: list[str]) -> None:
    try:
        from sft.demonstrations.presidio import TAKEN, recognisers
    except ImportError:
        return
    try:
        known = recognisers(everything=True)
    except Exception as error:
        print(f"\nPresidio: {error}")
        return
    print(f"\n| Presidio's recogniser | taken | hits in {len(texts):,} rows | for example |\n|---|---|---:|---|")
    for name, recogniser in sorted(known.items()):
        hits = [
            (hit.score, text[hit.start : hit.end])
            for text in texts
            for hit in recogniser.analyze(text, recogniser.supported_entities, None)
        ]
        shown = ", ".join(f"`{words}` ({score:.2g})" for score, words in hits[:SHOWN])
        print(f"| {name} | {'yes' if name in TAKEN else ''} | {len(hits):,} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
