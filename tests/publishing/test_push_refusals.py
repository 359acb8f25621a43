"""Hostile runs and wrong requests: refused by one sentence before anything is written, on the hub and in the run."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked_python
import pytest

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")

from factories import without_seals
from loopback_hub import OTHER_TOKEN, TOKEN, LoopbackHub, answer_lost, flipped_byte, meanwhile, status
from read_cards import disagreements
from safetensors.torch import load_file, save_file
from toy_pushes import BASE, CLONE, Bench, Outcome, bench_for, elsewhere

from sft import errors
from sft.cli import main
from sft.fidelity.stored import read_scorecard
from sft.runs.hashes import weights_hash
from sft.runs.run import Run, read_json, write_json

#: A token that nobody has, for what must not be published.
PLANTED = "hf_pLaNtEd7kQ2mZp9LxB4nVc8RdY1sGfH6jKe"
Change = Callable[[Bench], object]


@pytest.fixture
def bench(bench: Bench) -> Bench:
    without_seals(bench.run)  # what is planted below is met by the checks of a push, and not by a seal
    bench.secrets.append(PLANTED)
    return bench


def contents(folder: Path) -> dict[str, str]:
    """Every file below ``folder`` -> hash of its bytes, or where it leads."""
    return {
        str(path.relative_to(folder)): str(path.readlink())
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def held(hub: LoopbackHub) -> dict[str, Any]:
    """All that the hub has, to see that it stays so."""
    return {name: (repo.private, dict(repo.refs), dict(repo.tags)) for name, repo in hub.repos.items()}


def refused(bench: Bench, *words: str, says: tuple[str, ...], code: int = 2, lines: int = 1) -> Outcome:
    """The push ends with ``code`` and a sentence: where, what, and (behind the semicolon) what to do; else nothing."""
    files, there = contents(bench.run), held(bench.hub)
    done = bench.push(*words)
    assert done.code == code, done.err
    assert contents(bench.run) == files and held(bench.hub) == there
    assert {method for _, method, _ in bench.hub.requests} <= {"GET"}
    assert done.out == "" and "Traceback" not in done.err
    said = done.err.splitlines()
    assert len(said) == lines and re.match(r"sft: .+", said[0]) and "; " in said[-1], done.err
    for word in says:
        assert word in done.err
    return done


# -- weights ----------------------------------------------------------------------------------------------


def weights(change: Callable[[dict[str, Any]], object]) -> Change:
    """The adapter's tensors, changed in place."""

    def act(bench: Bench) -> None:
        file = bench.run / "adapter" / "adapter_model.safetensors"
        tensors = load_file(file)
        change(tensors)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)

    return act


def named(tensors: dict[str, Any], part: str) -> str:
    return next(name for name in sorted(tensors) if part in name)


def put(part: str, value: float) -> Change:
    """One number of the first tensor with ``part`` in its name is ``value``."""

    def change(tensors: dict[str, Any]) -> None:
        tensors[named(tensors, part)].view(-1)[3] = value

    return weights(change)


def silenced(tensors: dict[str, Any]) -> None:
    for name, tensor in tensors.items():
        if "lora_B" in name:
            tensor.zero_()


def only_a_head(tensors: dict[str, Any]) -> None:
    tensors.clear()
    tensors["base_model.model.lm_head.weight"] = torch.ones(446, 64)


def cut(bench: Bench) -> None:
    file = bench.run / "adapter" / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def emptied(bench: Bench) -> None:
    (bench.run / "adapter" / "adapter_model.safetensors").write_bytes(b"")


def configured(**values: Any) -> Change:
    return lambda bench: bench.change("adapter/adapter_config.json", **values)


def embeddings(rows: int) -> Change:
    key = "base_model.model.model.embed_tokens.weight"
    return weights(lambda tensors: tensors.update({key: torch.ones(rows, 64)}))


WRONG_WEIGHTS: dict[str, tuple[Change, tuple[str, ...]]] = {
    "NaN": (put("lora_A", float("nan")), ("adapter_model.safetensors: ", "lora_A", "not finite")),
    "infinite": (put("lora_B", float("-inf")), ("adapter_model.safetensors: ", "lora_B", "not finite")),
    "zero B": (weights(silenced), ("every B matrix is zero", "train again")),
    "another rank": (configured(r=8), ("4 x 128 and 64 x 4, and adapter_config.json says rank 8",)),
    "another rank in a pattern": (configured(rank_pattern={"q_proj": 2}), ("q_proj", "says rank 2")),
    "no matrix": (
        weights(lambda t: t.update({named(t, "lora_A"): torch.ones(4)})),
        ("the shapes 4 and", "restore both"),
    ),
    "other targets": (configured(target_modules=["q_proj"]), ("is no target in adapter_config.json",)),
    "no A": (weights(lambda t: t.pop(named(t, "lora_A"))), ("has no A matrix beside it",)),
    "unknown key": (
        weights(lambda t: t.update({"base_model.model.backdoor.weight": torch.ones(2)})),
        ("base_model.model.backdoor.weight is no part of an adapter",),
    ),
    "key of no adapter": (weights(lambda t: t.update({"lora_A.weight": torch.ones(2, 2)})), ("is no part",)),
    "no matrices": (weights(lambda t: only_a_head(t)), ("holds no adapter matrices",)),
    "truncated": (cut, ("adapter_model.safetensors: is no safetensors file, or not a whole one",)),
    "empty": (emptied, ("adapter_model.safetensors: is no safetensors file, or not a whole one",)),
    "no configuration of peft's": (configured(peft_type="SOMETHING"), ("adapter_config.json: ", "restore it")),
    "resized embeddings": (embeddings(500), ("has 500 rows, the base 446", "--merged")),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_WEIGHTS)
