"""The playground, driven by a real browser."""

import re
import subprocess
import sys

import pytest

from tests import browser
from tests.conftest import make_kanerva_config, train
from tests.experiments.test_command_line import assert_refused, run


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kanerva")
    config = make_kanerva_config()
    config.training.update(num_steps=1, log_every=1, eval_every=1, checkpoint_every=1)
    train(config, folder)
    return folder


@pytest.fixture
def address(workdir):
    """Of the page, served until the test ends."""
    command = [sys.executable, "-m", "experiments.playground", f"--workdir={workdir}", "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield re.search(r"http://\S+", process.stdout.readline())[0]
        finally:
            process.kill()


@pytest.mark.slow
@browser.needs_browser
def test_what_is_drawn_and_chosen_changes_the_pictures(address, tmp_path):
    with browser.opened(1200, 700) as (page, requests, errors):
        page.set_default_timeout(120_000)  # milliseconds; the model is compiled meanwhile
        page.goto(address)
        images = page.locator("img")
        images.first.wait_for()

        def sources():
            return images.evaluate_all("images => images.map(image => image.src).join()")

        seen = [sources()]

        def see_another():
            for _ in range(1_200):
                if sources() not in ("", seen[-1]):
                    break
                page.wait_for_timeout(100)
            seen.append(sources())

        page.get_by_role("button", name="Clear").click()
        page.get_by_text("Draw a character in the square").wait_for()
        draw(page, (0.3, 0.1), (0.7, 0.9))
        see_another()  # not the example that was there before
        draw(page, (0.7, 0.1), (0.3, 0.9))
        see_another()
        page.get_by_label("seed").fill("1")
        page.keyboard.press("Enter")
        see_another()
        page.get_by_role("button", name="ten of your own").click()
        page.get_by_text("0 of yours in memory").wait_for()
        page.get_by_role("button", name="Keep").click()
        page.get_by_text("1 of yours in memory; ").wait_for()
        seen.append(sources())
        page.get_by_label("read by").select_option("means")
        see_another()
        page.get_by_role("button", name="Forget").click()
        page.get_by_text("0 of yours in memory").wait_for()
        page.set_viewport_size({"width": 390, "height": 844})  # a phone's
        page.wait_for_timeout(500)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.screenshot(path=tmp_path / "playground.png")
        label = page.get_by_text("with noise", exact=True)
        assert label.evaluate("label => parseFloat(getComputedStyle(label).fontSize)") >= 12.0
        assert images.first.evaluate("image => image.getBoundingClientRect().width") > 300
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert len(set(seen)) == len(seen) and not errors
    assert all(request.startswith((address, "data:")) for request in requests)  # no other host


def draw(page, *points):
    """Moves the mouse with its button down, through points (x, y) from the canvas's upper left."""
    canvas = page.locator("canvas").bounding_box()
    places = [
        (canvas["x"] + x * canvas["width"], canvas["y"] + y * canvas["height"]) for x, y in points
    ]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=5)
    page.mouse.up()


@pytest.mark.slow
def test_a_port_in_use_is_refused(workdir, address):
    port = address.rstrip("/").rpartition(":")[2]
    finished = run("playground", f"--workdir={workdir}", f"--port={port}")
    assert_refused(finished, f"port is {port}: Address already in use; choose another")
