"""Where metrics go: a JSON line each, TensorBoard, and what a run says of its progress."""

import contextlib
import json
import logging
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax
import jax
from tqdm import tqdm

import memjax
from memjax import devices, files
from memjax.errors import UserError
from memjax.training.workdir import write_about

_FIRST_SECONDS, _LINE_SECONDS = 5.0, 30.0  # between two lines of a log
_METRICS, _SKIPPED = "metrics.jsonl", "skipped_steps.jsonl"
_IN_NATS = ("nll", "standard_error", "floor", "excess", "bound", "reconstruction")  # in order

_LOG = logging.getLogger("memjax")


class MetricWriter:
    """Writes metrics to `workdir/metrics.jsonl`, TensorBoard events and the terminal."""

    def __init__(self, workdir: str | Path, start_step: int, num_steps: int):
        """Opens the files; drops the lines of a run that was cut off after `start_step`."""
        workdir = Path(workdir)
        for name in (_METRICS, _SKIPPED):
            _drop_lines_after(workdir / name, start_step)
        self._skipped_path = workdir / _SKIPPED
        self._skipped_steps = [entry["step"] for entry in _read(self._skipped_path)]
        self._lines = (workdir / _METRICS).open("a")
        self._tensorboard = _TensorBoard(workdir, purge_step=start_step + 1)
        self._workdir, self._start_step, self._num_steps = workdir, start_step, num_steps
        self._progress: tqdm | None = None  # in terminals and notebooks
        self._first: tuple[int, float] | None = None  # step that was shown, and when
        self._next_line = 0.0

    def begin(self, state: Any) -> None:
        """Says what is about to be compiled and trained; shows a bar where there is a place."""
        count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        steps = (self._start_step, self._num_steps)
        _LOG.info("%s parameters; compiling; then steps %d to %d", f"{count:,}", *steps)
        write_about(self._workdir, {"parameters": f"{count:,}"} | _surroundings())
        if sys.stderr.isatty() or _in_notebook():
            self._progress = tqdm(
                total=self._num_steps, initial=self._start_step, unit="step", dynamic_ncols=True
            )

    def show(self, step: int) -> None:
        """Shows that training has come to `step`: by a bar, or in a log by a line now and then."""
        now = time.monotonic()
        if self._first is None:
            self._first, self._next_line = (step, now), now + _FIRST_SECONDS
            if self._progress is not None:
                self._progress.unpause()  # compiling is not in the time left
        if self._progress is not None:
            self._progress.set_description("", refresh=False)
            self._progress.update(step - self._progress.n)
        elif now >= self._next_line:
            self._next_line = now + _LINE_SECONDS
            first, then = self._first
            left = (now - then) / (step - first) * (self._num_steps - step)
            _LOG.info("step %d of %d, %s left", step, self._num_steps, _duration(left))

    def tell(self, what: str) -> None:
        """Shows what takes time now, beside the bar."""
        if self._progress is not None:
            self._progress.set_description(what)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes one line for `step`, and shows it.

        Raises:
          UserError: the disk is full, or gone.
        """
        try:
            self._lines.write(json.dumps({"step": step, **metrics}) + "\n")
            self._lines.flush()
            self._tensorboard.write(step, metrics)
        except OSError as error:
            raise UserError(f"metrics of step {step} can't be written: {error}") from error
        shown = {name: f"{value:.4g}" for name, value in metrics.items()}
        if self._progress is not None:
            self.tell("")
            self._progress.set_postfix({k: v for k, v in shown.items() if k in ("nll", "eval/nll")})
            return
        self._next_line = time.monotonic() + _LINE_SECONDS
        texts = (f"{name} {shown[name]}" for name in sorted(shown, key=order))
        _LOG.info("step %d: %s", step, ", ".join(texts))

    def write_skipped(self, step: int, reason: str) -> None:
        """Notes that `step` was not taken, in `workdir/skipped_steps.jsonl`."""
        with self._skipped_path.open("a") as lines:
            lines.write(json.dumps({"step": step, "not_finite": reason}) + "\n")
        self._skipped_steps.append(step)

    def count_skipped(self, first: int, last: int) -> int:
        """How many of the steps from `first` to `last`, inclusive, were skipped."""
        return sum(first <= step <= last for step in self._skipped_steps)

    def close(self) -> None:
        """Closes the files."""
        if self._progress is not None:
            self._progress.close()
        with contextlib.suppress(OSError):  # what a full disk does not take has been told
            self._tensorboard.close()
        with contextlib.suppress(OSError):
            self._lines.close()


def _surroundings() -> dict[str, str]:
    versions = [f"{module.__name__} {module.__version__}" for module in (memjax, jax, flax)]
    python, *arguments = sys.orig_argv
    return {
        "device": devices.describe(),
        "versions": ", ".join(versions),
        "started": time.strftime("%Y-%m-%d %H:%M"),
        "command": shlex.join([Path(python).name, *arguments]),
    }


def _duration(seconds: float) -> str:
    """As one would say it: "40 s", "7 min", "2.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _in_notebook() -> bool:
    """Whether what is printed goes to a page, which draws a line anew as a terminal does."""
    return type(sys.stderr).__module__.startswith("ipykernel.")


class _TensorBoard:
    """Scalars as TensorBoard events, written at once.

    tensorboardX's own SummaryWriter has a thread and an exit handler, which print tracebacks where
    a disk is full.
    """

    def __init__(self, workdir: Path, purge_step: int):
        from tensorboardX import event_file_writer
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._writer = event_file_writer.EventsWriter(str(workdir / "events"))
        log = SessionLog(status=SessionLog.START)  # hides what a killed run wrote after this step
        self._writer.write_event(Event(wall_time=time.time(), step=purge_step, session_log=log))

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        summary = Summary(value=values)
        self._writer.write_event(Event(wall_time=time.time(), step=step, summary=summary))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def rank(name: str) -> tuple[int, str]:
    """The place of a metric among those in nats an image, `nll` first; 0: it is not in nats."""
    if name in _IN_NATS:
        return 1 + _IN_NATS.index(name), ""
    is_divergence = name.startswith("kl_") or name.endswith("_entropy")
    return (1 + len(_IN_NATS), name) if is_divergence else (0, "")


def order(name: str) -> tuple[bool, bool, tuple[int, str]]:
    """What to sort metrics by: training's, then held-out ones, in each by `rank`; then others."""
    plain = name.removeprefix("eval/")
    return not rank(plain)[0], name != plain, rank(plain)


def read(workdir: str | Path) -> list[dict[str, Any]]:
    """The lines of `workdir/metrics.jsonl`, oldest first; a last line cut short is left out."""
    return _read(Path(workdir) / _METRICS)


def minutes(entries: Sequence[Mapping[str, float]]) -> float:
    """How long the steps of a `metrics.jsonl` took, without compiling and evaluating."""
    seconds, before = 0.0, 0.0
    for entry in entries:
        seconds += (entry["step"] - before) / entry["steps_per_second"]
        before = entry["step"]
    return seconds / 60


def _read(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return [entry for entry in map(_parse, lines) if entry is not None]


def _parse(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get("step"), int) else None


def _drop_lines_after(path: Path, step: int) -> None:
    entries = [entry for entry in _read(path) if entry["step"] <= step]
    kept = "".join(json.dumps(entry) + "\n" for entry in entries)
    if path.exists() and path.read_text(errors="replace") != kept:
        files.write_text(path, kept)
