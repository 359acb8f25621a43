"""Data sets of the hub as local files: which subset, which split, at which commit.

``hub:OWNER/NAME[@REVISION][:[SUBSET/]SPLIT]``: a revision is written as in the hub's own ``hf://`` addresses, and
subset and split are what ``datasets.load_dataset(path, name, split=...)`` takes; ``hub:OWNER/NAME:SUBSET/`` is its
train split. The hub is asked every time which commit the revision is now, and what was downloaded is kept by commit:
rows that have changed are seen, and those of a commit that is named are read without asking anybody.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sft.errors import RunError, SourceError
from sft.recipes.sources import cache_dir, cached_folder
from sft.runs.atomic_files import write_text

__all__ = ["HubSet", "fetched_rows"]

_REFERENCE = re.compile(r"hub:([^@:/\s]+/[^@:/\s]+)(?:@([^:\s]+))?(?::(?:(.+)/)?([^/]*))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_FORM = "write hub:OWNER/NAME, hub:OWNER/NAME:SPLIT, hub:OWNER/NAME:SUBSET/SPLIT, or hub:OWNER/NAME@REVISION:..."


@dataclass(frozen=True, slots=True)
class HubSet:
    """One split of one subset of a data set. ``revision``: a commit, tag or branch, "" where none is named.

    ``subset``: "" for the only one, or the one that the data set calls its default.
    """

    repo: str
    revision: str = ""
    subset: str = ""
    split: str = "train"

    @classmethod
    def of(cls, reference: str) -> HubSet:
        """What ``hub:...`` names. Raises ``SourceError``."""
        found = _REFERENCE.fullmatch(reference)
        if found is None:
            raise SourceError(f"{reference}: names no data set of the hub; {_FORM}")
        repo, revision, subset, split = found.groups()
        return cls(repo, revision or "", subset or "", split or "train")

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        where = f":{self.subset}/{self.split}" if self.subset else f":{self.split}" if self.split != "train" else ""
        return f"hub:{self.repo}{revision}{where}"

    @property
    def _home(self) -> str:
        return f"hub/{self.repo.replace('/', '--')}"

    def _folder(self, commit: str) -> str:
        """Where its rows at ``commit`` are kept, from the cache's root on."""
        return f"{self._home}/{commit}/{quote(self.subset or 'default', '')}--{quote(self.split, '')}"

    def _newest(self) -> str:
        """The commit that the revision was when it was last asked for; "" where its rows are not kept."""
        known = cache_dir() / self._home / "refs" / quote(self.revision or "main", "")
        try:
            commit = known.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            commit = ""
        if commit and (cache_dir() / self._folder(commit)).is_dir():
            return commit
        if self.revision:
            return ""
        kept = [
            path for path in (cache_dir() / self._home).glob("*") if (cache_dir() / self._folder(path.name)).is_dir()
        ]
        return max(kept, key=lambda path: (path.stat().st_mtime, path.name)).name if kept else ""

    def _note(self, commit: str) -> None:
        """Remember what the revision is now, for when the hub is out of reach."""
        known = cache_dir() / self._home / "refs" / quote(self.revision or "main", "")
        with suppress(OSError, RunError):  # a cache that can only be read serves as well
            known.parent.mkdir(parents=True, exist_ok=True)
            write_text(known, f"{commit}\n")


def fetched_rows(reference: str, commit: str = "") -> tuple[Path, str, str]:
    """The rows that ``reference`` names as a local Parquet file, their commit, and a sentence about it.

    ``commit``: which one, where that was settled before, as in a run that goes on. Where the hub cannot be reached, the
    newest rows that are kept are taken, and the sentence says so. Raises ``SourceError``.
    """
    wanted = HubSet.of(reference)
    note = ""
    if not commit and _COMMIT.fullmatch(wanted.revision):
        commit = wanted.revision
    if not commit:
        commit, why = _asked(wanted)
        if not commit:
            commit = wanted._newest()
            if not commit:
                raise SourceError(
                    f"{reference}: the hub cannot be asked ({why}), and none of it is kept from before; check the "
                    "network, or download it elsewhere and name the file"
                )
            note = f" The hub cannot be asked ({why}): these are the newest rows that are kept from before."
    folder, was_kept = cached_folder(wanted._folder(commit), lambda folder: _download(wanted, commit, folder))
    if not note and not _COMMIT.fullmatch(wanted.revision):
        wanted._note(commit)
        pinned = replace(wanted, revision=commit)
        note = f" To stay with it whatever comes, write {pinned}."
    kept = "kept from before" if was_kept else "downloaded"
    return folder / "demonstrations.parquet", commit, f"{reference} is of commit {commit} ({kept}).{note}"


