"""Where metrics go: a JSON line each, TensorBoard, and a live progress line."""

import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path

from tqdm import tqdm

from memjax import files

_LOG = logging.getLogger("memjax")


class MetricWriter:
    """Writes metrics to `workdir/metrics.jsonl`, TensorBoard events and the terminal."""

    def __init__(self, workdir: str | Path, start_step: int, num_steps: int):
        """Opens the files; drops the lines of a run that was cut off after `start_step`."""
        from tensorboardX import SummaryWriter

        path = Path(workdir) / "metrics.jsonl"
        _drop_lines_after(path, start_step)
        self._lines = path.open("a")
        self._tensorboard = SummaryWriter(str(workdir), purge_step=start_step + 1)
        self._progress = tqdm(
            total=num_steps,
            initial=start_step,
            unit="step",
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
        )

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes one line for `step`, and moves the progress line there."""
        self._lines.write(json.dumps({"step": step, **metrics}) + "\n")
        self._lines.flush()
        for name, value in metrics.items():
            self._tensorboard.add_scalar(name, value, step)
        shown = {name: f"{value:.4g}" for name, value in metrics.items()}
        self._progress.set_postfix({k: v for k, v in shown.items() if k in ("nll", "eval/nll")})
        self._progress.update(step - self._progress.n)
        if self._progress.disable:
            _LOG.info("step %d: %s", step, ", ".join(f"{k} {v}" for k, v in shown.items()))

    def close(self) -> None:
        """Closes the files."""
        self._lines.close()
        self._tensorboard.close()
        self._progress.close()


def read(workdir: str | Path) -> list[dict[str, float]]:
    """The lines of `workdir/metrics.jsonl`, oldest first; a last line cut short is left out."""
    path = Path(workdir) / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [entry for entry in map(_parse, lines) if entry is not None]


def _parse(line: str) -> dict[str, float] | None:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError:
        return None
    return entry if isinstance(entry, dict) and "step" in entry else None


def _drop_lines_after(path: Path, step: int) -> None:
    entries = [entry for entry in read(path.parent) if entry["step"] <= step]
    kept = "".join(json.dumps(entry) + "\n" for entry in entries)
    if path.exists() and path.read_text() != kept:
        files.write_text(path, kept)