def test_weights_that_are_not_the_clone_s(bench: Bench, case: str) -> None:
    change, says = WRONG_WEIGHTS[case]
    change(bench)
    refused(bench, says=says)


def as_if_measured(bench: Bench, folder: str = "adapter") -> None:
    """Let the scorecard be of the weights that are there now."""
    signature = read_json(bench.run / "scorecard.json")["signature"]
    bench.change("scorecard.json", signature=signature | {"weights_hash": weights_hash(bench.run / folder)})


@pytest.mark.parametrize("word", [(), ("--merged",)])
def test_weights_that_were_not_measured(bench: Bench, word: tuple[str, ...]) -> None:
    """Sound in themselves, but put there after the scorecard was made."""
    weights(lambda tensors: tensors[named(tensors, "lora_B")].mul_(2))(bench)
    refused(bench, *word, says=("adapter", "not those that the scorecard is of", "sft evaluate"))
    as_if_measured(bench)
    assert bench.push(*word).code == 0


def test_one_silent_layer_is_a_note(bench: Bench) -> None:
    """Not wrong as such: a layer may have learned nothing. It is said, and left to the reader of the plan."""
    weights(lambda tensors: tensors[named(tensors, "lora_B")].zero_())(bench)
    as_if_measured(bench)
    done = bench.push("--dry-run")
    assert done.code == 0 and "1 of 14 B matrices are zero" in done.out


def tensor(name: str, *shape: int) -> Change:
    """One more tensor in the adapter."""
    return weights(lambda tensors: tensors.update({f"base_model.model.{name}": torch.ones(*shape)}))


def everywhere(bench: Bench) -> list[str]:
    """Every layer that the adapter is on, by its whole name."""
    tensors = load_file(bench.run / "adapter" / "adapter_model.safetensors")
    return sorted({name.removeprefix("base_model.model.").partition(".lora_")[0] for name in tensors})


QUERY = "model.layers.0.self_attn.q_proj"
SOUND: dict[str, list[Change]] = {
    "a magnitude vector": [tensor(f"{QUERY}.lora_magnitude_vector", 64)],
    "a bias of B": [tensor(f"{QUERY}.lora_B.bias", 64)],
    "a bias of the layer, declared": [tensor(f"{QUERY}.bias", 64), configured(bias="all")],
    "a module saved whole, declared": [tensor("score.weight", 2, 64), configured(modules_to_save=["score"])],
    "tokens of its own": [tensor("model.embed_tokens.token_adapter.trainable_tokens_delta", 2, 64)],
    "embeddings of the base's size": [embeddings(446)],
    "ranks from a pattern": [configured(r=8, rank_pattern={"q_proj|k_proj|v_proj|o_proj": 4, r"mlp\..*": 4})],
    "a pattern of other layers": [configured(rank_pattern={"lm_head": 2, "proj": 2})],
    "targets by an expression": [configured(target_modules=".*_proj")],
    "targets by their whole names": [lambda bench: configured(target_modules=everywhere(bench))(bench)],
}


@pytest.mark.parametrize("case", SOUND)
def test_what_peft_s_methods_keep_beside_the_matrices_is_no_stranger(bench: Bench, case: str) -> None:
    """Declared in the configuration, or a part of the method: nothing that a fit can write is refused."""
    for change in SOUND[case]:
        change(bench)
    as_if_measured(bench)
    done = bench.push("--dry-run")
    assert done.code == 0 and "matrices are zero" not in done.out, done.err


