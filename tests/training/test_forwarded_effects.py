"""Every key that a recipe hands on unread either does something or is refused: by table, over all installed fields.

A row of :data:`FITS` and :data:`ADAPTER` is a key, a value, and what of a fit must be another with it. Run as a
program, ``test_forwarded_effects.py MODEL FOLDER`` fits as one of several processes and prints how they exchange
gradients.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import hashlib
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forked_python
import pytest
from repository import ROOT, TESTS

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")

import small_tokenizers
import toy_fits
from accelerate.data_loader import DataLoaderShard
from safetensors.torch import load_file
from toy_demonstrations import write_demonstrations

from sft import recipes
from sft.cli import main as command
from sft.errors import RecipeError, UserError
from sft.recipes import (
    engine_fields,
    forwarded,
)
from sft.runs.atomic_files import read_json, read_jsonl

HERE = Path(__file__)


#: A key, its value, and what of a fit is another with it: a field of :class:`Seen`.
Effect = tuple[str, Any, str]


@dataclasses.dataclass(frozen=True)
class Fit:
    """A fit with the keys of ``effects``, which are about different things, beside one without them.

    ``beside``: in both fits; ``without``: only in the other, where a key's default is no setting to compare with.
    ``layouts``: the ways a batch is laid out in which this is tried, each a key of ``models``.
    """

    effects: tuple[Effect, ...]
    beside: dict[str, Any] = dataclasses.field(default_factory=dict)
    without: dict[str, Any] = dataclasses.field(default_factory=dict)
    layouts: tuple[str, ...] = ("line",)


def one(key: str, value: Any, differs: str, **others: Any) -> Fit:
    return Fit(((key, value, differs),), **others)


EVERY = ("line", "padded", "packed")
MIN_RATE = {"lr_scheduler_type": "cosine_with_min_lr"}
CHECKPOINTED = {"gradient_checkpointing": True, "adapter.lora_dropout": 0.5}
UNSAFE = {"use_reentrant": False, "preserve_rng_state": False}
FITS = [
    Fit((("learning_rate", 5e-3, "rates"), ("eval_delay", 3, "looked"))),
    Fit((("lr_scheduler_type", "constant", "rates"), ("eval_on_start", True, "looked"))),
    # With a look at the validation split the best weights are saved too, however seldom checkpoints are due.
    Fit((("lr_scheduler_kwargs", {"min_lr_rate": 0.5}, "rates"), ("save_steps", 4, "checkpoints")),
        MIN_RATE | {"eval_strategy": "no", "eval_steps": None}, {"lr_scheduler_kwargs": {"min_lr_rate": 0.1}}),
    Fit((("warmup_steps", 3, "rates"), ("eval_strategy", "epoch", "looked")), {"eval_steps": None}),
    Fit((("logging_strategy", "epoch", "logged"), ("eval_steps", 1, "looked")), {"logging_steps": None}),
    Fit((("logging_steps", 2, "logged"), ("adam_beta1", 0.5, "weights"))),
    Fit((("logging_first_step", True, "logged"), ("save_total_limit", 1, "checkpoints"),
         ("full_determinism", True, "deterministic"), ("bf16", True, "narrow")), {"logging_steps": 4}),
    one("num_train_epochs", 2.0, "steps", beside={"max_steps": -1}),
    one("max_steps", 2, "steps"),
    # What is in a batch, how it is computed, and what is looked at is so however the batch is laid out.
    one("per_device_train_batch_size", 3, "batches", layouts=EVERY),
    one("gradient_accumulation_steps", 2, "batches", layouts=EVERY),
    one("data_seed", 7, "batches", layouts=EVERY),
    one("train_sampling_strategy", "sequential", "batches", layouts=EVERY),
    one("train_sampling_strategy", "group_by_length", "batches", layouts=EVERY),
    Fit((("dataloader_num_workers", 1, "workers"), ("per_device_eval_batch_size", 1, "validation_batches"),
         ("gradient_checkpointing", True, "layer_calls"), ("adapter.lora_dropout", 0.5, "weights")), layouts=EVERY),
    one("seed", 1, "batches"),
    one("packing", True, "batches"),
    one("max_length", 64, "batches", beside={"packing": True}),
    one("neftune_noise_alpha", 5.0, "weights"),
    one("optim", "sgd", "weights"),
    one("optim_args", "momentum=0.9", "weights", beside={"optim": "sgd"}),
    one("max_grad_norm", 1e-3, "weights", beside={"optim": "sgd"}),
    one("weight_decay", 0.5, "weights"),
    one("adam_beta2", 0.5, "weights"),
    one("adam_epsilon", 1e-2, "weights"),
    one("gradient_checkpointing_kwargs", UNSAFE, "weights", beside=CHECKPOINTED),
    Fit((("dataloader_prefetch_factor", 5, "prefetched"), ("dataloader_persistent_workers", True, "kept_workers")),
        {"dataloader_num_workers": 1}),
    Fit(tuple((key, value, "told") for key, value in {
        "report_to": "trackio", "run_name": "my run", "project": "my project", "trackio_space_id": "me/space",
        "trackio_bucket_id": "me/bucket", "trackio_static_space_id": "me/still",
    }.items())),
]  # fmt: skip
#: Fields that do something between several processes, which a test of two processes sees.
BETWEEN = {
    "ddp_find_unused_parameters": True,
    "ddp_bucket_cap_mb": 3,
    "ddp_broadcast_buffers": False,
    "ddp_static_graph": True,
}
Q = {"target_modules": ["q_proj"]}
#: The same of the adapter: key, value, what differs; what stands beside it; the model.
ADAPTER: list[tuple[str, Any, str, dict[str, Any], str]] = [
    ("r", 2, "trainable", {}, "line"),
    ("target_modules", ["q_proj"], "trainable", {}, "line"),
    ("exclude_modules", ["q_proj"], "trainable", {}, "line"),
    ("lora_alpha", 64, "looks", {}, "line"),
    ("lora_dropout", 0.5, "weights", {}, "line"),
    ("bias", "all", "trainable", {}, "biased"),
    ("modules_to_save", ["lm_head"], "trainable", {}, "biased"),
    ("init_lora_weights", "gaussian", "weights", {}, "line"),
    ("layers_to_transform", [0], "trainable", Q, "line"),
    ("rank_pattern", {"q_proj": 2}, "trainable", {}, "line"),
    ("alpha_pattern", {"q_proj": 64}, "looks", {}, "line"),
    ("trainable_token_indices", [3, 4], "trainable", {}, "line"),
    ("velora_config", {"num_groups": 4}, "weights", {}, "line"),
    ("use_bdlora", {"target_modules_bd_a": ["q_proj"], "nblocks": 2, "match_strict": False}, "weights", {}, "line"),
    ("target_parameters", ["mlp.down_proj.weight"], "trainable", Q, "line"),
    ("ensure_weight_tying", True, "weights", {"modules_to_save": ["embed_tokens"]}, "line"),
]
#: Fields that do nothing on a CPU, or nothing in one process: a value, and why it is refused.
HERE_REFUSED = {
    "fp16": (True, "float16 is a format of GPUs"),
    "tf32": (True, "TF32 is a format of NVIDIA GPUs"),
    "torch_empty_cache_steps": (1, "it empties a GPU's cache"),
    "dataloader_pin_memory": (True, "pinned memory"),
    "activation_offloading": (True, "off an NVIDIA GPU"),
} | {key: (value, "it is about several processes") for key, value in BETWEEN.items()}
#: Keys that mean nothing beside others: (section, given, the key that is refused, why).
IDLE = [
    ("training", {"dataloader_persistent_workers": True}, "dataloader_persistent_workers", "without workers"),
    ("training", {"dataloader_prefetch_factor": 2}, "dataloader_prefetch_factor", "without workers"),
    ("training", {"gradient_checkpointing_kwargs": {}}, "gradient_checkpointing_kwargs", "without checkpointing"),
    ("training", {"eval_strategy": "no", "eval_delay": 2}, "eval_delay", 'with eval_strategy: "no"'),
    ("training", {"eval_strategy": "no", "per_device_eval_batch_size": 2}, "per_device_eval_batch_size", "no"),
    ("training", {"optim": "sgd", "adam_beta1": 0.5}, "adam_beta1", "with optim: sgd"),
    ("training", {"optim": "adafactor", "adam_epsilon": 0.5}, "adam_epsilon", "with optim: adafactor"),
    ("training", {"optim_args": "momentum=0.9"}, "optim_args", "with optim: adamw_torch"),
    ("training", {"optim_target_modules": "all-linear"}, "optim_target_modules", "with optim: adamw_torch"),
    ("training", {"train_sampling_strategy": "sequential", "data_seed": 1}, "data_seed", "sequential"),
    ("training", {"train_sampling_strategy": "batch_rebalance"}, "train_sampling_strategy", "repeats rows"),
    ("training", {"logging_strategy": "epoch", "logging_steps": 2}, "logging_steps", "logging_strategy: epoch"),
    ("training", {"run_name": "mine"}, "run_name", "without a tracker that takes it"),
    ("training", {"report_to": "tensorboard", "run_name": "mine"}, "run_name", "without a tracker that takes it"),
    ("training", {"report_to": "wandb", "project": "mine"}, "project", "without trackio"),
    ("training", {"trackio_space_id": "me/space"}, "trackio_space_id", "without trackio"),
    ("training", {"report_to": "trackio", "trackio_static_space_id": "a/b"}, "trackio_static_space_id", "Space"),
    ("adapter", {"layers_to_transform": [0]}, "layers_to_transform", "with target_modules as text"),
    ("adapter", Q | {"layers_pattern": "layers"}, "layers_pattern", "without layers_to_transform"),
    ("adapter", {"velora_config": {"num_grups": 2}}, "velora_config.num_grups", "did you mean num_groups?"),
    ("adapter", {"use_bdlora": True}, "use_bdlora", "is no mapping"),
]
#: Keys of the adapter that match nothing in the model, and what is said; ``layers_pattern`` is read, as this shows.
UNMATCHED = [
    ({"exclude_modules": ["nothing"]}, "no modules were excluded"),
    ({"bias": "all"}, "adapter.bias: would do nothing, because the layers that it is about have none"),
    ({"modules_to_save": ["nothing"]}, "the model has no part called nothing"),
    (Q | {"layers_to_transform": [0, 7]}, "no adapter is on a layer with the number 7"),
    (Q | {"layers_to_transform": [0], "layers_pattern": "blocks"}, "'layers_pattern': blocks"),
    ({"rank_pattern": {"nothing": 2}}, "no layer with an adapter is called nothing"),
    ({"alpha_pattern": {"nothing": 2}}, "no layer with an adapter is called nothing"),
    ({"ensure_weight_tying": True}, "no tied modules"),
]


# -- what is seen of a fit ------------------------------------------------------------------------------------


@dataclasses.dataclass
class Seen:
    """What a fit did, each part as something that can be compared."""

    steps: int = 0
    weights: str = ""
    trainable: Any = None
    rates: Any = None
    looks: Any = None
    logged: Any = None
    looked: Any = None
    checkpoints: Any = None
    batches: list[Any] = dataclasses.field(default_factory=list)
    validation_batches: int = 0
    layer_calls: int = 0
    narrow: bool = False
    deterministic: bool = False
    workers: set[str] = dataclasses.field(default_factory=set)
    kept_workers: bool = False
    prefetched: set[Any] = dataclasses.field(default_factory=set)
    told: str = ""

    @property
    def padded(self) -> bool:
        """Whether the rows of a batch were below each other."""
        return max(rows for rows, *_ in self.batches) > 1


@contextlib.contextmanager
def watched(seen: Seen) -> Iterator[None]:
    """Inside, what torch's modules are called with is noted in ``seen``: from outside the product."""
    first: list[set[int | None]] = []

    def called(module: Any, arguments: Any) -> None:
        if type(module).__name__.endswith("MLP") and module.training:
            seen.layer_calls += 1
        if not isinstance(module, torch.nn.Embedding):
            return
        if not module.training:
            seen.validation_batches += 1
            return
        seen.batches.append((*arguments[0].shape, *arguments[0].flatten().tolist()))
        seen.narrow |= torch.is_autocast_enabled("cpu")
        seen.deterministic |= torch.are_deterministic_algorithms_enabled()
        children = multiprocessing.active_children()
        seen.workers |= {type(child).__name__ for child in children}
        pids = {child.pid for child in children}
        seen.kept_workers = bool(pids & first[0]) if first else False
        first.append(pids)
        if pids and not seen.prefetched:
            loaders = [kept for kept in gc.get_objects() if type(kept) is DataLoaderShard]
            seen.prefetched = {loader.prefetch_factor for loader in loaders}

    hook = torch.nn.modules.module.register_module_forward_pre_hook(called)
    try:
        yield
    finally:
        hook.remove()


