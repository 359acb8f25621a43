"""``evaluate`` face of ``sft.metrics.exact_match``."""

import sft.metrics.faces


class SftExactMatch(sft.metrics.faces.Face):
    """See ``sft.metrics.exact_match``."""

    metric = "exact_match"
