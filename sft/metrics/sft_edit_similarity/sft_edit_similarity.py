"""``evaluate.Metric`` of ``sft.metrics.edit_similarity``."""

import sft.metrics.evaluate_metric


class SftEditSimilarity(sft.metrics.evaluate_metric.EvaluateMetric):
    """See ``sft.metrics.edit_similarity``."""

    metric = "edit_similarity"
