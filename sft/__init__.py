"""Clone an expert's writing into a language model, and prove how well the clone worked."""

import logging

__version__ = "0.1.0"

# Where bitsandbytes is installed, peft loads it, and on a CPU it complains at once of kernels that could be had.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
