"""What is larger than one machine is made smaller where it lies: a Spark job whose Parquet shards a recipe reads.

    pip install pyspark                                   # with Java 17 or later; local mode needs no cluster
    spark-submit docs/spark_shards.py logs/ shards/       # or: python docs/spark_shards.py logs/ shards/
    sft check shards/                                     # in a recipe: demonstrations: {path: shards/}

``logs/`` holds JSON Lines with ``question``, ``answer``, ``agent`` and ``ticket``, of any size; columns are named in
``COLUMNS``. The cluster does what one machine cannot: it drops empty rows and exact repetitions, which meet in one
place only there, and takes a share of the tickets by a hash, so that another run of the job takes the same ones. What
may not leak is left to ``sft``, which sees all that was taken: near-duplicates, groups, splits, secrets.
"""

from __future__ import annotations

import sys

from pyspark.sql import SparkSession
from pyspark.sql import functions as column

#: Column of a demonstration -> column of the logs.
COLUMNS = {"prompt": "question", "completion": "answer", "expert": "agent", "group": "ticket"}
#: Of so many tickets one in ten thousand parts is taken each, and so many shards are written.
PARTS, SHARDS = 10_000, 8


def main(source: str, target: str, share: float = 1.0) -> None:
    """Read ``source``, keep a ``share`` of its tickets, and write shards into ``target``, which must not be there."""
    spark = SparkSession.builder.appName("demonstrations").getOrCreate()
    rows = spark.read.json(source).select(*(column.col(theirs).alias(ours) for ours, theirs in COLUMNS.items()))
    rows = rows.filter((column.trim("prompt") != "") & (column.trim("completion") != ""))
    rows = rows.dropDuplicates(["prompt", "completion", "expert"])
    rows = rows.filter(column.pmod(column.xxhash64("group"), column.lit(PARTS)) < int(share * PARTS))
    rows.repartition(SHARDS, "group").write.parquet(target)
    spark.stop()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]) if len(sys.argv) > 3 else 1.0)
