"""Command lines: train, evaluate, quickstart; and the configs of what the papers report."""

import ctypes
import importlib.metadata
import os
import sys
from pathlib import Path

from memjax import files
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


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def lacks_threads(jaxlib: str, cores: int) -> bool:
    """Whether XLA's threads, one for each core, are so few that they may wait for each other."""
    return jaxlib.startswith(("0.10.", "0.11.")) and cores in (2, 3)


# In jaxlib 0.10 and 0.11 a batched factorisation waits for a free thread of XLA's. Where each of
# two or three threads does, a training stops for good; with four that was not seen.
_JAXLIB = importlib.metadata.version("jaxlib")
if lacks_threads(_JAXLIB, num_cores()):
    os.environ.setdefault("NPROC", "4")

# On a CPU XLA hands some operations to YNNPACK, which takes up to five times as long for the
# gradient of a convolution's kernel. XLA ends a process for a flag that it doesn't know, so these
# are the versions tried.
_FLAGS, _YNN = os.environ.get("XLA_FLAGS", ""), "--xla_cpu_experimental_ynn_fusion_type="
if _YNN not in _FLAGS and _JAXLIB.startswith(("0.10.2", "0.12.0")):
    os.environ["XLA_FLAGS"] = f"{_FLAGS} {_YNN}".strip()

# What a step of training frees stays with the process, for the next step. Linux would take it back
# and hand out new pages, which cost a sixth of a convolutional step's time on a CPU.
_IS_TUNED = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
if sys.platform == "linux" and not _IS_TUNED and hasattr(libc := ctypes.CDLL(None), "mallopt"):
    libc.mallopt(-8, 1)  # M_ARENA_MAX: any other arena than the first holds no large arrays
    libc.mallopt(-4, 0)  # M_MMAP_MAX
    libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD

# JAX reads these when it is imported. Compiled programs stay in the user's cache folder; an empty
# JAX_COMPILATION_CACHE_DIR: nowhere.
_CACHES = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
if files.is_writable(folder := Path(_CACHES, "memjax", "jax")):  # else it would warn each time
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
