"""Tries memjax where others will have it, in environments made for it.

  python -m tests.environments wheel
      builds sdist and wheel, checks them, and uses the wheel alone, outside the clone.

  python -m tests.environments colab [FOR PYTEST ...]
      installs memjax beside the versions of a stock Colab runtime, none of which may change; then
      runs the notebooks and the quick tests, or what is named.

  python -m tests.environments matrix [--jax=oldest,locked,newest] [--python=3.11,3.12,3.13] [...]
      the quick tests, or what is named, for each pair that there is; a table out.

  python -m tests.environments frameworks
      the page of the documentation that needs Equinox and Haiku.

What is made lies in build/, and is made anew where pyproject.toml or a lock has changed.
"""

import argparse
import sys
from pathlib import Path

from tests.environments import colab, matrix, wheel
from tests.environments.venvs import Failed

_BUILD = Path(__file__).parents[2] / "build"


def main() -> int:
    """Carries out one of them; 1 where it does not pass, 2 where it can't be tried."""
    parser = argparse.ArgumentParser(
        "python -m tests.environments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=("wheel", "colab", "frameworks", "matrix"))
    parser.add_argument("--jax", default="oldest,locked,newest")
    parser.add_argument("--python", default="3.11,3.12,3.13")
    arguments, for_pytest = parser.parse_known_args()
    _BUILD.mkdir(exist_ok=True)
    try:
        if arguments.what == "wheel":
            return wheel.check(_BUILD)
        if arguments.what == "colab":
            return colab.check(_BUILD, for_pytest)
        if arguments.what == "frameworks":
            return matrix.check_frameworks(_BUILD)
        kinds, versions = arguments.jax.split(","), arguments.python.split(",")
        return matrix.check(_BUILD, kinds, versions, for_pytest)
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
