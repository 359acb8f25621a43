"""Git: the history of a repository, of each commit the changes and the message."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from tempfile import TemporaryFile

from sft.demonstrations.demonstration import Source
from sft.errors import SourceError
from sft.gathering.imports.parsing import moment
from sft.gathering.records import Importer, ImportOptions, Piece, Record, Written
from sft.gathering.source_files import SourceFiles

#: Changes of more characters are no prompt: who reads them writes of what is not in them.
_LONGEST = 20_000
#: A commit begins with its record's sign and has six fields; neither sign is in texts.
_BEGIN, _NEXT = "\x1e", "\x1f"
_FORMAT = f"--format={_BEGIN}%H{_NEXT}%aN{_NEXT}%aE{_NEXT}%aI{_NEXT}%B{_NEXT}"
#: A line that a program puts below a message, or what goes on of one.
_TRAILER = re.compile(
    r"(?:change-id|cc|fixes|closes|refs?|link|git-svn-id|[a-z]+(?:-[a-z]+)*-by):.*|[ \t]+\S.*", re.IGNORECASE
)
#: What git writes of a commit that takes another back, and of one that puts it in again; a reason may stand below.
_TAKEN_BACK = re.compile(
    r'(?:Revert|Reapply) ".*"\s*'
    r"(?:This reverts commit [0-9a-f]{7,64}(?:, reversing\s+changes made to [0-9a-f]{7,64})?\.?)?"
)
#: Nothing of what a repository's own settings may start is started, and nothing is fetched.
_QUIET = {
    "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1", "GIT_ATTR_NOSYSTEM": "1", "LC_ALL": "C.UTF-8", "GIT_PAGER": "cat",
}  # fmt: skip


def _records(files: SourceFiles, options: ImportOptions) -> Iterator[Record]:
    head = next(_git(files, "rev-parse", "HEAD")).strip().decode("ascii", "replace")[:12]
    log = _git(
        files, "log", "--no-merges", "--reverse", "--use-mailmap", "--no-show-signature", "--encoding=UTF-8", _FORMAT,
        "--patch", "--no-ext-diff", "--no-textconv", "--no-color", "--submodule=short", "--ignore-submodules=all",
    )  # fmt: skip
    merges = next(_git(files, "rev-list", "--merges", "--count", "HEAD")).strip()
    yield from (Written(Source(str(files.path), 1), (), None, "", fate="merged") for _ in range(int(merges)))
    commit: list[bytes] = []
    number = held = 0
    for line in log:
        if line.startswith(_BEGIN.encode()):
            if commit:
                yield _commit(Source(f"{files.path}@{head}", number), b"".join(commit).decode("utf-8", "replace"))
            commit, number, held = [], number + 1, 0
        held += len(line)
        if held < 8 * _LONGEST:  # what is longer is no prompt, and need not be held
            commit.append(line)
    if commit:
        yield _commit(Source(f"{files.path}@{head}", number), b"".join(commit).decode("utf-8", "replace"))


def _git(files: SourceFiles, *words: str) -> Iterator[bytes]:
    """The lines that git answers with. Raises ``SourceError`` where it is missing, or refuses."""
    program = shutil.which("git")
    if program is None:
        raise SourceError(f"{files.path}: is read by git, which is not installed here; install it")
    # A folder of somebody else's may be read: whatever its settings could start is switched off.
    command = [program, "-c", "core.fsmonitor=false", "-c", "safe.directory=*", "-C", str(files.path), *words]
    with TemporaryFile() as complaints, subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=complaints, stdin=subprocess.DEVNULL, env=os.environ | _QUIET
    ) as running:  # fmt: skip
        assert running.stdout is not None
        yield from running.stdout
        if running.wait():
            complaints.seek(0)
            said = complaints.read().decode("utf-8", "replace").strip().split("\n")[-1]
            raise SourceError(f"{files.path}: git cannot read its history ({said}); name a repository with commits")


def _commit(place: Source, commit: str) -> Written:
    name, mail, date, message, changes = (*commit.split(_NEXT, 5)[1:], "", "", "", "", "")[:5]
    people = tuple(filter(None, (name, mail)))
    written = _without_trailers(message)
    changes = changes.strip("\n")
    files = Counter(re.findall(r"(?m)^diff --git a/.+ b/(.+)$", changes))
    largest = max(
        files, key=lambda path: len(changes.partition(f" b/{path}\n")[2].partition("\ndiff --git ")[0]), default=""
    )
    fate = "wordless" if not written else "automatic" if _TAKEN_BACK.fullmatch(written) else ""
    if not changes or len(changes) > _LONGEST:
        return Written(place, people, moment(date), largest, fate=fate)
    return Written(place, people, moment(date), largest, () if fate else (Piece(changes, written),), fate=fate)


def _without_trailers(message: str) -> str:
    """``message`` without its last paragraph, where that is trailers alone, and is not all there is."""
    lines = message.strip().split("\n")
    start = len(lines)
    while start and _TRAILER.fullmatch(lines[start - 1]):
        start -= 1
    trailers = 0 < start < len(lines) and not lines[start - 1].strip() and not lines[start][:1].isspace()
    return "\n".join(lines[:start] if trailers else lines).strip()


IMPORTER = Importer(
    name="git",
    about="the history of a git repository",
    prompt=f"the changes of a commit, as a diff of at most {_LONGEST:,} characters",
    completion="its message, without the lines that programs put below it (Signed-off-by and others)",
    group="the file that was changed most",
    flaws=(
        "Merges, commits without changes or with too many, and reverts for which nobody wrote a reason are left out.",
        "Why something was changed is often in no diff: no clone can know it.",
    ),
    recognises=lambda files: bool({".git", ".git/HEAD"} & set(files.names)) or {"HEAD", "config"} <= set(files.names),
    records=_records,
)
