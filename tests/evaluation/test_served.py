"""``sft evaluate RUN --endpoint URL`` against a server on this machine that plants what servers do."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked_python
import pytest
from loopback_server import LoopbackServer, answered, cut, slow, status
from repository import ROOT
from served_runs import END

import sft
from sft.cli import main
from sft.errors import UserError
from sft.runs.run import read_json, read_jsonl

pytestmark = pytest.mark.engine

KEY = "sk-T7kQ2mZp9LxB4nVc8RdY1sGfH6jKe3Au"
Evaluate = Callable[..., tuple[int, str, str]]


@pytest.fixture
def heart(measured_run: Path) -> dict[str, str]:
    """The last message of every prompt -> what the clone wrote."""
    wrote = {row["id"]: row["text"] for row in read_jsonl(measured_run / "completions-tuned.jsonl")}
    return {row["prompt"][-1]["content"]: wrote[row["id"]] for row in read_jsonl(measured_run / "held-out.jsonl")}


@pytest.fixture
def evaluate(measured_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Evaluate:
    """``sft evaluate RUN --endpoint ADDRESS MORE``: exit status, stdout, stderr without progress."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def run(server: LoopbackServer | str, *more: str) -> tuple[int, str, str]:
        address = server if isinstance(server, str) else server.address
        capsys.readouterr()
        code = main(["evaluate", str(measured_run), "--endpoint", address, "--patience", "0", *more])
        said = capsys.readouterr()
        return code, said.out, re.sub(r"ask the server:[^\n]*?\r|ask the server:.*\n?", "", said.err)

    return run


def causes(out: str) -> dict[str, int]:
    found: dict[str, int] = json.loads(out)["causes"]
    return found


# -- what is asked --------------------------------------------------------------------------------------------


def test_the_measured_text_served_is_said_to_be_it(
    measured_run: Path, heart: dict[str, str], evaluate: Evaluate
) -> None:
    with LoopbackServer(heart) as server:
        code, out, _ = evaluate(server)
        bodies = list(server.bodies)
    assert code == 0 and "The served text is the measured text for 23 of 23 prompts." in out
    assert "Why:" not in out and "Where:" not in out and "leaves a setting out" not in out
    assert re.search(r"chrF: served ([\d.]+ \[.*?\]), the clone's own \1, difference 0\.0 \[0\.0, 0\.0\]", out)
    asked = [body for path, body in bodies if path == "/v1/chat/completions"]
    known = {json.dumps(row["prompt"]) for row in read_jsonl(measured_run / "held-out.jsonl")}
    settled = [body for body in asked if "temperature" in body and "max_tokens" in body]
    assert {json.dumps(body["messages"]) for body in settled} == known
    assert all(body["temperature"] == 0 and body["max_tokens"] == 12 and body["model"] == "clone" for body in settled)
    assert (
        sum("temperature" not in body for body in asked) == 8 and sum("max_tokens" not in body for body in asked) == 4
    )
    rows = {row["id"]: row for row in read_jsonl(measured_run / "completions-served.jsonl")}
    assert sorted(row["text"] for row in rows.values()) == sorted(heart.values())
    answer = read_json(measured_run / "served.json")
    assert answer["identical"] is True and answer["finished"] is True and answer["asked"]["endpoint"] == server.address


def test_json_is_the_whole_of_it(heart: dict[str, str], evaluate: Evaluate) -> None:
    with LoopbackServer(heart, change=lambda body, text: (text.upper(), "stop")) as server:
        code, out, _ = evaluate(f"{server.address}/v1/", "--json")
    found = json.loads(out)
    assert code == 0 and found["identical"] is False and found["same"] == 0 and found["n"] == 23
    assert len(found["partings"]) == 23 and found["partings"][0]["character"] == 0
    assert found["difference"]["high"] < 0 and found["scores"]["served"]["value"] < found["scores"]["tuned"]["value"]


