"""Function source -> first sentence of its docstring, as written by the developers of Twisted.

Every function and method outside the tests that has a docstring and a body. The prompt is the source
without the docstring (a method with its class line above it); the completion is the docstring's first sentence.
"""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
import zipfile
from collections.abc import Iterator

WHEEL = {
    "name": "Twisted",
    "version": "22.10.0",
    "sha256": "86c55f712cc5ab6f6d64e02503352464f0400f66d4f079096d744080afcccbd0",
    "licence": "mit",
}

PROMPT_CHARACTERS = range(30, 400)
COMPLETION_WORDS = range(3, 41)
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")


def rows(archive: zipfile.ZipFile) -> Iterator[dict[str, str]]:
    """One row per function: prompt, completion, group (the file), expert."""
    seen = set()
    for name in sorted(archive.namelist()):
        if not name.endswith(".py") or "/test/" in name or "/newsfragments/" in name:
            continue
        for prompt, completion in _functions(archive.read(name).decode("utf-8")):
            if (prompt, completion) not in seen:
                seen.add((prompt, completion))
                yield {"prompt": prompt, "completion": completion, "group": name, "expert": "Twisted developers"}


def _functions(source: str) -> Iterator[tuple[str, str]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # escapes that newer Pythons frown upon
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            tree = ast.parse(source)
        except SyntaxError:  # a template with placeholders, not a module
            return
    lines = source.splitlines()
    for parent in ast.walk(tree):
        for node in ast.iter_child_nodes(parent):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or len(node.body) < 2:
                continue
            text = ast.get_docstring(node)
            if not text:
                continue
            completion = SENTENCE_END.split(" ".join(text.split("\n\n")[0].split()))[0]
            docstring = node.body[0]
            code = lines[node.lineno - 1 : docstring.lineno - 1] + lines[docstring.end_lineno : node.end_lineno]
            body = textwrap.dedent("\n".join(line for line in code if line.strip()))
            prompt = body
            if isinstance(parent, ast.ClassDef):
                prompt = lines[parent.lineno - 1].strip() + "\n" + textwrap.indent(body, "    ")
            if (
                len(prompt) in PROMPT_CHARACTERS
                and len(completion.split()) in COMPLETION_WORDS
                and completion[0] != "@"  # a field list without a sentence before it
            ):
                yield prompt, completion
