"""A real headless browser, where the machine has one."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, _NAMES)), None)
# An administrator's browser, as in a container, starts only without its sandbox.
OPTIONS = ["--no-sandbox"] * (os.geteuid() == 0)

needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")


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
