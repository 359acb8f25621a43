"""``evaluate`` face of ``sft.metrics.exact_match_normalised``."""

import sft.metrics.faces


class SftExactMatchNormalised(sft.metrics.faces.Face):
    """See ``sft.metrics.exact_match_normalised``."""

    metric = "exact_match_normalised"
