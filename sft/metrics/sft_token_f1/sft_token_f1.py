"""``evaluate.Metric`` of ``sft.metrics.token_f1``."""

import sft.metrics.evaluate_metric


class SftTokenF1(sft.metrics.evaluate_metric.EvaluateMetric):
    """See ``sft.metrics.token_f1``."""

    metric = "token_f1"
