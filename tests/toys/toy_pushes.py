"""What tests of publishing share: a real run of the tiny model, the hub it goes to, and the command as it is typed."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forked_python
import huggingface_hub
import pytest
from loopback_hub import OTHER_TOKEN, READ_TOKEN, TOKEN, LoopbackHub
from made_once import made_once
from repository import ROOT
from toy_demonstrations import write_demonstrations

from sft.cli import main
from sft.publishing import hub as hubs
from sft.runs.patience import Patience
from sft.runs.run import read_json, write_json

BASE, CLONE = "me/tiny-base", "me/clone"
RECIPE = """\
name: colours
model:
  name: {model}
demonstrations:
  path: {data}
split:
  validation: 0.15
  test: 0.25
  near_duplicates: remove
adapter:
  r: 4
  lora_alpha: 8
training:
  learning_rate: 1.0e-2
  max_steps: 8
  eval_steps: 4
fidelity:
  profile: fast
  systems: [tuned, B0, K, P]
  max_prompts: 8
  max_new_tokens: 12
publish:
  expert: Somebody who names colours twice.
  license: mit
  data_license: mit
  language: en
  base_model: me/tiny-base
  examples: true
"""


def fitted_run(model: Path, temporary: pytest.TempPathFactory) -> Path:
    """A run as ``sft run`` leaves it; made once for all processes of the suite. Copy it to change it."""
    return made_once(temporary, "fitted-for-pushing", lambda folder: _fit(model, folder)) / "run"


def _fit(model: Path, folder: Path) -> None:
    data = write_demonstrations(folder / "demonstrations.jsonl", 80)
    recipe = folder / "colours.yaml"
    recipe.write_text(RECIPE.format(model=model, data=data), encoding="utf-8")
    assert main(["run", str(recipe), "--output", str(folder / "run")]) == 0


def base_files(model: Path) -> dict[str, bytes]:
    """The tiny base as a repository holds it."""
    return {path.name: path.read_bytes() for path in model.iterdir() if path.is_file()}


def patient(naps: list[float]) -> Patience:
    """Patience that lasts for a moment; what it would have slept is noted in ``naps``."""
    return Patience(2.0, 1.0, tries=4, first_pause_seconds=1, longest_pause_seconds=60, sleep=naps.append)


@dataclass(frozen=True)
class Outcome:
    """What a command came to."""

    code: int
    out: str
    err: str


class Bench:
    """A hub, a run, and ``sft push`` between them, in this process."""

    def __init__(self, hub: LoopbackHub, run: Path, capsys: Any, caplog: Any, naps: list[float]) -> None:
        self.hub, self.run, self.naps = hub, run, naps
        self._capsys, self._caplog = capsys, caplog
        self.secrets = [TOKEN, READ_TOKEN, OTHER_TOKEN]

    def push(self, *words: str) -> Outcome:
        """``sft push RUN me/clone WORDS``; no secret may be in what it says, nor in what has reached the hub."""
        repo = [] if words and not words[0].startswith("-") else [CLONE]
        self._capsys.readouterr()
        code = main(["push", str(self.run), *repo, *words])
        said = self._capsys.readouterr()
        heard = (said.out + said.err + self._caplog.text).encode() + self.hub.everything_received()
        for secret in self.secrets:
            assert secret.encode() not in heard
        return Outcome(code, said.out, said.err)

    @property
    def commits(self) -> int:
        """Commits on the clone's repository beyond the hub's own first one."""
        return self.hub.repos[CLONE].pushes if CLONE in self.hub.repos else 0

    @property
    def head(self) -> dict[str, bytes]:
        """What the main branch holds."""
        return self.hub.repos[CLONE].head() if CLONE in self.hub.repos else {}

    def receipt(self) -> dict[str, Any]:
        """The last row of ``push.json``."""
        row: dict[str, Any] = read_json(self.run / "push.json")["pushes"][-1]
        return row

    def change(self, file: str, **values: Any) -> None:
        """Other values in a JSON file of the run."""
        write_json(self.run / file, read_json(self.run / file) | values)


def client_of(hub: LoopbackHub) -> dict[str, Any]:
    """Values that the client's constants have where ``HF_ENDPOINT`` is ``hub``; they are made when it is imported."""
    known = huggingface_hub.constants
    of_files = known.HUGGINGFACE_CO_URL_TEMPLATE.replace(known.ENDPOINT, hub.endpoint)
    made = {"ENDPOINT": hub.endpoint, "HUGGINGFACE_CO_URL_TEMPLATE": of_files}
    return made | {"HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}


def connected(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, naps: list[float], token: str = TOKEN) -> None:
    """Let the client of this process talk to ``hub``, without waiting for anything."""
    for name, value in client_of(hub).items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    monkeypatch.setattr("transformers.utils.hub._hf_api", None)  # made once a process, for the hub of that time
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr(hubs, "PATIENCE", patient(naps))
    # The client waits by a clock of its own between its own retries.
    monkeypatch.setattr("huggingface_hub.utils._http.time", types.SimpleNamespace(sleep=naps.append))


def bench_for(run: Path, tmp_path: Path, hub: LoopbackHub, monkeypatch: Any, capsys: Any, caplog: Any) -> Bench:
    """A bench with a copy of ``run``."""
    naps: list[float] = []
    connected(hub, monkeypatch, naps)
    caplog.set_level(logging.DEBUG)
    return Bench(hub, Path(shutil.copytree(run, tmp_path / "run")), capsys, caplog, naps)


def elsewhere(hub: LoopbackHub, home: Path) -> str:
    """Lines of Python that make a process of its own a client of ``hub`` with nothing in its caches."""
    caches = {"HF_HOME": home, "HF_HUB_CACHE": home / "hub", "HF_TOKEN_PATH": home / "token"}
    values = client_of(hub) | {name: str(path) for name, path in caches.items()}
    client = "import huggingface_hub.hf_api as client"
    return f"{client}\nvars(client.constants).update({values!r})\nclient.api.endpoint = {hub.endpoint!r}\n"


def started(words: list[str], hub: LoopbackHub, home: Path) -> subprocess.Popen[str]:
    """``sft WORDS`` in a process of its own, which has the token of this one; see :func:`elsewhere`."""
    program = f"{elsewhere(hub, home)}import runpy\nrunpy.run_module('sft', run_name='__main__')"
    return forked_python.Popen(
        [sys.executable, "-c", program, *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
