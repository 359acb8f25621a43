"""Is an exported GGUF file the clone? Loaded by llama.cpp as a user would, beside the merged weights in transformers.

    python benchmarks/export.py RUN                # a finished run, such as runs/demo

Needs `pip install '.[llama]'`. Exports the run's merged weights and a GGUF file of each type, lets both write greedily
for the first held-out prompts up to the run's limit, and prints how many completions are the same to the letter; for
the others the first token that differs, and the lead that the merged model's token had there. What such a lead is
worth: by how much leads move elsewhere, from rounding alone. Prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import llama_cpp
import numpy as np
import torch
import transformers

from sft.demonstrations.demonstration import Message
from sft.fidelity.stored import read_held_out
from sft.policies.policy import Policy, load_policy
from sft.publishing.export import export_gguf, export_merged
from sft.recipes.sources import resolve_model
from sft.runs.run import Run, read_json


@dataclass(frozen=True, slots=True)
class Written:
    """One prompt's greedy completion by the merged weights: its tokens, and the logits that each was chosen by."""

    prompt: tuple[Message, ...]
    prompt_ids: list[int]
    ids: list[int]
    logits: np.ndarray
    text: str
    finish: str


@dataclass(frozen=True, slots=True)
class Parting:
    """The first token of a completion that differs, and the lead of the merged weights' own over the other there."""

    prompt: int
    place: int
    merged: str
    other: str
    lead: float


@torch.inference_mode()
def by_merged(policy: Policy, prompt: tuple[Message, ...], limit: int) -> Written:
    ids, stops = policy.renderer.prompt_ids(prompt), set(policy.renderer.stop_token_ids)
    answer = policy.model.generate(
        torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), max_new_tokens=limit,
        do_sample=False, eos_token_id=sorted(stops), pad_token_id=policy.renderer.pad_token_id,
    )[0, len(ids) :].tolist()  # fmt: skip
    logits = policy.model(torch.tensor([ids + answer[:-1]])).logits[0, len(ids) - 1 :].float().numpy()
    finish = "stop" if stops & {*answer} else "length"
    return Written(prompt, ids, answer, logits, policy.renderer.decode_completion(answer), finish)


def by_llama(
    file: Path, written: Sequence[Written], room: int, limit: int, *, watched: bool = False
) -> tuple[list[tuple[str, str]], list[np.ndarray], float]:
    """[(text, why it ended)] as a user gets them, with llama.cpp's settings as they are; logits; seconds.

    Logits are had where ``watched``, those of every token of a completion, and are empty otherwise.
    """
    read = llama_cpp.Llama(str(file), n_ctx=room, verbose=False, logits_all=watched)
    began = time.perf_counter()
    answers, logits = [], []
    for number, one in enumerate(written, 1):
        messages = [{"role": message.role, "content": message.content} for message in one.prompt]
        choice = read.create_chat_completion(messages, max_tokens=limit, temperature=0.0, repeat_penalty=1.0)
        answers.append((choice["choices"][0]["message"]["content"], choice["choices"][0]["finish_reason"]))
        start = len(one.prompt_ids)
        if read.input_ids[:start].tolist() != one.prompt_ids:
            sys.exit(f"prompt {number}: llama.cpp reads other tokens than the clone was taught")
        logits.append(np.array(read.scores[start - 1 : read.n_tokens]) if watched else np.empty(0))
    seconds = time.perf_counter() - began
    read.close()
    return answers, logits, seconds


