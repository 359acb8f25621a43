"""``sft evaluate RUN --endpoint URL`` against llama.cpp's own server: the exported clone, and people's mistakes.

The faithful file is said to be the clone; each mistake is told by its name, with the line that mends it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.engine
pytest.importorskip("xllamacpp", reason="there is no wheel of xllamacpp for this machine")

from llama_servers import in_four_bits, llama_server, without_stop
from served_runs import END

from sft.cli import main
from sft.runs.run import read_jsonl

#: Adds a system message that nobody asked for, as several families' own templates do.
HELPFUL = (
    "{{ '<|im_start|>system\nYou are a helpful assistant." + END + "\n' }}{% for message in messages %}{{ "
    "'<|im_start|>' + message['role'] + '\n' + message['content'] + '" + END + "' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
Evaluate = Callable[..., tuple[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def exported(measured_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clone as ``sft export --gguf`` writes it, in float32."""
    file = tmp_path_factory.mktemp("exported") / "clone.gguf"
    assert main(["export", str(measured_once), "--gguf", str(file), "--outtype", "f32"]) == 0
    return file


@pytest.fixture
def evaluate(measured_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Evaluate:
    """What ``sft evaluate RUN --endpoint ADDRESS`` prints, and what it leaves in served.json."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def run(address: str, *more: str) -> tuple[str, dict[str, Any]]:
        capsys.readouterr()
        assert main(["evaluate", str(measured_run), "--endpoint", address, *more]) == 0
        return capsys.readouterr().out, json.loads((measured_run / "served.json").read_text(encoding="utf-8"))

    return run


@pytest.mark.parametrize("route", ["chat", "completions"])
def test_the_exported_clone_is_the_measured_one(route: str, exported: Path, evaluate: Evaluate) -> None:
    """To seven digits of every log-probability; and what clients get who leave the temperature out is told."""
    with llama_server(exported) as address:
        out, found = evaluate(address, "--route", route)
    assert "The served text is the measured text for 23 of 23 prompts." in out and "Why:" not in out
    assert found["identical"] and found["prompt"] is None and found["facts"]["left_out"] == {}
    apart, tokens = found["drift"]
    assert apart < 1e-5 and tokens > 100
    assert re.search(
        r"without a temperature the server samples: \d of 4 .*\n    mend: .*llama-server ... --temp 0", out
    )


def test_a_server_told_to_be_greedy_samples_nowhere(exported: Path, evaluate: Evaluate) -> None:
    def greedy(asked: Any) -> None:
        asked.sampling.temp = 0.0

    with llama_server(exported, greedy) as address:
        out, found = evaluate(address)
    assert found["identical"] and found["defaults"]["sampled"] == 0 and found["defaults"]["asked"] == 4
    assert "leaves a setting out" not in out


def test_eight_bits_are_seen_in_the_likelihoods(
    measured_run: Path, evaluate: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(measured_run), "--gguf", str(tmp_path / "q8.gguf"), "--outtype", "q8_0"]) == 0
    with llama_server(tmp_path / "q8.gguf") as address:
        out, found = evaluate(address)
    assert found["n"] - found["same"] <= 3 and set(found["causes"]) <= {"close"}
    assert 1e-5 < found["drift"][0] < 5e-3 and re.search(r"weights: Q8_0, (8|9)\.\d bits each", out)


def test_four_bits_part_where_two_tokens_are_close(exported: Path, evaluate: Evaluate, tmp_path: Path) -> None:
    with llama_server(in_four_bits(exported, tmp_path / "q4.gguf")) as address:
        out, found = evaluate(address)
    assert 0 < found["n"] - found["same"] < 12 and set(found["causes"]) == {"close"}
    assert found["drift"][0] > 5e-3 and found["median_margin"] < 0.5
    assert "the weights are rounded or quantised; the server tells of them: Q4_0, 4." in out
    assert re.search(
        r"mend: where it matters, serve the file that `sft export \S+ --gguf FILE --outtype f16` writes", out
    )


def test_another_template_is_told_with_its_words_and_the_line_mends_it(
    measured_run: Path, exported: Path, evaluate: Evaluate
) -> None:
    def helpful(asked: Any) -> None:
        asked.chat_template = HELPFUL

    with llama_server(exported, helpful) as address:
        out, found = evaluate(address)
        assert set(found["causes"]) == {"template"} and found["n"] - found["same"] > 5
        assert found["drift"] is None, "likelihoods after other prompts compare nothing"
        assert f"the server's prompt has 'system\\nYou are a helpful assistant.{END}\\n<|im_start|>'" in out
        assert evaluate(address, "--route", "completions")[1]["identical"]
    mend = re.search(r"mend: llama-server \.\.\. --jinja --chat-template-file (\S+)", out)
    assert mend is not None and mend[1] == f"{measured_run}/model/chat_template.jinja"

    def mended(asked: Any) -> None:
        asked.chat_template = Path(mend[1]).read_text(encoding="utf-8")

    with llama_server(exported, mended) as address:
        assert evaluate(address)[1]["identical"]


def test_a_template_that_changes_no_text_is_told_all_the_same(exported: Path, evaluate: Evaluate) -> None:
    def spaced(asked: Any) -> None:
        asked.chat_template = "{# as of today #}" + HELPFUL.replace("You are a helpful assistant.", "")

    with llama_server(exported, spaced) as address:
        out, found = evaluate(address, "--max-prompts", "3")
    assert found["n"] == 3 and "the server's prompt " in out and "--chat-template-file" in out


def test_a_missing_stop_token(measured_run: Path, exported: Path, evaluate: Evaluate, tmp_path: Path) -> None:
    """Also where nothing of it shows: behind its end of turn this clone writes more of them, up to the limit."""
    with llama_server(without_stop(exported, tmp_path / "endless.gguf")) as address:
        out, found = evaluate(address)
    assert found["prompt"] is None and not found["identical"] and set(found["causes"]) <= {"stop"}
    ended = sum(row["finished"] for row in read_jsonl(measured_run / "completions-tuned.jsonl"))
    assert found["unended"] + found["causes"].get("stop", 0) == ended > 10
    assert re.search(r"the served text is the measured text for \d+ of 23 prompts.*; \d+ do not end there", out, re.I)
    assert f'does not stop at {END}\n    mend: send "stop": ["{END}"]' in out


def test_a_server_that_never_stops(exported: Path, evaluate: Evaluate) -> None:
    def endless(asked: Any) -> None:
        asked.sampling.ignore_eos = True

    with llama_server(exported, endless) as address:
        out, found = evaluate(address)
    assert next(iter(found["causes"])) == "stop" and found["prompt"] is None and found["drift"][0] < 1e-5
    assert f"the answer goes on behind the measured end: the server does not stop at {END}" in out
    ran_on = [one for one in found["partings"] if one["cause"] == "stop"]
    assert len(ran_on) > 10 and all(one["measured"] == "" and one["served"] for one in ran_on)


def test_a_server_that_penalises_repetition(exported: Path, evaluate: Evaluate) -> None:
    def penal(asked: Any) -> None:
        asked.sampling.penalty_repeat = 1.5

    with llama_server(exported, penal) as address:
        out, found = evaluate(address)
    assert set(found["causes"]) == {"choice"} and found["drift"][0] < 1e-5
    assert "it penalises repetition" in out and "--repeat-penalty 1.0" in out


def test_a_server_with_a_limit_of_its_own(exported: Path, evaluate: Evaluate) -> None:
    def short(asked: Any) -> None:
        asked.n_predict = 3

    with llama_server(exported, short) as address:
        out, found = evaluate(address)
    assert found["identical"] and "without max_tokens the server cuts answers, at 3 tokens: 4 of 4 prompts" in out
    assert 'mend: send "max_tokens": 12; or llama-server ... --n-predict 12' in out


def test_a_server_with_a_key(
    exported: Path, measured_run: Path, evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def locked(asked: Any) -> None:
        asked.api_keys = ["the-right-one-7kQ2mZp9"]

    with llama_server(exported, locked) as address:
        assert main(["evaluate", str(measured_run), "--endpoint", address]) == 2
        assert "asks for a key (answer 401)" in capsys.readouterr().err
        monkeypatch.setenv("OPENAI_API_KEY", "the-right-one-7kQ2mZp9")
        out, found = evaluate(address)
    assert found["identical"] and "7kQ2mZp9" not in out
    assert not any(b"7kQ2mZp9" in path.read_bytes() for path in measured_run.rglob("*") if path.is_file())
