"""Title and description of an AWS command-line example -> the command, as written by its documentation authors.

Each example page of the ``awscli`` wheel holds one or more examples: a bold title, a sentence, a literal
block that begins with ``aws``. The prompt is title and sentence; the completion is the command, its line
continuations joined.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator

WHEEL = {
    "name": "awscli",
    "version": "1.27.0",
    "sha256": "fc16a815ccdb7737cad929ae13689f0e2c49854b5a4f95eee0e340599add4fd0",
    "licence": "apache-2.0",
}

COMMAND_CHARACTERS = range(8, 301)
PROMPT_CHARACTERS = range(20, 601)
TITLE = re.compile(r"^\*\*(?:Example \d+\s*[:.]\s*)?(.+?)\*\*\s*$")


def rows(archive: zipfile.ZipFile) -> Iterator[dict[str, str]]:
    """One row per example: prompt, completion, group (the page), expert."""
    seen = set()
    for name in sorted(archive.namelist()):
        if not (name.startswith("awscli/examples/") and name.endswith(".rst")):
            continue
        page = name.removeprefix("awscli/examples/").removesuffix(".rst")
        for prompt, completion in _examples(archive.read(name).decode("utf-8")):
            if (prompt, completion) not in seen:
                seen.add((prompt, completion))
                yield {"prompt": prompt, "completion": completion, "group": page, "expert": "AWS CLI authors"}


def _examples(page: str) -> Iterator[tuple[str, str]]:
    title, words = "", []
    lines = iter(page.splitlines())
    for line in lines:
        if match := TITLE.match(line):
            title, words = match[1], []
            continue
        indented = line[:1] in (" ", "\t")
        if not (title and indented and line.strip().startswith("aws ")):
            if not indented and line.strip() not in ("", "Command::", "Output::", "::"):
                words.append(line.strip())
            continue
        parts = [line.strip()]
        while parts[-1].endswith("\\"):
            parts[-1] = parts[-1].rstrip("\\ ")
            parts.append(next(lines, "").strip())
        command = " ".join(part for part in parts if part)
        sentence = re.sub(r"\.?\s*::$", ".", " ".join(words)).replace(" .", ".")
        prompt = f"{title}\n\n{sentence}" if sentence else title
        if len(command) in COMMAND_CHARACTERS and len(prompt) in PROMPT_CHARACTERS:
            yield prompt, command
        title, words = "", []
