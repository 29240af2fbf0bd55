"""A real headless browser, where the machine has one."""

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, _NAMES)), None)
# An administrator's browser, as in a container, starts only without its sandbox.
OPTIONS = ["--no-sandbox"] * (os.geteuid() == 0)

needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")


@contextlib.contextmanager
def opened(width: int, height: int) -> Iterator[tuple[Any, list[str], list[str]]]:
    """A page to work with, the addresses that it asks for, and its errors."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs the extra: dev")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=BROWSER, args=OPTIONS)
        page = chromium.new_page(viewport={"width": width, "height": height})
        requests: list[str] = []
        errors: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page, requests, errors
        chromium.close()


def evaluate(page: Path, expression: str, folder: Path) -> str:
    """The value of a JavaScript expression, as text, once the page and its images have loaded."""
    probe = folder / f"probe_{page.name}"
    script = f"<script>onload = () => {{ document.title = 'VALUE ' + ({expression}) }}</script>"
    probe.write_text(page.read_text().replace("</body>", f"{script}</body>"))
    dom = _run("--dump-dom", "--virtual-time-budget=5000", probe.as_uri())
    (value,) = re.findall(r"<title>VALUE (.*?)</title>", dom, re.DOTALL)
    return value


def screenshot(page: Path, path: Path, width: int = 1200, height: int = 2400) -> None:
    """Writes a picture of the page, as PNG."""
    _run(f"--screenshot={path}", f"--window-size={width},{height}", page.as_uri())


def _run(*arguments: str) -> str:
    command = [BROWSER, "--headless", "--disable-gpu", "--hide-scrollbars", *OPTIONS]
    finished = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, check=True, timeout=60
    )
    return finished.stdout