STRANGE: dict[str, tuple[list[Change], tuple[str, ...]]] = {
    "a bias that is not declared": ([tensor(f"{QUERY}.bias", 64)], (f"{QUERY}.bias is no part of an adapter",)),
    "a bias under another name": ([tensor("x.y", 4), configured(bias="all")], ("x.y is no part of an adapter",)),
    "another module than declared": (
        [tensor("backdoor.weight", 2), configured(modules_to_save=["score"])],
        ("backdoor.weight is no part of an adapter",),
    ),
    "the first pattern that fits is the one": (
        [configured(r=4, rank_pattern={"q_proj": 2, ".*": 4})],
        ("q_proj have the shapes 4 x 64 and 64 x 4", "says rank 2"),
    ),
    "a part of a name is no target": ([configured(target_modules=["proj"])], ("is no target",)),
    "B of another rank than A": (
        [weights(lambda t: t.update({named(t, "lora_B"): torch.ones(64, 3)}))],
        ("and 64 x 3, and adapter_config.json says rank 4",),
    ),
    "B without a second side": (
        [weights(lambda t: t.update({named(t, "lora_B"): torch.ones(64)}))],
        ("and 64, and adapter_config.json",),
    ),
    "one number too many is not finite": (
        [weights(lambda t: t.update({"base_model.model.lm_head.weight": torch.full((446, 64), float("nan"))}))],
        ("lm_head.weight holds numbers that are not finite",),
    ),
    "more embeddings than the base": ([embeddings(447)], ("has 447 rows, the base 446",)),
}


@pytest.mark.parametrize("case", STRANGE)
def test_what_no_fit_of_this_configuration_writes_is_refused_by_name(bench: Bench, case: str) -> None:
    changes, says = STRANGE[case]
    for change in changes:
        change(bench)
    refused(bench, says=("adapter_model.safetensors: ", *says))


def test_merged_weights_of_an_adapter_that_does_nothing(bench: Bench) -> None:
    """Once merged, nobody could tell."""
    weights(silenced)(bench)
    refused(bench, "--merged", says=("every B matrix is zero",))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_merged_weights_that_are_not_finite(bench: Bench, value: float) -> None:
    put("lora_B", value)(bench)
    refused(bench, "--merged", says=())


def test_two_adapters(bench: Bench) -> None:
    """Which is the one that was measured?"""
    shutil.copytree(bench.run / "adapter", bench.run / "adapter" / "second")
    refused(bench, says=("holds two clones", "second", "move the one away"))


def test_an_adapter_and_a_whole_model(bench: Bench, tiny_model: Path) -> None:
    shutil.copytree(tiny_model, bench.run / "model")
    refused(bench, says=("holds two clones, adapter and model",))


def test_weights_as_a_pickle_alone(bench: Bench) -> None:
    adapter = bench.run / "adapter"
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    refused(bench, says=("holds its weights as a pickle (adapter_model.bin)", "train again"))


# -- tokenizer and template -------------------------------------------------------------------------------


def written(name: str, text: str) -> Change:
    return lambda bench: (bench.run / "adapter" / name).write_text(text, encoding="utf-8")


def replaced(name: str, old: str, new: str) -> Change:
    def act(bench: Bench) -> None:
        path = bench.run / "adapter" / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    return act


def more_tokens(bench: Bench) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(bench.run / "adapter")
    tokenizer.add_tokens([f"<extra-{number}>" for number in range(8)])
    tokenizer.save_pretrained(bench.run / "adapter")


WRONG_TOKENIZERS: dict[str, tuple[Change, tuple[str, ...]]] = {
    "no template": (lambda bench: (bench.run / "adapter" / "chat_template.jinja").unlink(), ("no chat template",)),
    "another template": (
        written("chat_template.jinja", "{% for m in messages %}{{ m['content'] }}<|im_end|>{% endfor %}"),
        ("chat template: is not the one that the clone was trained and measured with",),
    ),
    "a template that fails": (written("chat_template.jinja", "{% for m in messages %}{{ m"), ("template",)),
    "a template that leaves the user out": (written("chat_template.jinja", "Hi<|im_end|>"), ("template",)),
    "no JSON": (written("tokenizer.json", "{"), ("tokenizer: ", "could not be loaded")),
    "no tokenizer": (lambda bench: [f.unlink() for f in (bench.run / "adapter").glob("*token*")], ("template",)),
    "more tokens than the base": (more_tokens, ("has 454 tokens, the base model 446", "--merged")),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_TOKENIZERS)
def test_a_tokenizer_that_cannot_ask_the_clone(bench: Bench, case: str) -> None:
    change, says = WRONG_TOKENIZERS[case]
    change(bench)
    done = refused(bench, says=says)
    assert "sft-push-" not in done.err  # a folder that is gone by then helps nobody


# -- what must not be sent: left out, or refused ----------------------------------------------------------


