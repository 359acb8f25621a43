"""What each verb is typed like, and what to do first; every line is parsed, and what it is for said, by a test."""

from __future__ import annotations

__all__ = ["EXAMPLES", "FIRST_STEPS", "shown"]

#: Verb -> (command, what it does); of the verbs whose description has none.
EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "demo": (
        ("sft demo", "downloads a small model and data, fits, measures, writes runs/demo/report.html"),
        ("sft demo --fast", "the same without what costs the second half of the time"),
    ),
    "run": (
        ("sft run recipe.yaml", "into runs/NAME, by the recipe's name"),
        ("sft run recipe.yaml --output runs/mine --resume", "go on where it was stopped"),
        ("sft run recipe.yaml --set training.seed=1 --output runs/second", "another seed, to compare with"),
        ("sft run recipe.yaml --quiet --json", "for a script: the scorecard on stdout, nothing else"),
    ),
    "import": (
        ("sft import mail.mbox --me ada@example.org", "mail -> a folder of demonstrations with a card"),
        ("sft import chat.txt --me Ada --mask-others", "a chat; names of others masked"),
    ),
    "check": (
        ("sft check demonstrations.jsonl", "counts, lengths, duplicates, conflicts, leaks"),
        ("sft check table.csv --column prompt=question --column completion=answer", "the file's own names"),
        ("sft check demonstrations.jsonl --secrets", "tokens, keys and addresses, before they are learned"),
        ("sft check recipe.yaml --rejected rejected.jsonl", "bad rows and their reasons, to mend"),
    ),
    "preview": (("sft preview recipe.yaml --rows 1", "one demonstration as the model sees it"),),
    "plan": (
        ("sft plan recipe.yaml", "a probe of some seconds: memory, time, disk"),
        ("sft plan recipe.yaml --no-probe", "no weights are read, so there is no time"),
        ("sft plan recipe.yaml --set training.per_device_train_batch_size=4", "what a smaller batch would take"),
    ),
    "train": (
        ("sft train recipe.yaml --output runs/mine", "fit only; sft evaluate runs/mine measures"),
        ("sft train recipe.yaml --output runs/mine --resume", "go on where it was stopped"),
    ),
    "evaluate": (
        ("sft evaluate runs/mine --full", "measure more than the recipe says"),
        ("sft evaluate runs/mine --headline json", "judge by another score; nothing is written again"),
    ),
    "score": (
        ("sft score completions.jsonl --train train.jsonl", "with the shortcuts and memorisation"),
        ("sft score completions.jsonl --bar chrf=60 --json", "a bar that decides by itself"),
    ),
    "report": (
        ("sft report runs/mine", "draw the page again"),
        ("sft report runs/mine --recompute --json", "compute every figure again, and print them"),
    ),
    "compare": (
        ("sft compare runs/mine runs/second", "paired prompt by prompt; compare.html"),
        ("sft compare --rounds runs/first runs/second --plain runs/plain", "rounds of correction and a control"),
    ),
    "chat": (
        ("sft chat runs/mine", "a line is a message; /help lists commands"),
        ("sft chat runs/mine --base", "the model before it was fitted"),
    ),
    "recipes": (
        ("sft recipes", "what is on the shelf"),
        ("sft recipes copy smollm2-lora recipe.yaml", "one to edit"),
        ("sft recipes import axolotl.yaml", "a recipe of another trainer's configuration"),
    ),
    "completion": (
        ('eval "$(sft completion bash)"', "in ~/.bashrc"),
        ("sft completion zsh", "into a file _sft on $fpath"),
    ),
}

FIRST_STEPS = """\
sft clones an expert's writing into a language model, and shows how well the clone worked.

Never used it?        sft demo                                      the whole loop on real writing, nothing to prepare
You have writing:     sft check demonstrations.jsonl                {"prompt": ..., "completion": ...} a line
                      sft recipes copy smollm2-lora recipe.yaml     then edit the model and the file
                      sft run recipe.yaml                           fits, measures, writes report.html
Mail, chats, blogs?   sft import EXPORT --me NAME                   makes demonstrations of them
Nothing written yet?  sft collect prompts.jsonl                     a page on which experts write
You have outputs:     sft score completions.jsonl                   judges any system; no model

All verbs: sft --help
"""


def shown(verb: str) -> str | None:
    """The examples of ``verb`` for the end of its help; None where its description has them."""
    known = EXAMPLES.get(verb, ())
    width = max((len(command) for command, _ in known), default=0)
    lines = [f"  {command:<{width}}  {about}" for command, about in known]
    return "\n".join(["examples:", *lines]) if lines else None
