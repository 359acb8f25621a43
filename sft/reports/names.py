"""What a report calls things, for a reader who has met none of them."""

from __future__ import annotations

from collections.abc import Mapping

from sft.fidelity.completions_file import FROM_A_FILE
from sft.fidelity.scorecard import COMPLETIONS_ALONE, FAILS, NO_BASE, PASSES, SYSTEMS, Scorecard

__all__ = [
    "EXAMPLE_KINDS",
    "GLOSSARY",
    "IMPOSTORS",
    "METRIC_NAMES",
    "RUNG_MEANINGS",
    "STEPS",
    "kept_out",
    "metric_name",
    "system_name",
    "training_told",
]

#: Rung -> what it means, for a newcomer. The lowest is also given where something was not measured, so it must not
#: say that the clone is no closer.
RUNG_MEANINGS = {
    "no evidence of cloning": "What the next step takes is not shown, or was not measured.",
    "imitates": "The clone writes more like the expert than the model it started from, and finds the expert\u2019s "
    "words likelier.",
    "learned from the demonstrations": "It also beats every shortcut tried: the base model by itself and with three "
    "demonstrations, the nearest training completion, the most typical of the twenty nearest, one constant completion, "
    "the copied prompt, and others where they are named below.",
    "meets your bar": "It also clears the bar that was set.",
    COMPLETIONS_ALONE: "Every verdict asks how likely the policies find the expert\u2019s words, which is not known. "
    "The figures below say how close the completions come.",
    NO_BASE: "Every verdict asks how likely a base model finds the expert\u2019s words, too. The figures below say how "
    "close the clone comes.",
    PASSES: "Every score that the bar asks for is shown to reach it.",
    FAILS: "A score that the bar asks for is not shown to reach it.",
    "cloned, within the margin": "It has gone most of the way from the best shortcut to another expert, and its "
    "samples are hard to tell from experts\u2019. It is checked for being right only where a checker was given.",
}
#: Metric -> (its name, what it measures, how it is written).
METRIC_NAMES = {
    "chrf": ("chrF", "shared runs of characters, precision and recall alike", "points"),
    "chrf2": ("chrF2", "the same with recall weighted four times", "points"),
    "chrf_max": ("chrF, nearest", "against the reference that is nearest, not the mean over all", "points"),
    "rouge_l": ("ROUGE-L", "longest common sequence of words", "points"),
    "token_f1": ("token F1", "shared words, whatever their order", "points"),
    "edit_similarity": ("edit similarity", "characters that need no editing", "points"),
    "exact_match": ("exact match", "completions that are the expert's, character for character", "points"),
    "exact_match_normalised": ("normalised match", "the same but for case and outer punctuation", "points"),
    "json": ("JSON leaves", "values that are the expert's, in their place; calls by name and arguments", "points"),
    "json_max": ("JSON leaves, nearest", "against the reference that is nearest, not the mean over all", "points"),
    "checker": ("checker", "completions that the checker finds right, for any reference", "points"),
    "checker_max": ("checker", "completions that the checker finds right, for any reference", "points"),
    "stop_rate": ("stops by itself", "completions that end before the length limit", "share"),
    "empty_rate": ("empty", "completions without a word", "share"),
    "length_ratio": ("length", "characters written for each of the expert's", "ratio"),
    "with_stop": ("bits per byte", "surprise at the expert's words and where they end", "bits"),
    "without_stop": ("without the end", "the same, leaving out where they end", "bits"),
    "as_given": ("bits per byte", "surprise at the expert's words, as the file tells it", "bits"),
    "top1": ("first guess", "tokens for which the expert's was the likeliest", "share"),
    "top5": ("among five", "tokens for which the expert's was among the five likeliest", "share"),
    "prob_true_act": ("probability", "mean probability of the expert's token", "share"),
    "entropy": ("entropy", "how undecided it was, in nats per token", "bits"),
    "neglogp": ("log loss", "surprise at the expert's token, in nats", "bits"),
    "bleu": ("BLEU", "shared runs of one to four words over all completions at once", "points"),
    "chrf_pp": ("chrF++", "shared runs of characters and words over all completions at once", "points"),
    "bleu_one_out": ("BLEU, one out", "against one reference fewer, as another expert is held to", "points"),
    "chrf_pp_one_out": ("chrF++, one out", "the same for chrF++", "points"),
    "rep_4": ("repeats itself", "runs of four words that a completion has already had", "share"),
    "distinct_2": ("distinct pairs", "different word pairs, among equally many of everybody's", "share"),
    "distinct_outputs": ("distinct outputs", "different texts among all completions", "share"),
    "length_spread": ("length spread", "spread of the lengths over the expert's; 1 is as varied", "ratio"),
}
#: Kind of example -> (button, what the reader sees).
EXAMPLE_KINDS = {
    "typical": ("Typical", "scores in the middle of all held-out prompts"),
    "best": ("Best", "the highest scores"),
    "worst": ("Worst", "the lowest scores: read these first"),
    "earliest divergence": ("Early divergence", "where the clone leaves the expert's path soonest"),
    "": ("More", "further prompts, so that there are some of every score"),
}
#: Step of ``fidelity.normalise`` -> what it sets aside.
STEPS = {
    "think": "what stands between <think> tags",
    "fence": "a code fence around all of it",
    "case": "case",
    "space": "white space",
}
#: Whose texts the impostor test holds against an expert's -> (in words, class of the colour).
IMPOSTORS = {
    "sampled": ("the clone's samples", "tuned"),
    "greedy": ("the clone's completions, greedy as a rule", "tuned"),
    "base": ("the base model's", "base"),
    "experts": ("another expert's", "expert"),
}
#: What the words mean, for someone who has not met them.
GLOSSARY = (
    ("clone", "the base model after training on the expert\u2019s demonstrations; also called tuned policy"),
    ("demonstration", "a prompt together with what the expert wrote for it"),
    ("held-out prompts", "prompts to judge the clone on; a run of sft keeps them away from training"),
    ("chrF", "how many runs of one to six characters two texts share: 0 nothing, 100 the same text"),
    (
        "shortcut",
        "a way to answer without training a model. Tried are the base model by itself and with three demonstrations, "
        "the completion of the nearest training prompt, the most typical of the twenty nearest, one constant "
        "completion, where answers are long some training completion of the usual length, the copied prompt, and what "
        "a file holds (fidelity.floors_from)",
    ),
    ("95 % interval", "the range in which the true mean lies, for 95 of 100 sets of prompts like this one"),
    ("bits per byte", "how surprising a model finds the expert\u2019s words; 0 would be no surprise at all"),
    ("cluster", "prompts that share a source and so are not independent; intervals allow for that"),
    ("loss", "surprise at the next word, the quantity that training lowers"),
    (
        "the expert\u2019s path",
        "what the expert wrote, token by token; a model leaves it with the first token of its own",
    ),
    (
        "overconfident",
        "on the expert\u2019s path, surer than it is right: a mean confidence of 80 % where 70 % of its choices are "
        "the expert\u2019s",
    ),
    ("AUC", "how often a classifier picks the right one of two texts: 0.5 is guessing, 1 is never wrong"),
    ("p", "how often chance alone would give a figure like this; 0.05 and less counts as more than chance"),
    (
        "guardrail",
        "a red line that no good score can make up for; not settled where the interval of what was measured crosses it",
    ),
)


def training_told(card: Scorecard) -> bool:
    """Whether training may be spoken of: what was read from a file of completions says nothing of it by itself."""
    # Contamination is looked for wherever the training demonstrations are known; prompts of both were refused.
    return card.signature.get("source") != FROM_A_FILE or any(rail.name == "contamination" for rail in card.guardrails)


def kept_out(card: Scorecard) -> str:
    """Whether the clone was trained on the held-out prompts, as far as the scorecard knows: a sentence, or none."""
    if any(rail.name == "contamination" for rail in card.guardrails):
        return "None of them is among the prompts that the clone was trained on."
    if not training_told(card):
        return ""
    return "Whether the clone was trained on them is not known here: its training demonstrations were not given."


def metric_name(metric: str) -> str:
    """What a metric is called; one that is not ours keeps its own name."""
    return METRIC_NAMES.get(metric, (metric.replace("_", " "),))[0]


def system_name(system: str, names: Mapping[str, str] | None = None) -> str:
    """What a system is in plain words; one that is not ours keeps its own name. ``names``: ``Scorecard.names``."""
    return (names or {}).get(system) or SYSTEMS.get(system, system)
