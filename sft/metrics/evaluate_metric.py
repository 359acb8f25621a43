"""What our metrics in the folders beside this file share, as ``evaluate.Metric``.

Slow to import (``evaluate`` takes seconds), so only those folders import it. ``evaluate`` copies such a module's
file into its cache and loads it from there, and takes the first class it finds in it for the metric;
that is why they write ``import`` statements one a line and never import a class by name.
"""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

import sft.metrics

CITATION = ""
INPUTS = """
    predictions: list of completions.
    references: list of expert completions, or of lists of them; several count as their mean.
"""


class EvaluateMetric(evaluate.Metric):
    """An ``evaluate.Metric`` whose ``metric`` names one of ours."""

    metric = ""

    def _info(self) -> Any:
        texts = datasets.Value("string")
        return evaluate.MetricInfo(
            description=sft.metrics.METRICS[self.metric].__doc__ or "",
            citation=CITATION,
            inputs_description=INPUTS,
            features=[
                datasets.Features({"predictions": texts, "references": datasets.Sequence(texts)}),
                datasets.Features({"predictions": texts, "references": texts}),
            ],
        )

    def _compute(self, predictions: list[str], references: list[Any]) -> dict[str, Any]:
        """``{metric: mean in points, "scores": one per prediction}``."""
        function = sft.metrics.METRICS[self.metric]
        scores = []
        for prediction, written in zip(predictions, references, strict=True):
            several = [written] if isinstance(written, str) else written
            scores.append(sum(function(prediction, text) for text in several) / len(several))
        return {self.metric: sum(scores) / len(scores), "scores": scores}
