"""Which small changes of the code no test notices: mutants by cosmic-ray, each run against the module's own tests.

    pip install cosmic-ray==8.7.0
    python benchmarks/mutants.py intervals --output intervals.jsonl
    python benchmarks/mutants.py intervals --again intervals.jsonl --output after.jsonl    # only what survived

At every place in the code that an operator of cosmic-ray can change, ``--per-place`` of its changes are drawn
(seeded); ``--sample`` draws from those again. Changes that no program can see (of annotations) or that Python itself
warns of are left out. The tree is copied first, so nothing that is mutated is ever in the working copy. Every mutant
is one fork of a process that has the libraries loaded, ended by the first test that fails or by its time.
Not in CI: an hour or so of one core, and what survives has to be read by somebody.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import json
import os
import py_compile
import random
import shlex
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Area -> (modules, the test files that hold them), fastest first.
AREAS: dict[str, tuple[list[str], list[str]]] = {
    "intervals": (["sft/metrics/intervals/*.py"], ["metrics/test_intervals"]),
    "splits": (["sft/demonstrations/splits.py"], ["demonstrations/test_splits"]),
    "conventions": (
        ["sft/fidelity/conventions.py"],
        [
            "fidelity/test_verdict",
            "fidelity/test_mutants_verdict",
            "reports/test_sentences",
            "fidelity/test_mutants_conventions",
        ],
    ),
    "verdict": (["sft/fidelity/verdict.py"], ["fidelity/test_mutants_verdict", "fidelity/test_verdict"]),
    "measure": (
        ["sft/fidelity/measure.py", "sft/fidelity/every_probe.py", "sft/fidelity/guardrails.py"],
        ["fidelity/test_guardrails", "fidelity/test_mutants_measure", "fidelity/test_measure"],
    ),
    "selection": (
        ["sft/demonstrations/selection.py"],
        ["demonstrations/test_mutants_selection", "demonstrations/test_selection"],
    ),
    "atomic_files": (["sft/runs/atomic_files.py"], ["runs/test_mutants_files", "runs/test_run"]),
    "file_rows": (["sft/demonstrations/file_rows.py"], ["runs/test_mutants_files", "demonstrations/test_formats"]),
    "compare": (["sft/fidelity/compare.py"], ["fidelity/test_mutants_compare", "fidelity/test_compare"]),
    "checks": (["sft/publishing/checks.py"], ["publishing/test_push_refusals"]),
    "checkpoints": (["sft/runs/checkpoints.py"], ["runs/test_checkpoints", "training/test_resuming"]),
    "training": (
        ["sft/training/*.py"],
        [
            "training/test_mutants_training",
            "training/test_sequences",
            "training/test_training",
            "training/test_resuming",
        ],
    ),
}
#: Exit statuses of a child: pytest's own, and one for a mutant that was ended from outside.
SURVIVED, TIMED_OUT = 0, -1


@dataclass(frozen=True)
class Mutant:
    """One change of one file; ``status``: how the tests ended, 0 where none of them noticed."""

    path: str
    line: int
    column: int
    operator: str
    occurrence: int
    before: str
    after: str
    status: int | None = None
    seconds: float = 0.0

    @property
    def key(self) -> tuple[str, str, int]:
        """Which change it is."""
        return self.path, self.operator, self.occurrence


class _Plain(ast.NodeTransformer):
    """A tree without what a program never sees: annotations, and what ``__all__`` lists."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(0)
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)


def _seen(code: str) -> str:
    return ast.dump(_Plain().visit(ast.parse(code)))


Place = tuple[Path, tuple[int, int], list[tuple[str, int]]]