def test_stray_files_stay_at_home(bench: Bench) -> None:
    """Pickles, optimizer states, a planted .env, checkpoints: named in the plan, sent nowhere, nor their tokens."""
    adapter = bench.run / "adapter"
    (adapter / "runs").mkdir()
    for name in ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "adapter_model.bin"):
        (adapter / name).write_bytes(pickle.dumps({"hub_token": PLANTED}))
    for name in (".env", "runs/.env", "notes.txt", "trainer_state.json", "tokenizer.json.orig", "README.md"):
        (adapter / name).write_text(f"HF_TOKEN={PLANTED}\n", encoding="utf-8")
    (adapter / "cache").symlink_to(Path.home())
    plan = json.loads(bench.push("--dry-run", "--json").out)["plan"]
    assert set(plan["left_out"]) == {
        "adapter/.env", "adapter/README.md", "adapter/adapter_model.bin", "adapter/cache", "adapter/notes.txt",
        "adapter/optimizer.pt", "adapter/rng_state.pth", "adapter/runs/.env", "adapter/scheduler.pt",
        "adapter/tokenizer.json.orig", "adapter/trainer_state.json", "adapter/training_args.bin",
    }  # fmt: skip
    assert "a pickle, which runs code" in plan["left_out"]["adapter/optimizer.pt"]
    assert plan["left_out"]["adapter/.env"] == "hidden"
    clean = {one["path"] for one in plan["files"]}
    assert bench.push().code == 0
    assert set(bench.head) == clean and not {path for path in clean if path.endswith((".bin", ".pt", ".env"))}


def linked(name: str) -> Change:
    """A file of the run is a link to one outside."""

    def act(bench: Bench) -> None:
        path, outside = bench.run / name, bench.run.parent / "outside" / Path(name).name
        outside.parent.mkdir()
        if path.exists():
            path.rename(outside)
        else:
            outside.write_text("Do as you like.\n", encoding="utf-8")
        path.symlink_to(outside)

    return act


@pytest.mark.parametrize("name", ["adapter/tokenizer.json", "adapter/adapter_model.safetensors", "LICENSE", "adapter"])
@pytest.mark.parametrize("merged", [False, True])
def test_a_link_out_of_the_run(bench: Bench, name: str, merged: bool) -> None:
    linked(name)(bench)
    refused(bench, *["--merged"][: int(merged)], says=(name, "is a link that leads out of the run", "put a copy"))


def test_a_scorecard_from_elsewhere(bench: Bench) -> None:
    linked("scorecard.json")(bench)
    refused(bench, says=("scorecard.json: is a link that leads out of the run",))


def test_a_link_within_the_run_is_followed(bench: Bench) -> None:
    adapter = bench.run / "adapter"
    (adapter / "tokenizer.json").rename(bench.run / "kept.json")
    (adapter / "tokenizer.json").symlink_to("../kept.json")
    assert bench.push().code == 0
    assert bench.head["tokenizer.json"] == (bench.run / "kept.json").read_bytes()


def published(**values: Any) -> Change:
    """Other values in the section publish of the recipe, as a run has it on record."""

    def act(bench: Bench) -> None:
        import yaml

        path = bench.run / "recipe.resolved.yaml"
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
        recipe["publish"] |= values
        path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
        manifest = read_json(bench.run / "manifest.json")
        manifest["recipe"]["resolved"]["publish"] |= values
        write_json(bench.run / "manifest.json", manifest)

    return act


def commented(bench: Bench) -> None:
    manifest = read_json(bench.run / "manifest.json")
    manifest["recipe"]["written"] += f"# token: {PLANTED}\n"
    write_json(bench.run / "manifest.json", manifest)


def answered(text: str) -> Change:
    """The clone answered ``text``, which then stands among its worst examples on the card."""

    def act(bench: Bench) -> None:
        scorecard = read_json(bench.run / "scorecard.json")
        for one in scorecard["examples"]:
            one["completions"]["tuned"] = text
        write_json(bench.run / "scorecard.json", scorecard)

    return act


LEAKS: dict[str, tuple[Change, tuple[str, ...]]] = {
    "a token in the recipe": (commented, ("sft_manifest.json", "a Hugging Face token")),
    "a token on the card": (answered(PLANTED), ("README.md", "scorecard.json", "a Hugging Face token")),
    "the push's own token": (answered(TOKEN), ("README.md", "the value of HF_TOKEN")),
    "a path on the card": (published(expert="Ann, from /home/ann/texts"), ("README.md", "in somebody's folder")),
    "a key in the licence": (
        lambda bench: (bench.run / "LICENSE").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n", encoding="utf-8"),
        ("LICENSE:1: a private key",),
    ),
    "a path in the tokenizer's settings": (
        replaced("tokenizer_config.json", "{", '{\n  "name_or_path": "/srv/models/base",'),
        ("tokenizer_config.json:2: a path from the root of a disk",),
    ),
    "a token in the weights": (
        weights(lambda t: t.update({named(t, "lora_B"): hidden(t[named(t, "lora_B")])})),
        ("adapter_model.safetensors", "a Hugging Face token"),
    ),
}  # fmt: skip


