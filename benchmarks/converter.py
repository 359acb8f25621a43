"""Is an exported GGUF file what llama.cpp's own converter writes? Tensor by tensor, setting by setting.

    pip download --no-deps --no-binary :all: llama-cpp-python==0.3.36      # its archive holds the converter
    python benchmarks/converter.py ARCHIVE/vendor/llama.cpp                # toys of every family
    python benchmarks/converter.py ARCHIVE/vendor/llama.cpp RUN            # and a finished run, its tokenizer too

Toys are those of the tests; the converter knows tokenizers by a list of real ones, so theirs are left out. Prints
Markdown.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gguf import GGUFReader

from sft.policies.rendering import renderer_for
from sft.publishing.export import export_gguf, export_merged
from sft.publishing.export.gguf import OUTTYPES, write_gguf
from sft.runs.run import Run

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "toys"))
import toy_families

#: In a process of its own: it brings a newer gguf package than the one that the exports are written with.
CONVERT = """
import sys
source, folder, with_tokenizer, *files = sys.argv[1:]
sys.path[:0] = [source, f"{source}/gguf-py"]
from pathlib import Path
import gguf, torch
from conversion import get_model_class
from conversion.base import ModelBase, ModelType, get_model_architecture
made = get_model_class(get_model_architecture(ModelBase.load_hparams(Path(folder), False), ModelType.TEXT))
if not int(with_tokenizer):
    made = type(made.__name__, (made,), {"set_vocab": lambda self: None, "model_arch": made.model_arch})
for kind, file in zip(files[::2], files[1::2]):
    with torch.inference_mode():
        made(Path(folder), gguf.LlamaFileType(int(kind)), Path(file)).write()
"""


def converted(source: Path, folder: Path, scratch: Path, *, with_tokenizer: bool) -> dict[str, Path]:
    """What llama.cpp's converter makes of the model in ``folder``, of every type."""
    made = {outtype: scratch / f"theirs-{outtype}.gguf" for outtype in OUTTYPES}
    files = [word for outtype, file in made.items() for word in (str(int(OUTTYPES[outtype][0])), str(file))]
    subprocess.run(
        [sys.executable, "-c", CONVERT, str(source), str(folder), str(int(with_tokenizer)), *files],
        check=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return made


def compared(ours: Path, theirs: Path, *, with_tokenizer: bool) -> tuple[str, ...]:
    """Cells of a row: tensors of the same name, type and bytes; settings that are others, only here, only there."""
    here, there = GGUFReader(ours), GGUFReader(theirs)
    mine, other = ({tensor.name: tensor for tensor in reader.tensors} for reader in (here, there))
    same = sum(
        name in other
        and other[name].tensor_type == tensor.tensor_type
        and other[name].data.tobytes() == tensor.data.tobytes()
        for name, tensor in mine.items()
    )
    own, its = (settings(reader, with_tokenizer=with_tokenizer) for reader in (here, there))
    both = own.keys() & its.keys()
    return (
        f"{same} of {len(mine.keys() | other.keys())}",
        str(sum(own[key] == its[key] for key in both)),
        ", ".join(
            sorted(f"{key}: {_short(own[key])}, there {_short(its[key])}" for key in both if own[key] != its[key])
        ),
        ", ".join(sorted(own.keys() - its.keys())),
        ", ".join(sorted(its.keys() - own.keys())),
    )


def show(what: str, rows: Mapping[tuple[str, ...], Sequence[str]]) -> None:
    for cells, outtypes in rows.items():
        print(f"| {what} | {', '.join(outtypes)} | {' | '.join(cells)} |", flush=True)


def settings(reader: GGUFReader, *, with_tokenizer: bool) -> Mapping[str, Any]:
    return {
        key: field.contents()
        for key, field in reader.fields.items()
        if not key.startswith("GGUF.") and (with_tokenizer or not key.startswith("tokenizer."))
    }


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 30 else f"{text[:27]}..."


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("source", type=Path, metavar="LLAMA_CPP", help="the folder of convert_hf_to_gguf.py")
    options.add_argument("run", type=Path, nargs="?", metavar="RUN")
    given = options.parse_args()
    print("| model | types | the same tensors | the same settings | others | only here | only there |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        scratch, clone = Path(folder), Path(folder) / "merged"
        for family in toy_families.FAMILIES:
            renderer = renderer_for(toy_families.tokenizer_of(family))
            model = toy_families.model_of(family, len(renderer.tokenizer) + 3)
            model.save_pretrained(scratch / family)
            renderer.tokenizer.save_pretrained(scratch / family)
            rows: dict[tuple[str, ...], list[str]] = {}
            for outtype, file in converted(given.source, scratch / family, scratch, with_tokenizer=False).items():
                write_gguf(scratch / "toy.gguf", model, renderer, name=family.title(), outtype=outtype)
                found = compared(scratch / "toy.gguf", file, with_tokenizer=False)
                rows.setdefault(found, []).append(outtype)
            show(f"toy: {family}", rows)
        if given.run:
            run = Run.open(given.run)
            export_merged(run, clone)
            rows = {}
            for outtype, file in converted(given.source, clone, scratch, with_tokenizer=True).items():
                made = export_gguf(run, scratch / f"{outtype}.gguf", outtype).file
                rows.setdefault(compared(made, file, with_tokenizer=True), []).append(outtype)
                made.unlink()
            show("the run's clone", rows)


if __name__ == "__main__":
    main()
