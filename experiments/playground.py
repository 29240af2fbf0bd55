"""A page to play with a trained memory: python -m experiments.playground --workdir=DIR.

Draw a character with the mouse and see what the model retrieves for it, how it takes noise away by
reading again and again, and what it generates after having seen it once. Or write ten drawings of
yours into the memory, and ask for each of them with noise. The run's model must
write episodes into its memory, such as `kanerva_digits`, which `make demo` trains, or
`kanerva_omniglot`. The page is served to this machine's browsers alone and needs no network; from
elsewhere: ssh -L 5006:localhost:5006 MACHINE, then http://localhost:5006 there.
"""

import base64
import logging
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from experiments import cli, early
from memjax.errors import UserError
from memjax.extras import needs

_WORKDIR = flags.DEFINE_string(
    "workdir", "runs/demo/kanerva_digits", "Folder of the run, or pretrained:NAME."
)
_PORT = flags.DEFINE_integer(
    "port", 5006, "The page's port; 0: any that is free.", lower_bound=0, upper_bound=65535
)
_DATA_DIR = flags.DEFINE_string("data_dir", "", "Where the data sets are, if they have moved.")

_CANVAS = 300  # pixels
_ANGLE = np.linspace(0.0, 2.0 * np.pi, 40)
_EXAMPLE = {"xs": [list(0.5 + 0.25 * np.cos(_ANGLE))], "ys": [list(0.5 + 0.43 * np.sin(_ANGLE))]}
_TEXTS = {
    "one drawing": """
<p><b>written</b>: images that the model has never seen, put into its memory.<br>
<b>drawing, read</b>: yours, as the model sees it, and what each reading gives: it is not in memory,
so something that is takes its place.<br>
<b>corrupted, read</b>: yours is now written too; then noise is put on it, and each reading asks
with what was read before.<br>
<b>samples</b>: a memory that holds nothing but your drawing, read at random keys, and the last
row, read again and again from there.</p>""",
    "ten of your own": """
<p>Draw and <b>Keep</b>: each drawing takes the place of an image that the model has not seen.<br>
All ten are written into one memory, which is then asked for each of them with noise.<br>
Read by <b>modes</b>, what is found stays. By means or samples, as in the paper, it strays.</p>""",
}
_STYLE = """
.busy::before { content: ""; display: inline-block; width: 1em; height: 1em; margin-right: .5em;
  border: 3px solid #ccc; border-top-color: #0072b2; border-radius: 50%; box-sizing: border-box;
  vertical-align: -.15em; animation: turn 1s linear infinite; }
@keyframes turn { to { transform: rotate(1turn); } }
/* A row's name stands before its images, or on a phone above them. */
.bk-clearfix { width: 100%; }
.row { display: flex; flex-wrap: wrap; align-items: center; font-size: 14px; margin: 3px 0; }
.row span { flex: 0 0 8em; }
.row div { flex: 1 1 280px; }
img { display: block; image-rendering: pixelated; }
"""
_PAGE = """{% block preamble %}
<meta name="viewport" content="width=device-width, initial-scale=1">
{% endblock %}"""


def main() -> None:
    """Loads the newest checkpoint and serves the page until Ctrl-C."""
    early.check_run(Path(_WORKDIR.value))
    with needs("playground"):
        from bokeh.server.server import Server
    from memjax import evaluation, models

    for name in ("bokeh", "tornado"):  # what goes wrong in a page
        cli.show_log(name, logging.ERROR)
    run = evaluation.load_run(_WORKDIR.value, _DATA_DIR.value)
    run.require("playground", models.WritesEpisodes)
    try:
        server = Server({"/": lambda page: Visit(page, run)}, port=_PORT.value, address="localhost")
    except OSError as error:
        raise UserError(f"port is {_PORT.value}; it is in use: choose another") from error
    warm_up(run)
    print(f"http://localhost:{server.port}/ until Ctrl-C", flush=True)
    server.run_until_shutdown()


