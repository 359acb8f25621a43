"""The words of the command line: verbs, their arguments and options, and what help says of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from sft import __version__
from sft.cli import chat as chatting
from sft.cli import collect as collecting
from sft.cli import completion as completing
from sft.cli import correct as correcting
from sft.cli import curve as curving
from sft.cli import data, examples, gather, hand_on, judge
from sft.cli import served as serving
from sft.cli import sweep as sweeping
from sft.cli import train as training
from sft.cli.words import Words

#: More of anything than a machine has; what is larger overflows somewhere in the engine.
_MOST = 1_000_000_000

EPILOG = """\
The loop: sft check data.jsonl · sft run recipe.yaml · open report.html. Begin with `sft demo`.
Without a model: sft score FILE judges completions of any system, sft compare RUN RUN tells clones apart.
Examples of a verb: sft VERB --help. Completion of words: sft completion bash (or zsh, tcsh).
Exit status: 0 fine, 1 a fault of this program, 2 something to mend, said in one sentence;
3 to 9 outcomes of a push (sft push --help); 130 after Ctrl-C and 143 after SIGTERM, with what was done kept.
"""


def parser() -> argparse.ArgumentParser:
    """All verbs with their options."""
    top = Words(
        prog="sft",
        description="Clone an expert's writing into a language model, and prove how well the clone worked.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"sft {__version__}")
    subparsers = top.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=Words)

    def verb(
        name: str, help: str, run: Callable[[argparse.Namespace], None], more: str = ""
    ) -> argparse.ArgumentParser:
        one = subparsers.add_parser(
            name,
            help=help,
            description=f"{help}\n\n{more}" if more else help,
            epilog=examples.shown(name),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        one.set_defaults(run=run)
        return one

    _loop(verb)
    collecting.add_options(
        verb("collect", "experts write demonstrations, on a page of this machine", collecting.collect, collecting.ABOUT)
    )
    correcting.add_options(
        verb("correct", "experts correct the clone on that page, and a run learns from it", correcting.correct,
             correcting.ABOUT), _count,
    )  # fmt: skip
    _before_and_training(verb)
    curve = verb(
        "curve", "would more demonstrations help? clones of an eighth to all of them", curving.curve, curving.ABOUT
    )
    _takes_recipe(curve, output=False)
    curving.add_options(curve, _count)
    sweep = verb("sweep", "which learning rate? combinations of settings, by the validation loss", sweeping.sweep,
                 sweeping.ABOUT)  # fmt: skip
    _takes_recipe(sweep, output=False)
    sweeping.add_options(sweep)
    _evaluate(verb)
    _score(verb)
    _report_and_compare(verb)
    _handing_on(verb)
    completion = verb("completion", "the lines by which a shell completes verbs and options", completing.completion)
    completion.add_argument("shell", choices=["bash", "zsh", "tcsh"], help="which shell")
    return top


def _loop(verb: Callable[..., argparse.ArgumentParser]) -> None:
    """demo, run: the whole loop."""
    demo = verb("demo", "the whole loop on real demonstrations, with nothing to prepare", training.demo)
    demo.add_argument(
        "--output", "-o", type=Path, default=Path("runs/demo"), help="the run directory (default: runs/demo)"
    )
    _is_set(demo, "--rounds", "and two rounds of correction by scripted experts, beside a control, in runs/demo-rounds")
    _takes_settings(demo)
    _takes_profile(demo)
    _takes_quiet(demo)
    _takes_json(demo)

    run = verb("run", "check, split, train, evaluate and report, as a recipe says", training.run)
    _takes_recipe(run)
    _takes_profile(run)
    _takes_quiet(run)
    _takes_json(run)


def _before_and_training(verb: Callable[..., argparse.ArgumentParser]) -> None:
    """import, check, preview, plan, train."""
    existing = verb(
        "import",
        "mail, chats and documents -> demonstrations, without a model",
        gather.import_writing,
        gather.ABOUT_IMPORT,
    )
    gather.add_options(existing, _count)

    check = verb("check", "what is in a file of demonstrations, or what a recipe makes of it", data.check)
    check.add_argument(
        "target",
        nargs="+",
        help="a recipe; or files of demonstrations, folders, patterns, data:NAME, hub:OWNER/NAME, and - for standard "
        "input",
    )
    check.add_argument("--format", default="auto", help="shape of the rows (default: recognised)")
    _repeats(
        check,
        "--column",
        "FIELD=NAME",
        "the file's own column name, e.g. --column prompt=question; or "
        r"several for the prompt: --column 'prompt={question}\n\n{context}'",
    )
    check.add_argument("--encoding", metavar="NAME", help="of text files that are not UTF-8, e.g. cp1252 or utf-16")
    check.add_argument("--rejected", type=Path, metavar="FILE", help="write rejected rows and their reasons here")
    _is_set(check, "--secrets", "look for tokens, keys, passwords, telephone, card and account numbers, e-mail "
            "addresses and home folders too; exit status 2 if there are any")  # fmt: skip
    _is_set(check, "--gaps", "ask the recipe's base model, too: which figures, names and rare words of the training "
            "completions do neither their prompts nor that model tell? Loads the model")  # fmt: skip
    _takes_settings(check)
    _takes_keep_going(check)
    _takes_json(check)

    preview = verb("preview", "what the model will see, with supervised tokens marked", training.preview)
    _takes_recipe(preview, output=False)
    preview.add_argument(
        "--rows", "-n", type=_count, default=3, metavar="N", help="how many demonstrations (default: 3)"
    )

    plan = verb("plan", "rows, tokens, steps, memory, time and disk before anything trains", training.plan)
    _takes_recipe(plan, output=False)
    plan.add_argument(
        "--no-probe",
        action="store_false",
        dest="probe",
        help="count and compute only: no weights are read, and there is no time",
    )
    _takes_json(plan)

    train = verb("train", "fit the policy (also: accelerate launch -m sft train RECIPE)", training.train)
    _takes_recipe(train)
    _takes_quiet(train)
    _takes_json(train)


def _evaluate(verb: Callable[..., argparse.ArgumentParser]) -> None:
    """evaluate: a run, or what was trained elsewhere."""
    evaluate = verb(
        "evaluate",
        "measure the clone of a run, or with --held-out any adapter or model, or with --endpoint a server",
        judge.evaluate,
        "sft evaluate RUN                          the run's clone on its own held-out prompts\n"
        "sft evaluate MODEL --held-out FILE        whatever was trained elsewhere, on any file of demonstrations\n"
        f"{serving.ABOUT}",
    )
    evaluate.add_argument("target", metavar="run", help="the run directory; or an adapter or model, by path or id")
    evaluate.add_argument("--split", choices=["test", "validation"], help="which held-out split (default: test)")
    _takes_profile(evaluate)
    _takes_scoring(evaluate)
    _takes_quiet(evaluate)
    _takes_json(evaluate)
    foreign = evaluate.add_argument_group("what was trained elsewhere")
    foreign.add_argument("--held-out", metavar="FILE", help="demonstrations to judge it on")
    foreign.add_argument("--train", metavar="FILE", help="demonstrations it learned from, for the shortcuts and leaks")
    foreign.add_argument("--base", metavar="NAME", help="its base model (default: the one the adapter names)")
    foreign.add_argument(
        "--output",
        "-o",
        type=Path,
        help="the run directory (default: runs/MODEL-on-FILE); with --endpoint, a folder for what the server wrote "
        "(default: the run's)",
    )
    foreign.add_argument(
        "--max-prompts", type=_count, metavar="N", help="held-out prompts at most (default: 200; with --endpoint all)"
    )
    serving.add_options(evaluate, _count)


def _score(verb: Callable[..., argparse.ArgumentParser]) -> None:
    """score: completions of any system."""
    score = verb(
        "score",
        "the whole scorecard from completions of any system; needs no model",
        judge.score,
        "A row of FILE (jsonl, json, csv, tsv, parquet) has prompt, completion, and reference or references; and, if\n"
        "you like, id, group, expert or experts, finished (false: cut at a length limit), and system: tuned is judged\n"
        "(the default), B0 and B3 are the base model without and with demonstrations, other names stand beside them.\n"
        "Where a server tells how likely a system finds what the expert wrote: nats, -log p of a reference (a sum, or\n"
        "one a token), and bytes, its length in UTF-8. With those of tuned and B0 there is a whole verdict.",
    )
    score.add_argument(
        "target",
        type=Path,
        metavar="file",
        help="completions with what experts wrote: a file, a folder, a pattern, or - for standard input",
    )
    score.add_argument("--train", metavar="FILE", type=Path, help="demonstrations the judged system learned from")
    _repeats(score, "--bar", "METRIC=POINTS", "what has to be cleared, e.g. --bar chrf=60")
    _takes_scoring(score)
    _is_set(score, "--fast", "leave out corpus figures (BLEU, chrF++)")
    score.add_argument("--output", "-o", type=Path, help="write a run directory with a report (default: print only)")
    _takes_json(score)


def _report_and_compare(verb: Callable[..., argparse.ArgumentParser]) -> None:
    """report, compare: from what is on file."""
    report = verb("report", "write report.html and report.md again; needs no model", judge.report)
    _takes_run(report)
    _is_set(report, "--recompute", "compute the whole scorecard again first, from the completions")
    _takes_json(report)

    compare = verb(
        "compare", "tell the clones of runs apart, on the same held-out prompts; needs no model", judge.compare
    )
    compare.add_argument("targets", type=Path, nargs="+", metavar="run", help="run directories, two or more")
    _is_set(compare, "--rounds", "the runs are rounds of correction: the learning curve")
    compare.add_argument(
        "--plain", type=Path, action="append", default=[], metavar="RUN",
        help="with --rounds: the control that learned from as many plain answers; repeatable",
    )  # fmt: skip
    compare.add_argument(
        "--output",
        "-o",
        type=Path,
        default=Path("compare.html"),
        metavar="FILE",
        help="the page (default: compare.html)",
    )
    _takes_json(compare)


def _handing_on(verb: Callable[..., argparse.ArgumentParser]) -> None:
    """export, push, chat; recipes."""
    export = verb(
        "export",
        "hand the clone on: merged weights, or GGUF for llama.cpp and Ollama",
        hand_on.export,
        "sft export RUN --merged DIR     weights, tokenizer, chat template: from_pretrained loads them, without peft\n"
        "sft export RUN --gguf FILE      one file for llama.cpp, and FILE's Modelfile beside it for Ollama",
    )
    _takes_run(export)
    export.add_argument("--merged", type=Path, metavar="DIR", help="write merged weights into this new or empty folder")
    export.add_argument("--gguf", type=Path, metavar="FILE", help="write this new GGUF file (Llama, Qwen2/3, Gemma 3)")
    export.add_argument(
        "--gguf-adapter", type=Path, metavar="FILE", help="write the adapter alone as this new GGUF file"
    )
    export.add_argument(
        "--outtype",
        choices=hand_on.GGUF_TYPES,
        help="of the matrices in FILE (default: f16); of few bits by llama.cpp's own quantiser, with what is lost",
    )
    _takes_json(export)

    push = verb(
        "push",
        "publish the clone, or a gathering, on a hub: planned, sent as one commit, verified",
        hand_on.push,
        hand_on.ABOUT_PUSH,
    )
    hand_on.add_push_options(push)

    chat = verb("chat", "talk to the clone", chatting.chat, chatting.ABOUT)
    _takes_run(chat)
    _is_set(chat, "--base", "talk to the base model instead")
    chat.add_argument(
        "--thoughts",
        choices=["show", "hide"],
        help="what is thought before an answer, on stderr (default: shown on a terminal, hidden where lines are piped)",
    )
    chat.add_argument(
        "--max-new-tokens", type=_count, default=256, metavar="N", help="longest answer, in tokens (default: 256)"
    )

    shelf = verb(
        "recipes",
        "list the shipped recipes, show or copy one, or make one of another trainer's configuration",
        data.recipes,
    )
    shelf.add_argument("action", nargs="?", choices=["list", "show", "copy", "import"], default="list")
    shelf.add_argument(
        "name", nargs="?", help="which recipe (show, copy); the configuration of Axolotl, LLaMA-Factory or TRL (import)"
    )
    shelf.add_argument(
        "destination", nargs="?", type=Path, default=Path(), help="where to (copy, import; default: here)"
    )


def _count(text: str) -> int:
    """A whole number from 1 to :data:`_MOST`: the type of every option that says how many."""
    digits = text.strip()
    if digits.isascii() and digits.isdigit() and 1 <= int(digits[:20]) <= _MOST:
        return int(digits)
    raise argparse.ArgumentTypeError(f"{text[:40]!r} is no whole number from 1 to {_MOST}; give one, such as 100")


def _takes_recipe(one: argparse.ArgumentParser, *, output: bool = True) -> None:
    one.add_argument("recipe", help="a recipe file, or the name of a shipped one (see `sft recipes`)")
    _takes_settings(one)
    if output:
        one.add_argument("--output", "-o", type=Path, help="the run directory (default: runs/NAME)")
        _is_set(one, "--resume", "go on with the run that is there")
        _is_set(one, "--allow-change", "with --resume: go on though recipe, data, split, template or base is another, "
                "and put it on record")  # fmt: skip
        _takes_keep_going(one)


def _takes_run(one: argparse.ArgumentParser) -> None:
    one.add_argument("target", type=Path, metavar="run", help="the run directory")


def _takes_settings(one: argparse.ArgumentParser) -> None:
    _repeats(one, "--set", "KEY=VALUE", "override one key of the recipe, e.g. --set training.learning_rate=1.0e-4")


def _takes_keep_going(one: argparse.ArgumentParser) -> None:
    _is_set(one, "--keep-going", "leave out rows that cannot become demonstrations, and write them down with the "
            "reasons")  # fmt: skip


def _takes_profile(one: argparse.ArgumentParser) -> None:
    """How much is measured; where neither is given, the recipe says."""
    choice = one.add_mutually_exclusive_group()
    for name, about in (
        ("fast", "measure only what costs a minute: no base model writes"),
        ("full", "measure also what costs as much again"),
    ):
        choice.add_argument(f"--{name}", dest="profile", action="store_const", const=name, help=about)


def _takes_scoring(one: argparse.ArgumentParser) -> None:
    """Which action counts as the expert's; what is not given is as the recipe says, where there is one."""
    one.add_argument(
        "--checker",
        metavar="SPEC",
        help="which answers are right: final-number, json, regex:PATTERN, module:function or file.py:function",
    )
    one.add_argument(
        "--headline",
        metavar="SCORE",
        help="what decides: chrf, exact_match or another metric of ours, json (values and calls leaf by leaf), "
        "checker, or the name of a --metric that gives 0 to 100 (default: the recipe's, else chrf)",
    )
    _repeats(
        one, "--metric", "NAME",
        "a metric of the evaluate library beside ours: the path of a module (which is run) or a name in its cache "
        "or on the hub; NAME:KEY where it gives several figures; repeatable",
    )  # fmt: skip
    one.add_argument(
        "--normalise",
        action="append",
        default=[],
        choices=["think", "fence", "case", "space"],
        help="set this aside in every text before it is scored; repeatable",
    )


def _takes_json(one: argparse.ArgumentParser) -> None:
    _is_set(one, "--json", "print JSON")


def _takes_quiet(one: argparse.ArgumentParser) -> None:
    _is_set(one, "--quiet", "no progress on stderr, only results and complaints")


def _is_set(one: argparse.ArgumentParser, name: str, help: str) -> None:
    one.add_argument(name, action="store_true", help=help)


def _repeats(one: argparse.ArgumentParser, name: str, metavar: str, help: str) -> None:
    one.add_argument(name, action="append", default=[], metavar=metavar, help=help)