def hidden(tensor: Any) -> Any:
    """The tensor with a token in its bytes."""
    raw = bytearray(tensor.numpy().tobytes())
    raw[8 : 8 + len(PLANTED)] = PLANTED.encode()
    return torch.frombuffer(raw, dtype=tensor.dtype).reshape(tensor.shape)


@pytest.mark.parametrize("case", LEAKS)
def test_what_must_not_be_read_by_others(bench: Bench, case: str) -> None:
    """Where it is, what it is, and the id by which it can be allowed; never the secret itself."""
    change, says = LEAKS[case]
    change(bench)
    done = bench.push("--dry-run")
    lines = len(done.err.splitlines())
    found = refused(bench, says=(*says, "--allow-finding ID=REASON"), lines=lines).err
    assert "srv/models" not in found and "ann/texts" not in found


def test_a_token_in_the_recipe(bench: Bench) -> None:
    """Refused as soon as the recipe is read, whatever it is read for."""
    published(expert=f"Ann ({PLANTED})")(bench)
    refused(bench, says=("recipe.resolved.yaml:", "looks like"))


def test_a_path_that_is_there_counts_wherever_it_leads(tmp_path: Path) -> None:
    """In no home, not known to the run: but it is there, so it tells of this machine; what all have does not."""
    from sft.publishing.places import paths_in

    (tmp_path / "texts").mkdir()
    text = f"Written in {tmp_path}/texts. Not /nowhere/at/all, /usr/bin/env, https://x.org{tmp_path} or and/or.\n"
    (found,) = paths_in("README.md", text.encode(), [])
    assert (found.what, found.line) == ("a path of this machine", 1) and str(tmp_path) not in str(found)


def test_a_reason_that_is_none(bench: Bench) -> None:
    refused(bench, "--allow-finding", "abc", says=("--allow-finding abc: needs a reason",))
    refused(bench, "--allow-finding", "abc=why not", says=("there is no such finding",))


# -- scorecard, card, training ----------------------------------------------------------------------------


def test_a_scorecard_that_was_altered(
    fitted: Path, tmp_path: Path, hub: LoopbackHub, monkeypatch: Any, capsys: Any, caplog: Any
) -> None:
    """Better figures written into the run are not published; computed again, they are what they were."""
    bench = bench_for(fitted, tmp_path, hub, monkeypatch, capsys, caplog)
    bench.change("scorecard.json", looks=0)
    refused(bench, says=("scorecard.json: was altered after it was written", "--recompute"))
    assert main(["report", str(bench.run), "--recompute"]) == 0
    assert bench.push("--dry-run").code == 0


def test_a_run_that_was_not_measured(bench: Bench) -> None:
    (bench.run / "scorecard.json").unlink()
    refused(bench, says=("has no scorecard yet", "sft evaluate"))


def test_a_scorecard_that_is_none(bench: Bench) -> None:
    (bench.run / "scorecard.json").write_text("{}", encoding="utf-8")
    refused(bench, says=("scorecard.json: holds", "sft evaluate"))


def test_a_run_that_is_not_trained(bench: Bench) -> None:
    """What is missing first is said first, though there is no scorecard and no base either."""
    shutil.rmtree(bench.run / "adapter")
    (bench.run / "scorecard.json").unlink()
    published(base_model=None)(bench)
    refused(bench, says=("is not trained yet", "sft train"))


def test_no_run_at_all(bench: Bench, capsys: Any) -> None:
    assert main(["push", str(bench.run / "adapter"), CLONE]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "no run" in said and bench.hub.requests == []


def test_the_card_that_is_sent_has_the_scorecard_s_figures(bench: Bench) -> None:
    """A card is written from the scorecard and by nothing else, so a push does not read it back."""
    assert bench.push().code == 0
    card = bench.head["README.md"].decode()
    assert disagreements(card, read_scorecard(Run.open(bench.run))) == []
    flattering = re.sub(r"(\| chrF: [^|]*\| [^|]*\|) [^|]*\|", r"\1 99.9 [99.0, 100.0] |", card)
    assert "the card says 99.9" in disagreements(flattering, read_scorecard(Run.open(bench.run)))[0]


@pytest.mark.parametrize("missing", ["expert", "license", "data_license", "language"])
def test_a_card_that_would_not_be_complete(bench: Bench, missing: str) -> None:
    published(**{missing: None})(bench)
    refused(bench, says=(f"publish.{missing}", "recipe.resolved.yaml"))


# -- the base ---------------------------------------------------------------------------------------------


def test_a_base_that_nobody_else_has(bench: Bench) -> None:
    """Never guessed: the option is named, and given it serves."""
    published(base_model=None)(bench)
    refused(bench, says=("its base model came from a folder", "--base-model OWNER/NAME[@COMMIT]"))
    assert bench.push("--base-model", BASE).code == 0
    assert json.loads(bench.head["adapter_config.json"])["base_model_name_or_path"] == BASE
    assert f"base_model: {BASE}\n" in bench.head["README.md"].decode()


def test_a_base_with_its_commit(bench: Bench) -> None:
    commit = bench.hub.repos[BASE].refs["main"]
    assert bench.push("--base-model", f"{BASE}@{commit}").code == 0
    assert json.loads(bench.head["adapter_config.json"])["revision"] == commit
    assert commit in bench.head["README.md"].decode()


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ("me/tiny-basement", ("has no such model", "correct the name")),
        (f"{BASE}@{'0' * 40}", ("has no such model",)),
        ("/srv/models/base", ("is no model of a hub", "OWNER/NAME")),
        ("me/base@main", ("is no model of a hub", "all 40 digits")),
        ("me/base--x", ("is no model of a hub",)),
        ("a/b/c", ("is no model of a hub",)),
    ],
)
def test_a_base_that_is_none(bench: Bench, said: str, says: tuple[str, ...]) -> None:
    refused(bench, "--base-model", said, says=("--base-model", *says))


