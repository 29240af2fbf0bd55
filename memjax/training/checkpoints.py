"""Checkpoints by Orbax: saved whole or not at all, restored from the newest that is intact."""

import contextlib
import dataclasses
import hashlib
import itertools
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from memjax.errors import UserError
from memjax.training.step import TrainState

_KEEP = 3
# What is saved beside the numbers: their checksum, for Orbax has none; the places of the leaves, in
# the checksum's order; how the key is to be read. Older code saved the first alone, or nothing.
_DIGEST, _LEAVES, _KEY = "sha256", "leaves", "key_implementation"

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
        numbers = _to_numpy(state)
        leaves = _by_path(numbers)
        metadata = {
            _DIGEST: _digest(leaves.values()),
            _LEAVES: list(leaves),
            _KEY: str(jax.random.key_impl(state.rng_key)),
        }
        with self._user_error():
            self._manager.save(step, args=ocp.args.StandardSave(numbers), custom_metadata=metadata)

    def restore(self, like: TrainState) -> TrainState | None:
        """The newest intact checkpoint, or None if there is none at all.

        Damaged ones are moved to `workdir/unreadable_checkpoints`, and a warning says so; not where
        this is read-only. The key is of the implementation that it was saved with, whatever JAX's
        default is now: the run goes on with the same numbers.

        Raises:
          UserError: there are checkpoints, and none can be read; or the newest that is intact is of
            another structure or precision than `like`.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        unreadable = []
        state = None
        for step in steps:
            try:
                state = self._restore_step(step, like)
                break
            except UserError:  # it is intact, and does not fit
                raise
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
        """Raises a UserError if the checkpoint is intact and does not fit, else what comes."""
        target = _to_numpy(like)
        wanted = _by_path(target)
        # In the structure that it was saved in, so that another one is not taken for damage.
        saved = _by_path(self._manager.restore(step, args=ocp.args.StandardRestore()))
        metadata = self._manager.metadata(step).custom_metadata or {}
        if int(saved["step"]) != step:
            raise ValueError(f"it holds step {int(saved['step'])}")
        if _LEAVES in metadata or saved.keys() == wanted.keys():
            order = metadata.get(_LEAVES, list(wanted))
            if metadata.get(_DIGEST) not in (None, _digest(saved[path] for path in order)):
                raise ValueError("its numbers are not those that were saved")
        rng_key = _wrap_key(saved["rng_key"], metadata.get(_KEY))
        _check_fits(f"checkpoint {step} in {self._workdir / 'checkpoints'}", saved, wanted)
        leaves = [jnp.asarray(saved[path]) for path in wanted]
        state = jax.tree.unflatten(jax.tree.structure(target), leaves)
        return dataclasses.replace(state, rng_key=rng_key)

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


def _by_path(tree: Any) -> dict[str, np.ndarray]:
    """The leaves by where they are, such as "params.decoder.bias"; alike for a class and a dict."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _digest(leaves: Iterable[np.ndarray]) -> str:
    """SHA-256 of all numbers, with their types and shapes."""
    digest = hashlib.sha256()
    for leaf in leaves:
        digest.update(f"{leaf.dtype} {leaf.shape}".encode() + leaf.tobytes())
    return digest.hexdigest()


def _wrap_key(rng_key: np.ndarray, implementation: str | None) -> jax.Array:
    if implementation is None and rng_key.shape != jax.random.key_data(jax.random.key(0)).shape:
        implementation = {2: "threefry2x32", 4: "rbg"}[rng_key.size]
    return jax.random.wrap_key_data(jnp.asarray(rng_key), impl=implementation)


def _check_fits(
    what: str, saved: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]
) -> None:
    """Refuses a state of other leaves, shapes or types; a key's shape is JAX's own matter.

    Raises:
      UserError: it names the first leaf that differs.
    """
    x64 = jnp.result_type(float) == np.float64
    for path in dict.fromkeys([*wanted, *saved]):
        before, now = _describe(saved.get(path)), _describe(wanted.get(path))
        if path == "rng_key" or before == now:
            continue
        differs = f"its {path} is {before}, here it is {now}"
        narrow, wide = (now, before) if not x64 else (before, now)
        if narrow.replace("32[", "64[") == wide:
            raise UserError(
                f"{what} was saved with JAX_ENABLE_X64={int(not x64)}, this is with "
                f"{int(x64)}: {differs}; set it as it was"
            )
        raise UserError(
            f"{what} is intact, but of another model or another version of memjax: {differs}; "
            "go on with the code that saved it, or choose another workdir"
        )


def _describe(leaf: np.ndarray | None) -> str:
    return "missing" if leaf is None else f"{leaf.dtype}{list(leaf.shape)}"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
