"""Pictures of runs: grids of images and learning curves, as figures and PNG files.

A figure is shown by a notebook that has said `%matplotlib inline`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memjax.evaluation.report import Curves
from memjax.training import metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# Okabe and Ito's colours, which the colour-blind can tell apart, and a marker beside each.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = "os^Dvp*"
_NAMED = 12  # rows or columns of a matrix that are all numbered


def image_grid(
    path: str | Path | None,
    rows: Mapping[str, np.ndarray],
    title: str = "",
    *,
    ink: bool = True,
) -> Figure:
    """Draws rows of images, each with its name at the left.

    Args:
      path: the PNG file to write; None for none.
      rows: by name, images `[n, H, W, C]` in [0, 1], C 1 or 3; rows may differ in length. Levels
        beyond, as a Gaussian's means may have, are drawn as the nearest.
      title: above the grid.
      ink: whether 1 is black in grey images, as ink on paper; otherwise white, as in a photograph.

    Returns:
      The figure.
    """
    cmap = "gray_r" if ink else "gray"
    num_columns = max(len(images) for images in rows.values())
    figure, axes = _subplots(1, 1, 0.7 * num_columns + 1.2, 0.72 * len(rows) + 0.3)
    figure.set_layout_engine("none")
    axis = axes[0, 0]  # one for all: each costs more than all images
    for i, (name, images) in enumerate(rows.items()):
        axis.text(-0.1, i + 0.45, name, ha="right", va="center", fontsize=8)
        for j, image in enumerate(images):
            height, width = (side / max(image.shape[:2]) * 0.9 for side in image.shape[:2])
            extent = (j, j + width, i + height, i)
            levels = image[..., 0] if image.shape[-1] == 1 else np.clip(image, 0.0, 1.0)
            axis.imshow(levels, cmap=cmap, vmin=0.0, vmax=1.0, extent=extent)
    axis.set(xlim=(-0.1, num_columns), ylim=(len(rows), -0.1), aspect="equal")
    axis.set_axis_off()
    axis.set_title(title, fontsize=9)
    if path is not None:
        figure.savefig(path, dpi=120, bbox_inches="tight")
    return figure


def learning_curves(
    path: str | Path | None, entries: Sequence[Mapping[str, float]], title: str = ""
) -> Figure:
    """Draws each metric against the step; training's and evaluation's in one panel.

    Args:
      path: the PNG file to write; None for none.
      entries: lines of a `metrics.jsonl`, each with `step`.
      title: above the panels.

    Returns:
      The figure.
    """
    return curves(path, learning_panels(entries), title)


def learning_panels(entries: Sequence[Mapping[str, float]]) -> dict[str, Curves]:
    """A panel for each metric of a run, with a line for training and one for held-out data."""
    stages = {"training": False, "held out": True}
    return merge({name: metric_panels(entries, held_out) for name, held_out in stages.items()})


def metric_panels(entries: Sequence[Mapping[str, float]], held_out: bool) -> dict[str, Curves]:
    """A panel of one line, named "", for each metric of a run, of training or `held_out`."""
    lines: dict[str, tuple[list[float], list[float]]] = {}
    for entry in entries:
        for name, value in entry.items():
            if name.startswith("eval/") == held_out and name not in ("step", "steps_per_second"):
                x, y = lines.setdefault(name.removeprefix("eval/"), ([], []))
                x.append(entry["step"])
                y.append(value)
    return {
        name: Curves("step", f"{name}, nats" if metrics.rank(name)[0] else name, {"": xy})
        for name, xy in lines.items()
    }


def merge(groups: Mapping[str, Mapping[str, Curves]]) -> dict[str, Curves]:
    """Groups of panels, by name, in one: each line is named by its group and itself."""
    panels: dict[str, Curves] = {}
    for group, found in groups.items():
        for title, panel in found.items():
            before = panels.get(title, panel._replace(lines={}, spread={}))
            names = {line: f"{group} {line}".strip() for line in panel.lines}
            lines = {names[line]: values for line, values in panel.lines.items()}
            spread = {names[line]: values for line, values in panel.spread.items()}
            panels[title] = panel._replace(
                lines={**before.lines, **lines}, spread={**before.spread, **spread}
            )
    return dict(sorted(panels.items(), key=lambda panel: metrics.order(panel[0])))


def curves(
    path: str | Path | None,
    panels: Mapping[str, Curves],
    title: str = "",
    *,
    names: Sequence[str] = (),
) -> Figure:
    """Draws lines in panels; a line of one name looks the same in each.

    Panels with the same `y_label` have one scale. With `borders`, lines are drawn as steps.

    Args:
      path: the PNG file to write; None for none.
      panels: by name.
      title: above the panels.
      names: of lines, the first to get their looks: for pictures that belong together.

    Returns:
      The figure.
    """
    columns = 2 if len(panels) == 4 else max(1, min(3, len(panels)))
    lines = max(1, -(-len(panels) // columns))  # a run without metrics has an empty picture
    figure, axes = _subplots(lines, columns, 4.2 * columns, 3.3 * lines + 0.3)
    first: dict[tuple[str, str], Any] = {}  # panel of each quantity
    labels = list(dict.fromkeys([*names, *(line for p in panels.values() for line in p.lines)]))
    for (name, panel), axis in zip(panels.items(), axes.flat, strict=False):
        same = first.setdefault((panel.y_label, panel.scale), axis)
        if same is not axis:
            axis.sharey(same)
        style = "steps-mid" if len(panel.borders) else "default"
        for label, (x, y) in panel.lines.items():
            look = _look(labels.index(label), len(x))
            if not label and len(x) > 1:
                look["marker"] = ""
            axis.plot(x, y, label=label, drawstyle=style, **look)
            if label in panel.spread:
                low, high = np.asarray(y) + np.outer([-1, 1], panel.spread[label])
                axis.fill_between(x, low, high, color=look["color"], alpha=0.2, linewidth=0)
        for border in panel.borders:
            axis.axvline(border, color="grey", linewidth=0.6)
        axis.set(title=name, xscale=panel.scale, yscale=panel.scale)
        if panel.scale == "linear" and all(
            float(v).is_integer() for x, _ in panel.lines.values() for v in x
        ):
            axis.locator_params(axis="x", integer=True, nbins=5)  # labels as long as 100000
        axis.set_xlabel(panel.x_label, fontsize=9)
        axis.set_ylabel(panel.y_label, fontsize=9)
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    _legend(figure, axes.flat[: len(panels)])
    return _save(figure, path, title)


def matrices(
    path: str | Path | None,
    panels: Mapping[str, np.ndarray],
    title: str = "",
    *,
    axes: tuple[str, str] = ("", ""),
) -> Figure:
    """Draws matrices `[rows, columns]` in one scale of colours, about zero if any is negative.

    Args:
      path: the PNG file to write; None for none.
      panels: by name.
      title: above the panels.
      axes: what stands along the columns and along the rows.

    Returns:
      The figure.
    """
    figure, subplots = _subplots(1, len(panels), 4.0 * len(panels), 3.6)
    largest = max(float(np.max(np.abs(matrix))) for matrix in panels.values()) or 1.0
    signed = any(np.min(matrix) < 0 for matrix in panels.values())
    style = {"cmap": "RdBu_r" if signed else "viridis", "vmin": -largest if signed else 0.0}
    for (name, matrix), axis in zip(panels.items(), subplots[0], strict=True):
        image = axis.imshow(matrix, vmax=largest, aspect="auto", interpolation="nearest", **style)
        axis.set_title(name, fontsize=9)
        axis.set(xlabel=axes[0], ylabel=axes[1])
        for side, length in zip((axis.yaxis, axis.xaxis), matrix.shape, strict=True):
            if length <= _NAMED:
                side.set_ticks(range(length))
            else:
                axis.locator_params(side.axis_name, integer=True)
    figure.colorbar(image, ax=list(subplots[0]))
    return _save(figure, path, title)


def _look(index: int, num_points: int) -> dict[str, Any]:
    """How the line of this index is drawn; a single point is larger, to be seen."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": 4 if num_points > 1 else 8,
        "markevery": max(1, num_points // 16),
    }


def _legend(figure: Figure, axes: Any) -> None:
    """Names all lines below the panels, where that hides nothing, in as many columns as fit."""
    named: dict[str, Any] = {}
    for axis in axes:
        handles, labels = axis.get_legend_handles_labels()
        named |= dict(zip(labels, handles, strict=True))
    if named:
        widest = 0.55 + 0.07 * max(map(len, named))  # inches
        figure.legend(
            list(named.values()),
            list(named),
            loc="outside lower center",
            ncols=max(1, min(len(named), int(figure.get_figwidth() // widest))),
            fontsize=8,
            frameon=False,
        )


def _save(figure: Figure, path: str | Path | None, title: str) -> Figure:
    figure.suptitle(title)
    if path is not None:
        figure.savefig(path, dpi=110)
    return figure


def _subplots(rows: int, columns: int, width: float, height: float) -> tuple[Figure, Any]:
    # The figure alone, without pyplot: no window system, and nothing to close.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)
