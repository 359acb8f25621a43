"""What a verb imports, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from repository import ROOT

HEAVY = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "evaluate")


def modules_after(words: list[object], folder: Path) -> set[str]:
    """What is imported once ``sft`` has done ``words``, in a process of its own."""
    code = (
        "import sys\nfrom sft.cli import main\n"
        "try: status = main(sys.argv[1:])\nexcept SystemExit as end: status = end.code\n"
        "assert status == 0, status\nsys.stderr.write('\\nLOADED ' + ' '.join(sys.modules))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    return set(answer.stderr.rpartition("LOADED ")[2].split())
