"""``sft evaluate RUN --endpoint URL``: the clone as a server writes it, beside the clone as it was measured."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from sft.cli.door import as_json
from sft.errors import UserError
from sft.verbs.quiet import quiet

__all__ = ["ABOUT", "add_options", "evaluate_served", "refuse_alone"]

ABOUT = """\
sft evaluate RUN --endpoint URL           a server's answers to the prompts the run was measured on, beside its own

--endpoint asks any OpenAI-compatible server (llama.cpp, vLLM, Ollama, TGI) whether the served text is the measured
text, and where it is not says where, why, and which line mends it. A key is read from OPENAI_API_KEY. The exit status
is 0 also where texts part: --json has "identical", true or false."""
#: Options that mean nothing without ``--endpoint``.
_OURS = ("served_model", "route", "parallel", "patience")
#: Seconds that one answer may take; a large model on a few cores writes for minutes.
_ANSWER_SECONDS = 600.0


def add_options(parser: argparse.ArgumentParser, count: Callable[[str], int]) -> None:
    """The options of ``--endpoint``. ``count``: the type of a whole number from 1."""
    served = parser.add_argument_group("the clone as a server writes it")
    served.add_argument("--endpoint", metavar="URL", help="http://HOST:PORT of an OpenAI-compatible server")
    served.add_argument("--served-model", metavar="NAME", help="its model (default: the only one that it lists)")
    served.add_argument(
        "--engine",
        type=_engine,
        metavar="ENGINE",
        help="measure the run with what ENGINE writes: transformers; vllm, a server that is started for it with this "
        "Python, or the one that SFT_VLLM_PYTHON names; or http://HOST:PORT of a vLLM that serves base and clone",
    )
    served.add_argument(
        "--route",
        choices=["chat", "completions"],
        help="chat: the server renders the messages (default); completions: it gets the run's rendered prompt",
    )
    served.add_argument(
        "--parallel",
        type=count,
        metavar="N",
        help="prompts asked at once (default: 4)",
    )
    served.add_argument(
        "--patience",
        type=_seconds,
        metavar="SECONDS",
        help="how long to go on asking a server that is starting, busy or failing (default: 60)",
    )


def _engine(text: str) -> str:
    if text not in ("transformers", "vllm") and not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is none; write transformers, vllm or http://HOST:PORT")
    return text


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no number of seconds up to 86400; give one, such as 60")
    return value


def refuse_alone(options: argparse.Namespace) -> None:
    """Raise ``UserError`` for an option that says something about a server where none is named."""
    runs_already = (options.engine or "").startswith("http")
    for name in _OURS:
        if getattr(options, name) is not None and not (name == "served_model" and runs_already):
            raise UserError(f"--{name.replace('_', '-')}: goes with --endpoint URL, the server of the clone")


def evaluate_served(options: argparse.Namespace) -> None:
    """Ask the server, compare, print. Raises ``UserError``."""
    for name in (
        "held_out",
        "train",
        "base",
        "split",
        "profile",
        "checker",
        "headline",
        "metric",
        "normalise",
        "engine",
    ):
        if getattr(options, name) not in (None, []):
            shown = f"--{options.profile}" if name == "profile" else f"--{name.replace('_', '-')}"
            raise UserError(f"{shown}: does not go with --endpoint, which asks for what the run was measured on")
    from sft.runs.processes import rank_and_world
    from sft.runs.run import Run

    if rank_and_world()[1] > 1:
        raise UserError("--endpoint: takes one process, which asks --parallel N prompts at once; start it once")
    folder = options.output or Path(options.target)
    inside = folder.resolve() == Path(options.target).resolve()
    with quiet(), Run.open(options.target, writing=inside) as run:
        from sft.evaluation.endpoint import KEY, Endpoint
        from sft.evaluation.served import Settings, measure_served
        from sft.reports.served import to_text
        from sft.runs.patience import Patience

        wait = 60.0 if options.patience is None else options.patience
        patience = Patience.lasting(wait, answer_seconds=_ANSWER_SECONDS)
        settings = Settings(
            options.served_model or "", options.route or "chat", options.parallel or 4, options.max_prompts
        )
        with (
            Endpoint(options.endpoint, os.environ.get(KEY, ""), patience) as endpoint,
            run.session() if inside else nullcontext(),
        ):
            found = measure_served(run, folder, endpoint, settings)
        if options.json:
            print(as_json(found.to_dict()))
        else:
            print(f"{to_text(found, run.path)}\n\nAnswers: {folder / 'completions-served.jsonl'}")