def test_the_run_is_still_whole_and_another_folder_leaves_it_alone(
    measured_run: Path, heart: dict[str, str], evaluate: Evaluate, tmp_path: Path
) -> None:
    before = {path.name: path.read_bytes() for path in measured_run.iterdir() if path.is_file()}
    with LoopbackServer(heart) as server:
        assert evaluate(server, "--output", str(tmp_path / "elsewhere"))[0] == 0
        assert {path.name: path.read_bytes() for path in measured_run.iterdir() if path.is_file()} == before
        assert sorted(path.name for path in (tmp_path / "elsewhere").iterdir()) == [
            "completions-served.jsonl", "served.json",
        ]  # fmt: skip
        assert evaluate(server)[0] == 0
        assert main(["evaluate", str(measured_run)]) == 0 and main(["report", str(measured_run), "--recompute"]) == 0
        assert evaluate(server)[0] == 0
    assert main(["report", str(measured_run), "--recompute"]) == 0


def test_the_completions_route_gets_the_rendered_prompt(heart: dict[str, str], evaluate: Evaluate) -> None:
    """As ids, so that nothing is put before them; as text where a server takes no ids."""
    with LoopbackServer(heart) as server:
        code, out, _ = evaluate(server, "--route", "completions")
        prompts = [body["prompt"] for path, body in server.bodies if path == "/v1/completions"]
    assert code == 0 and "for 23 of 23 prompts" in out
    assert isinstance(prompts[0], list) and all(isinstance(prompt, str) for prompt in prompts[1:])
    assert prompts[1].startswith("<|im_start|>user\n") and prompts[1].endswith(f"{END}\n<|im_start|>assistant\n")


def test_several_are_asked_at_once(heart: dict[str, str], evaluate: Evaluate) -> None:
    with LoopbackServer(heart) as server:
        server.fault(slow(0.2))
        assert evaluate(server, "--parallel", "5")[0] == 0
        assert server.most_at_once == 5


def test_a_model_is_chosen(heart: dict[str, str], evaluate: Evaluate) -> None:
    with LoopbackServer(heart, models=["base", "clone"]) as server:
        code, _, err = evaluate(server)
        assert code == 2 and err == f"sft: {server.address}: serves base, clone; name the clone with --served-model\n"
        assert not server.bodies
        assert evaluate(server, "--served-model", "clone")[0] == 0
        assert {body["model"] for _, body in server.bodies} == {"clone"}
    with LoopbackServer(heart, models=None) as server:
        code, _, err = evaluate(server)
        assert code == 2 and "lists no model at /v1/models; name one with --served-model" in err
        assert evaluate(server, "--served-model", "any")[0] == 0


# -- what servers do to whoever asks --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [status(429, retry_after="0"), status(503, retry_after="0"), status(500), cut, answered(b"<html>"), answered(b"")],
    ids=["429", "503", "500", "cut", "garbage", "nothing"],
)
def test_what_passes_is_waited_for(fault: Any, heart: dict[str, str], evaluate: Evaluate) -> None:
    with LoopbackServer(heart) as server:
        server.fault(fault, times=1, after=3)
        code, out, err = evaluate(server, "--patience", "1")
    assert code == 0 and "for 23 of 23 prompts" in out, err


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (status(500, "out of memory"), "answer 500: out of memory"),
        (cut, "the connection was lost"),
        (answered(b"<html>busy</html>"), "answer 200 that is no JSON object"),
        (answered(b""), "answer 200 without content"),
        (answered(b'{"choices": []}'), "an answer without a choice"),
    ],
)
def test_what_does_not_pass_ends_in_a_sentence_and_is_gone_on_with(
    fault: Any, why: str, measured_run: Path, heart: dict[str, str], evaluate: Evaluate
) -> None:
    with LoopbackServer(heart) as server:
        server.fault(fault, after=9)
        code, out, err = evaluate(server, "--parallel", "1")
        assert code == 2 and not out and err.count("\n") == 1, err
        assert f"/v1/chat/completions does not answer as it should ({why}" in err and "asked once" in err
        assert err.endswith("run the same command again: it goes on where it was\n")
        kept = [row["id"] for row in read_jsonl(measured_run / "completions-served.jsonl")]
        assert len(kept) == 8  # the ninth was the first try, of the shortest prompt
        assert read_json(measured_run / "served.json")["finished"] is False
        server.mend()
        code, out, err = evaluate(server, "--parallel", "1")
        assert code == 0 and "for 23 of 23 prompts" in out and "goes on with what is in" in err
        settled = [body for _, body in server.bodies if body.keys() >= {"temperature", "max_tokens"}]
        assert len(settled) == 1 + 23 - 8
        server.mend()
        assert evaluate(server)[0] == 0 and len(server.bodies) == 1 + 23 + 12 + 2, "what came to its end is asked anew"


