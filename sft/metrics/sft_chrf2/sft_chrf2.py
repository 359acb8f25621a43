"""``evaluate.Metric`` of ``sft.metrics.chrf2``."""

import sft.metrics.evaluate_metric


class SftChrf2(sft.metrics.evaluate_metric.EvaluateMetric):
    """See ``sft.metrics.chrf2``."""

    metric = "chrf2"
