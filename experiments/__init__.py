"""Command lines: train, evaluate, quickstart; and the configs of what the papers report."""

import os
import sys

from memjax.errors import print_error
from memjax.extras import MissingPackageError, needs

try:
    with needs("train"):
        import absl.flags  # noqa: F401
        import ml_collections  # noqa: F401
except MissingPackageError as error:
    print_error(error)
    sys.exit(2)

# A small factorisation of a Kanerva memory is slower divided, and OpenBLAS's threads wait for each
# other in a loop that takes the cores from XLA: beside busy processes, 20 times slower.
if "OMP_NUM_THREADS" not in os.environ:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # SciPy's reads it when it is loaded