def test_rows_of_another_server_are_not_taken_for_this_ones(heart: dict[str, str], evaluate: Evaluate) -> None:
    with LoopbackServer(heart, change=lambda body, text: ("other", "stop")) as server:
        server.fault(status(500), after=9)
        assert evaluate(server)[0] == 2
    with LoopbackServer(heart) as server:
        code, out, err = evaluate(server)
    assert code == 0 and "for 23 of 23 prompts" in out and "goes on" not in err


def test_nobody_there(evaluate: Evaluate) -> None:
    code, _, err = evaluate("http://127.0.0.1:9")
    assert (
        code == 2 and "http://127.0.0.1:9: /v1/models does not answer as it should (no connection; asked once)" in err
    )


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:80", "ftp://127.0.0.1", "http://me:pa55@127.0.0.1", "http://127.0.0.1/v1?key=pa55", "http://h:1x"],
)
def test_no_address(address: str, measured_run: Path, evaluate: Evaluate) -> None:
    """What may be a password is not repeated, and not written down."""
    code, _, err = evaluate(address)
    refusal = "does not belong on the command line" if "@" in address else "the address of the server is none; write"
    assert code == 2 and refusal in err and "pa55" not in err
    assert "pa55" not in (measured_run / "manifest.json").read_text(encoding="utf-8")


def test_a_setting_that_is_refused_is_left_out_and_told_of(heart: dict[str, str], evaluate: Evaluate) -> None:
    def refuses(body: dict[str, Any]) -> str:
        return next((f"Unsupported value: '{n}'" for n in ("logprobs", "temperature", "max_tokens") if n in body), "")

    with LoopbackServer(heart, refuses=refuses) as server:
        code, out, _ = evaluate(server)
        last = server.bodies[5][1]
    assert code == 0 and "for 23 of 23 prompts" in out
    assert "the server refuses temperature: it was left out, so whether the server samples is up to it" in out
    assert "the server refuses max_tokens: max_completion_tokens was sent in its place" in out
    assert last["max_completion_tokens"] == 12 and not last.keys() & {"logprobs", "temperature", "max_tokens"}


# -- the key --------------------------------------------------------------------------------------------------


