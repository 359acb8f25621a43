"""What the screens show: each from the desk's state, as HTML that loads nothing from elsewhere."""

from __future__ import annotations

import json
from functools import cache
from statistics import median
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sft.demonstrations.messages import Message, prompt_text, written_calls
from sft.gathering.desk import JUDGEMENTS, Desk
from sft.gathering.items import Item
from sft.gathering.prompts import LONGEST
from sft.reports.text import duration, shown
from sft.runs.visible import plain

__all__ = ["item", "listed", "message", "nothing_left", "onward", "owner"]

#: Rows of the list, and items of the owner's page, at most.
_ROWS, _SHOWN = 500, 50
#: Answers from which on a typical length can be told.
_TYPICAL = 5


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("sft.gathering"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"shown": shown, "plain": plain, "duration": duration, "said": _said}
    return environment


def _said(turn: Message) -> str:
    """All that a turn says, calls included."""
    return written_calls(turn.content, turn.calls)


def _page(name: str, **view: Any) -> str:
    return _environment().get_template(f"{name}.html.j2").render(**view)


def message(title: str, sentence: str) -> str:
    """One sentence, and what to do."""
    return _page("message", title=title, sentence=sentence, go="")


def onward(where: str) -> str:
    """The page behind a link: the browser goes on to ``where`` by itself, so that a strict cookie is sent along."""
    return _page("message", title="One moment", sentence="This page goes on by itself.", go=where)


def nothing_left(desk: Desk, expert: str) -> str:
    """What to do when no item is to be offered."""
    mine = desk.done(expert)
    held = sum(work.status in ("opened", "draft") for (_, name), work in desk.state.works.items() if name != expert)
    sentence = f"You have submitted {mine} answers; thank you. "
    if desk.state.closed:
        sentence += "The round is closed."
    elif held:
        sentence += f"{held} items are in the hands of others; those they leave come back after 30 minutes."
    else:
        sentence += "All that can be asked of you was asked; you can take up any of your answers again."
    return _page("message", title="Nothing is left for you now", sentence=sentence, go="", head=_head(desk, expert))


def _head(desk: Desk, expert: str) -> dict[str, Any]:
    state = desk.state
    asked = sum(one.only in ("", expert) for one in state.items.values())
    return {
        "expert": expert,
        "gathering": desk.gathering.path.name,
        "done": desk.done(expert),
        "asked": asked,
        "own_prompts": desk.gathering.settings.own_prompts,
        "round": f" · round {round}" if (round := max((i.round for i in state.items.values()), default=0)) else "",
    }


def item(desk: Desk, one: Item, expert: str) -> str:
    """One item: what is asked, what the clone wrote where that may be seen, and the text to write."""
    state, settings = desk.state, desk.gathering.settings
    work, clone = state.work(one.id, expert), desk.clone_text(one, expert)
    guidelines, text, number = desk.guidelines
    seen = state.read.get(expert, "")
    lengths = state.lengths.values()
    prompt = state.prompt(one, expert)
    data = {
        "gathering": settings.id,
        "expert": expert,
        "item": one.id,
        "rev": work.rev,
        "text": work.text,
        "status": work.status,
        "window": work.window,
        "clone": clone if one.shown == "drafted" and work.status != "submitted" else None,
        "median": median(lengths) if len(lengths) >= _TYPICAL else 0,
        "longest": LONGEST,
        "guidelines": guidelines,
    }
    return _page(
        "item",
        head=_head(desk, expert),
        item=one,
        turns=prompt,
        clone_turns=_clones_turns(one, prompt),
        dialogue=bool(one.dialogue) or settings.dialogues,
        may_go_on=settings.dialogues and work.has_answer,
        may_take_over=bool(one.dialogue) and one.round > 0 and clone is not None,
        work=work,
        clone=clone,
        drafted=one.shown == "drafted" and clone is not None,
        judgements=JUDGEMENTS,
        guidelines=text,
        number=number,
        changed=bool(seen) and seen != guidelines,
        unread=bool(guidelines) and seen != guidelines,
        data=_json(data),
    )


def _clones_turns(one: Item, prompt: tuple[Any, ...]) -> list[bool]:
    """Which turns of a correction's context the clone wrote, and not the expert who took over."""
    return [
        turn.role == "assistant" and bool(one.dialogue) and one.round > 0 and not one.only and turn == before
        for turn, before in zip(prompt, one.prompt, strict=True)
    ]


def _json(value: Any) -> Markup:
    """JSON inside a page: nothing in it can end the element it stands in."""
    return Markup(json.dumps(value).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def listed(desk: Desk, expert: str, query: str = "") -> str:
    """The expert's own items, the newest first."""
    rows = []
    for (name, who), work in reversed(desk.state.works.items()):
        one = desk.state.items.get(name)
        if who != expert or one is None:
            continue
        text = prompt_text(desk.state.prompt(one, expert))
        if query.casefold() in f"{text}\n{work.text}".casefold():
            rows.append({"id": name, "work": work, "prompt": plain(text)[:160], "text": plain(work.text)[:160]})
    return _page("list", head=_head(desk, expert), rows=rows[:_ROWS], more=max(0, len(rows) - _ROWS), query=query)


def owner(desk: Desk) -> str:
    """Progress by expert, agreement so far, what is flagged or contested, and the guidelines."""
    from sft.gathering.figures import by_expert, figures

    state = desk.state
    answers = state.by_item()
    status = {name: state.status(one, answers[name]) for name, one in state.items.items()}
    shown_items = [
        {
            "id": name,
            "status": status[name],
            "prompt": prompt_text(state.items[name].prompt),
            "flag": state.flags.get(name, ("", "")),
            "answers": answers[name],
        }
        for name in state.items
        if status[name] in ("flagged", "contested")
    ]
    _, text, number = desk.guidelines
    return _page(
        "owner",
        gathering=desk.gathering.path.name,
        counts={kind: sum(one == kind for one in status.values()) for kind in ("done", "open", "contested", "flagged")},
        experts=by_expert(state),
        there=state.experts,
        lines=figures(state).to_lines()[:12],
        items=shown_items[:_SHOWN],
        more=max(0, len(shown_items) - _SHOWN),
        guidelines=text,
        number=number,
        closed=bool(state.closed),
    )
