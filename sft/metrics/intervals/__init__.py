"""Statistics a sceptic accepts: intervals, tests and power, as pure arithmetic on arrays.

Scores of prompts that share a source are not independent, so everything here takes ``clusters``:
one label per value, equal labels for values that belong together, ``None`` for "each on its own".
Nothing here knows what the numbers mean, and every draw takes a seed.

What each of these promises (type I error, coverage, power) is simulated at the sizes users have in
``benchmarks/results/statistics.md``, beside what goes wrong with the usual shortcuts.
"""

from sft.metrics.estimate import Estimate
from sft.metrics.intervals.means import POWER, VISIBLE, clustered_t, fieller, smallest_visible_gain, standard_error
from sft.metrics.intervals.paired import EXACT_CLUSTERS, FLIPS, holm, mcnemar_mid_p, share_difference, sign_flip
from sft.metrics.intervals.ranks import auc
from sft.metrics.intervals.resampling import DRAWS, GROUPS, cluster_bootstrap, grouped_jackknife
from sft.metrics.intervals.samples import Clusters, Floats
from sft.metrics.intervals.shares import StepInterval, clustered_wilson, kaplan_meier, wilson
from sft.metrics.intervals.skewness import hall_p, skewness
from sft.metrics.intervals.two_samples import Sample, newcombe, two_way, visible_difference, welch

__all__ = [
    "DRAWS",
    "EXACT_CLUSTERS",
    "FLIPS",
    "GROUPS",
    "POWER",
    "VISIBLE",
    "Clusters",
    "Estimate",
    "Floats",
    "Sample",
    "StepInterval",
    "auc",
    "cluster_bootstrap",
    "clustered_t",
    "clustered_wilson",
    "fieller",
    "grouped_jackknife",
    "hall_p",
    "holm",
    "kaplan_meier",
    "mcnemar_mid_p",
    "newcombe",
    "share_difference",
    "sign_flip",
    "skewness",
    "smallest_visible_gain",
    "standard_error",
    "two_way",
    "visible_difference",
    "welch",
    "wilson",
]