# -- whole weights ----------------------------------------------------------------------------------------

WHOLE = """
import sys, json
sys.modules["sft"] = sys.modules["peft"] = None  # whoever imports them fails
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1]).eval()
turns = [{"role": "user", "content": "7: the box is red"}]
ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
with torch.no_grad():
    logits = model(torch.tensor([ids])).logits[0, -1]
json.dump({"ids": ids, "logits": logits.tolist(), "stop": GenerationConfig.from_pretrained(sys.argv[1]).eos_token_id},
          sys.stdout)
"""


def test_merged_weights_load_with_plain_transformers(bench: Bench, tmp_path: Path) -> None:
    """In a process that knows neither this package nor peft: the logits of the adapter on its base."""
    from sft.demonstrations.stored import load_recipe
    from sft.policies.policy import load_renderer, with_adapter
    from sft.policies.weights import load_weights
    from sft.recipes.sources import resolve_model
    from sft.runs.run import Run

    assert bench.push("--merged").code == 0
    assert {"config.json", "model.safetensors", "chat_template.jinja", "README.md"} <= set(bench.head)
    assert not {"adapter_config.json", "adapter_model.safetensors"} & set(bench.head)
    assert "library_name: transformers\n" in bench.head["README.md"].decode()
    program = elsewhere(bench.hub, tmp_path / "home") + WHOLE
    answer = forked_python.run([sys.executable, "-c", program, CLONE], capture_output=True, text=True, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    recipe = load_recipe(Run.open(bench.run))
    model = with_adapter(load_weights(resolve_model(recipe.model.name)), bench.run / "adapter").eval()
    with torch.no_grad():
        logits = model(torch.tensor([found["ids"]])).logits[0, -1]
    assert torch.allclose(torch.tensor(found["logits"]), logits, atol=1e-5)
    assert found["stop"] == list(load_renderer(resolve_model(recipe.model.name)).stop_token_ids)


def test_whole_weights_in_the_place_of_an_adapter(bench: Bench) -> None:
    """A repository is the one or the other: never both, and not by accident."""
    assert bench.push().code == 0
    bench.hub.requests.clear()
    done = bench.push("--merged")
    assert done.code == 4 and "--replace" in done.err and {m for _, m, _ in bench.hub.requests} <= {"GET", "HEAD"}
    assert bench.push("--merged", "--replace").code == 0
    assert "model.safetensors" in bench.head and "adapter_model.safetensors" not in bench.head


def whole(bench: Bench, tiny_model: Path) -> Path:
    """The run, as one that fitted every weight."""
    model = bench.run / "model"
    shutil.rmtree(bench.run / "adapter")
    shutil.copytree(tiny_model, model)
    as_if_measured(bench, "model")
    return model


def test_a_whole_model_goes_only_when_it_is_asked_for(bench: Bench, tiny_model: Path) -> None:
    model = whole(bench, tiny_model)
    refused(bench, says=("every weight was fitted", "--merged"))
    done = bench.push("--merged")
    assert done.code == 0, done.err
    assert bench.head["model.safetensors"] == (model / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda model: (model / "model.safetensors").unlink(), ("holds no weights as safetensors",)),
        (lambda model: (model / "config.json").write_text("{}"), ("config.json: says nothing of a model",)),
        (
            lambda model: write_json(model / "model.safetensors.index.json", {"weight_map": {"a": "b"}}),
            ("index.json: names other weights",),
        ),
        (lambda model: wrong(model, float("nan")), ("model.safetensors: ", "not finite")),
        (lambda model: wrong(model, 0.0, rows=300), ("has 300 rows, and the tokenizer 446 tokens",)),
    ],
)
def test_a_whole_model_that_is_not_one(bench: Bench, tiny_model: Path, change: Any, says: tuple[str, ...]) -> None:
    change(whole(bench, tiny_model))
    refused(bench, "--merged", says=says)


