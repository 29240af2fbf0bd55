"""The HTML page of a run: what it holds, what it refuses, how it looks in a browser."""

import base64
import io
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments import cli, page, reporting
from memjax.errors import UserError
from memjax.evaluation import Curves, Report
from memjax.training.workdir import write_about
from tests import browser
from tests.conftest import make_vma_config
from tests.experiments.test_command_line import run

_VOID = {"meta", "img", "br", "wbr", "hr", "link", "input"}


class Parsed(HTMLParser):
    """A page's tables, images and links; refuses tags that are not closed in their order."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.images, self.links, self.ids = [], [], [], []
        self.panels, self._open = [], []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.images += [attributes["src"]] if tag == "img" else []
        self.links += [attributes["href"]] if "href" in attributes else []
        assert tag not in ("link", "iframe") and not (tag == "script" and "src" in attributes)
        self.panels += [json.loads(attributes["data-panel"])] if "data-panel" in attributes else []
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("made") / "run")


@pytest.fixture
def workdir(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run")


def make_run(workdir, seed=0, nll=2.5, **training):
    """The files of a run, without training it."""
    config = make_vma_config()
    config.seed = seed
    config.training.update(training)
    reporting.write_json(workdir / "config.json", config.to_dict())
    entries = [{"step": s, "nll": 9.0 - s, "steps_per_second": 7.0} for s in range(1, 4)]
    entries += [{"step": 4, "nll": nll - 1, "eval/nll": nll, "steps_per_second": 8.0}]
    write_about(workdir, {"parameters": "1,156", "device": "1 x cpu"})
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries))
    grid = {"query": np.ones((2, 8, 8, 1)), "<slot>": np.zeros((2, 8, 8, 1))}
    lines = {"NLL": Curves("slots", "nats", {"": ([1, 2], [nll, nll])})}
    report = Report([{"num_slots": 16, "nll": nll}], {"found": grid}, {"falling": lines})
    reporting.write_report(workdir, "recall", 4, {"num_slots": 16}, report)
    reporting.draw_report(workdir, Report([], {"samples": grid}))
    return workdir


def test_a_page_holds_all_of_a_run(workdir):
    parsed = Parsed(page.write({"run": workdir}, workdir / "report.html").read_text())
    rows = [[cell.strip() for cell in row] for row in parsed.rows]
    assert ["eval/nll", "2.500"] in rows and ["nll", "1.500"] in rows
    assert ["step", "4 of 8, unfinished"] in rows and ["parameters", "1,156"] in rows
    assert ["held-out nll", "2.500 nats; the best 2.500, at step 4"] in rows
    assert ["num_slots", "nll"] in rows and ["16", "2.500"] in rows
    assert ["model.name", "vma.VMA"] in rows and ["training.num_steps", "8"] in rows
    assert {"metrics", "recall", "pictures", "config"} <= set(parsed.ids)
    assert {link.removeprefix("#") for link in parsed.links} <= set(parsed.ids)
    assert [panel["title"] for panel in parsed.panels] == ["nll", "NLL"]
    held_out = {"name": "held out", "x": [4], "y": [2.5], "look": 1}
    assert parsed.panels[0]["lines"][1] == held_out
    # All inside the page: what recall found, then the samples.
    for image, name in zip(parsed.images, ("found", "samples"), strict=True):
        content = base64.b64decode(image.partition(",")[2])
        assert content == (workdir / f"figures/{name}.png").read_bytes()
        assert min(Image.open(io.BytesIO(content)).size) > 50


def test_runs_stand_side_by_side(tmp_path, workdir):
    other = make_run(tmp_path / "two", 5, 3.5, num_steps=9)
    workdirs = {"a & <b>": workdir, "two": other}
    parsed = Parsed(page.write(workdirs, tmp_path / "both.html").read_text())
    rows = [[cell.strip() for cell in row] for row in parsed.rows]
    assert ["eval/nll", "2.500", "3.500"] in rows
    differing = [row for row in rows if row == ["seed", "0", "5"]]
    assert len(differing) == 2  # among the fields that differ, and among all
    assert rows.count(["model.name", "vma.VMA", "vma.VMA"]) == 1
    assert ["metric", "a & <b>", "two"] in rows
    assert len(parsed.images) == 2 * 2
    names = [line["name"] for line in parsed.panels[0]["lines"]]
    assert names == ["a & <b>", "two"]


def test_runs_that_differ_in_their_seeds_have_a_mean_and_a_band(tmp_path, workdir):
    workdirs = {"a": workdir, "b": make_run(tmp_path / "two", seed=5, nll=3.5)}
    workdirs["other"] = make_run(tmp_path / "other", nll=9.5, num_steps=9)
    parsed = Parsed(page.write(workdirs, tmp_path / "both.html").read_text())
    rows = [[cell.strip() for cell in row] for row in parsed.rows]
    assert ["metric", "num_steps-8 (2 runs)", "num_steps-9 (1 run)"] in rows
    assert ["eval/nll", "3.000 ± 0.707", "9.500"] in rows
    assert ["16", "3.000 ± 0.707"] in rows  # of the evaluation
    mean, alone = parsed.panels[0]["lines"]
    assert mean["y"] == [3.0] and mean["spread"] == [0.707107] and "spread" not in alone


def test_nlls_that_can_not_be_compared_are_marked(tmp_path, workdir):
    config = json.loads((workdir / "config.json").read_text())
    config["dataset"]["binarization"] = "dynamic"
    reporting.write_json(tmp_path / "other/config.json", config)
    both = page.write({"a": workdir, "b": tmp_path / "other"}, tmp_path / "both.html")
    assert "NLLs can't be compared" in both.read_text()
    assert "NLLs can't be compared" not in page.write({"a": workdir}, both).read_text()


def test_a_run_that_has_only_begun_has_a_page(tmp_path):
    reporting.write_json(tmp_path / "config.json", make_vma_config().to_dict())
    parsed = Parsed(page.write({"run": tmp_path}, tmp_path / "report.html").read_text())
    assert ["model.name", "vma.VMA"] in parsed.rows
    both = page.write({"a": tmp_path, "b": tmp_path}, tmp_path / "both.html")
    assert "All runs have the same config." in both.read_text()


def test_what_can_not_be_shown_is_refused(tmp_path, workdir):
    with pytest.raises(UserError, match=r"holds no run: it has no config\.json"):
        page.write({"none": tmp_path}, tmp_path / "report.html")
    with pytest.raises(UserError, match=r"output is .*page; it must be a file that ends in \.html"):
        page.write({"run": workdir}, tmp_path / "page")
    page.write({"run": workdir}, tmp_path / "report.html")
    before = (tmp_path / "report.html").read_text()
    (workdir / "eval_recall.json").write_text("{")
    with pytest.raises(UserError, match=r"eval_recall\.json can't be read .* evaluate its task"):
        page.write({"run": workdir}, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == before


@pytest.mark.slow
def test_the_command(tmp_path, workdir):
    finished = run(
        "report", f"--workdir=one={workdir},two={workdir}", f"--output={tmp_path}/2.html"
    )
    assert finished.stdout.strip() == f"{tmp_path}/2.html", finished.stderr
    assert "<title>memjax: one, two</title>" in (tmp_path / "2.html").read_text()


def test_names_of_folders():
    assert cli.named_folders("workdir", ["a/b", "c=d"]) == {"b": Path("a/b"), "c": Path("d")}
    with pytest.raises(UserError, match=r"workdir is a/b,b; names must differ"):
        cli.named_folders("workdir", ["a/b", "b"])


@browser.needs_browser
def test_a_browser_shows_every_image_and_nothing_runs_over_the_edge(tmp_path, workdir):
    written = page.write({"one": workdir, "two": workdir}, tmp_path / "both.html")
    images = "[...document.images]"
    loaded = f"{images}.filter(image => image.naturalWidth > 50).length"
    inside = "(document.documentElement.scrollWidth <= innerWidth)"
    drawn = "document.querySelectorAll('.plot svg .line').length"
    hover = """(() => {
        document.querySelectorAll('.plot svg')[1].dispatchEvent(
            new PointerEvent('pointermove', {clientX: 0}));
        const seen = document.querySelectorAll('.tip')[1].innerText;
        const before = document.querySelectorAll('.plot')[1].innerHTML;
        document.querySelectorAll('.chart')[1].querySelectorAll('input')[0].click();
        return seen + ' ' + (before !== document.querySelectorAll('.plot')[1].innerHTML);
    })()"""
    # Of one step and one value, which round numbers would miss: each is the tick of its axis.
    ticks = """[...document.querySelectorAll('.plot')[0].querySelectorAll('.grid + text')]
        .map(tick => tick.textContent)"""
    parts = (f"{images}.length", loaded, inside, drawn, hover, ticks)
    told = browser.evaluate(written, " + ' ' + ".join(parts), tmp_path).split()
    assert told == ["4", "4", "true", "2", "1", "one", "2.5", "two", "2.5", "true", "4,2.5"]
    browser.screenshot(written, tmp_path / "both.png")
    picture = np.asarray(Image.open(tmp_path / "both.png").convert("L"))
    assert 0.01 < np.mean(picture < 128) < 0.5


@browser.needs_browser
def test_on_a_phone_many_runs_scroll_and_keep_their_words_whole(tmp_path, workdir):
    written = page.write({f"run_{i}": workdir for i in range(5)}, tmp_path / "many.html")
    with browser.opened(390, 844) as (opened, _, errors):
        opened.goto(written.as_uri())
        cells = opened.locator(".headline td:not(:first-child)")
        assert cells.count() >= 5
        widths = cells.evaluate_all("cells => cells.map(cell => cell.clientWidth)")
        assert min(widths) > 100
        assert opened.evaluate("document.documentElement.scrollWidth") == 390
        assert not errors