def warm_up(run: Any) -> None:
    """Compiles what the page first shows, so that no visitor waits for it."""
    from memjax.evaluation import drawing

    logging.getLogger("memjax").info("compiling what a drawing asks for")
    image = np.zeros(run.experiment.eval.arrays.images.shape[1:], np.float32)
    drawing.respond(run, image)
    if len(run.experiment.eval.arrays.images) >= drawing.PLACES:
        drawing.recall(run, image[None])


class Visit:
    """One visitor's page: what is drawn and kept, and what the memory makes of it."""

    def __init__(self, page: Any, run: Any):
        """Fills `page`, a bokeh Document."""
        from bokeh import models

        self._page, self._run = page, run
        self._image_shape = run.experiment.eval.arrays.images.shape[1:]
        self._kept: list[np.ndarray] = []
        self._strokes = models.ColumnDataSource(_EXAMPLE)
        self._mode = models.RadioButtonGroup(labels=list(_TEXTS), active=0)
        ways = ["modes", "means", "samples"]
        self._options = {
            "num_images": models.Slider(title="images in memory", start=1, end=32, value=12),
            "num_iterations": models.Slider(title="readings", start=1, end=20, value=8),
            "flip_rate": models.Slider(title="noise", start=0.0, end=0.5, value=0.1, step=0.05),
            "by": models.Select(title="read by", options=ways, value="modes"),
            "seed": models.Spinner(title="seed", low=0, high=2**31 - 1, value=0, step=1),
        }
        self._buttons = {name: models.Button(label=name) for name in ("Clear", "Keep", "Forget")}
        self._busy, self._picture, self._text = (
            models.Div(sizing_mode="stretch_width", stylesheets=[_STYLE]) for _ in range(3)
        )
        self._busy.height = 20
        self._listen()
        self.update()
        page.title, page.template = "memjax: a memory to draw to", _PAGE
        page.add_root(self._lay_out())

    def _listen(self) -> None:
        from bokeh import models

        # In the browser, at once: what the server would clear later might be the next stroke.
        clear = models.CustomJS(args={"s": self._strokes}, code="s.data = {xs: [], ys: []}")
        self._buttons["Clear"].js_on_event("button_click", clear)
        self._buttons["Keep"].on_click(self.keep)
        self._buttons["Forget"].on_click(self.forget)
        self._strokes.on_change("data", self.ask)
        self._mode.on_change("active", self.ask)
        for option in self._options.values():
            # A slider that is being dragged asks once, when it is let go.
            value = "value_throttled" if isinstance(option, models.Slider) else "value"
            option.on_change(value, self.ask)

    def _lay_out(self) -> Any:
        from bokeh import layouts, models

        experiment = self._run.experiment
        step = f"step {self._run.step} of {experiment.num_steps}"
        unfinished = ", unfinished" if self._run.step < experiment.num_steps else ""
        heading = models.Div(text=f"<b>{experiment.name}</b>, {step}{unfinished}")
        canvas = make_canvas(self._strokes, self._image_shape[0])
        left = layouts.column(heading, self._mode, canvas, layouts.row(*self._buttons.values()))
        wrapped: dict[str, Any] = {"sizing_mode": "stretch_width", "styles": {"flex-wrap": "wrap"}}
        options = layouts.row(*self._options.values(), **wrapped)
        answer = [self._busy, self._picture, options, self._text]
        right = layouts.column(*answer, max_width=1100, styles={"flex": "1 1 320px"})
        return layouts.row(left, right, **wrapped)

    def _drawing(self) -> np.ndarray | None:
        """What is on the canvas, as the model sees it."""
        from memjax.evaluation import drawing

        points = zip(self._strokes.data["xs"], self._strokes.data["ys"], strict=True)
        drawn = [list(zip(x, y, strict=True)) for x, y in points]
        binary = self._run.experiment.eval.is_binary
        return drawing.rasterize(drawn, self._image_shape, binary) if drawn else None

    def ask(self, attr: str, old: Any, new: Any) -> None:  # what bokeh tells of a change
        """Answers anew, when the browser shows that it waits."""
        self._busy.text = '<span class="busy">reading</span>'
        self._page.add_next_tick_callback(self.update)

    def keep(self) -> None:
        """Puts the drawing among those that are written; of more than ten the oldest goes."""
        if (image := self._drawing()) is not None:
            self._kept.append(image)
            self._strokes.data = {"xs": [], "ys": []}  # which asks

    def forget(self) -> None:
        """Keeps none."""
        self._kept = []
        self.ask("kept", None, None)

    def update(self) -> None:
        """Shows what the memory makes of the drawing, or of those that are kept."""
        own = self._mode.active == 1
        for name in ("Keep", "Forget"):
            self._buttons[name].visible = own
        self._options["by"].visible, self._options["num_images"].visible = own, not own
        self._text.text = list(_TEXTS.values())[self._mode.active]
        self._picture.text = self._answer_own() if own else self._answer_one()
        self._busy.text = ""

    def _answer_one(self) -> str:
        from memjax.evaluation import drawing

        image = self._drawing()
        if image is None:
            return "Draw a character in the square, as large as it."
        values = {name: option.value for name, option in self._options.items() if name != "by"}
        return self._show(drawing.respond(self._run, image, **values))

    def _answer_own(self) -> str:
        from memjax.evaluation import drawing
        from memjax.evaluation.tasks import denoise

        self._kept = self._kept[-drawing.PLACES :]
        kept = np.array(self._kept, np.float32).reshape(-1, *self._image_shape)
        values = {name: o.value for name, o in self._options.items() if name != "num_images"}
        rows = drawing.recall(self._run, kept, **values)
        read, written = (rows[name][None] for name in (list(rows)[-1], "in memory"))
        right = round(denoise.compare(read, written)["own"] * drawing.PLACES)
        told = (
            f"{len(kept)} of yours in memory; {right} of {drawing.PLACES} are read as themselves."
        )
        return f"<p>{told}</p>{self._show(rows)}"

    def _show(self, rows: dict[str, np.ndarray]) -> str:
        longest = max(map(len, rows.values()))
        return "".join(
            f'<div class="row"><span>{name}</span><div><img alt="" src="{self._strip(images)}" '
            f'style="width: {len(images) / longest:.2%}"></div></div>'
            for name, images in rows.items()
        )

    def _strip(self, images: np.ndarray) -> str:
        """The address of a picture of images `[n, H, W, C]` beside each other."""
        from memjax.evaluation.report import image_files

        if images.shape[-1] == 1 and self._run.experiment.eval.arrays.ink:
            images = 1.0 - images
        gap = max(1, images.shape[2] // 10)
        apart = np.pad(images, ((0, 0), (0, 0), (0, gap), (0, 0)), constant_values=1.0)
        (png,) = image_files("", np.concatenate(apart, axis=1)[None], "png").values()
        return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def make_canvas(strokes: Any, height: int) -> Any:
    """A bokeh figure on which a pen draws `strokes`, its data source, for images of `height`."""
    from bokeh import models, plotting

    from memjax.evaluation import drawing

    side, unit = {"width": _CANVAS, "height": _CANVAS}, models.Range1d(0, 1)
    canvas = plotting.figure(**side, x_range=unit, y_range=unit, tools="", toolbar_location=None)
    canvas.axis.visible = canvas.grid.visible = False
    width = drawing.pen_width(height) * _CANVAS
    pen = {"line_width": width, "line_cap": "round", "line_join": "round"}
    lines = canvas.multi_line("xs", "ys", source=strokes, line_color="black", **pen)
    canvas.add_tools(models.FreehandDrawTool(renderers=[lines]))
    canvas.toolbar.active_drag = canvas.tools[0]
    return canvas


if __name__ == "__main__":
    cli.run(main)
