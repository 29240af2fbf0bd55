import subprocess
import sys


def test_import_is_light_and_changes_nothing():
    """memjax is imported into other people's programs."""
    program = """
import sys
import jax
before = jax.config.values.copy()
import memjax
assert jax.config.values == before
assert memjax.memory.addressing.similarity and memjax.estimators.vimco
heavy = {"tensorflow", "tensorflow_datasets", "matplotlib", "flax", "orbax", "sklearn", "numpyro"}
print(*sorted(heavy & {name.partition(".")[0] for name in sys.modules}))
"""
    command = [sys.executable, "-c", program]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == ""
