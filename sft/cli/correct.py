"""The verb that corrects a clone, and learns from the corrections. What is heavy is imported inside."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sft.cli.collect import add_people, read_guidelines, serve, share, who_writes
from sft.cli.printing import print_report
from sft.errors import UserError
from sft.verbs.quiet import quiet

if TYPE_CHECKING:
    from sft.gathering.folder import Gathering
    from sft.recipes import Recipe
    from sft.runs.run import Run

ABOUT = """\
sft correct RUN --prompts pool.jsonl --into DIR --items 100    the clone writes, then the page opens: round 1
sft correct RUN --train NEW --from DIR                         the union, same recipe, same held-out rows; evaluated
sft correct RUN --train NEW --from DIR --plain                 the control: as many blind answers to random prompts
sft compare --rounds RUN NEW                                   the learning curve

RUN is any run that was trained and measured. Of the items a share is written blind, before the expert sees the clone's
text: only those say how good the clone is. Of dialogues the user's turns are replayed, and the clone's own turns stand
between them: those of its training, or, where it makes no mistakes any more, those of a file: --prompts."""


def add_options(one: argparse.ArgumentParser, count: Callable[[str], int]) -> None:
    """The options of ``sft correct``. ``count``: the type of whole numbers."""
    one.add_argument("target", type=Path, metavar="run", help="the run whose clone is corrected")
    add_people(one)
    asks = one.add_argument_group("asking")
    asks.add_argument("--into", type=Path, metavar="DIR", help="the gathering; made if absent")
    asks.add_argument("--prompts", type=Path, metavar="FILE", help="a pool of prompts without answers")
    asks.add_argument("--items", type=count, default=100, metavar="N", help="how many are asked (default: 100)")
    asks.add_argument("--choose", choices=["random", "diverse", "uncertain"], default="random",
                      help="by which rule (default: random, for no other was shown to be better)")  # fmt: skip
    asks.add_argument("--audit", type=share, default=0.3, metavar="SHARE",
                      help="share of the items drawn at random whatever the rule (default: 0.3)")  # fmt: skip
    asks.add_argument("--blind", type=share, default=0.3, metavar="SHARE",
                      help="share written before the clone's text is seen (default: 0.3)")  # fmt: skip
    learns = one.add_argument_group("learning")
    learns.add_argument("--train", type=Path, metavar="NEW", help="the run that learns from the answers; with --from")
    learns.add_argument("--from", type=Path, dest="source", metavar="DIR", help="the gathering that was written into")
    learns.add_argument("--plain", action="store_true", help="the control: blind answers to random prompts instead")
    learns.add_argument("--seeds", type=count, default=1, metavar="N",
                        help="runs that differ in the seed; a claim needs 3 an arm (default: 1)")  # fmt: skip
    one.add_argument("--resume", action="store_true", help="go on with a round, or a run, that was begun")


def correct(options: argparse.Namespace) -> None:
    """A round: ask, or learn."""
    if options.train is not None:
        if options.source is None:
            raise UserError(f"--train {options.train}: from which gathering? name it with --from DIR")
        _learn(options)
        return
    for name in ("source", "plain"):
        if getattr(options, name):
            raise UserError(f"--{'from' if name == 'source' else name}: goes with --train NEW")
    if options.into is None:
        raise UserError(f"--into: into which gathering? name one, such as gathered/{options.target.name}")
    _ask(options)


def _ask(options: argparse.Namespace) -> None:
    from sft.demonstrations.stored import load_recipe
    from sft.gathering.folder import Gathering, is_gathering, refuse_names
    from sft.runs.run import Run, demand_trained

    guidelines = read_guidelines(options.guidelines)
    refuse_names(options.expert)
    run = Run.open(options.target)
    demand_trained(run)
    new = not is_gathering(options.into)
    if new:
        gathering = Gathering.create(options.into, seed=options.seed)
        for name in options.expert or [who_writes()]:
            gathering.invite(name)
    else:
        gathering = Gathering.open(options.into, writing=True)
    with gathering:
        try:
            _begin_round(options, run, gathering, load_recipe(run))
        except UserError:
            if new and not gathering.items():  # nothing was begun, so nothing is left behind
                shutil.rmtree(options.into)
            raise
        serve(options, gathering, guidelines)


def _begin_round(options: argparse.Namespace, run: Run, gathering: Gathering, recipe: Recipe) -> None:
    """The clone writes for the items of the round, which are drawn where that was not done."""
    from sft.gathering.rounds import ask, next_round

    known = next_round(gathering, run)
    if known is not None and not options.resume:
        raise UserError(
            f"{gathering.path}: round {known['number']} was begun on {known['when']}; go on with it: --resume, or "
            f"open its page: sft collect {gathering.path}"
        )
    with quiet():
        for line in ask(
            gathering, run, recipe, pool=options.prompts, count=options.items, choose=options.choose,
            audit=options.audit, blind=options.blind,
        ):  # fmt: skip
            print(line, flush=True)


def _learn(options: argparse.Namespace) -> None:
    from sft.demonstrations.stored import load_recipe
    from sft.gathering.folder import Gathering
    from sft.gathering.rounds import learning, siblings
    from sft.runs.run import Run
    from sft.verbs.recipe_given import refresh

    refresh(str(options.source))
    run, gathering = Run.open(options.target), Gathering.open(options.source)
    for number, folder in enumerate(siblings(options.train, options.seeds)):
        with quiet(), learning(
            run, gathering, folder, plain=options.plain, seed=number, resume=options.resume
        ) as (one, recipe):  # fmt: skip
            from sft.evaluation.evaluate import evaluate_clone
            from sft.gathering.clone import on_their_own_path
            from sft.gathering.curve import chain_of, put_on_record
            from sft.training.fit import fit

            fit(one, recipe, resume=options.resume)
            card = evaluate_clone(one, recipe)
            for run_of_chain in chain_of(one):
                if not run_of_chain.own_dialogues_path.exists():
                    on_their_own_path(run_of_chain, load_recipe(run_of_chain))
            put_on_record(one)
            print_report(one, card)
