"""What becomes of every physical line of a damaged CSV or TSV file: lost, altered, or refused with its text.

    python benchmarks/tables.py --rows 200000              # csv and tsv, quoted where needed and quoted throughout
    python benchmarks/tables.py --rows 20000 --others      # the same files through csv, pandas, pyarrow, polars

Plants rows of prose (commas, quotes, line breaks, several scripts), damages one in twenty in one of thirteen ways, and
reads the file as ``sft check`` does. Counted are physical lines that are in no fate, rows that are accepted and were
not planted so, refused lines without their text, and sound rows that were refused.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sft.demonstrations.check import check_demonstrations

COLUMNS = ("prompt", "completion", "expert")
WORDS = [
    *["rake", "tine", "handle", "ash", "plough", "sow", "furrow", "reap", "sheaf"],
    "café",
    "naïve",
    "Größe",
    "草",
    "熊手",
    "вилы",
]


@dataclass
class Record:
    """One planted row. ``text``: as it stands in the file, perhaps damaged; ``how``: the damage, "" for none."""

    cells: tuple[str, ...]
    text: str
    how: str = ""


def prose(draw: random.Random, mean: int) -> str:
    """Some words: with commas, quotes and line breaks, as people write them."""
    words = draw.choices(WORDS, k=max(2, round(draw.gauss(mean, mean / 3))))
    for place in range(1, len(words)):
        chance = draw.random()
        if chance < 0.04:
            words[place - 1] += ","
        elif chance < 0.042:
            words[place - 1] += "," + words[place]  # 1,000 or f(a,b)
        elif chance < 0.052:
            words[place] = f'"{words[place]}"'
    text = " ".join(words)
    if draw.random() < 0.12:
        for _ in range(draw.randint(1, 5)):
            at = draw.randrange(len(text))
            text = text[:at] + draw.choice(["\n", "\n", "\n\n", "\r\n"]) + text[at:]
    return text if text.strip() else "rake"


def planted(count: int, delimiter: str, quoting: int, draw: random.Random) -> list[Record]:
    """Sound records as ``csv.writer`` writes them; prompts are numbered, so that each is like no other."""
    found = []
    for number in range(count):
        cells = (f"{number}: {prose(draw, 9)}", prose(draw, 12), draw.choice(["ann", "bob", ""]))
        if delimiter == "\t" and draw.random() < 0.05:
            cells = (cells[0], cells[1].replace(" ", "\t", 1), cells[2])
        out = io.StringIO()
        csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator="\r\n").writerow(cells)
        found.append(Record(cells, out.getvalue().removesuffix("\r\n")))
    return found


# -- damage: each changes the text, or gives it back as it is where it does not apply


def _at(text: str, place: int, put: str = "", cut: int = 0) -> str:
    return text[:place] + put + text[place + cut :]


def damages(delimiter: str) -> dict[str, Callable[[str, random.Random], str]]:
    """How -> what it does to the text of a record. What would leave a sound row of other words is not planted."""

    def opening(text: str, draw: random.Random) -> str:
        return _at(text, text.find(f'{delimiter}"') + 1, cut=1) if f'{delimiter}"' in text else text

    def closing(text: str, draw: random.Random) -> str:
        return _at(text, text.find(f'"{delimiter}'), cut=1) if f'"{delimiter}' in text else text

    def unquoted(put: Callable[[str, int], str]) -> Callable[[str, random.Random], str]:
        return lambda text, draw: text if '"' in text else put(text, text.find(delimiter))

    return {
        "opening quote lost": opening,
        "closing quote lost": closing,
        "inner quote not doubled": lambda text, draw: _at(text, text.find('""'), cut=1) if '""' in text else text,
        "quote before a cell": unquoted(lambda text, place: _at(text, place + 1, '"')),
        "quote after a cell": unquoted(lambda text, place: _at(text, place, '"')),
        "quote within a cell": unquoted(lambda text, place: _at(text, place - 2, '"')),
        "two quotes before a cell": unquoted(lambda text, place: _at(text, place + 1, '""')),
        "delimiter lost": unquoted(lambda text, place: _at(text, place, cut=1)),
        "delimiter too many": unquoted(lambda text, place: _at(text, place - 1, delimiter)),
        "line break for a delimiter": unquoted(lambda text, place: _at(text, place, "\n", cut=1)),
        "cut short": unquoted(lambda text, place: text[:place]),
        "carriage return": unquoted(lambda text, place: _at(text, place - 1, "\r")),
        "completion blank": unquoted(
            lambda text, place: text[:place] + delimiter + text[text.find(delimiter, place + 1) :]
        ),
    }


def damage(records: list[Record], share: float, delimiter: str, draw: random.Random, side_by_side: bool) -> None:
    """Damage ``share`` of the records, and plant pairs of quotes with sound rows between them.

    Two damaged records stand side by side only where asked for: a quote that one has lost and another that the next
    has too many make one sound record, which no reader can tell from one that was meant.
    """
    ways = damages(delimiter)
    places = set(draw.sample(range(len(records)), int(len(records) * share)))
    for place in sorted(places):
        if not side_by_side and place > 0 and records[place - 1].how:
            continue
        record = records[place]
        fitting = {how: text for how, way in ways.items() if (text := way(record.text, draw)) != record.text}
        record.how = draw.choice(list(fitting))
        record.text = fitting[record.how]
    for start in draw.sample(range(len(records) - 600), len(records) // 1000):
        end = start + draw.choice([1, 1, 2, 3, 5, 20, 500])
        if any('"' in each.text or each.how for each in (records[start], records[end])):
            continue
        if not side_by_side and any(records[at].how for at in (start - 1, start + 1, end - 1, end + 1)):
            continue
        for one, way in ((records[start], "quote before a cell"), (records[end], "quote after a cell")):
            one.text, one.how = ways[way](one.text, draw), "a pair of quotes over rows"


def write(path: Path, records: list[Record], delimiter: str, quoting: int) -> dict[int, Record]:
    """The file, and which record begins in which physical line."""
    begins, line = {}, 2
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter, quoting=quoting, lineterminator="\n").writerow(COLUMNS)
        for record in records:
            begins[line] = record
            file.write(record.text + "\n")
            line += record.text.count("\n") + 1
    return begins


def measured(path: Path, begins: dict[int, Record]) -> tuple[Counter[str], Counter[str], float]:
    """What became of the lines, what was damaged in rows that were accepted altered, and the seconds it took."""
    rejected = path.with_name("rejected.jsonl")
    began = time.perf_counter()
    reading = check_demonstrations(str(path), rejected=rejected).reading
    seconds = time.perf_counter() - began
    physical = path.read_bytes().decode("utf-8").split("\n")
    seen = Counter[str]()
    altered = Counter[str]()
    fate = bytearray(len(physical) + 2)
    for each in map(json.loads, rejected.open(encoding="utf-8", newline="\n")):
        fate[each["line"]] = 1
        text = physical[each["line"] - 1].rstrip("\r")
        seen["lines refused"] += 1
        whole = each["row"] if isinstance(each["row"], str) else None
        if whole is None:  # a row that was read, and that cannot be a demonstration
            for place in range(each["line"], each["line"] + sum(str(v).count("\n") for v in each["row"].values()) + 1):
                fate[place] = 1
            seen["without their text"] += not all(str(v).split("\n")[0] in text for v in each["row"].values())
        else:
            seen["without their text"] += whole != text
        if (record := begins.get(each["line"])) is not None and not record.how:
            seen["sound rows refused"] += 1
    for d in reading.demonstrations:
        assert d.source is not None
        cells = (d.prompt[-1].content, d.completion, d.expert)
        record = begins.get(d.source.line)
        if record is None or record.cells != cells:
            altered[record.how if record else "no row begins there"] += 1
        for place in range(d.source.line, d.source.line + sum(cell.count("\n") for cell in cells) + 1):
            fate[place] = 1
    seen["lines lost"] = sum(not fate[number] for number, text in enumerate(physical, 1) if number > 1 and text.strip())
    seen["rows altered"] = sum(altered.values())
    seen["rows read"] = len(reading.demonstrations)
    return seen, altered, seconds


# -- others -----------------------------------------------------------------------------------------------------


def others() -> Iterator[tuple[str, Callable[[Path, str], list[tuple[str, ...]]]]]:
    """Well-kept parsers at the settings that lose least: name -> the rows they give."""

    def standard(path: Path, delimiter: str) -> list[tuple[str, ...]]:
        rows = []
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            while True:
                try:
                    rows.append(tuple(next(reader)))
                except StopIteration:
                    return rows[1:]
                except csv.Error:
                    continue

    yield "csv, strict, going on after an error", standard

    def pyarrow_csv(path: Path, delimiter: str) -> list[tuple[str, ...]]:
        from pyarrow import csv as arrow

        table = arrow.read_csv(
            path,
            read_options=arrow.ReadOptions(use_threads=False, block_size=1 << 28),
            parse_options=arrow.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=lambda row: "skip"
            ),
            convert_options=arrow.ConvertOptions(
                column_types=dict.fromkeys(COLUMNS, "string"), strings_can_be_null=False
            ),
        )
        return [tuple(row.values()) for row in table.to_pylist()]

    yield "pyarrow, invalid_row_handler", pyarrow_csv

    def pandas_python(path: Path, delimiter: str) -> list[tuple[str, ...]]:
        import pandas

        table = pandas.read_csv(
            path, sep=delimiter, dtype=str, keep_default_na=False, engine="python", on_bad_lines="skip"
        )
        return [tuple(row) for row in table.itertuples(index=False)]

    yield "pandas, engine python, on_bad_lines", pandas_python

    def polars_csv(path: Path, delimiter: str) -> list[tuple[str, ...]]:
        import polars

        table = polars.read_csv(
            path, separator=delimiter, infer_schema=False, missing_utf8_is_empty_string=True, ignore_errors=True,
            truncate_ragged_lines=True,
        )  # fmt: skip
        return list(table.iter_rows())

    yield "polars, ignore_errors", polars_csv


def compare(path: Path, delimiter: str, records: list[Record]) -> None:
    """Print what other parsers make of the file."""
    sound = Counter(record.cells for record in records if not record.how)
    for name, parser in others():
        try:
            rows = Counter(parser(path, delimiter))
        except Exception as error:  # each has errors of its own, and each ends the file
            print(f"  {name}: nothing ({type(error).__name__}: {' '.join(str(error).split())[:90]})")
            continue
        missing, altered = (sound - rows).total(), (rows - sound).total()
        print(f"  {name}: {rows.total():,} rows; {missing:,} sound rows missing, {altered:,} rows that nobody wrote")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=200_000)
    options.add_argument("--damaged", type=float, default=0.05, help="share of rows (default: 0.05)")
    options.add_argument("--side-by-side", action="store_true", help="damage neighbours too")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--others", action="store_true", help="what other parsers make of the same files")
    chosen = options.parse_args()
    for kind, delimiter in (("csv", ","), ("tsv", "\t")):
        for about, quoting in (("quoted where needed", csv.QUOTE_MINIMAL), ("quoted throughout", csv.QUOTE_ALL)):
            draw = random.Random(chosen.seed)
            records = planted(chosen.rows, delimiter, quoting, draw)
            damage(records, chosen.damaged, delimiter, draw, chosen.side_by_side)
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"planted.{kind}"
                begins = write(path, records, delimiter, quoting)
                seen, altered, seconds = measured(path, begins)
                damaged = sum(bool(record.how) for record in records)
                print(f"{kind}, {about}: {chosen.rows:,} rows, {damaged:,} of them damaged; {seconds:.0f} s")
                order = ("lines lost", "rows altered", "without their text", "sound rows refused", "rows read")
                print("  " + ", ".join(f"{name} {seen[name]:,}" for name in order))
                for how, count in altered.most_common():
                    print(f"    altered: {how or 'sound'} {count:,}")
                if chosen.others:
                    compare(path, delimiter, records)
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