def fitted(model: Path, folder: Path, settings: dict[str, Any]) -> Seen:
    """What is seen of a fit with ``settings``: keys of the training section, or ``adapter.KEY``."""
    overrides = [f"{key}={json.dumps(value)}" for key, value in settings.items() if key.startswith("adapter.")]
    training = {key: value for key, value in settings.items() if not key.startswith("adapter.")}
    seen = Seen()
    with watched(seen):
        done = toy_fits.fit(toy_fits.recipe_for(model, *overrides, **training), folder)
    log = read_jsonl(folder / "log.jsonl")
    adapter = load_file(folder / "adapter" / "adapter_model.safetensors")
    seen.steps = done.steps
    seen.trainable = done.trainable_parameters, sorted(adapter)
    seen.weights = hashlib.sha256(b"".join(adapter[name].numpy().tobytes() for name in sorted(adapter))).hexdigest()
    seen.rates = [row["learning_rate"] for row in log if "loss" in row]
    seen.looks = [row["eval_loss"] for row in log if "eval_loss" in row]
    seen.logged = [row["step"] for row in log if "loss" in row]
    seen.looked = [row["step"] for row in log if "eval_loss" in row]
    seen.checkpoints = sorted(path.name for path in (folder / "checkpoints").glob("checkpoint-*"))
    told = Path(os.environ["TOLD"])
    seen.told = told.read_text(encoding="utf-8") if told.exists() else ""
    return seen


