"""A page to play with a trained memory: python -m experiments.playground --workdir=DIR.

Draw a character with the mouse and see what the model retrieves for it, how it takes noise away by
reading again and again, and what it generates after having seen it once. The run's model must
write episodes into its memory, such as `kanerva_digits`, which `make demo` trains, or
`kanerva_omniglot`. The page is served to this machine's browsers alone and needs no network; from
elsewhere: ssh -L 5006:localhost:5006 MACHINE, then http://localhost:5006 there.
"""

import logging
from collections.abc import Sequence

import numpy as np
from absl import flags

from experiments import cli
from memjax.errors import UserError

_WORKDIR = flags.DEFINE_string("workdir", "runs/demo/kanerva_digits", "Folder of the run.")
_PORT = flags.DEFINE_integer(
    "port", 5006, "The page's port; 0: any that is free.", lower_bound=0, upper_bound=65535
)
_DATA_DIR = flags.DEFINE_string("data_dir", "", "Where the data sets are, if they have moved.")

_CANVAS = 320  # pixels
_CLEAR = "s.data = {xs: [], ys: []}"
_ROWS = """
<p><b>written</b>: images that the model has never seen, put into its memory.<br>
<b>drawing, read</b>: yours, as the model sees it, and what each reading gives: it is not in memory,
so something that is takes its place.<br>
<b>corrupted, read</b>: yours is now written too; then noise is put on it, and each reading asks
with what was read before.<br>
<b>samples</b>: a memory that holds nothing but your drawing, read at random keys, and the last
row, read again and again from there.</p>
"""


def main(argv: Sequence[str]) -> None:
    """Loads the newest checkpoint and serves the page until Ctrl-C."""
    del argv
    try:
        from bokeh.server.server import Server
    except ImportError as error:
        raise UserError("bokeh is not installed: pip install -e '.[playground]'") from error
    from memjax import evaluation, models

    for logger in ("bokeh", "tornado"):  # what goes wrong in a page
        logging.getLogger(logger).addHandler(logging.StreamHandler())
    run = evaluation.load_run(_WORKDIR.value, _DATA_DIR.value)
    run.require("playground", models.WritesEpisodes)
    try:
        server = Server({"/": lambda page: fill(page, run)}, port=_PORT.value, address="localhost")
    except OSError as error:
        raise UserError(f"port is {_PORT.value}; it is in use: choose another") from error
    print(f"http://localhost:{server.port}/ until Ctrl-C", flush=True)
    server.run_until_shutdown()


def fill(page, run) -> None:
    """Puts canvas, inputs and pictures on a new visitor's `page`, a bokeh Document."""
    from bokeh import layouts, models

    from experiments.page import encode_figure
    from memjax.evaluation import drawing
    from memjax.plotting import image_grid

    held_out = run.experiment.eval
    image_shape = held_out.arrays.images.shape[1:]
    angle = np.linspace(0.0, 2.0 * np.pi, 40)
    circle = {"xs": [list(0.5 + 0.25 * np.cos(angle))], "ys": [list(0.5 + 0.43 * np.sin(angle))]}
    strokes = models.ColumnDataSource(circle)
    canvas = make_canvas(strokes, drawing.pen_width(image_shape[0]))
    clear = models.Button(label="Clear")
    options = {
        "num_images": models.Slider(title="images in memory", start=1, end=32, value=12, step=1),
        "num_iterations": models.Slider(title="readings", start=1, end=20, value=8, step=1),
        "flip_rate": models.Slider(title="noise", start=0.0, end=0.5, value=0.1, step=0.05),
        "seed": models.Spinner(title="seed", low=0, high=2**31 - 1, value=0, step=1),
    }
    picture = models.Div(sizing_mode="stretch_width")

    def update() -> None:
        points = zip(strokes.data["xs"], strokes.data["ys"], strict=True)
        if not strokes.data["xs"]:
            picture.text = "Draw a character in the square, as large as it."
            return
        drawn = [list(zip(x, y, strict=True)) for x, y in points]
        image = drawing.rasterize(drawn, image_shape, held_out.is_binary)
        values = {name: option.value for name, option in options.items()}
        rows = drawing.respond(run, image, **values)
        figure = image_grid(None, rows, ink=held_out.arrays.ink)
        picture.text = f'<img src="{encode_figure(figure, "png")}" style="max-width: 100%">'

    def changed(attr, old, new) -> None:  # what bokeh tells of a change
        update()

    # In the browser, at once: what the server would clear later might be the next stroke.
    clear.js_on_event("button_click", models.CustomJS(args={"s": strokes}, code=_CLEAR))
    strokes.on_change("data", changed)
    for option in options.values():
        # A slider that is being dragged asks once, when it is let go.
        value = "value" if isinstance(option, models.Spinner) else "value_throttled"
        option.on_change(value, changed)
    update()
    heading = f"<b>{run.experiment.name}</b>, step {run.step}"
    page.title = "memjax: a memory to draw to"
    inputs = [models.Div(text=heading), canvas, clear, *options.values()]
    pictures = [picture, models.Div(text=_ROWS, sizing_mode="stretch_width")]
    right = layouts.column(*pictures, sizing_mode="stretch_width", max_width=1100)
    page.add_root(layouts.row(layouts.column(*inputs), right, sizing_mode="stretch_width"))


def make_canvas(strokes, pen_width: float):
    """A bokeh figure on which the mouse draws `strokes`, its data source; width: a share of it."""
    from bokeh import models, plotting

    canvas = plotting.figure(
        width=_CANVAS,
        height=_CANVAS,
        x_range=models.Range1d(0, 1),
        y_range=models.Range1d(0, 1),
        tools="",
        toolbar_location=None,
    )
    canvas.axis.visible = canvas.grid.visible = False
    pen = {"line_width": pen_width * _CANVAS, "line_cap": "round", "line_join": "round"}
    lines = canvas.multi_line("xs", "ys", source=strokes, line_color="black", **pen)
    canvas.add_tools(models.FreehandDrawTool(renderers=[lines]))
    canvas.toolbar.active_drag = canvas.tools[0]
    return canvas


if __name__ == "__main__":
    cli.run(main)