def _asked(wanted: HubSet) -> tuple[str, str]:
    """The commit that the revision is now; or "" and why the hub cannot be asked. Raises ``SourceError``."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    if constants.is_offline_mode():
        return "", "HF_HUB_OFFLINE is set"
    try:
        found = HfApi(library_name="sft").dataset_info(wanted.repo, revision=wanted.revision or None, timeout=30)
    except GatedRepoError:
        raise SourceError(
            f"{wanted}: is open only to whom its owners let in; ask them on its page, then run `hf auth login`"
        ) from None
    except RevisionNotFoundError:
        raise SourceError(f"{wanted}: has no revision '{wanted.revision}'; name a commit, a tag or a branch") from None
    except RepositoryNotFoundError:
        raise SourceError(
            f"{wanted}: there is no such data set, or it is private; check OWNER/NAME, or run `hf auth login`"
        ) from None
    except HfHubHTTPError as error:
        return "", f"it answers {error.response.status_code}"
    except Exception as error:  # the client's transport has errors of its own: whichever, nobody answered
        if isinstance(error, ValueError) and "repo" in str(error).lower():  # its own rules for names
            raise SourceError(f"{wanted}: names no data set of the hub; {_FORM}") from None
        return "", type(error).__name__
    return str(found.sha), ""


def _download(wanted: HubSet, commit: str, folder: Path) -> None:
    """Write the rows at ``commit`` into ``folder``. Raises ``SourceError``: one sentence, whatever the client says."""
    import datasets

    try:
        rows = datasets.load_dataset(wanted.repo, wanted.subset or None, split=wanted.split, revision=commit)
    except Exception as error:  # every client error means the same to the user: not to be had as named
        raise SourceError(f"{wanted}: {_why(wanted, commit, error)}") from error
    rows.to_parquet(str(folder / "demonstrations.parquet"))


def _why(wanted: HubSet, commit: str, error: Exception) -> str:
    """What is wrong with the subset or the split that was named, or else the client's own words."""
    subsets = _listed("get_dataset_config_names", wanted.repo, revision=commit)
    if subsets and wanted.subset not in subsets and (wanted.subset or len(subsets) > 1):
        split = "train" if wanted.split in subsets else wanted.split
        first = wanted.split if wanted.split in subsets and not wanted.subset else subsets[0]
        says = f"has no subset '{wanted.subset}'" if wanted.subset else "has several subsets"
        return f"{says}; name one of {_shown(subsets)}: {replace(wanted, subset=first, split=split)}"
    splits = _listed("get_dataset_split_names", wanted.repo, wanted.subset or None, revision=commit)
    name = wanted.split.partition("[")[0]
    if splits and not set(re.split(r"\+", name)) <= set(splits):
        return f"has no split '{name}'; name one of {_shown(splits)}: {replace(wanted, split=splits[0])}"
    reason = " ".join(str(error).split())[:300]
    return (
        f"the data set could not be loaded ({type(error).__name__}: {reason}); check the id and the network, or "
        "download it and name the file"
    )


def _listed(question: str, *words: Any, **named: Any) -> list[str]:
    """What ``datasets`` answers to a question about names; nothing where it cannot."""
    import datasets

    try:
        return [str(name) for name in getattr(datasets, question)(*words, **named)]
    except Exception:  # it is asked to explain an error that is said in any case
        return []


def _shown(names: list[str], at_most: int = 12) -> str:
    more = f" and {len(names) - at_most:,} more" if len(names) > at_most else ""
    return ", ".join(names[:at_most]) + more
