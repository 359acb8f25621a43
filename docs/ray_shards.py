"""The job of ``spark_shards.py`` for Ray: what is larger than one machine is made smaller where it lies.

    pip install "ray[data]"                               # local mode needs no cluster
    python docs/ray_shards.py logs/ shards/ 0.1           # or: ray job submit -- python ...
    sft check shards/                                     # in a recipe: demonstrations: {path: shards/}

``logs/`` holds JSON Lines with ``question``, ``answer``, ``agent`` and ``ticket``, of any size; columns are named in
``COLUMNS``. Empty rows go, exact repetitions meet by a hash of what they say, and one of them stays, and a share of
the tickets is taken by a hash, so that another run of the job takes the same ones.
"""

from __future__ import annotations

import hashlib
import sys

import pandas
import ray

#: Column of a demonstration -> column of the logs.
COLUMNS = {"prompt": "question", "completion": "answer", "expert": "agent", "group": "ticket"}
#: Rows that say the same meet in one of so many parts, which one machine holds at a time; so many shards are written.
PARTS, SHARDS = 256, 8


def number(*texts: str) -> int:
    """The same number below 2^63 for the same texts, on every machine."""
    joined = "\x00".join(texts).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(joined, digest_size=8).digest(), "big") >> 1


def taken(rows: pandas.DataFrame, share: float) -> pandas.DataFrame:
    """Demonstrations of the tickets that are taken, none of them empty, each with the part that its words fall into."""
    rows = rows[list(COLUMNS.values())].fillna("").astype(str).set_axis(list(COLUMNS), axis=1)
    is_there = (rows["prompt"].str.strip() != "") & (rows["completion"].str.strip() != "")
    rows = rows[is_there & (rows["group"].map(number) < share * 2**63)]
    said = zip(rows["prompt"], rows["completion"], rows["expert"], strict=True)
    return rows.assign(part=[number(*texts) % PARTS for texts in said])


def once(part: pandas.DataFrame) -> pandas.DataFrame:
    """One of each that say the same."""
    return part.drop_duplicates(["prompt", "completion", "expert"])


def main(source: str, target: str, share: float = 1.0) -> None:
    """Read ``source``, keep a ``share`` of its tickets, and write shards into ``target``."""
    rows = ray.data.read_json(source, file_extensions=None)
    rows = rows.map_batches(taken, batch_format="pandas", fn_kwargs={"share": share})
    rows = rows.groupby("part", num_partitions=SHARDS).map_groups(once, batch_format="pandas")
    rows.drop_columns(["part"]).write_parquet(target)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]) if len(sys.argv) > 3 else 1.0)
