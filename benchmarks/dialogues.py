"""Does correcting a clone on its own path help it in dialogues, beside as many plain answers? Three runs an arm.

    python benchmarks/dialogues.py qna_chitchat_friendly.tsv --into runs/dialogues

People's questions (Personality Chat, friendly), twelve of its answers, and a clone that is fitted from nothing. Each
dialogue asks for one answer twice: "QUESTION", then "I mean: ANOTHER QUESTION", both of which want the same answer. In
what the expert wrote the second answer is the first one again, so that a clone may learn to copy its own words; on its
own path that repeats every mistake, though the second question says once more what is wanted. Corrections are given
where the clone's own first answer stands before the second question; plain demonstrations never show it a mistake.

The expert is scripted: it writes the answer that the question has in the data, whatever stands above. All else is the
product: ``sft run``, ``correct``, ``collect``, ``correct --train`` with three seeds an arm, ``compare --rounds``.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "toys")]

from gatherings import Client, attended  # noqa: E402

from sft.cli import main  # noqa: E402
from sft.gathering.folder import Gathering  # noqa: E402

#: Answers that are told apart, words of one at most, and dialogues: to learn and be judged from, and of the control.
ANSWERS, WORDS, DIALOGUES, POOL = 12, 8, 420, 160
#: Corrections, and plain answers.
ITEMS = 200
MEANT = "I mean: "
RECIPE = """\
name: dialogues
model: {{name: {model}, dtype: float32}}
demonstrations: {{path: {data}}}
split: {{validation: 0.1, test: 0.35, near_duplicates: remove, near_threshold: 0.95}}
adapter: {{method: full}}
training: {{learning_rate: 2.0e-3, max_steps: {steps}, per_device_train_batch_size: 32, logging_steps: 20, bf16: false}}
fidelity: {{profile: fast, max_prompts: 200, max_new_tokens: 16, systems: [tuned, R, K]}}
"""


def questions(path: Path) -> dict[str, list[str]]:
    """Answer -> its questions, of the answers with the most."""
    found: dict[str, list[str]] = defaultdict(list)
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            found[row["Answer"].strip()].append(row["Question"].strip())
    short = {answer: asked for answer, asked in found.items() if len(answer.split()) <= WORDS}
    once = Counter(question for asked in found.values() for question in set(asked))
    kept = {answer: sorted({q for q in asked if once[q] == 1}) for answer, asked in short.items()}
    return dict(sorted(kept.items(), key=lambda one: (-len(one[1]), one[0]))[:ANSWERS])


def dialogues(known: dict[str, list[str]], seed: int) -> list[list[dict[str, str]]]:
    """Dialogues of two turns each, no question twice."""
    draw = random.Random(seed)
    pairs = []
    for answer, asked in known.items():
        some = draw.sample(asked, len(asked))
        pairs += [(answer, *two) for two in zip(some[::2], some[1::2], strict=False)]
    draw.shuffle(pairs)
    roles = ("user", "assistant", "user", "assistant")
    texts = ((first, answer, MEANT + second, answer) for answer, first, second in pairs)
    return [[{"role": r, "content": t} for r, t in zip(roles, one, strict=True)] for one in texts]


def model(folder: Path, texts: Sequence[str]) -> Path:
    """A small Llama of random weights, with a tokenizer of these texts."""
    import small_tokenizers
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=1200, initial_alphabet=alphabet,
                                                           show_progress=False))  # fmt: skip
    ends = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in ends])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=ends[0], pad_token=ends[0])
    tokenizer.chat_template = small_tokenizers.CHATML
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=96, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=512, tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def expert(folder: Path, right: dict[str, str]) -> Any:
    """Somebody who writes the answer of the last question, until nothing is left."""

    def work(clients: dict[str, Client]) -> None:
        items = {one.id: one for one in Gathering.open(folder).items()}
        client = clients["ada"]
        while item := client.next():
            client.get(f"/item/{item}")
            answer = right[items[item].prompt[-1].content.removeprefix(MEANT)]
            assert client.do("submitted", item=item, text=answer, rev=0, seconds=len(answer) / 4)[0] == 200

    return work


def written(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def done(*words: object) -> None:
    """A command of the product."""
    print("$ sft", *words, flush=True)
    assert main([str(word) for word in words]) == 0


def experiment(source: Path, into: Path, steps: int, seeds: int) -> None:
    """All of it, in the empty folder ``into``."""
    into.mkdir(parents=True)
    known = questions(source)
    right = {question: answer for answer, asked in known.items() for question in asked}
    every = dialogues(known, 0)
    print(f"{len(known)} answers, {len(right)} questions, {len(every)} dialogues, {DIALOGUES} of them for round 0")
    data = written(into / "d.jsonl", [{"messages": one} for one in every[:DIALOGUES]])
    base = model(into / "model", [turn["content"] for one in every[:DIALOGUES] for turn in one])
    (into / "r.yaml").write_text(RECIPE.format(model=base, data=data, steps=steps), encoding="utf-8")
    done("run", into / "r.yaml", "--output", into / "r0")
    place, answers = into / "gathered", expert(into / "gathered", right)
    unseen = written(into / "unseen.jsonl", [{"messages": one} for one in every[DIALOGUES + POOL :]])
    words = ["correct", str(into / "r0"), "--prompts", str(unseen), "--into", str(place), "--items", str(ITEMS),
             "--expert", "ada"]  # fmt: skip
    status, said = attended(words, answers)
    assert status == 0
    print(said)
    more = [one[: 1 + 2 * turn] for one in every[DIALOGUES : DIALOGUES + POOL] for turn in (0, 1)]
    pool = written(into / "pool.jsonl", [{"messages": turns} for turns in more])
    assert attended(["collect", str(pool), "--into", str(place), "--expert", "ada"], answers)[0] == 0
    done("correct", into / "r0", "--train", into / "r1", "--from", place, "--seeds", seeds)
    done("correct", into / "r0", "--train", into / "plain", "--from", place, "--plain", "--seeds", seeds)
    done("compare", "--rounds", into / "r0", into / "r1", "--plain", into / "plain")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--seeds", type=int, default=3)
    told = parser.parse_args()
    experiment(told.source, told.into, told.steps, told.seeds)
