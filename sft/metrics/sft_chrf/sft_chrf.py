"""``evaluate`` face of ``sft.metrics.chrf``."""

import sft.metrics.faces


class SftChrf(sft.metrics.faces.Face):
    """See ``sft.metrics.chrf``."""

    metric = "chrf"
