"""``evaluate`` face of ``sft.metrics.rouge_l``."""

import sft.metrics.faces


class SftRougeL(sft.metrics.faces.Face):
    """See ``sft.metrics.rouge_l``."""

    metric = "rouge_l"
