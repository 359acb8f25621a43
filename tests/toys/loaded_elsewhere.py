"""What another release of transformers and peft makes of a clone's files. Run by the Python that has them.

    python loaded_elsewhere.py < QUESTIONS > ANSWERS

QUESTIONS: a JSON list of ``{"model", "adapter" or null, "prompts"}``, prompts being lists of messages. ANSWERS: for
each, what the tokenizer's class is called, the ids of every prompt by its chat template, the logits after its last
token, and the greedy continuation that the folder's own settings ask for.
"""

import contextlib
import json
import sys


def answer(asked):
    """One of the questions; runs on transformers 4 and 5."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(asked["adapter"] or asked["model"])
    model = AutoModelForCausalLM.from_pretrained(asked["model"])
    if asked["adapter"]:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, asked["adapter"])
    model = model.float().eval()
    found = {"tokenizer": type(tokenizer).__name__, "ids": [], "logits": [], "written": []}
    for prompt in asked["prompts"]:
        text = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            rows = torch.tensor([ids])
            found["logits"].append(model(rows).logits[0, -1].tolist())
            made = model.generate(input_ids=rows, attention_mask=torch.ones_like(rows), max_new_tokens=8)
        found["ids"].append(ids)
        found["written"].append(made[0, len(ids) :].tolist())
    return found


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        answers = [answer(asked) for asked in json.load(sys.stdin)]
    json.dump(answers, sys.stdout)
