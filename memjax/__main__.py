"""`python -m memjax`: the version, what it runs on, and which extras are installed."""

import platform
import sys
from importlib import metadata
from pathlib import Path

import memjax
from memjax import devices, extras
from memjax.errors import UserError, print_error


def main() -> int:
    """Prints it; a missing device is one line, with exit status 2."""
    try:
        found = devices.describe()
    except UserError as error:
        print_error(error)
        return 2
    versions = [f"{name} {metadata.version(name)}" for name in ("jax", "jaxlib", "flax", "numpy")]
    print(f"memjax {memjax.__version__} in {Path(memjax.__file__).parent}")
    print(f"Python {platform.python_version()}, {', '.join(versions)}")
    print(f"devices: {found}")
    try:
        missing = extras.missing()
    except metadata.PackageNotFoundError:
        print("extras: not known, for memjax itself is not installed")
        return 0
    for extra, packages in missing.items():
        state = f"lacks {', '.join(packages)}" if packages else "installed"
        print(f"extra {extra}: {state}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
