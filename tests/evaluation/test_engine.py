"""``fidelity.engine: vllm``: texts that a server writes, by a program in vLLM's place that knows a run's by heart.

``test_served_vllm.py`` has vLLM itself.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from loopback_server import LoopbackServer
from repository import ROOT
from toy_launches import free_port
from vllm_stand_in import VERSION, by_heart, python_with_vllm

from sft.cli import main
from sft.runs.run import read_json, read_jsonl

pytestmark = pytest.mark.engine

SYSTEMS = ("tuned", "B0", "B3")
KEY = "sk-T7kQ2mZp9LxB4nVc8RdY1sGfH6jKe3Au"


@pytest.fixture(scope="module")
def answers(measured_once: Path) -> dict[str, dict[str, list[int]]]:
    return by_heart(measured_once)


@dataclass
class StandIn:
    """What the program in vLLM's place is told, and what it has heard."""

    folder: Path
    answers: dict[str, dict[str, list[int]]]

    def is_told(self, fault: str = "", after: int = 0, copy: str = "", **answers: dict[str, list[int]]) -> None:
        self.heard.unlink(missing_ok=True)
        told = {"answers": self.answers | answers, "fault": fault, "after": after, "heard": str(self.heard)}
        told["copy"] = copy
        (self.folder / "told.json").write_text(json.dumps(told), encoding="utf-8")

    @contextmanager
    def runs(self, *names: str) -> Iterator[str]:
        """The address of one that runs, which nobody but the test has started."""
        port = str(free_port())
        words = ["--model", str(self.folder), "--host", "127.0.0.1", "--port", port, "--served-model-name", *names]
        module = ["-m", "vllm.entrypoints.openai.api_server"]
        process = subprocess.Popen(
            [str(self.folder / "python"), *module, *words], env=os.environ | {"VLLM_API_KEY": KEY}
        )
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and not self.starts:
                time.sleep(0.02)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()

    @property
    def heard(self) -> Path:
        return self.folder / "heard.jsonl"

    @property
    def starts(self) -> list[dict[str, Any]]:
        return [row for row in read_jsonl(self.heard) if "pid" in row] if self.heard.exists() else []

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [row for row in read_jsonl(self.heard) if "pid" not in row] if self.heard.exists() else []

    def is_gone(self) -> bool:
        """Whether every server that was started has ended, a moment being granted."""
        deadline = time.monotonic() + 5
        while any(_runs(one["pid"]) for one in self.starts):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True