# -- the models, and what each layout is compared with --------------------------------------------------------

#: A stand-in for the tracker, which would open a dashboard: it writes down what it is told.
TRACKIO = """
import json, os
from types import SimpleNamespace

__version__ = "99.0"
config = {}

def _tell(what, told):
    with open(os.environ["TOLD"], "a", encoding="utf-8") as file:
        file.write(json.dumps(["trackio", what, told], sort_keys=True, default=str) + "\\n")

def init(**told):
    context_vars.current_space_id = SimpleNamespace(get=lambda: told["space_id"])
    _tell("init", told)

def freeze(**told):
    _tell("freeze", told)
    return told["new_space_id"]

context_vars = SimpleNamespace()
log = finish = lambda *_, **__: None
"""


@pytest.fixture(scope="module")
def models(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By layout: the model whose fits have it; ``biased`` has biases and a head of its own."""
    from transformers import BloomConfig, BloomForCausalLM, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("models")
    tokenizer = small_tokenizers.chatml()
    sizes = {"vocab_size": len(tokenizer), "hidden_size": 32}
    torch.manual_seed(0)
    padded = BloomForCausalLM(BloomConfig(**sizes, n_layer=1, n_head=2))  # its attention is no call of SDPA's
    heads = {"intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    biased = LlamaForCausalLM(LlamaConfig(**sizes, **heads, attention_bias=True, tie_word_embeddings=False))
    for name, model in (("padded", padded), ("biased", biased)):
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return {"line": tiny_model, "packed": tiny_model, "padded": folder / "padded", "biased": folder / "biased"}


@pytest.fixture(scope="module")
def known() -> dict[str, Seen]:
    """What was seen of fits already, by layout and settings: many rows are compared with the same one."""
    return {}


@pytest.fixture(autouse=True)
def own_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The stand-in can be imported, and what an option of torch's switches on is off again afterwards."""
    (tmp_path / "tracker" / "trackio").mkdir(parents=True)
    (tmp_path / "tracker" / "trackio" / "__init__.py").write_text(TRACKIO, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "tracker")
    yield
    torch.use_deterministic_algorithms(False)
    sys.modules.pop("trackio", None)


def layout_of(layout: str) -> dict[str, Any]:
    return {"packing": True, "max_length": 96, "per_device_train_batch_size": 2} if layout == "packed" else {}


def compared(
    fit: Fit, layout: str, models: dict[str, Path], known: dict[str, Seen], folder: Path, patch: pytest.MonkeyPatch
) -> None:
    """Fit with the keys and, unless that is ``known``, without; everything named must be another."""
    beside = layout_of(layout) | fit.beside
    without = beside | fit.without
    place = json.dumps([layout, without], sort_keys=True)
    if place not in known:
        patch.setenv("TOLD", str(folder / "told-without.jsonl"))
        known[place] = fitted(models[layout], folder / "without", without)
    patch.setenv("TOLD", str(folder / "told.jsonl"))
    seen = fitted(models[layout], folder / "with", beside | {key: value for key, value, _ in fit.effects})
    for key, value, differs in fit.effects:
        if differs == "told":
            assert json.dumps(value) in seen.told, key
            assert not known[place].told
        else:
            assert getattr(seen, differs) != getattr(known[place], differs), f"{key}: {value} changes no {differs}"
    assert known[place].padded == (layout == "padded")


ROWS = [(fit, layout) for fit in FITS for layout in fit.layouts]


@pytest.mark.parametrize(
    ("fit", "layout"), ROWS, ids=[f"{'-'.join(key for key, *_ in fit.effects)}-{layout}" for fit, layout in ROWS]
)
def test_a_key_of_training_has_its_effect(
    fit: Fit, layout: str, models: dict[str, Path], known: dict[str, Seen], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A fit with the keys is another than one without them, in what each is about."""
    compared(fit, layout, models, known, tmp_path, monkeypatch)


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
@pytest.mark.parametrize(("key", "value", "differs", "beside", "model"), ADAPTER, ids=[row[0] for row in ADAPTER])
def test_a_key_of_the_adapter_has_its_effect(
    key: str, value: Any, differs: str, beside: dict[str, Any], model: str,
    models: dict[str, Path], known: dict[str, Seen], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The same, in fits of two steps; ``lora_B`` begins at zero, so what works on ``lora_A`` is seen in the second."""
    short = {"max_steps": 2, "lr_scheduler_type": "constant", "warmup_steps": 0}
    given = short | {f"adapter.{name}": other for name, other in beside.items()}
    compared(one(f"adapter.{key}", value, differs, beside=given), model, models, known, tmp_path, monkeypatch)


# -- what is refused ------------------------------------------------------------------------------------------


def refusal(section: str, given: dict[str, Any]) -> str:
    text = {"model": {"name": "x"}, "demonstrations": {"path": "x.jsonl"}, section: given}
    with pytest.raises(RecipeError) as caught:
        recipes.parse(json.dumps(text))
    return str(caught.value)


@pytest.mark.parametrize("section", ["training", "adapter"])
def test_what_is_refused_says_why(section: str) -> None:
    """Some of these were taken without a word, and broke the run later: ``save_only_model`` made it start again."""
    for key, why in forwarded.REFUSED[section].items():
        said = refusal(section, {key: None})
        assert f"'{section}.{key}' cannot be set here; {why}" in said


@pytest.mark.parametrize(("section", "given", "key", "why"), IDLE, ids=[f"{row[2]}-{row[3]}" for row in IDLE])
def test_a_key_that_means_nothing_beside_others_is_refused(
    section: str, given: dict[str, Any], key: str, why: str
) -> None:
    """The trainer takes it and leaves it unread, or fails on it when the first batch is made."""
    said = refusal(section, given)
    assert f"'{section}.{key}'" in said
    assert why in said


@pytest.mark.skipif(torch.cuda.is_available(), reason="they do something on a GPU")
@pytest.mark.parametrize("key", HERE_REFUSED)
@pytest.mark.parametrize("verb", ["train", "plan"])
def test_a_key_that_does_nothing_here_is_refused_before_anything_starts(
    key: str, verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``fp16: true`` on a CPU was fitted in float32, to the bit the clone without it."""
    value, why = HERE_REFUSED[key]
    recipe = tmp_path / "recipe.yaml"
    text = {"model": {"name": "nowhere"}, "demonstrations": {"path": "nowhere.jsonl"}, "training": {key: value}}
    recipe.write_text(json.dumps(text), encoding="utf-8")
    output = ["--output", str(tmp_path / "run")] if verb == "train" else ["--no-probe"]
    assert command([verb, str(recipe), *output]) == 2
    said = capsys.readouterr().err
    assert f"training.{key}: {value} would do nothing" in said
    assert why in said
    assert not (tmp_path / "run").exists()


def test_more_workers_than_cores_can_serve_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A value nobody means: each is a copy of the process, and hundreds of them took a machine of 24 GiB down."""
    recipe = tmp_path / "recipe.yaml"
    text = {"model": {"name": "nowhere"}, "demonstrations": {"path": "nowhere.jsonl"}}
    recipe.write_text(json.dumps(text | {"training": {"dataloader_num_workers": 100_000}}), encoding="utf-8")
    assert command(["train", str(recipe), "--output", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "training.dataloader_num_workers: 100000 would start that many processes" in said and "or fewer" in said


@pytest.mark.parametrize(("given", "why"), UNMATCHED, ids=[str(given) for given, _ in UNMATCHED])
def test_a_key_of_the_adapter_that_matches_nothing_is_refused(
    given: dict[str, Any], why: str, tiny_model: Path, tmp_path: Path
) -> None:
    """peft warns at most, and fits something else than was written."""
    from sft.recipes.sources import resolve_model
    from sft.training.plan.costs import outline

    overrides = [f"adapter.{key}={json.dumps(value)}" for key, value in given.items()]
    with pytest.raises(UserError) as caught:  # before any weights are read
        outline(toy_fits.recipe_for(tiny_model, *overrides), resolve_model(str(tiny_model)))
    assert why in str(caught.value)


def test_validation_that_never_comes_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    """``eval_delay: 100`` in a run of 4 steps ended without a validation loss, and nobody was told."""
    for key, value, said in (
        ("eval_delay", 5, "5 steps leave no look at the validation split, for the run has 4"),
        ("eval_delay", 1.5, "1.5 epochs leave no look at the validation split, for the run has 1.33"),
    ):
        epochs = {"eval_strategy": "epoch", "eval_steps": None} if isinstance(value, float) else {}
        with pytest.raises(UserError, match=said):
            toy_fits.fit(toy_fits.recipe_for(tiny_model, **{key: value}, **epochs), tmp_path / str(value))
        assert not (tmp_path / str(value) / "log.jsonl").exists()
    last = toy_fits.fit(toy_fits.recipe_for(tiny_model, eval_delay=4), tmp_path / "last")
    assert last.eval_loss is not None


def test_the_first_look_is_taken_once(tiny_model: Path, tmp_path: Path) -> None:
    """A run that goes on has looked when it began; a second look at the same step cost patience and a line."""
    recipe = toy_fits.recipe_for(tiny_model, eval_on_start=True, max_steps=2)
    toy_fits.fit(recipe, tmp_path / "run")
    before = read_jsonl(tmp_path / "run" / "log.jsonl")
    toy_fits.fit(recipe, tmp_path / "run", resume=True)
    looks = [row["step"] for row in read_jsonl(tmp_path / "run" / "log.jsonl") if "eval_loss" in row]
    assert looks == [row["step"] for row in before if "eval_loss" in row] == [0, 2]


def test_one_pass_that_joins_nothing_says_so(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows of one turn each are fitted as without it."""
    toy_fits.fit(toy_fits.recipe_for(tiny_model, dialogues="one_pass", max_steps=1), tmp_path / "run")
    assert "dialogues: one_pass joins nothing" in capsys.readouterr().err


def test_nothing_installed_is_left_out() -> None:
    """A new release of the trainer cannot add a key that does something, or nothing, unseen."""
    seen = {
        "training": {key for fit in FITS for key, *_ in fit.effects} | set(HERE_REFUSED),
        "adapter": {key for key, *_ in ADAPTER},
    }
    installed = {"training": engine_fields.training_fields(), "adapter": engine_fields.adapter_fields()}
    refused_beside = {(section, key) for section, _, key, _ in IDLE}
    read = {key for given, _ in UNMATCHED for key in given}
    for section, fields in installed.items():
        for key in fields:
            known = key in seen[section] or key in forwarded.REFUSED[section] or forwarded.is_secret(key)
            known |= (section, key) in refused_beside or (section == "adapter" and key in read)
            assert known, (
                f"{section}.{key} is forwarded, and no row of this file says what it does; find out, then give it a "
                "row here, or a reason in sft/recipes/forwarded.py"
            )


# -- models and processes -------------------------------------------------------------------------------------


def test_experts_are_fitted_by_the_log_loss_alone(tmp_path: Path) -> None:
    """A loss for balance between experts was in TRL's own loss and not in ours, and on in every model that names one.

    Of GraniteMoeHybrid without experts it asked for their choices, and the fit ended with a traceback.
    """
    from transformers import GraniteMoeHybridConfig, GraniteMoeHybridForCausalLM, MixtralConfig, MixtralForCausalLM

    tokenizer = small_tokenizers.chatml()
    sizes = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 2, "num_experts_per_tok": 2,
    }  # fmt: skip
    bare = {"num_local_experts": 0, "layer_types": ["attention"], "shared_intermediate_size": 32, "mamba_n_heads": 8}
    torch.manual_seed(0)
    for name, model, method in (
        ("granite", GraniteMoeHybridForCausalLM(GraniteMoeHybridConfig(**sizes | bare)), "lora"),
        ("mixtral", MixtralForCausalLM(MixtralConfig(**sizes, num_local_experts=4, router_aux_loss_coef=0.5)), "full"),
    ):
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        recipe = toy_fits.recipe_for(tmp_path / name, method=method, max_steps=2)
        assert toy_fits.fit(recipe, tmp_path / f"run-{name}").steps == 2
    saved = read_json(tmp_path / "run-mixtral" / "model" / "config.json")
    assert (saved["router_aux_loss_coef"], saved["output_router_logits"]) == (0.5, False)


def test_names_of_layers_are_saved_in_order(tiny_model: Path, tmp_path: Path) -> None:
    """peft keeps them in a set, whose order changes from process to process: equal runs wrote unequal files."""
    recipe = toy_fits.recipe_for(tiny_model, 'adapter.exclude_modules=["q_proj", "k_proj"]', max_steps=1)
    toy_fits.fit(recipe, tmp_path / "run")
    saved = read_json(tmp_path / "run" / "adapter" / "adapter_config.json")
    for key, least in (("target_modules", 5), ("exclude_modules", 2)):
        assert len(saved[key]) >= least
        assert saved[key] == sorted(saved[key])


def test_several_processes_exchange_gradients_as_the_recipe_says(tiny_model: Path, tmp_path: Path) -> None:
    """Without a word in the recipe every step looked for weights without a gradient, and warned that there are none."""
    write_demonstrations(tmp_path / "demonstrations.jsonl")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    answer = forked_python.run(
        [*launcher, str(HERE), str(tiny_model), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(TESTS / "toys")])},
    )
    assert answer.returncode == 0, answer.stderr
    plain, told = (json.loads(line) for line in answer.stdout.splitlines() if line.startswith("{"))
    assert plain == {"find_unused_parameters": False, "bucket": 25, "broadcast_buffers": True, "static_graph": False}
    assert told == {"find_unused_parameters": True, "bucket": 3, "broadcast_buffers": False, "static_graph": True}


def main(model: Path, folder: Path) -> None:
    """Two fits by the command, each on a line of JSON: how DDP exchanges its gradients."""
    from torch.nn.parallel import DistributedDataParallel

    found: dict[str, Any] = {}

    def called(module: Any, _: Any) -> None:
        if isinstance(module, DistributedDataParallel):
            found["find_unused_parameters"] = module.find_unused_parameters
            found["bucket"] = module.bucket_bytes_cap // 2**20
            found["broadcast_buffers"] = module.broadcast_buffers
            found["static_graph"] = module.static_graph

    torch.set_num_threads(1)
    torch.nn.modules.module.register_module_forward_pre_hook(called)
    recipe = {
        "model": {"name": str(model)},
        "demonstrations": {"path": str(folder / "demonstrations.jsonl")},
        "split": {"near_duplicates": "remove"},
        "training": {"max_steps": 1, "eval_steps": 1},
    }
    for name, settings in (("plain", {}), ("told", BETWEEN)):
        file = folder / f"{name}-{os.environ['RANK']}.yaml"
        file.write_text(json.dumps(recipe | {"training": recipe["training"] | settings}), encoding="utf-8")
        assert command(["train", str(file), "--output", str(folder / name)]) == 0
        if os.environ["RANK"] == "0":
            sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
