"""The picture of the rooms in docs/architecture.md, made from the imports: ``python docs/rooms.py`` prints it.

An arrow goes from a room to one that it imports; where a longer way round leads there too, it is left out.
"""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "sft"


def imported(path: Path) -> set[str]:
    """Rooms that ``path`` imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "sft":
            parts = node.module.split(".")
            names |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {a.name.split(".")[1] for a in node.names if a.name.startswith("sft.")}
    return names - {"__version__"}


def arrows() -> set[tuple[str, str]]:
    """(room, room that it imports)."""
    found = set[tuple[str, str]]()
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).with_suffix("").parts[0]
        found |= {(room, name) for name in imported(path) - {room} if not room.startswith("__")}
    return found


def direct(found: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """The arrows that no longer way replaces."""
    beyond: dict[str, set[str]] = {}

    def reached(room: str) -> set[str]:
        if room not in beyond:
            beyond[room] = set()
            for one, other in found:
                if one == room:
                    beyond[room] |= {other} | reached(other)
        return beyond[room]

    return sorted(
        (one, other)
        for one, other in found
        if not any(other in reached(between) for start, between in found if start == one and between != other)
    )


def picture() -> str:
    """A Mermaid graph, as Markdown."""
    lines = [f"    {one} --> {other}" for one, other in direct(arrows())]
    return "\n".join(["```mermaid", "graph TD", *lines, "```"])


if __name__ == "__main__":
    print(picture())