def places(path: Path, between: tuple[int, int], seed: int) -> list[Place]:
    """Where an operator of one kind can change ``path``, with all its changes there in an order drawn by ``seed``."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    nodes = list(ast_nodes(get_ast(path.read_text(encoding="utf-8"))))
    found: dict[tuple[tuple[int, int], str], list[tuple[str, int]]] = {}
    for name in operator_names():
        if get_operator(name).arguments():
            continue
        operator = get_operator(name)()
        positions = [start for node in nodes for start, _ in operator.mutation_positions(node)]
        kind = name.rpartition("/")[2].split("_")[0]
        for occurrence, start in enumerate(positions):
            if between[0] <= start[0] <= between[1]:
                found.setdefault((start, kind), []).append((name, occurrence))
    for (start, kind), choices in found.items():
        random.Random(f"{seed} {path.name} {start} {kind}").shuffle(choices)
    return [(path, start, choices) for (start, _), choices in sorted(found.items())]


def mutants(place: Place, per_place: int) -> Iterator[Mutant]:
    """Of the changes at ``place`` the first ``per_place`` that a program can see."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    path, start, choices = place
    code = path.read_text(encoding="utf-8")
    plain, lines, found = _seen(code), code.splitlines(), 0
    for name, occurrence in choices:
        if found == per_place:
            return
        try:
            changed = mutate_code(code, get_operator(name)(), occurrence)
        except AttributeError:  # cosmic-ray cannot change `except module.Error`, only a bare name
            continue
        if changed is None or not _is_one(changed, plain):
            continue
        found += 1
        after = next((b for a, b in zip(lines, changed.splitlines(), strict=False) if a != b), "")
        relative, operator = str(path.relative_to(ROOT)), name.rpartition("/")[2]
        yield Mutant(relative, start[0], start[1], operator, occurrence, lines[start[0] - 1].strip(), after.strip())


