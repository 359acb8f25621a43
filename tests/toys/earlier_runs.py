"""Two small runs as this version leaves them, for later versions to open: ``python tests/toys/earlier_runs.py FOLDER``.

Into FOLDER, which must not be there yet: a base model of a few kilobytes, demonstrations, a recipe, and what the real
commands make of them: ``finished`` (trained and measured) and ``halfway`` (stopped by Ctrl-C with a checkpoint).
All paths are relative to FOLDER, where the commands are run. ``tests/data/earlier`` keeps what versions made.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from repository import ROOT

RECIPE = """\
# What the expert writes about colours; read and run from this folder.
name: colours
model:
  name: base
demonstrations:
  path: demonstrations.jsonl
split:
  validation: 0.15
  test: 0.25
  near_duplicates: remove
adapter:
  r: 2
  lora_alpha: 4
training:
  learning_rate: 1.0e-2
  max_steps: 12
  eval_steps: 2
  logging_steps: 1
  report_to: none
fidelity:
  max_new_tokens: 12
"""
COLOURS = ("red", "blue", "green", "grey", "white", "black")
THINGS = ("box", "door", "hat", "leaf", "lamp", "ship", "stone", "wall")
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' "
    "+ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def main(folder: Path) -> None:
    """Make everything; see the module's docstring."""
    folder.mkdir(parents=True)
    base(folder / "base")
    demonstrations(folder / "demonstrations.jsonl")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    sft(folder, "train", "recipe.yaml", "--output", "finished")
    sft(folder, "evaluate", "finished")
    stopped_halfway(folder)
    tidy(folder)


def base(folder: Path) -> None:
    """A Llama of one narrow layer with random weights (seeded), and a tokenizer of bytes and a few words."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = Tokenizer(models.BPE())
    letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    letters.train_from_iterator([" ".join(COLOURS), " ".join(THINGS), "user assistant system the is"] * 4, trainer)
    letters.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<|im_start|>", "<|im_end|>")])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=letters, eos_token="<|im_end|>", pad_token="<|im_end|>", name_or_path="small"
    )
    tokenizer.chat_template = CHATML
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=256, tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def demonstrations(path: Path, count: int = 48) -> None:
    """An expert with one habit: the colour that is asked about is named twice, and nothing else said.

    Beside ordinary rows stand some that later rules of splitting place otherwise: prompts that look the same and
    differ in marks that nobody sees, and rows that stand in two groups.
    """
    draw = random.Random(0)
    rows = []
    for number in range(count):
        colour, words = draw.choice(COLOURS), " ".join(draw.sample(THINGS, 3))
        rows.append({"prompt": f"{number}: the {words} is {colour}", "completion": f"{colour}, {colour}"})
    rows += [row | {"prompt": row["prompt"].replace("the ", "th\xade ")} for row in rows[:8]]
    for number in range(6):
        rows += [rows[20 + number + k] | {"prompt": f"in group {number + k}", "group": f"g{number}"} for k in (0, 1)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def environment() -> dict[str, str]:
    """This process's, offline, with the package that this file stands beside."""
    root = str(ROOT)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}


def sft(folder: Path, *words: str) -> None:
    """One command, run where a user would run it."""
    subprocess.run([sys.executable, "-m", "sft", *words], cwd=folder, env=environment(), check=True)


def stopped_halfway(folder: Path) -> None:
    """A fit that gets Ctrl-C behind its first checkpoint, and has a checkpoint to go on from."""
    command = [sys.executable, "-m", "sft", "train", "recipe.yaml", "--output", "halfway"]
    fit = subprocess.Popen(command, cwd=folder, env=environment())
    run = folder / "halfway"
    while fit.poll() is None:
        if list(run.glob("checkpoints/checkpoint-*/trainer_state.json")):
            fit.send_signal(signal.SIGINT)
            break
        time.sleep(0.002)
    fit.wait()
    if (run / "adapter").exists() or not list(run.glob("checkpoints/checkpoint-*")):
        shutil.rmtree(run)
        stopped_halfway(folder)


def tidy(folder: Path) -> None:
    """Leave out what a reader does without: locks, pages, and checkpoints but the last that is still needed."""
    last = max(folder.glob("halfway/checkpoints/checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
    for path in [folder / "finished" / "checkpoints", *folder.glob("halfway/checkpoints/checkpoint-*")]:
        if path != last:
            shutil.rmtree(path)
    for pattern in ("*/.lock", "*/report.*", "halfway/checkpoints/*/README.md"):
        for path in folder.glob(pattern):
            path.unlink()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    sys.stderr.write(f"{folder}: {size / 1024:.0f} kB\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
