"""``sft evaluate RUN --endpoint URL`` and ``--engine vllm`` with vLLM on a CPU, which ``make test-served`` installs.

A server starts in about a minute, so there are eleven.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from repository import ROOT

pytestmark = pytest.mark.engine

VLLM = ROOT / ".venv-served" / "bin" / "python"
if not (ROOT / ".venv-served" / "installed").exists():
    pytest.skip("vLLM is not here; `make test-served` installs it", allow_module_level=True)

from exported_runs import trained
from served_runs import END, measured
from toy_launches import free_port

from sft.cli import main
from sft.runs.run import read_json, read_jsonl

HELPFUL = (
    "{{ '<|im_start|>system\nYou are a helpful assistant." + END + "\n' }}{% for message in messages %}{{ "
    "'<|im_start|>' + message['role'] + '\n' + message['content'] + '" + END + "' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With two heads of 32: vLLM's attention on a CPU knows none of 16."""
    return measured(tmp_path_factory.mktemp("served"), heads=2)


@contextmanager
def vllm(model: Path, log: Path, *options: str) -> Iterator[str]:
    """The address of a server of ``model``; nothing of it is left behind."""
    port = free_port()
    quiet = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | quiet
    words = ["--model", str(model), "--served-model-name", "clone", "--host", "127.0.0.1", "--port", str(port)]
    words += ["--enforce-eager", "--max-model-len", "512", *options]
    if "--dtype" not in options:
        words += ["--dtype", "float32"]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [str(VLLM), "-m", "vllm.entrypoints.openai.api_server", *words], cwd=log.parent, env=environment,
            stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_for(address, process, log)
            yield address
        finally:
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text(errors="replace")[-3000:]
        try:
            with urllib.request.urlopen(f"{address}/v1/models", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    pytest.fail("vLLM has not started in 400 seconds")


def evaluated(run: Path, address: str, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[str, dict[str, Any]]:
    capsys.readouterr()
    assert main(["evaluate", str(run), "--endpoint", address, *more]) == 0
    return capsys.readouterr().out, json.loads((run / "served.json").read_text(encoding="utf-8"))


def test_the_clone_is_the_measured_one_on_both_routes(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with vllm(run / "model", tmp_path / "log") as address:
        for route in ("chat", "completions"):
            out, found = evaluated(run, address, capsys, "--route", route)
            assert "(vLLM), model clone" in out and "for 23 of 23 prompts" in out and "Why:" not in out
            assert found["identical"] and found["drift"][0] < 1e-5 and found["facts"]["left_out"] == {}
        assert found["defaults"]["sampled"] > 0 and "--override-generation-config '{\"temperature\": 0}'" in out


def test_another_template_is_told_with_its_words(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    template = tmp_path / "helpful.jinja"
    template.write_text(HELPFUL, encoding="utf-8")
    with vllm(run / "model", tmp_path / "log", "--chat-template", str(template)) as address:
        out, found = evaluated(run, address, capsys)
        assert set(found["causes"]) <= {"template"} and found["drift"] is None
        assert f"the server's prompt has 'system\\nYou are a helpful assistant.{END}\\n<|im_start|>'" in out
        assert f"mend: vllm serve ... --chat-template {run}/model/chat_template.jinja" in out
        assert evaluated(run, address, capsys, "--route", "completions")[1]["identical"]


def test_sixteen_bits_part_at_ties_if_anywhere(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with vllm(run / "model", tmp_path / "log", "--dtype", "bfloat16") as address:
        _, found = evaluated(run, address, capsys)
    assert set(found["causes"]) <= {"close"} and found["n"] - found["same"] < 8
    assert 1e-4 < found["drift"][0] < 0.1


def test_a_missing_stop_token(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder whose generation_config.json was lost on the way: vLLM then stops at the tokenizer's token alone."""
    model = Path(shutil.copytree(run / "model", tmp_path / "model"))
    (model / "generation_config.json").unlink()
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    tokenizer = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))
    config["eos_token_id"] = next(t["id"] for t in tokenizer["added_tokens"] if t["content"] == "<|endoftext|>")
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with vllm(model, tmp_path / "log") as address:
        out, found = evaluated(run, address, capsys)
    ended = sum(row["finished"] for row in read_jsonl(run / "completions-tuned.jsonl"))
    assert not found["identical"] and found["unended"] + found["causes"].get("stop", 0) == ended > 4
    assert set(found["causes"]) <= {"stop"} and re.search(
        rf'does not stop at {re.escape(END)}\n    mend: send "stop"', out
    )


# -- vLLM writes ------------------------------------------------------------------------------------------------

SAME = "23 of 23 texts are those that transformers writes"
Rows = dict[str, dict[str, dict[str, Any]]]


def written(run: Path) -> Rows:
    """System -> prompt id -> what it wrote, token by token."""
    systems = [path.stem.partition("-")[2] for path in run.glob("completions-*.jsonl")]
    wrote = {system: read_jsonl(run / f"completions-{system}.jsonl") for system in systems}
    return {system: {row["id"]: row for row in rows} for system, rows in wrote.items()}


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFT_VLLM_PYTHON", str(VLLM))
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def test_it_writes_what_transformers_writes(run: Path, tmp_path: Path, engine: None, capsys: Any) -> None:
    """Token for token, by base and clone; and it samples, and goes on from what an expert began."""
    one = Path(shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints")))
    assert main(["evaluate", str(one), "--engine", "vllm", "--full"]) == 0, capsys.readouterr().err
    assert written(one) == written(run)
    assert read_json(one / "measurement.json")["agreement"] == dict.fromkeys(("B0", "B3", "tuned"), SAME)
    samples = [{row["id"]: row["text"] for row in read_jsonl(one / f"samples-{number}.jsonl")} for number in (0, 1)]
    assert len(samples[0]) == len(samples[1]) == 23 and samples[0] != samples[1]
    theirs = Path(shutil.copytree(run, tmp_path / "theirs", ignore=shutil.ignore_patterns("checkpoints")))
    assert main(["evaluate", str(theirs), "--full"]) == 0
    assert sorted(map(str, read_jsonl(one / "forced-tuned.jsonl"))) == sorted(
        map(str, read_jsonl(theirs / "forced-tuned.jsonl"))
    )
    assert "vLLM 0.32.0, float32" in (one / "report.md").read_text(encoding="utf-8")


def test_an_adapter_that_vllm_does_not_know_is_merged(run: Path, tmp_path: Path, engine: None, capsys: Any) -> None:
    """DoRA with a part of the model fitted whole: `vllm serve --lora-modules` refuses either."""
    model = run.parent / "model"
    one = trained(model, tmp_path, "training.max_steps=40", "adapter.modules_to_save=[norm]", method="dora")
    assert main(["evaluate", str(one)]) == 0
    before = written(one)
    assert main(["evaluate", str(one), "--engine", "vllm"]) == 0, capsys.readouterr().err
    assert written(one) == before and read_json(one / "measurement.json")["agreement"]["tuned"] == SAME


def test_one_that_runs_with_the_adapter_beside_its_base(run: Path, tmp_path: Path, engine: None, capsys: Any) -> None:
    one = trained(run.parent / "model", tmp_path, "training.max_steps=40")
    assert main(["evaluate", str(one)]) == 0
    before = written(one)
    words = ["--enable-lora", "--max-lora-rank", "8", "--lora-modules", f"tuned={one / 'adapter'}"]
    with vllm(run.parent / "model", tmp_path / "log", *words) as address:
        assert main(["evaluate", str(one), "--engine", address]) == 0, capsys.readouterr().err
    assert written(one) == before
    facts = read_json(one / "measurement.json")
    assert facts["agreement"] == dict.fromkeys(("B0", "B3", "tuned"), SAME)
    assert facts["signature"]["engine"] == "vLLM 0.32.0, running already"


def test_sixteen_bits_part_at_ties_if_anywhere_and_are_told_of(
    run: Path, tmp_path: Path, engine: None, capsys: Any
) -> None:
    one = trained(run.parent / "model", tmp_path, "training.max_steps=40", "model.dtype=bfloat16", method="full")
    assert main(["evaluate", str(one), "--engine", "vllm", "--fast"]) == 0, capsys.readouterr().err
    facts = read_json(one / "measurement.json")
    assert facts["signature"]["engine"] == "vLLM 0.32.0, bfloat16"
    found = re.match(r"(\d+) of 23 texts are those that transformers writes(; the others .* at most ([\d.e-]+) nats)?",
                     facts["agreement"]["tuned"])  # fmt: skip
    assert found and int(found[1]) > 14 and float(found[3] or 0) < 0.2


def test_what_it_cannot_serve_is_said_in_its_own_words(tmp_path: Path, engine: None, capsys: Any) -> None:
    """vLLM's attention on a CPU knows no heads of 16 numbers."""
    one = measured(tmp_path, heads=4)
    capsys.readouterr()
    assert main(["evaluate", str(one), "--engine", "vllm"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("sft: vLLM: the server has ended: ") and "head" in last.lower() and "vllm.log" in last, last
