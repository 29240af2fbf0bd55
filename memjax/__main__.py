"""`python -m memjax`: the version, what it runs on, and which extras are installed."""

import platform
import sys
from importlib import metadata
from pathlib import Path

import jax

import memjax
from memjax import extras
from memjax.errors import print_error


def main() -> int:
    """Prints it; a device that is not there is told in one line, with exit status 2."""
    try:
        devices = jax.devices()
    except RuntimeError as error:  # JAX_PLATFORMS names what is not there
        print_error(error)
        return 2
    versions = [f"{name} {metadata.version(name)}" for name in ("jax", "jaxlib", "flax", "numpy")]
    print(f"memjax {memjax.__version__} in {Path(memjax.__file__).parent}")
    print(f"Python {platform.python_version()}, {', '.join(versions)}")
    print(f"devices: {len(devices)} x {devices[0].device_kind}")
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