def test_the_key_goes_to_the_server_and_nowhere_else(
    measured_run: Path, heart: dict[str, str], evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where the server repeats it, in a refusal and in an answer."""
    with LoopbackServer(heart, key=KEY, change=lambda body, text: (f"{text} {KEY}", "stop")) as server:
        code, _, err = evaluate(server)
        assert code == 2 and "asks for a key (answer 401); put it into the environment as OPENAI_API_KEY" in err
        monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}-not")
        code, out, wrong = evaluate(server)
        assert code == 2 and "does not take the key (answer 401); set OPENAI_API_KEY to one that it takes" in wrong
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        code, shown, err = evaluate(server)
        assert code == 0 and "for 0 of 23 prompts" in shown
    assert not any(KEY in text for text in (out, wrong, shown, err))
    for path in measured_run.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_no_key_goes_out_in_the_clear(evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    code, _, err = evaluate("http://192.0.2.1:8000")
    assert code == 2 and "http would send OPENAI_API_KEY in the clear; use https, or unset OPENAI_API_KEY" in err


# -- where and why texts part ---------------------------------------------------------------------------------


def test_sampling_is_seen_by_asking_twice(heart: dict[str, str], evaluate: Evaluate) -> None:
    count = iter(range(10_000))
    with LoopbackServer(heart, change=lambda body, text: (f"{text} {next(count)}", "stop")) as server:
        code, out, _ = evaluate(server)
    assert code == 0 and "23 of 23: asked twice, the server gives two answers" in out
    assert 'mend: send "temperature": 0' in out


def test_sampling_where_no_temperature_is_sent(heart: dict[str, str], evaluate: Evaluate) -> None:
    count = iter(range(10_000))

    def change(body: dict[str, Any], text: str) -> tuple[str, str]:
        return (text if "temperature" in body else f"{text} {next(count)}"), "stop"

    with LoopbackServer(heart, change=change) as server:
        code, out, _ = evaluate(server)
    assert code == 0 and "for 23 of 23 prompts" in out
    assert "without a temperature the server samples: 4 of 4 prompts are answered otherwise" in out
    assert "vllm serve ... --override-generation-config '{\"temperature\": 0}'" in out


def test_a_limit_where_no_max_tokens_is_sent(heart: dict[str, str], evaluate: Evaluate) -> None:
    def change(body: dict[str, Any], text: str) -> tuple[str, str]:
        return (text, "stop") if "max_tokens" in body else (text[:2], "length")

    with LoopbackServer(heart, change=change) as server:
        code, out, _ = evaluate(server)
    assert code == 0 and "for 23 of 23 prompts" in out
    assert "without max_tokens the server cuts answers, at 0 tokens: 4 of 4 prompts" in out
    assert 'mend: send "max_tokens": 12; or vllm serve' in out


def test_another_template_is_seen_by_the_other_route(
    measured_run: Path, heart: dict[str, str], evaluate: Evaluate
) -> None:
    """A server that tells nothing of its prompt, and counts nothing."""

    def change(body: dict[str, Any], text: str) -> tuple[str, str]:
        return (text if "prompt" in body else f"Sure! {text}"), "stop"

    with LoopbackServer(heart, change=change) as server:
        code, out, _ = evaluate(server)
    assert code == 0 and "for 0 of 23 prompts; 23 part" in out
    assert "the chat template is another: the run's own rendered prompt gives the measured text" in out
    assert f"mend: vllm serve ... --chat-template {measured_run}/model/chat_template.jinja" in out


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda text: (f"{text}{END}\n<|im_start|>user\nand", "length"), "stop"),
        (lambda text: (text[:1], "length"), "cut"),
        (lambda text: (f" {text}\n", "stop"), "space"),
        (lambda text: ("zzz", "stop"), "weights"),
    ],
)
def test_each_fault_has_its_name(change: Any, cause: str, heart: dict[str, str], evaluate: Evaluate) -> None:
    with LoopbackServer(heart, change=lambda body, text: change(text)) as server:
        code, out, _ = evaluate(server, "--json")
    assert code == 0 and max(causes(out), key=causes(out).__getitem__) == cause, out


def test_the_base_model_in_the_clones_place(measured_run: Path, heart: dict[str, str], evaluate: Evaluate) -> None:
    base = {row["id"]: row["text"] for row in read_jsonl(measured_run / "completions-B0.jsonl")}
    asked = {row["prompt"][-1]["content"]: base[row["id"]] for row in read_jsonl(measured_run / "held-out.jsonl")}
    with LoopbackServer(asked) as server:
        code, out, _ = evaluate(server)
    assert code == 0 and "of 23: the answer is what the base model writes: the server runs without the adapter" in out
    assert "--lora-modules NAME=" in out


def test_words_in_another_field(heart: dict[str, str], evaluate: Evaluate) -> None:
    with LoopbackServer(heart, elsewhere="reasoning_content") as server:
        code, out, _ = evaluate(server)
    assert code == 0 and "23 of 23: the server puts words into another field" in out


def test_a_prompt_too_long_for_the_server(heart: dict[str, str], evaluate: Evaluate) -> None:
    """A refusal of one prompt is a difference; one of the shortest ends it."""
    longest = max(heart, key=len)

    def refuses(body: dict[str, Any]) -> str:
        return "exceeds the context" if longest in json.dumps(body) else ""

    with LoopbackServer(heart, refuses=refuses) as server:
        code, out, _ = evaluate(server)
        assert code == 0 and "for 22 of 23 prompts; 1 part" in out and "1 of 23: the server refuses the prompt" in out
    with LoopbackServer(heart, refuses=lambda body: "exceeds the context") as server:
        code, _, err = evaluate(server)
        assert code == 2 and "refuses the shortest prompt (answer 400: exceeds the context)" in err


# -- options and interruptions --------------------------------------------------------------------------------


def test_options_that_do_not_go_together(measured_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        (["--served-model", "x"], "--served-model: goes with --endpoint URL"),
        (["--parallel", "2"], "--parallel: goes with --endpoint URL"),
        (["--endpoint", "http://127.0.0.1:9", "--held-out", "x"], "--held-out: does not go with --endpoint"),
        (["--endpoint", "http://127.0.0.1:9", "--full"], "--full: does not go with --endpoint"),
    ):
        assert main(["evaluate", str(measured_run), *words]) == 2
        assert said in capsys.readouterr().err


def test_a_notebook_gets_what_the_command_line_says(
    measured_run: Path, heart: dict[str, str], evaluate: Evaluate
) -> None:
    """The run, with what the server wrote beside what it was measured by: in words, as rows and as the file."""
    with LoopbackServer(heart, change=lambda body, text: (text.upper(), "stop")) as server:
        told = sft.evaluate(measured_run, endpoint=server.address, patience=0, max_prompts=5, parallel=2)
        code, out, _ = evaluate(server, "--max-prompts", "5", "--parallel", "2")
    assert code == 0 and told.served is not None and told.path == measured_run
    assert str(told.served) == out.rstrip("\n") and out.splitlines()[0] in told._repr_html_()
    rows = told.served.to_pandas()
    assert list(rows["served"]) == [text.upper() for text in rows["measured"]] and len(rows) == 5
    assert list(rows["measured_score"] > rows["served_score"]) == [True] * 5
    assert {row["id"] for row in read_jsonl(told.served.answers)} == set(rows["id"])
    assert sft.open_run(measured_run).served is None


def test_what_no_word_of_the_command_line_says_is_refused_in_python(measured_run: Path) -> None:
    nobody = "http://127.0.0.1:9"
    for asked, said in (
        ({"route": "chats"}, "--route: 'chats' is none; write chat or completions"),
        ({"parallel": 0}, "--parallel: 0 prompts at once are none"),
        ({"patience": -1.0}, "--patience: -1.0 is no number of seconds"),
        ({"patience": float("nan")}, "--patience: nan is no number of seconds"),
        ({"metrics": ["bleu"]}, "--metric: does not go with --endpoint"),
    ):
        with pytest.raises(UserError, match=re.escape(said)):
            sft.evaluate(measured_run, endpoint=nobody, **asked)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="--route: goes with --endpoint URL"):
        sft.evaluate(measured_run, route="chat")


def test_a_run_that_is_not_measured(measured_run: Path, evaluate: Evaluate) -> None:
    rows = (measured_run / "completions-tuned.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    manifest = read_json(measured_run / "manifest.json")
    manifest["files"].pop("completions-tuned.jsonl")
    (measured_run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (measured_run / "completions-tuned.jsonl").write_text("".join(rows[1:]), encoding="utf-8")
    code, _, err = evaluate("http://127.0.0.1:9")
    assert code == 2 and f"{measured_run}: is not measured to its end; run `sft evaluate {measured_run}` first" in err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_what_was_answered(
    number: int, code: int, measured_run: Path, heart: dict[str, str], evaluate: Evaluate
) -> None:
    """Also while a server takes its time: nobody waits for its answers."""
    rows = measured_run / "completions-served.jsonl"
    environment = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}
    with LoopbackServer(heart) as server:
        server.fault(slow(30), after=9)
        words = ["evaluate", str(measured_run), "--endpoint", server.address]
        process = forked_python.Popen(
            [sys.executable, "-m", "sft", *words], env=environment | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline and not (rows.exists() and len(read_jsonl(rows)) >= 8):
                time.sleep(0.05)
            os.kill(process.pid, number)
            began = time.monotonic()
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.returncode == code and not out and "Traceback" not in err, err
        assert time.monotonic() - began < 15
        assert err.splitlines()[-1] == f"sft: stopped; what was done is kept; go on with: sft {' '.join(words)}"
        assert len(read_jsonl(rows)) == 8
        server.mend()
        status, out, err = evaluate(server)
        settled = [body for _, body in server.bodies if body.keys() >= {"temperature", "max_tokens"}]
    assert status == 0 and "for 23 of 23 prompts" in out and len(settled) == 1 + 23 - 8
