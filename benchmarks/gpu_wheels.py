"""What ``benchmarks/gpu.py`` needs, as wheels: for a machine with a card that has PyTorch and reaches no network.

    python benchmarks/gpu_wheels.py --into .wheels --python 3.12                # here, in this repository's folder
    python benchmarks/gpu_wheels.py --into .wheels --python 3.12 --also bitsandbytes cut-cross-entropy

Then copy the repository and that folder, and there:

    python3 -m pip install -q --no-index --no-deps --target /tmp/site .wheels/*.whl
    PYTHONPATH=/tmp/site python3 benchmarks/gpu.py --minutes 8 --out DIR

Versions are those of constraints.txt; what does not stand there comes in its newest. ``--there`` names what that
machine has in a version that serves: it is left out, and so is what it alone needs. PyTorch always is there.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
#: Large, and wherever PyTorch was installed with its friends.
THERE = ("torch", "triton", "numpy", "scipy", "pandas", "pyarrow", "scikit-learn", "sympy", "networkx")
#: There whatever ``--there`` says, for the machine has PyTorch: it would bring gigabytes.
ALWAYS = ("torch", "triton")
#: What reads mail and serves pages: no fit asks for it, and one of them comes in no wheel.
UNREAD = ("quotequail", "starlette", "uvicorn", "markdownify", "beautifulsoup4", "defusedxml")
#: Of which glibc a wheel may be: pip takes each that is named, and no older one by itself.
GLIBC = (5, 12, 17, 24, 27, 28, 31, 34, 35)


def needed(names: Iterable[str], there: frozenset[str], python: str) -> list[str]:
    """All that ``names`` need to run under ``python`` on Linux, themselves included, but not what is ``there``."""
    machine = {
        "python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux",
        "platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix", "extra": "",
    }  # fmt: skip
    found: list[str] = []
    left = [canonicalize_name(name) for name in names]
    while left:
        name = left.pop(0)
        if name in found or name in there:
            continue
        found.append(name)
        left += [canonicalize_name(one.name) for one in _requirements(name) if _asked_for(one, machine)]
    return found


def _requirements(name: str) -> Iterator[Requirement]:
    try:
        yield from map(Requirement, metadata.requires(name) or [])
    except metadata.PackageNotFoundError:
        return  # asked for by --also, and not installed here: it is brought alone


def _asked_for(one: Requirement, machine: dict[str, str]) -> bool:
    return one.marker is None or one.marker.evaluate(machine)


def pinned(names: Iterable[str]) -> list[str]:
    """``names`` with the versions of constraints.txt, where they stand there."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    known = {canonicalize_name(line.partition("==")[0]): line for line in lines}
    return [known.get(name, name) for name in names]


def others_in(folder: Path, wanted: Iterable[str]) -> list[str]:
    """Wheels in ``folder`` that are not ``wanted`` (``NAME`` or ``NAME==VERSION``): pip would install both versions."""
    versions = {canonicalize_name(name): version for name, _, version in (one.partition("==") for one in wanted)}
    found = []
    for wheel in sorted(folder.glob("*.whl")):
        name, version, *_ = wheel.name.split("-")
        if versions.get(canonicalize_name(name), "none") not in ("", version):
            found.append(wheel.name)
    return found


def main() -> int:
    """See the module's docstring. Prints what each wheel weighs, and exits with pip's status where it fails."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--into", type=Path, required=True, help="the folder for the wheels")
    options.add_argument("--python", default="3.12", help="the Python of the machine with the card")
    options.add_argument("--also", nargs="*", default=[], help="packages that no fit must have")
    options.add_argument("--there", nargs="*", default=THERE, help="what that machine has: " + ", ".join(THERE))
    options.add_argument("--list", action="store_true", help="print what would be brought, and bring nothing")
    given = options.parse_args()
    there = frozenset(map(canonicalize_name, [*given.there, *ALWAYS, *UNREAD]))
    asked = [Requirement(line).name for line in metadata.requires("behavioral-cloning") or [] if "extra ==" not in line]
    wanted = pinned(needed([*asked, *given.also], there, given.python))
    if given.list:
        print("\n".join(wanted))
        return 0
    if others := others_in(given.into, wanted):
        print(f"{given.into} holds wheels that are not asked for ({others[0]}); name an empty folder", file=sys.stderr)
        return 2
    older = [f"manylinux_2_{minor}_x86_64" for minor in GLIBC]
    platforms = [word for one in (*older, "manylinux2014_x86_64") for word in ("--platform", one)]
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(given.into)]
    fetched = subprocess.run(
        [*pip, "--implementation", "cp", "--python-version", given.python, *platforms, *wanted], check=False
    )
    if fetched.returncode:
        return fetched.returncode
    sizes = {wheel.name: wheel.stat().st_size for wheel in sorted(given.into.glob("*.whl"))}
    for name, size in sorted(sizes.items(), key=lambda pair: -pair[1]):
        print(f"{size / 2**20:8.2f} MiB  {name}")
    print(f"{sum(sizes.values()) / 2**20:8.2f} MiB  {len(sizes)} wheels")
    return 0


if __name__ == "__main__":
    sys.exit(main())
