"""Words about a served clone: is it the measured one, where and why is it not, and which line mends it."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Mapping
from pathlib import Path

from sft.fidelity.served import Parting, Serving
from sft.reports.compare_page import aligned
from sft.reports.names import metric_name
from sft.reports.text import figure
from sft.runs.visible import beginning, plain

__all__ = ["to_text"]

#: Partings shown, and characters of each text.
_SHOWN, _CHARACTERS = 10, 28
#: The server's word for itself -> what its lines begin with.
_SERVERS = {"llamacpp": "llama.cpp", "vllm": "vLLM", "library": "Ollama"}


def to_text(found: Serving, run: Path) -> str:
    """The section for a terminal. ``run``: the folder that lines which mend something name."""
    facts = found.facts
    server = _SERVERS.get(str(facts.get("owner")), "")
    lines = [
        f"Served: {facts['endpoint']}{f' ({server})' if server else ''}, model {plain(str(facts['model']))}, "
        f"{facts['route']} route, temperature 0, max_tokens {facts['max_tokens']}"
        + (f"; weights: {plain(str(facts['weights']))}" if facts.get("weights") else ""),
        "",
        f"{found.sentence[0].upper()}{found.sentence[1:]}.",
        f"{metric_name(found.headline)}: served {figure(found.scores['served'])}, the clone's own "
        f"{figure(found.scores['tuned'])}, difference {figure(found.difference, signed=True)}",
    ]
    if found.drift is not None:
        apart, tokens = found.drift
        lines.append(f"its log-probabilities are {apart:.2g} nats from the clone's own on average ({tokens} tokens)")
    whys = [*_causes(found, run, server), *_left_out(facts)]
    if whys:
        lines += ["", "Why:", *whys]
    unset = _unset(found, server)
    if unset:
        lines += ["", "What a client gets that leaves a setting out:", *unset]
    if found.partings:
        lines += ["", "Where:", *_where(found)]
    return "\n".join(lines)


def _causes(found: Serving, run: Path, server: str) -> list[str]:
    """A line for every cause, with the one that mends it."""
    rows = []
    for cause, count in found.causes.items():
        said = _said(cause, found)
        mend = _mend(cause, found.facts, run, server)
        rows.append(f"  - {count} of {found.n}: {said}" + (f"\n    mend: {mend}" if mend else ""))
    if found.unended and "stop" not in found.causes:
        rows.append(
            f"  - {found.unended} of {found.n}: the text is the measured one, and the server goes on behind its end, "
            f"in tokens that do not show: it does not stop at {_end(found.facts)}\n"
            f"    mend: {_mend('stop', found.facts, run, server)}"
        )
    if found.prompt is not None and "template" not in found.causes:
        rows.append(
            f"  - the server's prompt is not the run's, though it changes no text that was not told of above: "
            f"{_prompts(found)}\n    mend: {_mend('template', found.facts, run, server)}"
        )
    return rows


def _said(cause: str, found: Serving) -> str:
    margins = [one.margin for one in found.partings if one.cause == cause and one.margin is not None]
    middle = f" (median {statistics.median(margins):.2g} nats)" if margins else ""
    kind = plain(str(found.facts.get("weights") or ""))
    told = f"; the server tells of them: {kind}" if kind else ""
    return {
        "refused": "the server refuses the prompt, mostly because it is longer than the server's context",
        "elsewhere": "the server puts words into another field of its answer (reasoning or tool calls), so they are "
        "missing in the text",
        "space": "the texts are alike but for white space at an end, which the server cuts off or leaves",
        "sampling": "asked twice, the server gives two answers: it samples, or computes a batch otherwise each time",
        "template": "the chat template is another: " + (_prompts(found) or "the run's own rendered prompt gives the "
        "measured text"),
        "stop": f"the answer goes on behind the measured end: the server does not stop at {_end(found.facts)}",
        "limit": "the answer is longer than was asked for: the server does not keep to max_tokens",
        "cut": "the answer is cut: the server has a limit of its own, of new tokens or of its context",
        "base": "the answer is what the base model writes: the server runs without the adapter",
        "close": f"the texts part where the clone finds the served token nearly as likely as its own{middle}: the "
        f"weights are rounded or quantised{told}",
        "choice": f"the server's log-probabilities are the clone's, and it takes another token than the likeliest"
        f"{middle}: it penalises repetition, or has a bias, a grammar or stop words of its own",
        "weights": f"the texts part where the clone finds its own token much likelier than the served one{middle}: the "
        f"weights are coarsely quantised, or another clone's{told}; or the server penalises repetition",
        "unexamined": "part as well, and were not looked into",
    }[cause]  # fmt: skip


def _end(facts: Mapping[str, object]) -> str:
    """The token that ends a turn."""
    return plain(str(facts.get("end_of_turn")))


def _prompts(found: Serving) -> str:
    """How the server's prompt differs from the run's, where that is known."""
    if found.prompt is None:
        return ""
    ours, theirs = (_short(text, 60) for text in found.prompt)
    if not found.prompt[0]:
        return f"the server's prompt has {theirs} which the run's has not"
    return f"the server's prompt has {theirs} where the run's has {ours}" if found.prompt[1] else (
        f"the server's prompt lacks {ours}"
    )  # fmt: skip


def _mend(cause: str, facts: Mapping[str, object], run: Path, server: str) -> str:
    """The line for the server that answers, or for each that may."""
    end, most = _end(facts), facts.get("max_tokens")
    adapter = run / ("adapter" if (run / "adapter").is_dir() else "model")
    template = shlex.quote(str(adapter / "chat_template.jinja"))
    gguf = f"sft export {shlex.quote(str(run))} --gguf FILE --outtype f16"
    lines = {
        "refused": {"llama.cpp": "llama-server ... --ctx-size N", "vLLM": "vllm serve ... --max-model-len N",
                    "Ollama": "PARAMETER num_ctx N in the Modelfile"},
        "elsewhere": {"llama.cpp": "llama-server ... --reasoning-format none",
                      "vLLM": "vllm serve without --reasoning-parser and --tool-call-parser"},
        "sampling": {"": 'send "temperature": 0, and see that nothing between client and server takes it out'},
        "template": {"llama.cpp": f"llama-server ... --jinja --chat-template-file {template}",
                     "vLLM": f"vllm serve ... --chat-template {template}",
                     "Ollama": f"the TEMPLATE of the Modelfile that `{gguf}` writes"},
        "stop": {"": f'send "stop": ["{end}"]', "llama.cpp": f"the file that `{gguf}` writes has the stop token in it",
                 "vLLM": "generation_config.json of `sft export RUN --merged DIR` has the stop token in it",
                 "Ollama": f'PARAMETER stop "{end}" in the Modelfile'},
        "limit": {"": "see what between client and server takes max_tokens out"},
        "cut": {"llama.cpp": f"llama-server ... --n-predict {most}, and --ctx-size N",
                "vLLM": "vllm serve ... --max-model-len N", "Ollama": "PARAMETER num_ctx N in the Modelfile"},
        "base": {"llama.cpp": f"serve the file that `{gguf}` writes",
                 "vLLM": f"vllm serve BASE --enable-lora --lora-modules NAME={adapter}, and --served-model NAME",
                 "Ollama": f"ollama create NAME -f FILE.Modelfile, of what `{gguf}` writes"},
        "choice": {"": 'send "frequency_penalty": 0 and "presence_penalty": 0',
                   "llama.cpp": "llama-server ... --repeat-penalty 1.0 --presence-penalty 0 --frequency-penalty 0",
                   "vLLM": "vllm serve ... --generation-config vllm",
                   "Ollama": "PARAMETER repeat_penalty 1 in the Modelfile"},
        "close": {"llama.cpp": f"where it matters, serve the file that `{gguf}` writes", "vLLM": "vllm serve ... "
                  "--dtype float32, without --quantization", "Ollama": f"where it matters, what `{gguf}` writes"},
    }  # fmt: skip
    known = lines.get("close" if cause == "weights" else cause, {})
    chosen = [known[name] for name in ("", server) if name in known] if server else []
    return "; ".join(chosen or [f"{name}: {line}" if name else line for name, line in known.items()])


def _left_out(facts: Mapping[str, object]) -> list[str]:
    """Settings that the server refused."""
    left = facts.get("left_out")
    names = [name for name in ("temperature", "max_tokens") if isinstance(left, Mapping) and name in left]
    meant = {
        "temperature": "it was left out, so whether the server samples is up to it",
        "max_tokens": "max_completion_tokens was sent in its place",
    }
    return [f"  - the server refuses {name}: {meant[name]}" for name in names]


def _unset(found: Serving, server: str) -> list[str]:
    """What leaving out the temperature and the limit gives."""
    unset, most = found.defaults, found.facts.get("max_tokens")
    rows = []
    if unset.sampled:
        lines = {"llama.cpp": "llama-server ... --temp 0", "Ollama": "PARAMETER temperature 0 in the Modelfile",
                 "vLLM": "vllm serve ... --override-generation-config '{\"temperature\": 0}'"}  # fmt: skip
        rows.append(
            f"  - without a temperature the server samples: {unset.sampled} of {unset.asked} prompts are answered "
            f'otherwise\n    mend: send "temperature": 0; or {_of(lines, server)}'
        )
    if unset.cut:
        lines = {"llama.cpp": f"llama-server ... --n-predict {most}",
                 "Ollama": f"PARAMETER num_predict {most} in the Modelfile",
                 "vLLM": f"vllm serve ... --override-generation-config '{{\"max_new_tokens\": {most}}}'"}  # fmt: skip
        rows.append(
            f"  - without max_tokens the server cuts answers, at {unset.cut_tokens} tokens: {unset.cut} of "
            f'{unset.unlimited} prompts\n    mend: send "max_tokens": {most}; or {_of(lines, server)}'
        )
    return rows


def _of(lines: Mapping[str, str], server: str) -> str:
    return lines.get(server) or "; ".join(f"{name}: {line}" for name, line in lines.items())


def _where(found: Serving) -> list[str]:
    rows = [["prompt", "token", "measured", "served", "ended", "clone", "served", "why"]]
    rows += [_row(one) for one in found.partings[:_SHOWN]]
    rest = len(found.partings) - _SHOWN
    return [*aligned(rows), *([f"... and {rest} more in served.json"] if rest > 0 else [])]


def _row(one: Parting) -> list[str]:
    """From where the texts part."""
    own, theirs = one.scores
    token = "" if one.token is None else str(one.token + 1)
    texts = (_short(one.measured, _CHARACTERS), _short(one.served, _CHARACTERS))
    return [
        _short(beginning(one.prompt, _CHARACTERS), _CHARACTERS + 1) if one.prompt else one.id[:8],
        token,
        *texts,
        one.reason,
        f"{own:.1f}",
        f"{theirs:.1f}",
        one.cause,
    ]


def _short(text: str, most: int) -> str:
    """``text`` in one line between quotes, cut."""
    return plain(repr(text if len(text) <= most else f"{text[: most - 3]}..."))
