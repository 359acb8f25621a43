"""Proof: every file downloaded at the commit, into an empty folder and cache, and hashed.

A snapshot is no proof: the client takes a file of the right size with another byte in it, and serves one from its
cache while the hub answers nothing but 401.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from sft.errors import PublishError, Unverified
from sft.publishing.hub import Hub
from sft.publishing.plan import Plan, holds
from sft.publishing.sending import Sent
from sft.publishing.staging import Staged
from sft.runs.hashes import file_sha256

__all__ = ["verify"]


def verify(plan: Plan, staged: Staged, sent: Sent, hub: Hub) -> None:
    """Download what was published and compare it with what was staged. Raises ``Unverified``."""
    where = f"{plan.repo} at {sent.commit[:12]}"
    with tempfile.TemporaryDirectory(prefix="sft-push-") as scratch:
        cache, folder = Path(scratch, "cache"), Path(scratch, "clone")
        folder.mkdir()
        try:
            listed = hub.tree(plan.repo, sent.commit)
            lost = [one.path for one in staged.files if not holds(listed, one)]
            if lost:
                raise Unverified(
                    f"{where}: the commit does not hold {lost[0]} as it was sent (a .gitignore there may name it); "
                    "delete that file or the repository, and push again"
                )
            for one in staged.files:
                got = hub.download(plan.repo, sent.commit, one.path, cache)
                if file_sha256(got) != one.sha256:
                    raise Unverified(
                        f"{where}: {one.path} as downloaded is not what was sent; run the same command again, and "
                        "do not hand the clone on before it says so"
                    )
                shutil.copyfile(got, folder / one.path)
        except Unverified:
            raise
        except (PublishError, OSError, ValueError) as error:  # what the hub lists is not what it serves
            raise Unverified(
                f"{where}: the commit is there and could not be verified ({' '.join(str(error).split())[:300]}); run "
                "the same command again, which sends nothing twice"
            ) from error
        _load(folder, staged, where)


def _load(folder: Path, staged: Staged, where: str) -> None:
    """Configuration and tokenizer, by the libraries that will load them."""
    from peft import PeftConfig
    from transformers import AutoConfig, AutoTokenizer

    from sft.policies.weights import quiet_engine

    try:
        with quiet_engine():
            if staged.weights == "adapter":
                named = PeftConfig.from_pretrained(str(folder)).base_model_name_or_path
                if named != staged.base.id:
                    raise ValueError(f"it names {named} as its base")
            else:
                AutoConfig.from_pretrained(folder)
            AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # three libraries read these files, each with errors of its own
        raise Unverified(f"{where}: what was downloaded does not load ({type(error).__name__}: {error})") from error
