"""``evaluate.Metric`` of ``sft.metrics.rouge_l``."""

import sft.metrics.evaluate_metric


class SftRougeL(sft.metrics.evaluate_metric.EvaluateMetric):
    """See ``sft.metrics.rouge_l``."""

    metric = "rouge_l"
