"""``evaluate`` face of ``sft.metrics.token_f1``."""

import sft.metrics.faces


class SftTokenF1(sft.metrics.faces.Face):
    """See ``sft.metrics.token_f1``."""

    metric = "token_f1"
