"""One run on several processes, on one machine or many: joined, agreed with, ended together.

The first process alone has the run's folder; the others take its state and write nothing. On one
process everything here does nothing.
"""

import faulthandler
import importlib.util
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from memjax.errors import UserError, print_error

_START_SECONDS = 120  # to wait for the others at the start
_SILENCE_SECONDS = 30  # after which a process counts as lost, if no connection has told so before
_END_SECONDS = 600  # to wait at the end, while the first one draws


def join(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Makes this process one of a run's; before any other use of JAX's devices.

    With nothing given, the processes of a TPU pod find each other, and others stay alone.

    Args:
      coordinator: "host:port", where the first process listens.
      num_processes: of the whole run.
      process_id: 0 for the first process.

    Raises:
      UserError: some of the three are missing, or do not fit each other.
    """
    given = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    missing = [f"--{name}" for name, value in given.items() if value is None]
    if len(missing) == len(given):
        if importlib.util.find_spec("libtpu") and os.environ.get("JAX_PLATFORMS", "tpu") != "cpu":
            try:
                jax.distributed.initialize()
            except ValueError:  # JAX finds no pod around it
                return
        return
    if missing:
        raise UserError(f"{', '.join(missing)} missing: several processes take all three flags")
    assert coordinator is not None and num_processes is not None and process_id is not None
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"coordinator is {coordinator!r}; it must be host:port")
    if not 0 <= process_id < num_processes:
        raise UserError(f"process_id is {process_id}; it must be from 0 to {num_processes - 1}")
    if num_processes > 1:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            cluster_detection_method="deactivate",
            initialization_timeout=_START_SECONDS,
            heartbeat_timeout_seconds=_SILENCE_SECONDS,
            shutdown_timeout_seconds=_END_SECONDS,
        )
        # Where another is lost JAX may abort this one with a message: no traceback shall hide it.
        faulthandler.disable()


def is_first() -> bool:
    """Whether this is the process that writes."""
    return jax.process_index() == 0


def share(tree: Any) -> Any:
    """The first process's arrays and keys, for all; each gives a tree of the same shapes.

    Raises:
      UserError: a restored key is of another implementation than the other processes' own.
    """
    if jax.process_count() == 1:
        return tree

    def is_key(leaf: Any) -> bool:
        return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)

    default = jax.random.key_impl(jax.random.key(0))
    for implementation in (jax.random.key_impl(x) for x in jax.tree.leaves(tree) if is_key(x)):
        if implementation != default:
            raise UserError(
                f"the run's key is of JAX_DEFAULT_PRNG_IMPL={implementation}, this process's are "
                f"of {default}; set that for all processes"
            )
    plain = jax.tree.map(lambda x: np.asarray(jax.random.key_data(x) if is_key(x) else x), tree)
    shared = multihost_utils.broadcast_one_to_all(plain)
    return jax.tree.map(
        lambda x, like: jax.random.wrap_key_data(x) if is_key(like) else x, shared, tree
    )


def agree(stop: bool, length: int) -> tuple[bool, int]:
    """Whether any process is to stop, and the first one's length; all must ask."""
    if jax.process_count() == 1:
        return stop, length
    told = multihost_utils.process_allgather(np.array([stop, length]))
    return bool(np.any(told[:, 0])), int(told[0, 1])


@contextmanager
def ending_together() -> Iterator[None]:
    """Leaves with one line and at once where this process or another fails.

    An ordinary exit would wait for the others, who wait for this one.
    """
    try:
        yield
    except BaseException as error:
        if not jax.distributed.is_initialized():
            raise
        place = f"process {jax.process_index()} of {jax.process_count()}"
        if isinstance(error, UserError):
            message, status = str(error), 2
        elif isinstance(error, jax.errors.JaxRuntimeError):
            message, status = f"{place} lost another; run the same commands to resume", 1
            message += f" ({str(error).splitlines()[0][:120]})"
        else:
            traceback.print_exc()
            message, status = f"{place} failed: {type(error).__name__}", 1
        print_error(message)
        os._exit(status)


class Nowhere:
    """In the place of checkpoints and of a metric writer, on all processes but the first."""

    def save(self, state: Any) -> None:
        """Saves nothing."""

    def begin(self, *_: Any) -> None:
        """Shows nothing."""

    tell = show = begin

    def write(self, step: int, metrics: Any) -> None:
        """Writes nothing."""

    def write_skipped(self, step: int, reason: str) -> None:
        """Writes nothing."""

    def count_skipped(self, first: int, last: int) -> int:
        """None, for all that is known here."""
        return 0
