"""The tests' smallest VMA, as a file of `--config`."""

from tests.conftest import make_vma_config as get_config

__all__ = ["get_config"]
