import subprocess
import sys


def test_import_is_light_and_changes_nothing():
    """memjax is imported into other people's programs; a later Flax knows the states."""
    program = """
import sys
import memjax
assert "jax" not in sys.modules
import jax
before = jax.config.values.copy()
assert memjax.memory.addressing.similarity and memjax.estimators.vimco
assert jax.config.values == before
heavy = {"tensorflow", "tensorflow_datasets", "matplotlib", "flax", "orbax", "sklearn", "numpyro"}
print(*sorted(heavy & {name.partition(".")[0] for name in sys.modules}))

import flax.serialization
from memjax.memory import sdm
memory = sdm.SparseState(jax.numpy.ones(2), jax.numpy.zeros(2))
saved = flax.serialization.to_bytes(memory)
empty = jax.tree.map(jax.numpy.zeros_like, memory)
assert flax.serialization.from_bytes(empty, saved).address_matrix.sum() == 2
"""
    command = [sys.executable, "-c", program]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == ""
