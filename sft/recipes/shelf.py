"""The recipes that come with the package: list, find, copy."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from sft.errors import Problem, RecipeError
from sft.recipes.complaints import nearest

__all__ = ["copy", "find", "shipped", "shipped_folder"]

_PACKAGE = Path(__file__).resolve().parent.parent
_MODELINE = "# yaml-language-server:"


def shipped_folder(kind: str, package: Path = _PACKAGE) -> Path:
    """The folder of ``"recipes"`` or ``"data"`` that came with this package.

    In a wheel they travel inside; in a checkout they stand beside the package. ``package``: its folder. Raises
    ``ValueError`` for another kind and ``FileNotFoundError`` when neither is there.
    """
    if kind not in ("recipes", "data"):
        raise ValueError(f"nothing is shipped as {kind!r}")
    for folder in (package / "_shipped" / kind, package.parent / kind):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"{kind} did not come with this installation; reinstall the package")


def shipped() -> list[tuple[str, Path, str]]:
    """Every shipped recipe: its name, its file, and the first line of its header."""
    found = []
    for path in sorted(shipped_folder("recipes").glob("*.yaml")):
        with path.open(encoding="utf-8") as file:
            comments = (line for line in file if line.startswith("#") and not line.startswith(_MODELINE))
            found.append((path.stem, path, next(comments, "").lstrip("#").strip()))
    return found


def find(reference: str | Path) -> Path:
    """The recipe file that ``reference`` names: a path, or else the name of a shipped recipe.

    ``accelerate/NAME`` is a shipped file for ``accelerate launch --config_file``, to show and to copy. A file wins
    over a shipped recipe of the same name; a folder does not. Raises :class:`~sft.errors.RecipeError`, with the
    nearest shipped name where one is close.
    """
    path = Path(reference).expanduser()
    named = str(reference)
    try:
        if path.exists() and not path.is_dir():
            return path
        folder = path.is_dir()
    except (OSError, ValueError):  # too long, a loop of links, a NUL: no such file in any case
        folder = False
    known = {name: file for name, file, _ in shipped()}
    launches = {f"accelerate/{file.stem}": file for file in (shipped_folder("recipes") / "accelerate").glob("*.yaml")}
    if named in launches:
        return launches[named]
    if named in known:
        return known[named]
    if folder:
        problem = ("is a folder", "name the recipe file in it")
    else:
        close = nearest(path.stem, known)
        remedy = f"did you mean {close}?" if close else f"shipped are {', '.join(known)}"
        problem = ("is neither a file nor the name of a shipped recipe", remedy)
    shown = "".join(c if c.isprintable() else "?" for c in named)[:200] or '""'
    raise RecipeError([Problem(shown, None, "", *problem)])


def copy(name: str | Path, destination: str | Path) -> Path:
    """Copy a recipe to ``destination`` (a file, or a folder it keeps its name in) and return where it is.

    Nothing is overwritten, and a recipe that is shipped loses its editor line, which holds only beside its
    schema. Raises :class:`~sft.errors.RecipeError`.
    """
    source = find(name)
    target = Path(destination).expanduser()
    if target.is_dir():
        target = target / source.name
    text = source.read_text(encoding="utf-8")
    if source.parent == shipped_folder("recipes"):
        text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith(_MODELINE))
    try:
        with target.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        problem = Problem(str(target), None, "", "exists already", "name another file")
        raise RecipeError([problem]) from None
    except OSError as error:
        with suppress(OSError):  # half of it, on a full disk: what was there before is a FileExistsError
            target.unlink()
        problem = Problem(str(target), None, "", f"cannot be written ({error.strerror})", "name another place")
        raise RecipeError([problem]) from None
    return target