def _is_one(changed: str, plain: str) -> bool:
    """Whether the change is of the program, and one that Python compiles without a word."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            compile(changed, "mutant", "exec")
        except (SyntaxError, SyntaxWarning):
            return False
    return _seen(changed) != plain


class Bench:
    """A copy of the tree, and a process that has loaded what its tests load."""

    def __init__(self, folder: Path, tests: list[str], extra: list[str]) -> None:
        self.tree, self.scratch = folder / "tree", folder / "scratch"
        ignore = shutil.ignore_patterns(".git", "__pycache__", ".*_cache", ".hypothesis", ".venv*")
        shutil.copytree(ROOT, self.tree, ignore=ignore)
        # A hash tells what is stale: two versions of a file within a second look alike by their time.
        compileall.compile_dir(self.tree, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
        self.words = [f"tests/{name}.py" for name in tests if (ROOT / f"tests/{name}.py").exists()]
        self.words += ["-x", "-q", "-n", "0", "--assert=plain", "-p", "no:cacheprovider", "--hypothesis-seed=0", *extra]

    def loaded(self) -> float:
        """Run the tests on the code as it is, load what they loaded, and say how long they took."""
        names = self.tree / "modules"

        def note() -> None:
            modules = [m for m in sys.modules if not m.startswith(("sft", "test_", "conftest", "_pytest", "pytest"))]
            names.write_text("\n".join(modules), encoding="utf-8")

        status, seconds = self.run(3600, note)
        if status:
            sys.exit(f"the tests fail on the code as it is (pytest ended with {status})")
        kept = [m for m in names.read_text(encoding="utf-8").split() if not (self.tree / f"tests/{m}.py").exists()]
        for module in kept:
            try:
                __import__(module)
            except Exception:
                continue  # one that only its own package can import
        return seconds

    def run(self, limit: float, after: Callable[[], None] | None = None) -> tuple[int, float]:
        """How pytest ended in a fork of this process, and after how many seconds."""
        shutil.rmtree(self.tree / ".hypothesis", ignore_errors=True)
        shutil.rmtree(self.scratch, ignore_errors=True)
        begun = time.monotonic()
        child = os.fork()
        if not child:
            self._be_tested(after)
        while time.monotonic() - begun < limit:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status), time.monotonic() - begun
            time.sleep(0.01)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return TIMED_OUT, time.monotonic() - begun

    def _be_tested(self, after: Callable[[], None] | None) -> None:
        import pytest

        status = 70
        try:
            os.setsid()
            # A job in a shell's background ignores these, and with it every test of Ctrl-C or a hung-up terminal fails.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGQUIT, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            nowhere = os.open(os.devnull, os.O_RDWR)
            for stream in range(3):
                os.dup2(nowhere, stream)
            os.chdir(self.tree)
            sys.path.insert(0, str(self.tree))
            # To a worker's tests, what they share is beside their folder: a fit is then made once, not for each mutant.
            os.environ |= {"PYTHONPATH": str(self.tree), "PYTEST_XDIST_WORKER": "gw0"}
            status = int(pytest.main([*self.words, f"--basetemp={self.scratch}"]))
            if after:
                after()
        finally:
            os._exit(status)

    def survives(self, mutant: Mutant, limit: float) -> tuple[int, float]:
        """As :meth:`run`, with the one change made."""
        from cosmic_ray.mutating import mutate_code
        from cosmic_ray.plugins import get_operator

        code = (ROOT / mutant.path).read_text(encoding="utf-8")
        changed = mutate_code(code, get_operator(f"core/{mutant.operator}")(), mutant.occurrence)
        assert changed is not None
        (self.tree / mutant.path).write_text(changed, encoding="utf-8")
        try:
            return self.run(limit)
        finally:
            (self.tree / mutant.path).write_text(code, encoding="utf-8")


def _known(path: str | None) -> list[Mutant]:
    lines = Path(path).read_text(encoding="utf-8").splitlines() if path and Path(path).exists() else []
    return [Mutant(**json.loads(line)) for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("area", choices=AREAS)
    parser.add_argument("--tests", nargs="*", help="other test files (below tests/, without .py)")
    parser.add_argument("--only", help="of the area, the modules whose path holds this")
    parser.add_argument("--lines", type=int, nargs=2, default=(1, 10**6), help="only what stands between these lines")
    parser.add_argument("--per-place", type=int, default=1)
    parser.add_argument("--sample", type=int, help="this many of them, drawn by the seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", help="results of an earlier run: only what survived it")
    parser.add_argument("--output", required=True, help="where results go, a line each; a run that was cut goes on")
    parser.add_argument("--pytest", default="", help="further words for pytest, in one string: --pytest='-k this'")
    options = parser.parse_args()
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    sys.dont_write_bytecode = True
    patterns, tests = AREAS[options.area]
    if options.again:
        todo = [m for m in _known(options.again) if m.status == SURVIVED and (options.only or "") in m.path]
    else:
        files = sorted(file for pattern in patterns for file in ROOT.glob(pattern) if (options.only or "") in str(file))
        everywhere = [place for file in files for place in places(file, options.lines, options.seed)]
        if options.sample:
            random.Random(options.seed).shuffle(everywhere)
        drawn = (mutant for place in everywhere for mutant in mutants(place, options.per_place))
        todo = list(islice(drawn, options.sample))
    done = {m.key for m in _known(options.output)}
    todo = [m for m in todo if m.key not in done]
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        bench = Bench(Path(folder), options.tests or tests, shlex.split(options.pytest))
        limit = 10 + 3 * bench.loaded()
        print(f"{options.area}: {len(todo)} mutants, at most {limit:.0f} s each", flush=True)
        with Path(options.output).open("a", encoding="utf-8") as output:
            for mutant in todo:
                status, seconds = bench.survives(mutant, limit)
                output.write(json.dumps(asdict(mutant) | {"status": status, "seconds": round(seconds, 2)}) + "\n")
                output.flush()
    results = _known(options.output)
    survivors = [m for m in results if m.status == SURVIVED]
    for m in survivors:
        print(f"{m.path}:{m.line} {m.operator}\n    {m.before}\n    {m.after}")
    print(f"{options.area}: {len(results) - len(survivors)} of {len(results)} killed")


if __name__ == "__main__":
    main()