def observed(
    policy: Policy, written: Sequence[Written], logits: Sequence[np.ndarray]
) -> tuple[list[Parting], list[float]]:
    """Where tokens part, and by how much the lead of the likeliest token over the second moves where they do not."""
    partings, moves = [], []
    for number, (one, theirs) in enumerate(zip(written, logits, strict=True), 1):
        for place, (token, here, there) in enumerate(zip(one.ids, one.logits, theirs, strict=False)):
            other = int(there.argmax())
            if other != token:
                words = [repr(policy.renderer.tokenizer.decode([each])) for each in (token, other)]
                partings.append(Parting(number, place + 1, *words, float(here[token] - here[other])))
                break
            second = int(np.argsort(here)[-2])
            moves.append(abs(float((here[token] - here[second]) - (there[token] - there[second]))))
    return partings, moves


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("run", type=Path, metavar="RUN")
    options.add_argument("--prompts", type=int, default=20)
    options.add_argument("--outtypes", nargs="+", default=["f32", "f16", "q8_0"])
    options.add_argument("--files", type=Path, metavar="FOLDER", help="keep the files as OUTTYPE.gguf, or take them")
    given = options.parse_args()
    run = Run.open(given.run)
    limit = read_json(run.measurement_path)["signature"]["max_new_tokens"]
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        began = time.perf_counter()
        merged = export_merged(run, scratch / "merged")
        merging = time.perf_counter() - began
        policy = load_policy(resolve_model(str(merged.folder)), dtype="float32")
        prompts = [item.prompt for item in read_held_out(run)[: given.prompts]]
        began = time.perf_counter()
        written = [by_merged(policy, prompt, limit) for prompt in prompts]
        seconds = time.perf_counter() - began
        room = max(len(one.prompt_ids) for one in written) + limit + 8
        tokens, stopped = sum(len(one.ids) for one in written), sum(one.finish == "stop" for one in written)
        print(
            f"{len(written)} held-out prompts, greedy, at most {limit} tokens: {tokens} tokens, "
            f"{stopped} completions end by themselves.\n\n"
            "| what | MB | exported in | the same completions | leads move by, mean and most | written in |\n"
            "|---|---|---|---|---|---|\n"
            f"| merged, {merged.dtype}, in transformers | {merged.bytes / 1e6:,.0f} | {merging:.0f} s | | | "
            f"{seconds:.0f} s |"
        )
        apart: list[str] = []
        for outtype in given.outtypes:
            file = (given.files or scratch) / f"{outtype}.gguf"
            taken, began = file.exists(), time.perf_counter()
            if not taken:
                print(export_gguf(run, file, outtype).to_text(), file=sys.stderr)
            exported = "before" if taken else f"{time.perf_counter() - began:.0f} s"
            answers, _, seconds = by_llama(file, written, room, limit)
            again, logits, _ = by_llama(file, written, room, limit, watched=True)
            if again != answers:
                sys.exit(f"{outtype}: llama.cpp writes otherwise where it is watched")
            partings, moves = observed(policy, written, logits)
            same = [answer == (one.text, one.finish) for answer, one in zip(answers, written, strict=True)]
            size = f"{file.stat().st_size / 1e6:,.0f}"
            print(
                f"| {outtype}, in llama.cpp | {size} | {exported} | {sum(same)} of {len(same)} "
                f"| {fmean(moves):.2g}, {max(moves):.2g} | {seconds:.0f} s |",
                flush=True,
            )
            for part in partings:
                verdict = "a tie within rounding" if part.lead <= max(moves) else "more than leads move elsewhere"
                apart.append(
                    f"- {outtype}, prompt {part.prompt}, token {part.place}: {part.other} for {part.merged}, "
                    f"which led by {part.lead:.2g}: {verdict}"
                )
            told = {part.prompt for part in partings}
            apart += [
                f"- {outtype}, prompt {number}: texts differ, and no token does"
                for number, agrees in enumerate(same, 1)
                if not agrees and number not in told
            ]
        print("\nWhere tokens part:\n\n" + ("\n".join(apart) or "nowhere."))
    print(
        f"\nllama-cpp-python {llama_cpp.__version__}, torch {torch.__version__}, transformers "
        f"{transformers.__version__}, {os.cpu_count()} cores"
    )


if __name__ == "__main__":
    main()
