"""What MkDocs does beside its own: pages made from the code, equations as MathML."""

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
_EQUATION = re.compile(r"^```math\n(.*?)\n```$", re.M | re.DOTALL)


def on_files(files, config):
    """Adds the pages that nobody writes."""
    pages = {page: (_ROOT / source).read_text() for page, source in _COPIES.items()}
    pages = {page: text.replace("](docs/", "](") for page, text in pages.items()}
    for package in _PACKAGES:
        pages[f"reference/{package}.md"] = _reference(package)
    pages["reference/plotting.md"] = "# memjax.plotting\n\n::: memjax.plotting\n"
    pages["configs.md"] = _configs()
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown, **_):
    """Equations in fences ```math become MathML, which browsers show without a script."""
    return _EQUATION.sub(lambda m: convert(m[1], display="block"), markdown)


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
        lines.append(f"| `{config.name}` | {summary} | {config.cpu} | {config.gpu} |")
    lines += ["", "## Tasks", "", "From `python -m experiments.evaluate --list`.", ""]
    lines += ["| task | what it does | options |", "|---|---|---|"]
    for task in listing.tasks():
        options = " ".join(f"`{option}`" for option in task.options)
        summary = task.summary.replace("|", "\\|")
        lines.append(f"| `{task.name}` | {summary} | {options} |")
    return "\n".join(lines) + "\n"
