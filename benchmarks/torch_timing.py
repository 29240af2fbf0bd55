"""How the PyTorch peers, which run in an environment of their own, are timed."""

import statistics
import time
from collections.abc import Callable


def median_milliseconds(call: Callable[[], object], rounds: int) -> float:
    """The median time of `call`, after one call that does not count."""
    call()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds)
