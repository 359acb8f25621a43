"""``evaluate`` face of ``sft.metrics.edit_similarity``."""

import sft.metrics.faces


class SftEditSimilarity(sft.metrics.faces.Face):
    """See ``sft.metrics.edit_similarity``."""

    metric = "edit_similarity"
