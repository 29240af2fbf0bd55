"""The tests' smallest Kanerva Machine, as a file of `--config`."""

from tests.conftest import make_kanerva_config as get_config

__all__ = ["get_config"]
