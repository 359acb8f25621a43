"""Judging a clone that was trained elsewhere: any adapter or model, against any file of held-out demonstrations.

What is measured, and how, is what ``sft evaluate`` measures on a run of its own. What is not known stays unknown:
without the training demonstrations there is no shortcut made of them, without a base no gain over it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft import recipes
from sft.demonstrations import formats, splits
from sft.demonstrations.demonstration import Demonstration
from sft.errors import PolicyError, SourceError, UserError
from sft.fidelity.scorecard import Scorecard
from sft.recipes import Recipe, sources
from sft.runs import sealed
from sft.runs.hashes import Digest, fingerprint, weights_hash
from sft.runs.processes import is_main
from sft.runs.run import Run, trained_policy, write_jsonl

if TYPE_CHECKING:
    from sft.policies.rendering import Renderer

__all__ = ["evaluate"]


@dataclass(frozen=True, slots=True)
class _Clone:
    """What was found under the target's name. ``model``: what a base is loaded by; ``tuned``: None: the model itself.

    ``revision``: of the base on the hub, where the adapter names one. ``digest``: of the clone's weights.
    """

    model: str
    revision: str | None
    tuned: Path | None
    folder: Path
    digest: str


def evaluate(
    target: str,
    held_out: str,
    *,
    train: str | None = None,
    base: str | None = None,
    output: Path,
    profile: str = "standard",
    max_prompts: int | None = 200,
    template: str = "auto",
    engine: tuple[str, str] = ("", ""),
    **fidelity: Any,
) -> tuple[Run, Scorecard]:
    """Measure the clone ``target`` against the experts in the file ``held_out``, into a run folder at ``output``.

    ``target``: a run, the folder of an adapter or of a full model, or a hub id of either. ``base``: the base
    model, by default the one the adapter names; a full model without one is compared with no base. ``train``: the
    demonstrations it learned from, if they are known. ``template``: as ``model.template`` of a recipe, of the
    tokenizer saved with the clone, else of the base's. ``engine``: see ``evaluate.measure``. ``fidelity``: settings
    of that section of a recipe. Going on
    with an interrupted measurement needs the same arguments. Raises ``UserError``: files that cannot be had, rows that
    are in both files, another ``output``.
    """
    from sft.evaluation.evaluate import judged_by, measure

    with (
        _begun(target, held_out, train, base, output, max_prompts, template) as (run, subject),
        run.session() if is_main() else nullcontext(),
    ):
        subject = replace(subject, recipe=judged_by(subject.recipe, fidelity))
        card = measure(run, subject, profile=profile, engine=engine)
    return run, card


@contextmanager
def _begun(
    target: str,
    held_out: str,
    train: str | None,
    base: str | None,
    output: Path,
    max_prompts: int | None,
    template: str,
) -> Iterator[tuple[Run, Any]]:
    """The run, held in the first process and open for reading in the others, and who is measured."""
    from sft.evaluation.evaluate import Subject
    from sft.runs.processes import tell

    if not is_main() and not tell(None):
        raise SystemExit(2)  # the first process says why
    try:
        experts, learned = _read(held_out, held_out=True), _read(train) if train is not None else []
        if is_main():
            splits.refuse_learned(learned, experts, train or "")
        clone = _find(target, base)
        thinks = any(d.thought for d in (*experts, *learned))
        recipe = _recipe(clone, train or held_out, template, max_prompts, thinks=thinks)
        based_on, renderer = _engine(clone, recipe, target)
        facts = {"target": target, "weights_hash": clone.digest}
        subject = Subject(recipe, based_on, renderer, clone.tuned, learned, experts, facts=facts)
        run = _open(output, subject, target, [train, held_out]) if is_main() else Run.open(output)
    except BaseException:
        if is_main():
            tell(False)
        raise
    with run:
        if is_main():
            tell(True)
        yield run, subject


# -- the clone ------------------------------------------------------------------------------------------------


def _find(target: str, base: str | None) -> _Clone:
    """Adapter or full model, by what its folder holds. Raises ``PolicyError`` or ``SourceError``."""
    from sft.policies.weights import base_folder, is_adapter, refuse_pickles

    folder = Path(target).expanduser()
    if (folder / "manifest.json").is_file():
        found = trained_policy(Run.open(folder))
        if found is None:
            raise PolicyError(f"{folder}: is a run that is not trained yet; train it, or name an adapter or a model")
        folder = found
    elif not folder.is_dir() or not is_adapter(folder):
        source = sources.resolve_model(target)  # a model, or one sentence about what is wrong with the name
        folder = _fetched(target) if source.hub_id == target else Path(base_folder(source)[0])
    if is_adapter(folder):
        named, revision = (base, None) if base else _named_base(folder)
        if not named:
            raise PolicyError(f"{target}: the adapter does not name its base model; name it with --base")
        refuse_pickles(folder, target)
        if not base:
            _refuse_pickled_base(target, named, revision)
        return _Clone(named, revision, folder, folder, weights_hash(folder))
    if base is None:
        model = target if target.startswith("wheel:") or not Path(target).expanduser().is_dir() else str(folder)
        return _Clone(model, None, None, folder, weights_hash(folder))
    return _Clone(base, None, folder, folder, weights_hash(folder))


def _fetched(target: str) -> Path:
    """The files that the hub has under ``target``. Raises ``PolicyError``."""
    from sft.policies.weights import fetch_weights

    try:
        return fetch_weights(target)
    except PolicyError as error:
        if why := _of_hub(error):
            raise PolicyError(f"{target}: {why}") from error
        raise


def _of_hub(error: BaseException) -> str:
    """Why the hub does not hand something out, and what to do; "" where that is not what ``error`` came from."""
    import httpx2
    from huggingface_hub import errors, get_token

    one: BaseException | None = error
    while one is not None:
        match one:
            case errors.HFValidationError():
                return "is no folder here, and no id of a hub, which would be OWNER/NAME; check the name"
            case errors.OfflineModeIsEnabled():
                return "HF_HUB_OFFLINE=1 is set, and the hub's cache does not hold it; unset it, or name a local folder"
            case errors.GatedRepoError():
                return "whoever wants it has to accept its terms first; do so on its page on the hub, and log in as you"
            case errors.RepositoryNotFoundError() if get_token() is None:
                return (
                    "the hub shows no such repository to people who are not logged in; check the id, or, if it is "
                    "private, run `hf auth login`, or set HF_TOKEN"
                )
            case errors.RepositoryNotFoundError():
                return (
                    "the hub shows no such repository to the owner of this token; check the id, or, if it is private, "
                    "ask for the right to read it"
                )
            case errors.RevisionNotFoundError():
                return "the hub has the repository, but not the commit that is asked for; ask whoever published it"
            case errors.HfHubHTTPError() if one.response.status_code == 401:
                return "the hub does not take this token; run `hf auth login`, or set HF_TOKEN to another"
            case errors.HfHubHTTPError():
                return f"the hub answers {one.response.status_code}; run the same command again later"
            case httpx2.TransportError():
                return "the hub cannot be reached; check the network, and run the same command again"
        one = one.__cause__ or one.__context__
    return ""


def _refuse_pickled_base(target: str, base: str, revision: str | None) -> None:
    """Raise ``PolicyError`` where ``base``, which somebody else's adapter names, is on the hub as pickles alone.

    Whoever published the adapter chose the name, and the loader would take them.
    """
    import httpx2
    from huggingface_hub import HfApi, errors, try_to_load_from_cache

    names: set[str] = set()
    with suppress(SourceError, errors.HFValidationError):  # a name that is none: whoever loads it says so
        if sources.resolve_model(base, revision).hub_id != base:
            return
        try:
            names.update(HfApi().list_repo_files(base, revision=revision))
        except (OSError, httpx2.TransportError):  # offline, or not to be had: what was loaded once counts
            cached = try_to_load_from_cache(base, "config.json", revision=revision)
            if isinstance(cached, str):
                names.update(file.name for file in Path(cached).parent.iterdir())
    if names and not names & {"model.safetensors", "model.safetensors.index.json"}:
        raise PolicyError(
            f"{target}: its base model {base} holds no weights as safetensors, and pickled ones are not read, for "
            "loading one can run any code; if you trust it, save it as safetensors, and name that folder with --base"
        )


def _named_base(folder: Path) -> tuple[str, str | None]:
    """The base model that an adapter was fitted to, and its commit: its run knows, else it says; "" if it says none."""
    with suppress(UserError, OSError):  # in no run, or one that cannot be read: the adapter stands alone
        known = Run.open(folder.parent).manifest.get("base", {})
        if name := known.get("name"):
            return str(name), known.get("revision")
    path = folder / "adapter_config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        name, revision = str(config.get("base_model_name_or_path") or ""), config.get("revision")
    except (OSError, ValueError, AttributeError) as error:
        raise PolicyError(f"{path}: is no adapter's configuration ({error}); copy the adapter again") from None
    return name, str(revision) if revision and not Path(name).expanduser().is_dir() else None


def _engine(clone: _Clone, recipe: Recipe, target: str) -> tuple[sources.BaseSource, Renderer]:
    """The base, and the renderer of the clone's own tokenizer, as it was trained with, else of the base's."""
    from sft.policies.policy import load_renderer, saved_renderer

    renderer = saved_renderer(clone.folder, recipe)
    try:
        # Read in any case: a base that is not there must be told of before anything is made.
        base = sources.source_of(recipe.model)
        of_base = load_renderer(base, recipe)
    except UserError as error:
        if clone.tuned is None:
            raise
        wheels = [f"wheel:{name}" for name, known in sources.WEIGHTS.items() if known.hub_id == clone.model]
        why = _of_hub(error) or str(error).removeprefix(f"{clone.model}: ")
        raise type(error)(
            f"{target}: its base model cannot be had: {clone.model}: {why}; or name it with "
            f"--base{f' {wheels[0]}' if wheels else ''}"
        ) from None
    return base, renderer or of_base


def _recipe(clone: _Clone, demonstrations: str, template: str, max_prompts: int | None, *, thinks: bool) -> Recipe:
    """The settings of a run that was not made by a recipe: all at their defaults."""
    return recipes.Recipe.model_validate(
        {
            "model": {"name": clone.model, "revision": clone.revision, "template": template},
            # What special tokens mean that somebody spelled was settled when the clone was trained: it read words.
            "demonstrations": {"path": demonstrations, "special_tokens": "text"}
            | ({"thoughts": "keep"} if thinks else {}),
            "fidelity": {"max_prompts": max_prompts},
        }
    )


# -- the demonstrations ---------------------------------------------------------------------------------------


def _read(reference: str, *, held_out: bool = False) -> list[Demonstration]:
    """Every demonstration of a file, without repetitions; ``held_out``: as in ``formats.read``.

    Raises ``SourceError`` or ``DemonstrationsError``.
    """
    demonstrations = list(splits.deduplicate(formats.read_source(reference, held_out=held_out).demand())[0])
    if not demonstrations:
        raise SourceError(f"{reference}: holds no demonstrations; name another file")
    return demonstrations


# -- the run --------------------------------------------------------------------------------------------------


def _of_base(subject: Any) -> dict[str, str | None]:
    model = subject.recipe.model
    name = model.name if subject.tuned is not None else None
    return {"name": name} | ({"revision": model.revision} if model.revision else {})


def _open(output: Path, subject: Any, target: str, paths: Sequence[str | None]) -> Run:
    """The run folder, new or the one of the same measurement. Raises ``RunError``."""
    parts = {"train": subject.train, "test": subject.held_out}
    ids = {name: sorted(d.id for d in part) for name, part in parts.items()}
    split = Digest.by("v1", fingerprint(ids))
    facts = {
        "clone": {"target": target, "hash": subject.facts["weights_hash"]},
        "base": _of_base(subject),
        "template": {"hash": subject.renderer.template_hash, "choice": subject.recipe.model.template},
        "data": {
            "hash": splits.data_digest(parts),
            "rows": sum(map(len, parts.values())),
            "paths": [path for path in paths if path is not None],
        },
        "split": {"hash": split, "counts": {name: len(part) for name, part in parts.items()}},
    }
    if (output / "manifest.json").exists():
        run = Run.open(output, writing=True)
        try:
            run.refuse_changes(facts)
        except BaseException:
            run.close()
            raise
    else:
        run = Run.create(output, **facts)
    if not run.demonstrations_path.exists():  # new, or killed before it was written
        rows = (d.to_dict() | {"split": name} for name, part in parts.items() for d in part)
        write_jsonl(run.demonstrations_path, rows)
        sealed.seal(run, [run.demonstrations_path])
    return run