def _runs(pid: int) -> bool:
    """Whether process ``pid`` is there and no zombie: an orphan's new parent, which may be the tests, need not ask."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def vllm(tmp_path: Path, answers: dict[str, dict[str, list[int]]], monkeypatch: pytest.MonkeyPatch) -> StandIn:
    folder = tmp_path / "vllm"
    monkeypatch.setenv("SFT_VLLM_PYTHON", str(python_with_vllm(folder)))
    monkeypatch.setenv("VLLM_STAND_IN", str(folder / "told.json"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    made = StandIn(folder, answers)
    made.is_told()
    return made


Evaluate = Callable[..., tuple[int, str, str]]


@pytest.fixture
def evaluate(measured_run: Path, capsys: pytest.CaptureFixture[str]) -> Evaluate:
    """``sft evaluate RUN --engine vllm MORE``: exit status, stdout, the last line of stderr."""

    def run(*more: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["evaluate", str(measured_run), *(more or ("--engine", "vllm"))])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def completions(run: Path) -> dict[str, dict[str, Any]]:
    return {s: {row["id"]: row for row in read_jsonl(run / f"completions-{s}.jsonl")} for s in SYSTEMS}


def test_what_a_server_writes_is_measured(vllm: StandIn, measured_run: Path, evaluate: Evaluate) -> None:
    """Greedy by request, ids for ids, one server for the base and one for the clone; and transformers agrees."""
    before = completions(measured_run)
    code, _, err = evaluate()
    assert code == 0, err
    assert completions(measured_run) == before
    words = "23 of 23 texts are those that transformers writes"
    name = f"vLLM {VERSION}, float32"
    assert [f"evaluate  {name}: {words} ({system})" in err for system in SYSTEMS] == [True] * 3
    facts = read_json(measured_run / "measurement.json")
    assert facts["signature"]["engine"] == name and facts["agreement"] == dict.fromkeys(SYSTEMS, words)
    report = (measured_run / "report.md").read_text(encoding="utf-8")
    assert f"| engine | {name} |" in report and f"| agreement.tuned | {words} |" in report
    assert "The texts were written by" not in report, "agreement is no warning"
    base, tuned = vllm.starts
    assert len(vllm.bodies) == 3 * 23 and vllm.is_gone()
    assert tuned["words"][1] == str(measured_run / "model") and base["words"][1] != tuned["words"][1]
    for body in vllm.bodies:
        assert body["temperature"] == 0 and body["ignore_eos"] and body["return_token_ids"] and body["stop_token_ids"]
        assert body["max_tokens"] == 12 and body["repetition_penalty"] == 1 and body["logprobs"] is None
    assert not [path.name for path in measured_run.iterdir() if path.name.startswith(".") and path.name != ".lock"]


def test_what_is_on_file_is_not_written_again_and_another_engine_starts_anew(
    vllm: StandIn, measured_run: Path, evaluate: Evaluate
) -> None:
    assert evaluate()[0] == 0
    vllm.is_told("start")
    assert evaluate()[0] == 0, "nothing is missing, so nothing is started"
    before = {path.name: path.read_bytes() for path in measured_run.glob("token-scores-*.jsonl")}
    code, _, err = evaluate("--json")
    assert code == 0 and "write tuned" in err, "the recipe's engine is transformers"
    assert "engine" not in read_json(measured_run / "measurement.json")["signature"]
    assert not list(measured_run.glob("departures-*"))
    assert {path.name: path.read_bytes() for path in measured_run.glob("token-scores-*.jsonl")} == before


def test_a_place_where_the_two_part_is_named(vllm: StandIn, measured_run: Path, evaluate: Evaluate) -> None:
    """One text of 23 in which a word is another."""
    prompt = max(vllm.answers["tuned"], key=lambda key: len(vllm.answers["tuned"][key]))
    other = list(vllm.answers["tuned"][prompt])
    other[1] = other[0] + 1
    vllm.is_told(tuned=vllm.answers["tuned"] | {prompt: other})
    code, _, err = evaluate()
    assert code == 0, err
    found = [row for row in read_jsonl(measured_run / "departures-tuned.jsonl") if row["token"] is not None]
    assert len(found) == 1 and found[0]["token"] == 1 and found[0]["nats"] > 0
    said = "22 of 23 texts are those that transformers writes; the others part where it finds its own token at most "
    said += f"{found[0]['nats']:.2g} nats likelier"
    assert said in err
    report = (measured_run / "report.md").read_text(encoding="utf-8")
    assert f"The texts were written by vLLM {VERSION}, float32. " in report and said in report


def test_other_weights_are_refused_and_nothing_of_theirs_stays(
    vllm: StandIn, measured_run: Path, evaluate: Evaluate
) -> None:
    """The base in the clone's place; and mended, it is measured."""
    vllm.is_told("other")
    code, out, err = evaluate()
    assert code == 2 and not out
    assert re.match(
        rf"sft: vLLM {VERSION}, float32: \d+ of its 23 texts are not what the weights of tuned write, by \d+\.\d nats, "
        "and are thrown away; let it serve",
        err.splitlines()[-1],
    ), err
    assert not list(measured_run.glob("completions-tuned*")) and not list(measured_run.glob("departures-tuned*"))
    vllm.is_told()
    code, _, err = evaluate()
    assert code == 0 and "23 of 23 texts are those that transformers writes (tuned)" in err
    assert len(vllm.starts) == 1 and len(vllm.bodies) == 23, "what the base wrote was its own"


# -- a server that runs already ----------------------------------------------------------------------------------


def test_a_server_that_runs_writes_as_base_and_clone(
    vllm: StandIn, measured_run: Path, evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which of its models is the clone it says itself: an adapter, on its base. The key is from the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    before = completions(measured_run)
    with vllm.runs("base", "tuned") as address:
        code, _, err = evaluate("--engine", f"{address}/v1")
        assert code == 0, err
        assert {body["model"] for body in vllm.bodies} == {"base", "tuned"} and len(vllm.bodies) == 3 * 23
    assert completions(measured_run) == before and err.count("23 of 23 texts are those") == 3
    facts = read_json(measured_run / "measurement.json")
    assert facts["signature"]["engine"] == f"vLLM {VERSION}, running already", "and not where"
    assert not (measured_run / "vllm.log").exists()
    assert not any(KEY.encode() in path.read_bytes() for path in measured_run.glob("*.*"))


def test_a_server_that_has_the_clone_alone_leaves_the_base_to_transformers(
    vllm: StandIn, measured_run: Path, evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with vllm.runs("tuned") as address:
        code, _, err = evaluate("--engine", address)
        assert code == 0 and len(vllm.bodies) == 23 and "write B3" in err
    assert set(read_json(measured_run / "measurement.json")["agreement"]) == {"tuned"}


def test_a_server_that_is_none_of_them(vllm: StandIn, measured_run: Path, evaluate: Evaluate) -> None:
    with LoopbackServer({}) as server:
        code, _, err = evaluate("--engine", server.address)
        assert code == 2 and err == (
            f"sft: {server.address}: is no vLLM, which alone gives token ids back; start `vllm serve`, or compare what "
            "this server writes with --endpoint\n"
        )
    with vllm.runs("base", "tuned", "older") as address:
        code, _, err = evaluate("--engine", address)
        assert code == 2 and err == f"sft: {address}: serves base, tuned, older; name the clone with --served-model\n"
        code, _, err = evaluate("--engine", address, "--served-model", "x")
        assert code == 2 and "does not serve x, but base, tuned, older; name the clone" in err
    assert not vllm.bodies


# -- what keeps it from writing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            "start",
            "vLLM: the server has ended: ValueError: Head size 16 is not supported by CPU_ATTN. Set a head size of 32.",
        ),
        ("taken", "was taken by another program meanwhile; run the same command again: it goes on where it was"),
        ("dies", "vLLM: the server has ended: torch.OutOfMemoryError: CUDA out of memory.; see to that"),
        ("mute", "gives no token ids back; use vLLM 0.10.2 or later"),
    ],
)
def test_a_server_that_cannot_ends_in_one_sentence_and_is_gone_on_with(
    fault: str, said: str, vllm: StandIn, measured_run: Path, evaluate: Evaluate
) -> None:
    vllm.is_told(fault, after=30)
    code, out, err = evaluate()
    last = err.splitlines()[-1]
    assert code == 2 and not out and "Traceback" not in err, err
    assert last.startswith("sft: ") and said in last and str(measured_run / "vllm.log") in last, last
    assert vllm.is_gone()
    kept = sum(len(read_jsonl(path)) for path in measured_run.glob("completions-B?.jsonl"))
    assert 23 <= kept <= 30 if fault == "dies" else kept == 0
    if kept:
        vllm.is_told()
        assert evaluate()[0] == 0 and len(vllm.bodies) == 3 * 23 - kept


