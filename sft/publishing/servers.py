"""Which servers take what is published, and the lines that start them: for the plan, and for the card.

The lines for vLLM and llama.cpp are those of ``sft evaluate --endpoint``, which names them where a server answers
otherwise than the run; those for Ollama are of its documentation.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Server", "servers"]

#: The largest rank that vLLM has room for.
_LARGEST_RANK = 512
#: ``adapter_config.json`` -> what it is that vLLM's adapters have no word for.
_REFUSED = {
    "use_dora": "DoRA",
    "modules_to_save": "modules trained whole (modules_to_save)",
    "trainable_token_indices": "embeddings of tokens of its own",
}


@dataclass(frozen=True, slots=True)
class Server:
    """``name`` of a server; ``refuses``: why it does not take this, and what to do; else ``lines`` to start it.

    ``tried``: whether such lines were run here against such a server.
    """

    name: str
    refuses: str
    lines: tuple[str, ...] = ()
    tried: bool = True

    def to_text(self) -> str:
        """For the plan."""
        if self.refuses:
            return f"{self.name} does not take it: {self.refuses}"
        return f"{self.name} takes it{'' if self.tried else ' by its documentation (not tried)'}"


def servers(folder: Path, *, repo: str, base: str, dtype: str, files: Sequence[str]) -> tuple[Server, ...]:
    """What vLLM, llama.cpp and Ollama make of the staged ``folder``, as ``repo`` on the hub.

    ``dtype``: the number format that the clone was measured in. ``files``: names of all that is published.
    """
    name = repo.rpartition("/")[2]
    quantised = sorted(file for file in files if file.endswith(".gguf"))
    found = [_vllm(folder, repo, name, base, dtype)]
    if not quantised:
        why = "there is no GGUF file with it; `sft push --gguf q8_0` sends one along"
        return (*found, Server("llama.cpp", why), Server("Ollama", why))
    file = quantised[0]
    found.append(
        Server(
            "llama.cpp", "", (f"hf download {repo} {file} --local-dir .", f"llama-server -m {file} --jinja --temp 0")
        )
    )
    beside = file.removesuffix(".gguf") + ".Modelfile"
    if beside not in files:
        why = "its chat template cannot be written in Ollama's language; serve the GGUF file with llama.cpp"
        return (*found, Server("Ollama", why))
    lines = (
        f"hf download {repo} {file} {beside} --local-dir .",
        f"ollama create {name} -f {beside}",
        f"ollama run {name}",
    )
    return (*found, Server("Ollama", "", lines, tried=False))


def _vllm(folder: Path, repo: str, name: str, base: str, dtype: str) -> Server:
    greedy = f"""--dtype {dtype} --override-generation-config '{{"temperature": 0}}'"""
    if not (folder / "adapter_config.json").is_file():
        return Server("vLLM", "", (f"vllm serve {repo} {greedy}",))
    config = _json(folder / "adapter_config.json")
    refused = [what for key, what in _REFUSED.items() if config.get(key)]
    if config.get("bias", "none") != "none":
        refused.append("biases")
    rank = max([int(config.get("r") or 0), *(config.get("rank_pattern") or {}).values()])
    if rank > _LARGEST_RANK:
        refused.append(f"rank {rank}")
    if refused:
        return Server("vLLM", f"its adapters have no {refused[0]}; push whole weights with --merged")
    # Room for ranks comes in powers of two.
    room = next(size for size in (8, 16, 32, 64, 128, 256, 512) if size >= rank)
    serve = f"vllm serve {base} --enable-lora --max-lora-rank {room} --lora-modules {name}={repo} {greedy}"
    lines = [f"hf download {repo} chat_template.jinja --local-dir .", f"{serve} --chat-template chat_template.jinja"]
    stops = _json(folder / "generation_config.json").get("eos_token_id")
    if stops is not None:
        # With an adapter vLLM stops as the base's generation config says, which may not know the end of a turn.
        stops = stops if isinstance(stops, list) else [stops]
        lines.append(f'# with every request, for the base may stop elsewhere: "stop_token_ids": {json.dumps(stops)}')
    return Server("vLLM", "", tuple(lines))


def _json(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_bytes()) if path.is_file() else {}
    return found if isinstance(found, dict) else {}
