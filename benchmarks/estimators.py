"""Bias, spread and signal-to-noise of every address estimator: python -m benchmarks.estimators.

A memory of N slots whose posterior p(a|x) is flat, peaked at one slot or at two, and a q(a|x) that
half knows it; "drawn" is a Gaussian log p(x, a). The gradient is the one in q's logits. Bias and
spread are relative to the norm of the exact gradient of what the estimator climbs: the bound of L
samples, or the ELBO ("rloo" and the sets). The cost is in decodes: evaluations of p(x|m).
"""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from absl import flags

from benchmarks.address_noise import (
    DECODES,
    NAMES,
    NOISES,
    OF_THE_ELBO,
    RELAXED,
    SCORES,
    SHAPES,
    UNBIASED,
    compare,
    exact_bounds,
    model,
    relaxed_gradients,
    score_gradients,
)
from experiments import cli
from experiments.reporting import format_table
from memjax import plotting

_FIGURES = flags.DEFINE_string("figures", "docs", "The folder that the plots go to.")
_ROWS = flags.DEFINE_string("rows", "", "A file of JSON that keeps all rows, to go on from.")
_WORK = flags.DEFINE_integer("work", 30_000_000, "Numbers that each measurement may touch.")
_SLOTS = flags.DEFINE_multi_integer("slots", (4, 16, 128, 1024), "Sizes of the memory.")
_SAMPLES = flags.DEFINE_multi_integer("samples", (2, 4, 8, 64, 512), "L.")
_RELAXED = flags.DEFINE_bool("relaxed", True, "Whether to measure those that mix addresses too.")
_FEWEST = 200  # draws


def main() -> None:
    """Prints the tables and draws the plots."""
    kept = Path(_ROWS.value) if _ROWS.value else None
    rows = json.loads(kept.read_text()) if kept and kept.exists() else []
    for num_slots, num_samples in itertools.product(_SLOTS.value, _SAMPLES.value):
        if any((row["slots"], row["samples"]) == (num_slots, num_samples) for row in rows):
            continue
        for name in NAMES if _RELAXED.value else SCORES:
            rows += measure_all(name, num_slots, num_samples)
        print(f"{num_slots} slots, {num_samples} samples: done", flush=True)
        if kept:
            kept.write_text(json.dumps(rows))
    for figure in ("bias", "spread", "signal to noise"):
        print(f"\n{figure}\n")
        print(format_table(table(rows, figure)))
    draw(Path(_FIGURES.value), rows)


def measure_all(name: str, num_slots: int, num_samples: int) -> list[dict]:
    """One row for each shape of the posterior; none where it would take too long."""
    if name in ("unordered set", "sum and sample") and num_samples >= num_slots:
        return []  # `exact` takes no more decodes
    size = 10 * (num_slots + num_samples)  # about as many numbers as one gradient touches
    if name == "unordered set":
        size = 100 * num_samples * (num_samples + 2)
    elif name in RELAXED:
        size = 10 * num_slots * num_samples * {"rao": NOISES, "rebar": 4}.get(name, 1)
    if _FEWEST * size > 40 * _WORK.value:
        return []
    num_draws = int(np.clip(_WORK.value // size, _FEWEST, 20_000))
    rng_keys = jax.random.split(jax.random.key(1), num_draws)
    values, exact = exact_bounds(num_slots, 1 if name in OF_THE_ELBO else num_samples)
    rows = []
    for shape, value, right in zip(SHAPES, values, exact, strict=True):
        log_joint, logits = (np.asarray(x, np.float32) for x in model(shape, num_slots))
        if name in RELAXED:
            found = relaxed_gradients(name, num_samples)(rng_keys, logits, log_joint)
        else:
            found = score_gradients(name, num_samples, rng_keys, logits, log_joint, value)
        place = {"estimator": name, "shape": shape, "slots": num_slots, "samples": num_samples}
        decodes = DECODES.get(name, 1) * num_samples
        rows.append(place | {"decodes": decodes} | compare(np.asarray(found), right))
    return rows


def table(rows: Sequence[dict], figure: str) -> list[dict]:
    """A row for each shape and size, a column for each estimator."""
    found: dict[tuple, dict] = {}
    for row in rows:
        place = {key: row[key] for key in ("shape", "slots", "samples")}
        columns = found.setdefault(tuple(place.values()), place | dict.fromkeys(NAMES, ""))
        columns[row["estimator"]] = row[figure]
    return list(found.values())


def draw(folder: Path, rows: Sequence[dict]) -> None:
    """Error and signal-to-noise against decodes, a panel for each shape, two sizes."""
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    sizes = [n for n in (16, 1024) if any(row["slots"] == n for row in rows)]
    shapes = [shape for shape in SHAPES if shape != "drawn"]
    for file, label in (
        ("estimators.png", "error of one gradient\n/ norm of the exact one"),
        ("estimators_signal.png", "signal to noise"),
    ):
        figure = Figure(figsize=(13, 4 * len(sizes)))
        panels = figure.subplots(len(sizes), len(shapes), sharex=True, sharey=True, squeeze=False)
        for (i, num_slots), (j, shape) in itertools.product(enumerate(sizes), enumerate(shapes)):
            chosen = [r for r in rows if (r["slots"], r["shape"]) == (num_slots, shape)]
            draw_panel(panels[i][j], chosen, file)
            panels[i][j].set_title(f"{num_slots} slots, {shape}")
        for row in panels:
            row[0].set_ylabel(label)
        for panel in panels[-1]:
            panel.set_xlabel("decodes")
        handles, names = panels[-1][0].get_legend_handles_labels()
        figure.legend(handles, names, frameon=False, loc="center right", fontsize=9)
        figure.tight_layout(rect=(0, 0, 0.88, 1))
        figure.savefig(folder / file, dpi=110)


def draw_panel(panel, rows: Sequence[dict], file: str) -> None:
    """Unbiased estimators are drawn through, the others dashed or dotted."""
    for i, name in enumerate(NAMES):
        points = sorted((row["decodes"], row) for row in rows if row["estimator"] == name)
        if file == "estimators_signal.png":
            heights = [row["signal to noise"] for _, row in points]
        else:
            heights = [np.hypot(row["bias"], row["spread"]) for _, row in points]
        # There are more of them than colours: those of one colour differ in marker and dashes.
        cycle, place = divmod(i, len(plotting.COLOURS))
        colour, marker = plotting.COLOURS[place], plotting.MARKERS[(i + cycle) % 7]
        style = "-" if name in UNBIASED else ("--", ":", "-.")[cycle]
        width = 2.2 if name in ("vimco", "unordered set") else 1.2
        decodes = [x for x, _ in points]
        panel.plot(decodes, heights, style, color=colour, marker=marker, ms=4, lw=width, label=name)
    panel.set(xscale="log", yscale="log")
    panel.grid(alpha=0.3)


if __name__ == "__main__":
    cli.run(main)
