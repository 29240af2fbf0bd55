"""Command lines: train, evaluate, quickstart; and the configs of what the papers report."""

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
