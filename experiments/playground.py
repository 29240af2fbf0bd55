"""A page to play with a trained memory: python -m experiments.playground --workdir=DIR.

Draw a character with the mouse and see what the model retrieves for it, how it takes noise away by
reading again and again, and what it generates after having seen it once. Or write ten drawings of
yours into the memory, and ask for each of them with noise. The run's model must
write episodes into its memory, such as `kanerva_digits`, which `make demo` trains, or
`kanerva_omniglot`. The page is served to this machine's browsers alone and needs no network; from
elsewhere: ssh -L 5006:localhost:5006 MACHINE, then http://localhost:5006 there.
"""

import html
import json
import logging
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from experiments import cli, early
from memjax.errors import UserError

_WORKDIR = flags.DEFINE_string(
    "workdir", "runs/demo/kanerva_digits", "Folder of the run, or pretrained:NAME."
)
_PORT = flags.DEFINE_integer(
    "port", 5006, "The page's port; 0: any that is free.", lower_bound=0, upper_bound=65535
)
_DATA_DIR = flags.DEFINE_string("data_dir", "", "Where the data sets are, if they have moved.")


def main() -> None:
    """Loads the newest checkpoint and serves the page until Ctrl-C."""
    early.check_run(Path(_WORKDIR.value))
    from memjax import evaluation, models
    from memjax.evaluation import drawing

    run = evaluation.load_run(_WORKDIR.value, _DATA_DIR.value)
    run.require("playground", models.WritesEpisodes)
    try:
        server = ThreadingHTTPServer(("localhost", _PORT.value), partial(Handler, run))
    except OSError as error:
        raise UserError(f"port is {_PORT.value}: {error.strerror}; choose another") from error
    logging.getLogger("memjax").info("compiling what a drawing asks for")
    answer(run, "one", [[]], {})  # so that no visitor waits for it
    if run.num_images >= drawing.PLACES:
        answer(run, "ten", [], {})
    print(f"http://localhost:{server.server_port}/ until Ctrl-C", flush=True)
    server.serve_forever()


class Handler(BaseHTTPRequestHandler):
    """Gives the page to a browser, and then what the memory makes of its drawings."""

    def __init__(self, run: Any, *arguments: Any):
        """Answers one request of `run`."""
        self._run = run
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """The page."""
        self._send(page(self._run))

    def do_POST(self) -> None:
        """Rows of images."""
        try:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._send(answer(self._run, **asked))
        except UserError as error:
            self._send(html.escape(str(error)))  # any page may send what it quotes

    def _send(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_request(self, code: Any = "", size: Any = "") -> None:
        """Says nothing: what goes wrong is told."""


def page(run: Any) -> str:
    """The page as it begins."""
    from experiments.page import template
    from memjax.evaluation import drawing

    experiment = run.experiment
    unfinished = ", unfinished" if run.step < experiment.num_steps else ""
    return template("playground").render(
        name=experiment.name,
        step=f"step {run.step} of {experiment.num_steps}{unfinished}",
        pen_width=drawing.pen_width(experiment.eval.arrays.images.shape[1]),
        places=drawing.PLACES,
    )


def answer(run: Any, mode: str, drawings: list, options: dict[str, Any]) -> str:
    """What the memory makes of one drawing, or of up to ten, each some strokes; as HTML."""
    from memjax.evaluation import drawing
    from memjax.evaluation.tasks import denoise

    shape, is_binary = run.experiment.eval.arrays.images.shape[1:], run.experiment.eval.is_binary
    images = [drawing.rasterize(strokes, shape, is_binary) for strokes in drawings]
    if mode == "one":
        return _show(run, drawing.respond(run, images[0], **options))
    kept = np.array(images, np.float32).reshape(-1, *shape)
    rows = drawing.recall(run, kept, **options)
    read, written = (rows[name][None] for name in (list(rows)[-1], "in memory"))
    right = round(denoise.compare(read, written)["own"] * drawing.PLACES)
    told = f"{len(kept)} of yours in memory; {right} of {drawing.PLACES} are read as themselves."
    return f"<p>{told}</p>{_show(run, rows)}"


def _show(run: Any, rows: dict[str, np.ndarray]) -> str:
    longest = max(map(len, rows.values()))
    return "".join(
        f'<div class="row"><span>{name}</span><div><img alt="" src="{_strip(run, images)}" '
        f'style="width: {len(images) / longest:.2%}"></div></div>'
        for name, images in rows.items()
    )


def _strip(run: Any, images: np.ndarray) -> str:
    """The address of a picture of images `[n, H, W, C]` beside each other."""
    from experiments.page import data_address
    from memjax.evaluation.report import image_files

    if images.shape[-1] == 1 and run.experiment.eval.arrays.ink:
        images = 1.0 - images
    gap = max(1, images.shape[2] // 10)
    apart = np.pad(images, ((0, 0), (0, 0), (0, gap), (0, 0)), constant_values=1.0)
    (png,) = image_files("", np.concatenate(apart, axis=1)[None], "png").values()
    return data_address(png)


if __name__ == "__main__":
    cli.run(main)
