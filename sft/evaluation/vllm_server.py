"""A vLLM server of one model, started here, waited for, and stopped on every way out.

It listens on this machine alone, to whoever has a key that is made for it. Whatever it says goes into a log in the
run's folder; why it died is told by that log's last errors.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sft.errors import EndpointError
from sft.evaluation.endpoint import AGAIN, Endpoint
from sft.recipes.requirements import Vllm
from sft.runs.patience import Patience
from sft.runs.processes import say

__all__ = ["AT_ONCE", "ServedModel", "started"]

_MODULE = "vllm.entrypoints.openai.api_server"
#: Prompts that a server is asked at once; it puts them into batches as they come.
AT_ONCE = 64
#: Seconds that a server may take to load its model, to write one completion, and to end when it is told to.
START_SECONDS, ANSWER_SECONDS, STOP_SECONDS = 1800.0, 3600.0, 10.0
#: GiB that vLLM on a CPU keeps for what it has read; it would take nearly all memory there is.
_CPU_CACHE = {"VLLM_CPU_KVCACHE_SPACE": "2"}
#: It tells its makers of every start unless it is told not to; and a folder called vllm that lies about is not vLLM.
_SETTINGS = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "PYTHONSAFEPATH": "1"}
#: Has the system end what is started by it when this process is killed, which can then stop nothing itself.
_WITH_US = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); os.execvp(sys.argv[1], sys.argv[1:])"
#: An error at the end of a traceback, or in a line of vLLM's log behind the place that it was logged at.
_ERROR = re.compile(r"(?:^|\] |\) )((?:[\w.]+\.)?\w*(?:Error|Exception|Interrupt): .*)$")


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What a server is started with: the folder or hub id of a model, its commit, and the format of its weights.

    ``longest``: tokens that a prompt and its completion may have together.
    """

    name: str
    revision: str | None
    dtype: str
    longest: int
    trust_remote_code: bool = False

    def words(self) -> list[str]:
        """For the command line. Greedy defaults are no matter: every question says all that it wants."""
        found = ["--model", self.name, "--dtype", self.dtype, "--max-model-len", str(self.longest)]
        found += ["--revision", self.revision] if self.revision else []
        found += ["--trust-remote-code"] if self.trust_remote_code else []
        # Ids go in and ids come out, so no tokenizer is read, which a vLLM with another transformers may not know.
        found += ["--skip-tokenizer-init", "--generation-config", "vllm", "--enforce-eager"]
        return [*found, "--max-num-seqs", str(AT_ONCE), "--uvicorn-log-level", "warning", *_memory()]


@contextmanager
def started(vllm: Vllm, model: ServedModel, log: Path) -> Iterator[tuple[Endpoint, str]]:
    """A server of ``model``, ready to be asked, and what it calls the model. Raises ``EndpointError``."""
    name, key, port = f"sft-{secrets.token_hex(4)}", secrets.token_hex(16), _free_port()
    words = [*model.words(), "--served-model-name", name, "--host", "127.0.0.1", "--port", str(port)]
    say(f"evaluate  starts vLLM {vllm.version}; its log is {log}")
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*_ending_with_us(), vllm.python, "-m", _MODULE, *words],
            env=_CPU_CACHE | vllm.environment | _SETTINGS | {"VLLM_API_KEY": key},
            stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip

    def pause(seconds: float) -> None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            raise EndpointError(_died(log, port))

    address = f"http://127.0.0.1:{port}"
    patience = Patience.lasting(30, answer_seconds=ANSWER_SECONDS, sleep=pause)
    try:
        with Endpoint(address, key, Patience(tries=1, answer_seconds=10)) as door:
            _wait_for(door, name, pause, log)
        with Endpoint(address, key, patience) as endpoint:
            yield endpoint, name
    except EndpointError as error:
        if str(log) in str(error):
            raise
        pause(0)  # says why where it has died
        raise EndpointError(f"{error}; its log is {log}") from None
    finally:
        _stop(process)


def _wait_for(door: Endpoint, name: str, pause: Callable[[float], None], log: Path) -> None:
    began = time.monotonic()
    while True:
        with suppress(EndpointError):
            if any(model.name == name for model in door.models()):
                return
        if time.monotonic() - began > START_SECONDS:
            raise EndpointError(f"vLLM: has not answered in {START_SECONDS:.0f} s; its log is {log}")
        pause(0.5)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and what it has started; at once where this process is told to stop a second time meanwhile."""
    try:
        _tell(process, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    finally:
        _tell(process, signal.SIGKILL)
        process.wait()


def _tell(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):  # nobody is left of its group
        os.killpg(process.pid, number)


def _died(log: Path, port: int) -> str:
    """Why the server is gone, by the last errors of its log."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = list(dict.fromkeys(found[1] for line in lines if (found := _ERROR.search(line))))
    said = " | ".join(errors[-3:] or [line.strip() for line in lines if line.strip()][-3:]) or "it said nothing"
    if "Address already in use" in said:
        return f"vLLM: its port {port} was taken by another program meanwhile; {AGAIN} (its log is {log})"
    return f"vLLM: the server has ended: {said[-600:]}; see to that, or write fidelity.engine: transformers ({log})"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _ending_with_us() -> Sequence[str]:
    return [sys.executable, "-c", _WITH_US] if sys.platform == "linux" else []


def _memory() -> list[str]:
    """The share of a GPU's memory that is free: vLLM wants nine tenths of all there is, and ends where it is not."""
    import torch

    if not torch.cuda.is_available():
        return []
    free, total = torch.cuda.mem_get_info()
    return ["--gpu-memory-utilization", f"{0.9 * free / total:.2f}"]
