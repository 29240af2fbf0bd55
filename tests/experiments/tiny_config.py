"""The tests' smallest config, as a file of `--config`."""

from tests.conftest import make_tiny_config as get_config

__all__ = ["get_config"]
