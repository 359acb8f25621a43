"""A program in vLLM's place that knows its answers by heart; and a Python that finds it as the package ``vllm``.

Run as vLLM's server is, ``python -m vllm.entrypoints.openai.api_server``, it is a server on this machine that gives
token ids for token ids. ``VLLM_STAND_IN`` names a file that says what it knows and which fault it has:

    {"answers": {"base": {"5,6,7": [8, 2]}, "tuned": {...}}, "fault": "", "after": 0, "heard": FILE}

It takes a folder beside a run's manifest for the clone's; served as "base" and "tuned", the second an adapter on the
first, it is both. Faults: "start" (ends with an error), "taken" (its port is), "dies" after so many answers, "hangs"
after so many, "other" (the base in the clone's place), "mute" (gives no ids back). Its process and words, and every
body that it is asked with, go to ``heard``, a line each; a copy of the clone's folder goes to ``copy``, if given.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

__all__ = ["VERSION", "by_heart", "python_with_vllm"]

VERSION = "0.0.1"


def python_with_vllm(folder: Path) -> Path:
    """A Python that has this program as its vLLM; in ``folder``, with all that belongs to it."""
    package = folder / "packages" / "vllm" / "entrypoints" / "openai"
    package.mkdir(parents=True)
    for part in (package, package.parent, package.parent.parent):
        (part / "__init__.py").touch()
    (package / "api_server.py").write_text(Path(__file__).read_text(encoding="utf-8"), encoding="utf-8")
    about = folder / "packages" / f"vllm_stand_in-{VERSION}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm-stand-in\nVersion: {VERSION}\n")
    (about / "top_level.txt").write_text("vllm\n")
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={folder / "packages"} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return python


def by_heart(run: Path) -> dict[str, dict[str, list[int]]]:
    """What ``run``, which is measured, has on file of its base and its clone: prompt -> completion, as token ids."""
    from sft.demonstrations.stored import load_splits
    from sft.fidelity import floors, stored
    from sft.policies.policy import saved_renderer
    from sft.policies.rendering import few_shot_prompt
    from sft.runs.run import Run, demand_trained, read_jsonl

    one = Run.open(run)
    renderer, items = saved_renderer(demand_trained(one)), stored.read_held_out(one)
    assert renderer is not None
    count = stored.read_measurement(one)["signature"]["b3_demonstrations"]
    shown = floors.b3_demonstrations(load_splits(one).train)[:count]
    alone = renderer.prompt_ids_all([item.prompt for item in items])
    after = renderer.prompt_ids_all([few_shot_prompt(shown, item.prompt) for item in items])
    found: dict[str, dict[str, list[int]]] = {"base": {}, "tuned": {}}
    for system, who, prompts in (("B0", "base", alone), ("B3", "base", after), ("tuned", "tuned", alone)):
        wrote = {row["id"]: row for row in read_jsonl(one.completions_path(system))}
        for item, ids in zip(items, prompts, strict=True):
            row = wrote[item.id]
            found[who][_name(ids)] = [*row["ids"], *[renderer.end_of_turn[-1]] * row["finished"]]
    return found


def _name(ids: list[int]) -> str:
    return ",".join(map(str, ids))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def _serve(options: argparse.Namespace, known: dict[str, Any]) -> None:
    answered = 0
    folder = Path(options.model)
    tuned = (folder.parent / "manifest.json").exists()
    who = "tuned" if tuned and known["fault"] != "other" else "base"

    def hear(what: object) -> None:
        with Path(known["heard"]).open("a", encoding="utf-8") as file:
            file.write(json.dumps(what) + "\n")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            names, base = options.served_model_name, options.served_model_name[0]
            rows = [{"id": name, "owned_by": "vllm", "parent": base if name != base else None} for name in names]
            listed = {"data": rows}
            self._send({"version": VERSION} if self.path == "/version" else listed)

        def do_POST(self) -> None:
            nonlocal answered
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.headers.get("Authorization") != f"Bearer {os.environ['VLLM_API_KEY']}":
                self.send_error(401)
                return
            hear(body)
            answered += 1
            if known["fault"] == "dies" and answered > known["after"]:
                sys.stderr.write(
                    "(EngineCore pid=7) ERROR 01-01 [core.py:1] torch.OutOfMemoryError: CUDA out of memory.\n"
                )
                sys.stderr.flush()
                os._exit(1)
            if known["fault"] == "hangs" and answered > known["after"]:
                time.sleep(600)
            ids = known["answers"].get(body["model"], known["answers"][who])[_name(body["prompt"])][
                : body["max_tokens"]
            ]
            choice = {"index": 0, "text": "", "finish_reason": "stop", "token_ids": ids}
            if known["fault"] == "mute":
                del choice["token_ids"]
            self._send({"choices": [choice], "usage": {"completion_tokens": len(ids)}})

        def _send(self, answer: dict[str, Any]) -> None:
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *words: Any) -> None:
            pass

    with _Server((options.host, options.port), Handler) as server:
        hear({"pid": os.getpid(), "words": sys.argv[1:]})
        if tuned and known.get("copy"):
            shutil.copytree(folder, known["copy"])
        server.serve_forever(0.05)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser()
    for name, kind in (("model", str), ("host", str), ("port", int), ("served-model-name", str)):
        parser.add_argument(f"--{name}", type=kind, required=True, nargs="*" if name == "served-model-name" else None)
    options, _ = parser.parse_known_args()
    known = json.loads(Path(os.environ["VLLM_STAND_IN"]).read_text(encoding="utf-8"))
    if known["fault"] == "start":
        sys.stderr.write("(EngineCore pid=7) INFO 01-01 [core.py:1] all is well\n")
        raise ValueError("Head size 16 is not supported by CPU_ATTN. Set a head size of 32.")
    if known["fault"] == "taken":
        with socket.create_server((options.host, options.port)):
            _serve(options, known)
    _serve(options, known)


if __name__ == "__main__":
    main()
