"""Lists that a chat template changes in place, written so that transformers' sandbox lets it.

transformers renders templates in a sandbox in which nothing may be changed, so ``queue.ids.append(id)`` (Kimi K2's, as
llama.cpp ships it) raises as soon as a turn has calls: no such turn can be trained on, or served by anything that
renders with transformers. In a namespace, the same is said by assignments, which the sandbox allows.
"""

from __future__ import annotations

import re

__all__ = ["with_assignments"]

_LIST = r"([A-Za-z_]\w*\.[A-Za-z_]\w*)"
_APPEND = re.compile(rf"\{{%([-+]?)\s*set\s+\w+\s*=\s*{_LIST}\.append\(([^%]*)\)\s*([-+]?)%\}}")
_POP = re.compile(rf"\{{%([-+]?)\s*set\s+(\w+)\s*=\s*{_LIST}\.pop\(\s*(0?)\s*\)\s*([-+]?)%\}}")


def with_assignments(template: str) -> str:
    """``template`` with ``append`` and ``pop`` of lists in namespaces as assignments; nothing else is touched."""
    template = _APPEND.sub(r"{%\1 set \2 = \2 + [\3] \4%}", template)
    return _POP.sub(_popped, template)


def _popped(found: re.Match[str]) -> str:
    before, name, held, first, after = found.groups()
    taken, rest = ("[0]", "[1:]") if first else ("[-1]", "[:-1]")
    return f"{{%{before} set {name} = {held}{taken} %}}{{%- set {held} = {held}{rest} {after}%}}"
