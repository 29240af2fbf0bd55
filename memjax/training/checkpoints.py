"""Checkpoints by Orbax: saved whole or not at all, restored from the newest that is intact."""

import contextlib
import dataclasses
import hashlib
import itertools
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from memjax.errors import UserError
from memjax.training.step import TrainState

_KEEP = 3
_DIGEST = "sha256"  # Orbax has no checksum of what it stores

_LOG = logging.getLogger("memjax")


class Checkpoints:
    """The checkpoints of one run, in `workdir/checkpoints`."""

    def __init__(self, workdir: str | Path, read_only: bool = False):
        """Creates the folder if need be; `read_only` leaves all as it is, for a run may go on."""
        self._workdir = Path(workdir).absolute()
        self._read_only = read_only
        self._manager = self._open()

    def save(self, state: TrainState) -> None:
        """Saves `state`, in the background; does nothing if its step is saved already.

        Raises:
          UserError: this one, or the one before, can't be written.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        state = _to_numpy(state)
        with self._user_error():
            self._manager.save(
                step,
                args=ocp.args.StandardSave(state),
                custom_metadata={_DIGEST: _digest(state)},
            )

    def restore(self, like: TrainState) -> TrainState | None:
        """The newest intact checkpoint, or None if there is none at all.

        Unreadable ones are moved to `workdir/unreadable_checkpoints`, and a warning says so; not
        where this is read-only.

        Raises:
          UserError: there are checkpoints, and none can be read.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        unreadable = []
        state = None
        for step in steps:
            try:
                state = self._restore_step(step, like)
                break
            except Exception as error:  # whatever a damaged file makes Orbax or NumPy raise
                _LOG.warning("checkpoint %d is unreadable (%s)", step, _first_line(error))
                unreadable.append(step)
        if steps and state is None:
            raise UserError(
                f"none of the checkpoints {steps} in {self._workdir / 'checkpoints'} can be read; "
                "move that folder away to start from step 0"
            )
        if unreadable and state is not None:
            _LOG.warning("falling back to the checkpoint of step %d", int(state.step))
            if not self._read_only:
                self._set_aside(unreadable)
        return state

    def close(self) -> None:
        """Waits until what was saved is on the disk.

        Raises:
          UserError: it can't be written.
        """
        with self._user_error():
            self._manager.wait_until_finished()
            self._manager.close()

    def _open(self) -> ocp.CheckpointManager:
        """This process's own: Orbax would wait for all processes of the run otherwise."""
        here = jax.process_index()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=None if self._read_only else _KEEP,  # Orbax's own read_only warns of itself
            cleanup_tmp_directories=not self._read_only,
            create=False,
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                primary_host=here, active_processes={here}, barrier_sync_key_prefix=str(here)
            ),
            lightweight_initialize=True,  # one step's damaged metadata must not hide the others
        )
        folder = self._workdir / "checkpoints"
        folder.mkdir(parents=True, exist_ok=True)
        return ocp.CheckpointManager(folder, options=options)

    @contextlib.contextmanager
    def _user_error(self) -> Iterator[None]:
        """For whatever a disk that is full or gone makes Orbax or TensorStore raise."""
        try:
            yield
        except Exception as error:
            folder = self._workdir / "checkpoints"
            raise UserError(
                f"no checkpoint can be saved in {folder}, those that it has are kept: "
                f"{_first_line(error)}"
            ) from error

    def _restore_step(self, step: int, like: TrainState) -> TrainState:
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, _to_numpy(like))
        restored = self._manager.restore(step, args=ocp.args.StandardRestore(target))
        if int(restored.step) != step:
            raise ValueError(f"it holds step {int(restored.step)}")
        digest = (self._manager.metadata(step).custom_metadata or {}).get(_DIGEST)
        if digest not in (None, _digest(restored)):  # older code wrote none
            raise ValueError("its numbers are not those that were saved")
        return dataclasses.replace(restored, rng_key=jax.random.wrap_key_data(restored.rng_key))

    def _set_aside(self, steps: list[int]) -> None:
        self._manager.close()
        aside = self._workdir / "unreadable_checkpoints"
        aside.mkdir(exist_ok=True)
        for step in steps:
            names = (f"{step}.{i}" if i else str(step) for i in itertools.count())
            destination = next(aside / name for name in names if not (aside / name).exists())
            shutil.move(self._workdir / "checkpoints" / str(step), destination)
        self._manager = self._open()


def _to_numpy(state: TrainState) -> TrainState:
    """The state on the host, with its key as plain integers."""
    state = dataclasses.replace(state, rng_key=jax.random.key_data(state.rng_key))
    return jax.tree.map(np.asarray, state)


def _digest(state: TrainState) -> str:
    """SHA-256 of all numbers, with their types and shapes."""
    digest = hashlib.sha256()
    for leaf in map(np.asarray, jax.tree.leaves(state)):
        digest.update(f"{leaf.dtype} {leaf.shape}".encode() + leaf.tobytes())
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
