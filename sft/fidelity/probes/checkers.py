"""Underachieving: prompts that the base model got right and the clone gets wrong, by a checker of the user's.

Imitating an expert who knew less than the model teaches it to know less: the other of behavioural cloning's two named
limits. What is right, only the user can say; a checker says it as a name, a pattern or a Python function.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sft.demonstrations.demonstration import HeldOut, prompt_text
from sft.errors import UserError
from sft.fidelity.probes import Absent
from sft.fidelity.probes.final_numbers import final_number
from sft.fidelity.scorecard import Lost, Underachieving
from sft.metrics import intervals, nfc
from sft.metrics.intervals import estimates
from sft.runs.records import Completion

__all__ = ["FINAL_NUMBER", "Checker", "final_number", "load", "underachieving"]

#: Called with (completion, reference): is the completion right?
Checker = Callable[[str, str], bool]

FINAL_NUMBER = "final-number"
#: Base models that the clone may have been right without.
_BASES = ("B0", "B3")
#: How many of the lost prompts are shown.
EXAMPLES = 10

_IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


@dataclass(frozen=True, slots=True)
class _Answers:
    """A checker that compares what ``answer`` finds in both texts; no answer is a wrong one."""

    answer: Callable[[str], object | None]

    def __call__(self, completion: str, reference: str) -> bool:
        found = self.answer(completion)
        return found is not None and found == self.answer(reference)


def load(spec: str) -> Checker:
    """The checker that ``spec`` names, called with (completion, reference).

    "final-number", by the rule of :mod:`sft.fidelity.probes.final_numbers`; "regex:PATTERN", or just a pattern: the
    last match's first group, or the whole match where it has none, must be the same in both texts, white space at its
    ends aside;
    "module:function" or "path/to/file.py:function": Python, found from the current folder too.
    Raises ``UserError`` for what is none of these.
    """
    if spec == FINAL_NUMBER:
        return _Answers(final_number)
    if spec.startswith("regex:"):
        return _pattern(spec, spec.removeprefix("regex:"))
    where, _, name = spec.rpartition(":")
    if where.endswith(".py"):
        return _from_file(spec, Path(where), name)
    if _IMPORT_PATH.fullmatch(spec):
        return _from_module(spec, where, name)
    return _pattern(spec, spec)


def _fault(spec: str, what: str) -> UserError:
    return UserError(f"checker {spec!r}: {what}")


def _pattern(spec: str, pattern: str) -> Checker:
    if not pattern.strip():
        raise _fault(spec, f"is empty; give {FINAL_NUMBER}, regex:PATTERN, module:function or file.py:function")
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise _fault(
            spec,
            f"is no regular expression ({error}), nor {FINAL_NUMBER}, module:function or file.py:function",
        ) from None

    def answer(text: str) -> str | None:
        last: str | None = None
        for match in compiled.finditer(nfc(text)):
            last = match[1] if compiled.groups else match[0]
        return None if last is None else last.strip()

    return _Answers(answer)


def _from_file(spec: str, path: Path, name: str) -> Checker:
    if not path.is_file():
        raise _fault(spec, "there is no such file; give the path from here, as in path/to/file.py:function")
    module_name = f"sft_checker_{path.stem}"
    found = importlib.util.spec_from_file_location(module_name, path)
    assert found is not None and found.loader is not None  # any name that ends in .py has a loader
    module = importlib.util.module_from_spec(found)
    sys.modules[module_name] = module  # dataclasses and pickle look their module up
    try:
        found.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        raise _fault(spec, f"the file cannot be run ({_said(error)}); mend it") from error
    return _function(spec, module, name)


def _from_module(spec: str, where: str, name: str) -> Checker:
    here = str(Path.cwd())
    sys.path.insert(0, here)  # a console script does not look where it is called from
    try:
        module = importlib.import_module(where)
    except (Exception, SystemExit) as error:
        absent = isinstance(error, ModuleNotFoundError) and f"{where}.".startswith(f"{error.name}.")
        if absent:
            raise _fault(
                spec, f"there is no module {where!r} to import; for a regular expression write regex:{spec}"
            ) from None
        raise _fault(spec, f"module {where!r} cannot be imported ({_said(error)}); mend it") from error
    finally:
        sys.path.remove(here)
    return _function(spec, module, name)


def _function(spec: str, module: object, name: str) -> Checker:
    found = getattr(module, name, None)
    if found is None:
        raise _fault(spec, f"has no function {name!r}; define it with two arguments, completion and reference")
    if not callable(found):
        kind = type(found).__name__
        raise _fault(spec, f"{name!r} is of type {kind}, not a function of a completion and a reference; name one")
    return found


def _said(error: BaseException) -> str:
    """An exception as part of a sentence."""
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".: ")


def underachieving(
    held_out: Sequence[HeldOut],
    completions: Mapping[str, Mapping[str, Completion]],
    spec: str,
    clusters: Mapping[str, str],
) -> Underachieving:
    """Who is right how often by the checker ``spec``, and what the clone lost against the better base model.

    A completion is right if it is right for any reference. Prompts in whose references a pattern finds no answer are
    not judged. ``difference`` is clone minus base, paired, as a share; the better of B0 and B3 is better on the
    prompts that both and the clone have. Raises ``Absent`` without a checker, a clone or a base, and ``UserError``
    for a checker that cannot be loaded, finds no answer in any reference, fails, or answers anything but True or False.
    """
    if not spec:
        raise Absent("no checker says which answers are right (--checker)")
    checker = load(spec)
    items = list(held_out)
    if isinstance(checker, _Answers):
        items = [item for item in items if any(checker.answer(text) is not None for text in item.references)]
        if held_out and not items:
            read = "" if spec == FINAL_NUMBER else "read as a regular expression, it "
            raise _fault(spec, f"{read}finds no answer in any reference, so nothing could be right; see the references")
    right: dict[str, dict[str, bool]] = {}
    for system, written in completions.items():
        judged = {item.id: _right(checker, spec, item, written[item.id].text) for item in items if item.id in written}
        if judged and system != "E":
            right[system] = judged
    bases = [system for system in _BASES if system in right]
    if "tuned" not in right or not bases:
        raise Absent("the clone or the base model has no completion to check")
    ids = [item.id for item in items if all(item.id in right[system] for system in ("tuned", *bases))]
    if not ids:
        raise Absent("the clone and the base model share no prompt")
    base = max(bases, key=lambda system: sum(right[system][key] for key in ids))
    ours, theirs = ([right[system][key] for key in ids] for system in ("tuned", base))
    differences, labels = np.subtract(ours, theirs, dtype=np.float64), [clusters[key] for key in ids]
    by_id = {item.id: item for item in items}
    lost = [key for key in ids if right[base][key] and not right["tuned"][key]]
    won = sum(right["tuned"][key] and not right[base][key] for key in ids)
    return Underachieving(
        checker=spec,
        base=base,
        right={s: estimates.share(list(found.values()), [clusters[k] for k in found]) for s, found in right.items()},
        difference=estimates.mean(differences, labels),
        lost=len(lost),
        won=won,
        p_value=_p_value(differences, labels),
        examples=tuple(
            Lost(
                key,
                prompt_text(by_id[key].prompt),
                by_id[key].references[0],
                completions[base][key].text,
                completions["tuned"][key].text,
            )
            for key in lost[:EXAMPLES]
        ),
    )


def _p_value(differences: NDArray[np.float64], labels: Sequence[str]) -> float:
    """Two-sided: McNemar's mid-p; where prompts come in clusters, which it does not know of, sign-flip over them."""
    if len(set(labels)) < len(labels):
        return intervals.sign_flip(differences, labels, two_sided=True)
    return intervals.mcnemar_mid_p(int((differences < 0).sum()), int((differences > 0).sum()))


def _right(checker: Checker, spec: str, item: HeldOut, text: str) -> bool:
    for reference in item.references:
        try:
            answer = checker(text, reference)
        except Exception as error:
            raise _fault(spec, f"failed on prompt {item.id} ({_said(error)}); mend the function") from error
        if not isinstance(answer, bool | np.bool_):
            raise _fault(spec, f"returned {type(answer).__name__} for prompt {item.id}; it must return True or False")
        if answer:
            return True
    return False
