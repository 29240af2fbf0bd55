"""What MkDocs does beside its own: pages made from code, notebooks and pictures; MathML."""

import base64
import json
import os
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.structure.files import File

_ROOT = Path(__file__).parents[1]
_PACKAGES = ("memory", "estimators", "nets", "models", "data", "training", "evaluation")
_INTERNAL = ("checks", "conditioning", "masking", "states")  # of memjax.memory
# Files of the repository that are pages too; their links are from the repository's root.
_COPIES = {
    "results.md": "RESULTS.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
_NOTEBOOKS = sorted((_ROOT / "colabs").glob("*.ipynb"))
_BADGE = re.compile(r"\[!\[Open in Colab\]\(.*?\)\]")  # a picture from elsewhere
_PICTURE = re.compile(r"^!\[(.*?)\]\((?:\.\./)*([\w.]+)\)$", re.M)
_EQUATION = re.compile(r"^```math\n(.*?)\n```$", re.M | re.DOTALL)


def on_config(config):
    """Puts memjax's version at the foot of each page; versions to choose from where mike builds."""
    version = re.search(r'"(.*)"', (_ROOT / "memjax/__init__.py").read_text().split("version__")[1])
    config.copyright = f"memjax {version[1]}"
    if "MIKE_DOCS_VERSION" in os.environ:  # elsewhere, as from the disk, there is no list of them
        config.extra["version"] = {"provider": "mike"}
    return config


def on_files(files, config):
    """Adds the pages that nobody writes."""
    written = {file.src_uri: file.content_string for file in files.documentation_pages()}
    pages = {page: (_ROOT / source).read_text() for page, source in _COPIES.items()}
    pages = {page: text.replace("](docs/", "](") for page, text in pages.items()}
    for package in _PACKAGES:
        pages[f"reference/{package}.md"] = _reference(package)
    pages["reference/plotting.md"] = "# memjax.plotting\n\n::: memjax.plotting\n"
    pages["configs.md"] = _configs()
    pages["gallery.md"] = _gallery(written)
    for path in _NOTEBOOKS:
        text, pictures = _notebook(path)
        pages[f"notebooks/{path.stem}.md"] = text
        for name, content in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown, **_):
    """Equations in fences ```math become MathML, which browsers show without a script."""
    markdown = _BADGE.sub("[Open in Colab]", markdown)
    return _EQUATION.sub(
        lambda m: f'<div class="equation">{convert(m[1], display="block")}</div>', markdown
    )


def _gallery(pages: dict[str, str]) -> str:
    """Every picture of the pages, once, under the first page that shows it."""
    lines, seen = (
        ["# Gallery", "", "Every picture of these pages; the page says what made it."],
        set(),
    )
    for path, text in sorted(pages.items(), key=lambda page: page[0].startswith("results/")):
        new = [(alt, name) for alt, name in _PICTURE.findall(text) if name not in seen]
        if new and path != "index.md":
            title = re.search(r"^# (.*)", text, re.M)[1]
            lines += ["", f"## [{title}]({path})"]
        for alt, name in new if path != "index.md" else []:
            seen.add(name)
            lines += ["", f"![{alt}]({name})", "", f"*{alt}*"]
    return "\n".join(lines) + "\n"


def _notebook(path: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook as a page, without the cell that installs, and its pictures by their names."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif not source.startswith("# @title Begin"):
            parts.append(f"```python\n{source}\n```")
            for output in cell["outputs"]:
                if png := output.get("data", {}).get("image/png"):
                    name = f"{path.stem}_{len(pictures) + 1}.png"
                    pictures[name] = base64.b64decode(png)
                    parts.append(f"![]({name})")
                elif output["output_type"] == "stream":
                    parts.append(f"```text\n{''.join(output['text']).rstrip()}\n```")
    return "\n\n".join(parts) + "\n", pictures


def _reference(package: str) -> str:
    modules = [f"memjax.{package}", *_modules(package)]
    return "\n\n".join([f"# memjax.{package}", *(f"::: {module}" for module in modules)]) + "\n"


def _modules(package: str) -> Iterator[str]:
    for module in pkgutil.iter_modules([str(_ROOT / "memjax" / package)]):
        if module.name not in _INTERNAL:
            yield f"memjax.{package}.{module.name}"


def _configs() -> str:
    sys.path.append(str(_ROOT))  # here, for MkDocs puts back the path of before it read this file
    from experiments import listing

    lines = ["# Configs and tasks", "", "## Configs", ""]
    lines += ["From `python -m experiments.train --list`.", ""]
    lines += ["| config | what it is | one CPU core | GPU |", "|---|---|---|---|"]
    for config in listing.configs():
        summary = config.summary.replace("|", "\\|")
        lines.append(f"| `{config.name}` | {summary} | {' | '.join(config.details)} |")
    lines += ["", "## Tasks", "", "From `python -m experiments.evaluate --list`.", ""]
    lines += ["| task | what it does | options |", "|---|---|---|"]
    for task in listing.tasks():
        options = " ".join(f"`{option}`" for option in task.details)
        summary = task.summary.replace("|", "\\|")
        lines.append(f"| `{task.name}` | {summary} | {options} |")
    return "\n".join(lines) + "\n"
