"""``evaluate.Metric`` of ``sft.metrics.exact_match_normalised``."""

import sft.metrics.evaluate_metric


class SftExactMatchNormalised(sft.metrics.evaluate_metric.EvaluateMetric):
    """See ``sft.metrics.exact_match_normalised``."""

    metric = "exact_match_normalised"
