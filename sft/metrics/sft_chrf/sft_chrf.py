"""``evaluate.Metric`` of ``sft.metrics.chrf``."""

import sft.metrics.evaluate_metric


class SftChrf(sft.metrics.evaluate_metric.EvaluateMetric):
    """See ``sft.metrics.chrf``."""

    metric = "chrf"
