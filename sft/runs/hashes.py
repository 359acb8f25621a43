"""Hashes on record name the rule that they were made by: ``v2:0123...``.

A rule may change, and a run lives longer than a rule. Whoever compares asks the present hash, :meth:`Digest.is_of`,
which knows how the rules before it would have said the same; so another rule is never taken for other data. Rules:

    data      v1: ids of all demonstrations. v2: ids and contents, for an id of the user's own says nothing of them
    split     v1, v2: the whole of ``split.json``, in which the hash of the data stands by its rule v1 or v2. v3: and in
              which the rule of splitting is named, which is another (``demonstrations.splits``)
    weights   v1: the files of weights. v2: and the configuration that says how they are put to use
    others    v1: template, base model, control texts, recipe, held-out prompts; their rules have not changed

Until November 2026 hashes were recorded without a rule's name; one without is held against every rule there was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from sft.errors import RunError
from sft.runs.atomic_files import _dumps, read_json
from sft.runs.machine import sentences
from sft.runs.private import presentable


class Digest(str):
    """A hash with its rule in front, as it goes on record."""

    rule: str
    _others: dict[str, Callable[[], str]]

    @classmethod
    def by(cls, rule: str, value: str, others: Mapping[str, Callable[[], str]] | None = None) -> Self:
        """``value`` (hexadecimal digits), made by ``rule``. ``others``: earlier rules, and what each gives.

        What an earlier rule gives is worked out only where something is compared that needs it.
        """
        made = cls(f"{rule}:{value}")
        made.rule, made._others = rule, dict(others or {})
        return made

    @property
    def value(self) -> str:
        """The hash without its rule."""
        return self.partition(":")[2]

    def by_rule(self, rule: str) -> str:
        """The hash without its rule, as the earlier ``rule`` makes it."""
        return self._others[rule]()

    def is_of(self, recorded: object) -> bool:
        """Whether ``recorded`` is a hash of the same thing, by this rule or an earlier one, named or not."""
        if not isinstance(recorded, str):
            return False
        rule, named, value = recorded.rpartition(":")
        rules = {self.rule: lambda: self.value} | self._others
        if named:
            return rule in rules and rules[rule]() == value
        return any(made() == value for made in rules.values())


_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def fingerprint(value: Any) -> str:
    """128-bit BLAKE2b of ``value`` as canonical JSON (sorted keys, UTF-8): 32 hex digits."""
    return _digest(_CANONICAL.encode(value))


def _digest(canonical: str) -> str:
    return hashlib.blake2b(canonical.encode("utf-8"), digest_size=16).hexdigest()


def weights_hash(folder: Path) -> Digest:
    """The hash of the clone in ``folder``: its weights, and the configuration that says how they are put to use.

    Weights are the safetensors files, or the ``.bin`` files where there are none. Of ``adapter_config.json`` the
    base's name does not count, for a base may move, nor does the order of the adapted modules, which is of no effect.
    """
    weights = ""
    for path in sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin")):
        with sentences(path, reading=True):
            weights += f"{file_sha256(path)} {path.name}\n"
    settings = [_settings(folder / name) for name in ("adapter_config.json", "config.json")]
    whole = weights + "".join(f"{_dumps(each, sort_keys=True)}\n" for each in settings)
    return Digest.by("v2", _short(whole), {"v1": lambda: _short(weights)})


def _settings(path: Path) -> dict[str, Any] | None:
    """A configuration, as far as it bears on what the weights say; None where there is none to be read."""
    try:
        found = read_json(path)
    except RunError:
        return None
    if not isinstance(found, dict):
        return None
    for name in ("base_model_name_or_path", "revision", "_name_or_path"):
        found.pop(name, None)
    if isinstance(modules := found.get("target_modules"), list):
        found["target_modules"] = sorted(map(str, modules))
    return found


def file_sha256(path: Path, length: int | None = None) -> str:
    """sha256 of the first ``length`` bytes of the file, or of all. Raises ``OSError``."""
    whole, left = hashlib.sha256(), path.stat().st_size if length is None else length
    with path.open("rb") as file:
        while left > 0 and (block := file.read(min(left, 1 << 20))):
            whole.update(block)
            left -= len(block)
    return whole.hexdigest()


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, part in value.items():
        if isinstance(part, Mapping):
            flat |= _flat(part, f"{prefix}{key}.")
        else:
            flat[prefix + key] = part
    return flat


def differences(recorded: Mapping[str, Any], present: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted name -> (recorded value, present value) of all that differs, sorted by name; None where one has none.

    A present hash that is a ``Digest`` does not differ from what an earlier rule made of the same thing.
    """
    old, new = _flat(presentable(recorded)), _flat(presentable(present))
    hashes = {name: one for name, one in _flat(present).items() if isinstance(one, Digest)}
    missing = object()
    return {
        name: (old.get(name), new.get(name))
        for name in sorted(old | new)
        if old.get(name, missing) != new.get(name, missing)
        and not (name in hashes and hashes[name].is_of(old.get(name)))
    }
