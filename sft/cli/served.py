"""``sft evaluate RUN --endpoint URL``: the clone as a server writes it, beside the clone as it was measured."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from sft.verbs.served import PATIENCE_SECONDS, ROUTES

__all__ = ["ABOUT", "add_options"]

ABOUT = """\
sft evaluate RUN --endpoint URL           a server's answers to the prompts the run was measured on, beside its own

--endpoint asks any OpenAI-compatible server (llama.cpp, vLLM, Ollama, TGI) whether the served text is the measured
text, and where it is not says where, why, and which line mends it. A key is read from OPENAI_API_KEY. The exit status
is 0 also where texts part: --json has "identical", true or false."""


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
        choices=ROUTES,
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
    if not 0 <= value <= PATIENCE_SECONDS:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no number of seconds up to 86400; give one, such as 60")
    return value
