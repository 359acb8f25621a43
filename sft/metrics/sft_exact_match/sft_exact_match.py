"""``evaluate.Metric`` of ``sft.metrics.exact_match``."""

import sft.metrics.evaluate_metric


class SftExactMatch(sft.metrics.evaluate_metric.EvaluateMetric):
    """See ``sft.metrics.exact_match``."""

    metric = "exact_match"