def wrong(model: Path, value: float, rows: int = 446) -> None:
    tensors = load_file(model / "model.safetensors")
    embeddings = tensors["model.embed_tokens.weight"][:rows].clone()
    embeddings[0, 0] = value
    save_file(tensors | {"model.embed_tokens.weight": embeddings}, model / "model.safetensors", {"format": "pt"})


# -- who asks, where, by which names ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["--token", "s3cr3t-of-mine"],
        ["--token=s3cr3t-of-mine"],
        ["--hf-token", "s3cr3t-of-mine"],
        ["--tok=s3cr3t-of-mine"],
        ["--tag", PLANTED],
        [f"me/{PLANTED}"],
        [f"HF_TOKEN={PLANTED}"],
    ],
)
def test_a_token_on_the_command_line(bench: Bench, words: list[str]) -> None:
    """Not even repeated in the complaint."""
    done = refused(bench, *words, says=("does not belong on the command line", "hf auth login", "replace this token"))
    assert "s3cr3t" not in done.err


def test_the_token_of_the_environment_on_the_command_line(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known by its value, whatever its shape."""
    monkeypatch.setenv("HF_TOKEN", "of-another-shape-1234")
    done = refused(bench, "--tag", "of-another-shape-1234", says=("does not belong on the command line",))
    assert "shape" not in done.err


@pytest.mark.parametrize(
    ("endpoint", "says"),
    [
        ("http://hub.example.org", ("http would send the token in the clear", "use https")),
        ("http://10.0.0.7:8080", ("http would send the token in the clear",)),
        ("http://localhost.example.org", ("http would send the token in the clear",)),
        ("https://me:s3cr3t@hub.example.org", ("HF_ENDPOINT: is no address of a hub", "without a name or a password")),
        ("ftp://hub.example.org", ("HF_ENDPOINT: is no address of a hub",)),
        ("hub.example.org", ("HF_ENDPOINT: is no address of a hub",)),
    ],
)
def test_a_hub_to_which_no_token_goes(
    bench: Bench, endpoint: str, says: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is looked up, nothing connected: the suite's guard would see it."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    done = refused(bench, says=says)
    assert bench.hub.requests == [] and "s3cr3t" not in done.err


def test_offline(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused(bench, says=("HF_HUB_OFFLINE=1 is set", "unset it"), code=3)
    assert bench.hub.requests == []


def test_nobody_is_logged_in(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    refused(bench, says=("nobody is logged in", "hf auth login"), code=3)
    assert bench.hub.requests == []


def test_a_repository_of_somebody_else(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Public, so that everybody sees it and only its owner may write: known before the first write is tried."""
    monkeypatch.setenv("HF_TOKEN", OTHER_TOKEN)
    bench.hub.put(CLONE, {"README.md": b"mine"}, private=False)
    for words in ((), ("--dry-run",)):
        refused(bench, *words, "--public", says=("belongs to me, and other cannot write there", "--create-pr"), code=3)
    assert bench.push("--public", "--create-pr").code == 0
    assert bench.head == {"README.md": b"mine"} and "refs/pr/1" in bench.hub.repos[CLONE].refs


@pytest.mark.parametrize(("right", "code"), [("repo.content.read", 3), ("repo.write", 0)])
def test_a_token_with_rights_of_its_own(bench: Bench, right: str, code: int) -> None:
    """The newer kind says what it may do; one that may write nothing is told before anything is tried."""
    rights = {"global": [], "scoped": [{"entity": {"type": "user", "name": "me"}, "permissions": [right]}]}
    about = {"name": "me", "orgs": [], "auth": {"accessToken": {"role": "fineGrained", "fineGrained": rights}}}
    bench.hub.fault(
        "whoami", lambda handler, serve: (200, {"Content-Type": "application/json"}, json.dumps(about).encode())
    )
    done = bench.push("--dry-run")
    assert done.code == code and (code == 0 or "may only read" in done.err), done.err


def test_an_organisation_that_one_may_only_read(bench: Bench) -> None:
    orgs = [{"name": "lab", "roleInOrg": "read"}, {"name": "club", "roleInOrg": "write"}]
    raw = json.dumps({"name": "me", "orgs": orgs, "auth": {"accessToken": {"role": "write"}}}).encode()
    bench.hub.fault("whoami", lambda handler, serve: (200, {"Content-Type": "application/json"}, raw))
    refused(bench, "lab/clone", says=("cannot create it under lab", "name one of me, club"), code=3)


NO_NAMES: list[tuple[list[str], str]] = [
    *(([repo], "is no repository; write OWNER/NAME") for repo in (
        "clone", "me/clone/x", "me/", "/clone", "me/clo ne", "me/clone.git", "me/clone-", "me/.clone", "me/a--b",
        "me/a..b", "mé/clone", "me/" + "x" * 97, "https://huggingface.co/me/clone", "../../etc/passwd",
    )),
    *((["--revision", branch], "--revision") for branch in (
        "", "a b", "a..b", "-x", "refs/heads/x", "x.lock", "a//b", "a/.b", "a/", "a.", "HEAD", "0" * 40, "ä", "x" * 200,
    )),
    *((["--tag", tag], "--tag") for tag in ("", "v 1", "v1.lock", "v:1", "v~1", "v^", "v1\n", "f" * 40)),
    (["--create-pr", "--revision", "trial"], "--create-pr"),
    (["--create-pr", "--tag", "v1"], "--tag"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "says"), NO_NAMES, ids=[ascii(" ".join(words))[:40] for words, _ in NO_NAMES])
def test_names_that_are_none(bench: Bench, words: list[str], says: str) -> None:
    """Before anything is read or asked."""
    words = [f"{words[0]}={words[1]}", *words[2:]] if words[0] in ("--revision", "--tag") else words
    refused(bench, *words, says=(says,), lines=2 if "v1\n" in words[0] else 1)
    assert bench.hub.requests == []


def test_nowhere_to_go(bench: Bench, capsys: Any) -> None:
    assert main(["push", str(bench.run)]) == 2
    assert "Name OWNER/NAME, or write it into the recipe as publish.hub_id" in capsys.readouterr().err


def test_public_is_public_and_nothing_else(bench: Bench) -> None:
    """By the option, or by the recipe; every check is the same."""
    assert bench.push("--public").code == 0
    assert not bench.hub.repos[CLONE].private and bench.receipt()["private"] is False
    published(private=False, hub_id="lab/clone")(bench)
    assert main(["push", str(bench.run)]) == 0 and not bench.hub.repos["lab/clone"].private
    (bench.run / "LICENSE").write_text(f"{PLANTED}\n", encoding="utf-8")
    assert bench.push("--public").code == 2


@pytest.mark.parametrize("words", [["--private", "--public"], ["--rewrite"], ["--revision"]])
def test_options_that_do_not_go_together(bench: Bench, words: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["push", str(bench.run), CLONE, *words])
    assert stop.value.code == 2 and bench.hub.requests == []


# -- exit statuses ----------------------------------------------------------------------------------------


def test_every_outcome_has_a_number_of_its_own_and_help_says_it(capsys: Any) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["push", "--help"])
    assert stop.value.code == 0
    listed = re.findall(r"^  (\d)  (\S.*)$", capsys.readouterr().out, re.MULTILINE)
    kinds = [errors.PublishError, *errors.PublishError.__subclasses__()]
    assert [int(number) for number, _ in listed] == [0, *(kind.exit_status for kind in kinds)]
    assert len({kind.exit_status for kind in kinds}) == len(kinds) and len({words for _, words in listed}) == len(
        listed
    )


