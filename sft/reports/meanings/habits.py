"""The manner: whether the clone can be told from the expert, and by what."""

from __future__ import annotations

from collections.abc import Mapping

from sft.fidelity.conventions import CLONED_AUC
from sft.metrics.estimate import Estimate
from sft.reports.meanings.figures import apart, away, listed, side
from sft.reports.text import figure

__all__ = ["corpus", "impostor", "lengths", "manner", "self_agreement"]


def impostor(part: Mapping[str, Estimate]) -> str:
    """Whether a classifier tells the clone from the expert, and one expert from another."""
    kind = "sampled" if "sampled" in part else "greedy" if "greedy" in part else ""
    if not kind:
        return ""
    auc, control = part[kind], part.get("experts")
    texts = "samples" if kind == "sampled" else "completions"
    shown = figure(auc, "ratio")
    if side(auc, 0.5) <= 0:
        start = (
            f"A classifier is not shown to tell the clone's {texts} from the expert's better than by guessing ({shown})"
        )
        if auc.high is not None and auc.high >= CLONED_AUC:
            start += ", though it may do better than 0.60 on other prompts"
    elif auc.high is not None and auc.high < CLONED_AUC:
        start = f"A classifier hardly tells the clone's {texts} from the expert's: {shown}, below {CLONED_AUC:.2f}"
    else:
        start = f"A classifier tells the clone's {texts} from the expert's: AUC {shown}, where guessing gives 0.50"
    if kind == "greedy":
        start += "; where they are greedy they are blander than any person's, a perfect clone's too"
    if control is None:
        return f"{start}; whether it would tell two experts apart is not known."
    if side(control, 0.5) > 0:
        return f"{start}; but it tells one expert from another too ({figure(control, 'ratio')}), so it proves little."
    return f"{start}; it is not shown to tell one expert from another ({figure(control, 'ratio')})."


#: Figure of manner -> (what more of it means, what less of it means).
_MANNERS = {
    "rep_4": ("they repeat themselves more", "they repeat themselves less"),
    "distinct_2": ("their word pairs are more varied", "their word pairs are less varied"),
    "distinct_outputs": ("fewer of them are one and the same", "more of them are one and the same"),
    "length_spread": ("their lengths vary more", "their lengths vary less"),
}


def manner(part: Mapping[str, Mapping[str, Estimate]]) -> str:
    """In which habits the clone's completions differ from the expert's, by intervals that do not overlap.

    The completions are greedy as a rule, and taking the likeliest word throughout makes texts more alike whoever
    is imitated: what differs is said of them, and not of how the clone writes.
    """
    tuned, expert = part.get("tuned", {}), part.get("expert", {})
    found, seen = [], 0
    for name, (more, less) in _MANNERS.items():
        one, other = tuned.get(name), expert.get(name)
        if one is None or (other is None and name != "length_spread"):
            continue
        seen += 1
        # The spread is the clone's over the expert's, so 1 is what it is held to.
        way = side(one, 1.0) if name == "length_spread" else apart(one, other)
        if way:
            style = "ratio" if name == "length_spread" else "share"
            against = "1" if name == "length_spread" else figure(other, style)
            found.append(f"{more if way > 0 else less} ({figure(one, style)} against {against})")
    if not seen:
        return ""
    if not found:
        return "In none of these habits are the clone's completions shown to differ from the expert's."
    return (
        f"The clone's completions differ from the expert's: {'; '.join(found)}. Where they are greedy, that can be "
        "the decoding: taking the likeliest word throughout makes the texts of a perfect clone more alike, too."
    )


def lengths(ratio: Estimate | None) -> str:
    """Whether the clone's completions are as long as the expert's."""
    if ratio is None:
        return ""
    shown = f"{figure(ratio, 'ratio')} characters for each of the expert's"
    if side(ratio, 1.0) == 0:
        return f"It writes {shown}: no clear difference in length."
    return f"It writes {shown}: its texts are {'longer' if ratio.value > 1 else 'shorter'} than the expert's."


def self_agreement(part: Mapping[str, Estimate], points: str) -> str:
    """Whether the clone's samples are more alike than two experts' answers."""
    own, others, difference = part.get("tuned"), part.get("experts"), part.get("difference")
    if own is None:
        return ""
    start = f"Two samples of the clone for one prompt share {figure(own)} {points} points"
    if others is None or difference is None:
        return f"{start}; how much two experts share is not known."
    start += f", two experts' answers {figure(others)}"
    if side(difference) > 0:
        return f"{start}: its samples are more alike than experts' answers, by {away(difference)}."
    if side(difference) < 0:
        return f"{start}: its samples are less alike than experts' answers, by {away(difference)}."
    return f"{start}: no clear difference ({figure(difference, signed=True)})."


def corpus(part: Mapping[str, Mapping[str, Estimate]]) -> str:
    """The literature's figures for the clone, against another expert where one is known."""
    tuned, expert = part.get("tuned", {}), part.get("E", {})
    if "bleu" not in tuned or "chrf_pp" not in tuned:
        return ""
    start = f"Over all completions at once the clone has BLEU {figure(tuned['bleu'])} and chrF++ "
    start += figure(tuned["chrf_pp"])
    equal = [(name, tuned.get(f"{name}_one_out"), expert.get(name)) for name in ("bleu", "chrf_pp")]
    if any(one is None or other is None for _, one, other in equal):
        return f"{start}."
    names = {"bleu": "BLEU", "chrf_pp": "chrF++"}
    against = listed([f"{names[name]} is {figure(one)} against {figure(other)}" for name, one, other in equal])
    return f"{start}; held to as many references as another expert, {against}."
