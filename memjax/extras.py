"""The packages beside the core: what is there, and one line where something is missing."""

import contextlib
import re
from collections.abc import Iterator
from importlib import metadata

from memjax.errors import UserError


class MissingPackageError(UserError, ImportError):
    """A package of an extra is not installed; the message names both."""


@contextlib.contextmanager
def needs(extra: str) -> Iterator[None]:
    """For imports of an extra's packages.

    Raises:
      MissingPackageError: one of them is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "memjax"):
            raise
        message = f"{package} is not installed: pip install 'memjax[{extra}]'"
        raise MissingPackageError(message) from None


def missing(package: str = "memjax") -> dict[str, list[str]]:
    """The extras of an installed package, each with what is not installed of it.

    Raises:
      metadata.PackageNotFoundError: the package itself is not.
    """
    names = metadata.metadata(package).get_all("Provides-Extra") or []
    return {name: sorted(_missing(package, name)) for name in names}


def _missing(package: str, extra: str) -> set[str]:
    found: set[str] = set()
    for requirement in metadata.requires(package) or []:
        wanted, _, marker = requirement.partition(";")
        if not re.search(rf"""extra == ["']{re.escape(extra)}["']""", marker):
            continue
        parts = re.match(r"([\w.-]+)(?:\[([\w,\s-]+)\])?", wanted.strip())
        assert parts is not None  # what pip could install has a name
        name, nested = parts[1], parts[2]
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            found.add(name)
            continue
        for inner in (nested or "").replace(" ", "").split(","):
            found |= _missing(name, inner) if inner else set()
    return found