def moved(bench: Bench) -> None:
    bench.hub.put(CLONE, {})
    bench.hub.fault("commit", meanwhile(lambda: bench.hub.repos[CLONE].add({"README.md": b"theirs"})))


def taken(bench: Bench) -> None:
    bench.hub.put(CLONE, {"model.safetensors": b"theirs"})


def lost(bench: Bench) -> None:
    """Sent, never answered, never seen."""
    bench.hub.put(CLONE, {})
    bench.hub.fault("commit", status(504), times=1000)


OUTCOMES: dict[int, Change] = {
    0: lambda bench: bench.hub.fault("commit", answer_lost),
    2: lambda bench: (bench.run / "scorecard.json").unlink(),
    3: lambda bench: bench.hub.fault("whoami", status(401)),
    4: taken,
    5: moved,
    6: lambda bench: bench.hub.fault("whoami", status(503), times=1000),
    7: lost,
    8: lambda bench: bench.hub.fault("resolve", flipped_byte, times=1000),
    9: lambda bench: bench.hub.fault("whoami", lambda handler, serve: (200, {}, b"[1]"), times=9),
}


@pytest.mark.parametrize("code", OUTCOMES)
def test_each_number_stands_for_its_outcome(bench: Bench, code: int) -> None:
    OUTCOMES[code](bench)
    done = bench.push()
    assert done.code == code and (bench.run / "push.json").exists() == (code == 0), done.err
    theirs = {"README.md": b"theirs"} if code == 5 else {"model.safetensors": b"theirs"} if code == 4 else {}
    assert code in (0, 8) or bench.head == theirs


def test_every_outcome_is_tried() -> None:
    kinds = [errors.PublishError, *errors.PublishError.__subclasses__()]
    assert set(OUTCOMES) == {0, *(kind.exit_status for kind in kinds)}
