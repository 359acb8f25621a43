"""What a sweep came to, as text and as a page: every combination with its validation loss."""

from __future__ import annotations

from sft.recipes.grid import Swept, Tried
from sft.reports import charts
from sft.reports.charts import Dot, Mark
from sft.reports.compare_page import aligned
from sft.reports.text import shown

__all__ = ["to_html", "to_text"]

NOTE = (
    "One fit of each: another seed can turn what lies close together. The chosen recipe was chosen on the validation "
    "rows, so its loss there flatters it; judge it on the test rows, which nobody has looked at."
)


def _ranked(swept: Swept) -> list[Tried]:
    """The chosen one first, those without a loss last."""
    return sorted(swept.tried, key=lambda one: (one.run != swept.chosen, one.loss is None, one.loss or 0.0))


def _words(one: Tried) -> str:
    return ", ".join(f"{key.partition('.')[2]} {value}" for key, value in one.values.items())


def _loss(one: Tried) -> str:
    return "none" if one.loss is None else f"{one.loss:.4f}"


def sentence(swept: Swept) -> str:
    """Which is chosen, and what it is ahead by."""
    best, *others = _ranked(swept)
    rest = [one for one in others if one.loss is not None]
    ahead = ""
    if rest and best.loss is not None:
        second = min(rest, key=lambda one: one.loss or 0.0)
        ahead = f", {abs((second.loss or 0.0) - best.loss):.4f} from that of {_words(second)}"
    return f"Chosen: {_words(best)}; its validation loss is {_loss(best)} nats per token{ahead}."


def to_text(swept: Swept) -> str:
    """A table for a terminal."""
    rows = [["", "validation loss", "steps", "", "run"]]
    rows += [[_words(one), _loss(one), str(one.steps), one.state + (f": {one.fault}" if one.fault else ""), one.run]
             for one in _ranked(swept)]  # fmt: skip
    about = f"{len(swept.tried)} combinations, judged on {swept.rows} validation rows:"
    return "\n".join([about, *(f"  {line}" for line in aligned(rows)), "", sentence(swept), NOTE])


def picture(swept: Swept) -> str:
    """The lowest loss of each combination that has one; the chosen one's as a line across, what was ended early apart.

    The scale reaches from the lowest to the highest of them and not to 0, where all would lie in one place.
    """
    with_loss = sorted((one for one in _ranked(swept) if one.loss is not None), key=lambda one: one.state != "whole")
    best = next(one for one in with_loss if one.run == swept.chosen)
    return charts.dots(
        [
            Dot(
                _words(one), one.loss or 0.0, None, None, _noted(one, swept), "tuned" if one is best else "other",
                strong=one is best, group="fitted to the end" if one.state == "whole" else "ended early",
            )
            for one in with_loss
        ],
        key="sweep",
        title="Validation loss of every combination",
        axis="lowest validation loss (nats per token): further left is better",
        include=(),
        marks=[Mark(best.loss or 0.0, f"chosen: {_loss(best)}")],
    )  # fmt: skip


def _noted(one: Tried, swept: Swept) -> str:
    if one.run == swept.chosen:
        return f"{_loss(one)}, chosen"
    return _loss(one) if one.state == "whole" else f"{_loss(one)} until step {one.steps}"


def to_html(swept: Swept) -> str:
    """One page that loads nothing and runs no script."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(loader=PackageLoader("sft.reports"), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)  # fmt: skip
    environment.filters |= {"shown": shown}
    return environment.get_template("sweep.html.j2").render(
        swept=swept,
        rows=[(one, _words(one), _loss(one)) for one in _ranked(swept)],
        sentence=sentence(swept),
        picture=Markup(picture(swept)),
        unseen=sum(one.loss is None for one in swept.tried),
        note=NOTE,
    )
