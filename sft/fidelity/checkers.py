"""Checkers: what tells a right completion, as only the user can say it: a name, a pattern or a Python function."""

from __future__ import annotations

import importlib
import operator
import re
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sft.demonstrations.demonstration import HeldOut
from sft.errors import UserError
from sft.metrics import nfc
from sft.metrics.final_numbers import final_number
from sft.metrics.json_leaves import NotJson, json_leaves, parsed

__all__ = ["FINAL_NUMBER", "JSON", "Checker", "SameAnswer", "checker_fault", "is_right", "load"]

#: Called with (completion, reference): is the completion right?
Checker = Callable[[str, str], bool]

FINAL_NUMBER, JSON = "final-number", "json"

_IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


@dataclass(frozen=True, slots=True)
class SameAnswer:
    """A checker that compares what ``answer`` finds in both texts; no answer is a wrong one.

    ``same``: whether two answers are one. A reference without an answer leaves its prompt unjudged.
    """

    answer: Callable[[str], Any | None]
    same: Callable[[Any, Any], bool] = operator.eq

    def __call__(self, completion: str, reference: str) -> bool:
        """Whether both texts have an answer, and the same."""
        found, expected = self.answer(completion), self.answer(reference)
        return found is not None and expected is not None and bool(self.same(found, expected))


def load(spec: str) -> Checker:
    """The checker that ``spec`` names, called with (completion, reference).

    "final-number", by the rule of :mod:`sft.metrics.final_numbers`; "json", where all leaves agree by that of
    :mod:`sft.metrics.json_leaves`, so that a call with one wrong argument is a wrong one, and so is JSON behind a
    sentence, which no program could read; "regex:PATTERN", or just a
    pattern: the last match's first group, or the whole match where it has none, must be the same in both texts, white
    space at its ends aside;
    "module:function" or "path/to/file.py:function": Python, found from the current folder too.
    Raises ``UserError`` for what is none of these.
    """
    if spec == FINAL_NUMBER:
        return SameAnswer(final_number)
    if spec == JSON:
        return SameAnswer(_json, lambda found, expected: json_leaves(found, expected) == 100.0)
    if spec.startswith("regex:"):
        return _pattern(spec, spec.removeprefix("regex:"))
    where, _, name = spec.rpartition(":")
    if where.endswith(".py"):
        return _from_file(spec, Path(where), name)
    if _IMPORT_PATH.fullmatch(spec):
        return _from_module(spec, where, name)
    return _pattern(spec, spec)


def _json(text: str) -> str | None:
    """``text``, where it is one JSON value, or calls in their tags."""
    try:
        parsed(text)
    except NotJson:
        return None
    return text


def checker_fault(spec: str, what: str) -> UserError:
    """The refusal of the checker ``spec``; ``what``: what is wrong with it."""
    return UserError(f"checker {spec!r}: {what}")


def _pattern(spec: str, pattern: str) -> Checker:
    if not pattern.strip():
        raise checker_fault(
            spec, f"is empty; give {FINAL_NUMBER}, {JSON}, regex:PATTERN, module:function or file.py:function"
        )
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise checker_fault(
            spec,
            f"is no regular expression ({error}), nor {FINAL_NUMBER}, {JSON}, module:function or file.py:function",
        ) from None

    def answer(text: str) -> str | None:
        last: str | None = None
        for match in compiled.finditer(nfc(text)):
            last = match[1] if compiled.groups else match[0]
        return None if last is None else last.strip()

    return SameAnswer(answer)


def _from_file(spec: str, path: Path, name: str) -> Checker:
    if not path.is_file():
        raise checker_fault(spec, "there is no such file; give the path from here, as in path/to/file.py:function")
    module_name = f"sft_checker_{path.stem}"
    module = types.ModuleType(module_name)
    module.__file__ = str(path)
    sys.modules[module_name] = module  # dataclasses and pickle look their module up
    try:
        # From the text: bytecode kept beside it would win over an edit in the same second that leaves the size.
        exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        raise checker_fault(spec, f"the file cannot be run ({_said(error)}); mend it") from error
    return _function(spec, module, name)


def _from_module(spec: str, where: str, name: str) -> Checker:
    here = str(Path.cwd())
    sys.path.insert(0, here)  # a console script does not look where it is called from
    try:
        module = importlib.import_module(where)
    except (Exception, SystemExit) as error:
        absent = isinstance(error, ModuleNotFoundError) and f"{where}.".startswith(f"{error.name}.")
        if absent:
            raise checker_fault(
                spec, f"there is no module {where!r} to import; for a regular expression write regex:{spec}"
            ) from None
        raise checker_fault(spec, f"module {where!r} cannot be imported ({_said(error)}); mend it") from error
    finally:
        sys.path.remove(here)
    return _function(spec, module, name)


def _function(spec: str, module: object, name: str) -> Checker:
    found = getattr(module, name, None)
    if found is None:
        raise checker_fault(spec, f"has no function {name!r}; define it with two arguments, completion and reference")
    if not callable(found):
        kind = type(found).__name__
        raise checker_fault(
            spec, f"{name!r} is of type {kind}, not a function of a completion and a reference; name one"
        )
    return found


def _said(error: BaseException) -> str:
    """An exception as part of a sentence."""
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".: ")


def is_right(checker: Checker, spec: str, item: HeldOut, text: str) -> bool:
    """Whether ``text`` is right for any reference of ``item``.

    Raises ``UserError`` for a checker that fails, or answers anything but True or False.
    """
    for reference in item.references:
        try:
            answer = checker(text, reference)
        except Exception as error:
            raise checker_fault(
                spec,
                f"failed on prompt {item.named} ({_said(error)}), which begins \u201c{item.asked}\u201d; "
                "mend the function",
            ) from error
        if not isinstance(answer, bool | np.bool_):
            raise checker_fault(
                spec,
                f"returned {type(answer).__name__} for prompt {item.named}, which begins \u201c{item.asked}\u201d; "
                "it must return True or False",
            )
        if answer:
            return True
    return False