def test_no_vllm(measured_run: Path, evaluate: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before anything is written, by the verbs that begin a run as well; and the recipe's own word counts."""
    before = {
        path.name: path.read_bytes() for path in measured_run.iterdir() if path.is_file() and path.name != ".lock"
    }
    remedy = (
        "; install vLLM in an environment of its own, and name its Python in SFT_VLLM_PYTHON, or write transformers"
    )
    plain = tmp_path / "python"
    plain.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    plain.chmod(0o755)
    for python, why in (
        (str(plain), f"vLLM is not installed for {plain}"),
        (
            f"{tmp_path}/none",
            f"{tmp_path}/none, which SFT_VLLM_PYTHON names, does not start (No such file or directory)",
        ),
    ):
        monkeypatch.setenv("SFT_VLLM_PYTHON", python)
        code, _, err = evaluate()
        assert code == 2 and err == f"sft: fidelity.engine: is vllm, and {why}{remedy}\n"
        for verb in ("check", "train"):
            words = [verb, str(measured_run / "recipe.yaml"), "--set", "fidelity.engine=vllm"]
            assert main(words + (["--output", str(tmp_path / "new")] if verb == "train" else [])) == 2
        assert not (tmp_path / "new").exists()
    after = {path.name: path.read_bytes() for path in measured_run.iterdir() if path.is_file() and path.name != ".lock"}
    before.pop("manifest.json"), after.pop("manifest.json")  # the session that failed is on record
    assert after == before


def test_several_processes_are_refused(
    vllm: StandIn, measured_run: Path, evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Before a fit of hours, by `sft run`; `sft train` may have them."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    words = ["run", str(measured_run / "recipe.yaml"), "--set", "fidelity.engine=vllm", "--output", "new"]
    assert main(words) == 2
    assert "fidelity.engine: is vllm, which one process asks" in capsys.readouterr().err


def test_an_engine_that_is_none(measured_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        (["--engine", "sglang"], "'sglang' is none; write transformers, vllm or http://HOST:PORT"),
        (
            ["--engine", "http://127.0.0.1:9", "--endpoint", "http://127.0.0.1:9"],
            "--engine: does not go with --endpoint",
        ),
        (["--engine", "vllm", "--served-model", "x"], "--served-model: goes with --endpoint URL"),
    ):
        try:
            code = main(["evaluate", str(measured_run), *words])
        except SystemExit as stop:
            code = stop.code
        assert code == 2 and said in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_server_too(
    number: int, code: int, vllm: StandIn, measured_run: Path, evaluate: Evaluate
) -> None:
    vllm.is_told("hangs", after=30)
    wrote = measured_run / "completions-B3.jsonl"

    def tell() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (
            len(vllm.bodies) > 30 and wrote.exists() and len(read_jsonl(wrote)) == 7
        ):
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=tell)
    thread.start()
    status, out, err = evaluate()
    thread.join()
    assert status == code and not out and "Traceback" not in err
    assert err.splitlines()[-1].startswith("sft: stopped; what was done is kept; go on with: sft evaluate")
    assert vllm.is_gone() and len(read_jsonl(wrote)) == 7


def test_a_server_does_not_outlive_a_process_that_is_killed(vllm: StandIn, measured_run: Path) -> None:
    vllm.is_told("hangs")
    process = subprocess.Popen(
        [sys.executable, "-m", "sft", "evaluate", str(measured_run), "--engine", "vllm"],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not vllm.bodies:
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    assert vllm.starts and vllm.is_gone()
