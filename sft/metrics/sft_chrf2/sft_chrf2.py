"""``evaluate`` face of ``sft.metrics.chrf2``."""

import sft.metrics.faces


class SftChrf2(sft.metrics.faces.Face):
    """See ``sft.metrics.chrf2``."""

    metric = "chrf2"
