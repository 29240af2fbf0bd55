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
# the checksum's order; how the key is to be read.
_DIGEST, _LEAVES, _KEY = "sha256", "leaves", "key_implementation"

_LOG = logging.getLogger("memjax")


class Checkpoints:
    """The checkpoints of one run, in `workdir/checkpoints`."""

    def __init__(self, workdir: str | Path, read_only: bool = False):
        """Creates the folder if need be; `read_only` changes nothing, for a run may go on.

        Raises:
          UserError: nothing to read: the folder has no checkpoints.
        """
        self._workdir = Path(workdir).absolute()
        self._read_only = read_only
        if read_only and not (self._workdir / "checkpoints").is_dir():
            raise UserError(f"workdir {workdir} holds no checkpoint; train it first")
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
        leaves = by_path(numbers)
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

    def newest_params(self) -> dict[str, np.ndarray]:
        """Parameters of the newest intact checkpoint, by path; their running averages, if any.

        Raises:
          UserError: there is none.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            with contextlib.suppress(Exception):  # a damaged one; the one before it serves
                leaves = self._read(step)[0]
                for name in ("ema_params.", "params."):
                    found = {
                        p.removeprefix(name): x for p, x in leaves.items() if p.startswith(name)
                    }
                    if found:
                        return found
        raise UserError(f"workdir {self._workdir} holds no intact checkpoint")

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
        wanted = by_path(target)
        saved, metadata = self._read(step)
        rng_key = jax.random.wrap_key_data(jnp.asarray(saved["rng_key"]), impl=metadata[_KEY])
        _check_fits(f"checkpoint {step} in {self._workdir / 'checkpoints'}", saved, wanted)
        leaves = [jnp.asarray(saved[path]) for path in wanted]
        state = jax.tree.unflatten(jax.tree.structure(target), leaves)
        return dataclasses.replace(state, rng_key=rng_key)

    def _read(self, step: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The leaves by where they are, and what was saved beside; raises what a damage makes."""
        # In the structure that it was saved in, so that another one is not taken for damage.
        saved = by_path(self._manager.restore(step, args=ocp.args.StandardRestore()))
        metadata = self._manager.metadata(step).custom_metadata or {}
        if int(saved["step"]) != step:
            raise ValueError(f"it holds step {int(saved['step'])}")
        if metadata[_DIGEST] != _digest(saved[path] for path in metadata[_LEAVES]):
            raise ValueError("its numbers are not those that were saved")
        return saved, metadata

    def _set_aside(self, steps: list[int]) -> None:
        self._manager.close()
        aside = self._workdir / "unreadable_checkpoints"
        aside.mkdir(exist_ok=True)
        for step in steps:
            names = (f"{step}.{i}" if i else str(step) for i in itertools.count())
            destination = next(aside / name for name in names if not (aside / name).exists())
            shutil.move(self._workdir / "checkpoints" / str(step), destination)
        self._manager = self._open()


def start_from(workdir: str | Path, state: TrainState) -> TrainState:
    """The state before the first step, with the parameters of the run in `workdir` that fit.

    A parameter fits if its path and shape are the same; the log names the others.

    Raises:
      UserError: there is no such run, or none of its parameters fits.
    """
    if not (Path(workdir) / "checkpoints").is_dir():
        raise UserError(f"init_from is {workdir}; it must be the folder of a trained run")
    checkpoints = Checkpoints(workdir, read_only=True)
    saved = checkpoints.newest_params()
    checkpoints.close()
    own = by_path(state.params)
    fits = {path for path in own if path in saved and saved[path].shape == own[path].shape}
    if not fits:
        raise UserError(
            f"init_from is {workdir}; it is of another model: none of its {len(saved)} parameters, "
            f"such as {min(saved)}, is one of the {len(own)} here, such as {min(own)}"
        )
    others = sorted(own.keys() - fits)
    _LOG.info(
        "%d of %d parameters begin as in %s%s",
        *(len(fits), len(own), workdir),
        f", not {', '.join(others)}" if others else "",
    )
    leaves = [jnp.asarray(saved[p], x.dtype) if p in fits else x for p, x in own.items()]
    params = jax.tree.unflatten(jax.tree.structure(state.params), leaves)
    averaged = None if state.ema_params is None else params
    return dataclasses.replace(state, params=params, ema_params=averaged)


def _to_numpy(state: TrainState) -> TrainState:
    """The state on the host, with its key as plain integers."""
    state = dataclasses.replace(state, rng_key=jax.random.key_data(state.rng_key))
    return jax.tree.map(np.asarray, state)


def by_path(tree: Any) -> dict[str, np.ndarray]:
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
