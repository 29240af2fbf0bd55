"""The DNC's memory beside the `dnc` package for PyTorch: python -m benchmarks.dnc_steps.

A write and a read at each of T steps, for a batch of memories at once, forward and with the
gradient in everything that a controller emits. Both get the same inputs; how far apart what they
read is shows that they are one memory.
"""

import tempfile
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks import peer
from benchmarks.memory import milliseconds
from experiments import cli
from memjax.memory import dnc

_BATCH = flags.DEFINE_integer("batch", 16, "Memories side by side.")
_SHAPES = ((32, 64, 100, 1), (32, 64, 100, 4), (8, 16, 16, 1))  # T, N, C, H


def main() -> None:
    """Prints a row for each shape."""
    print(
        "   T    N    C  H   forward   gradient, ms   dnc forward   gradient, ms   ratios   apart"
    )
    for num_steps, num_slots, size, num_heads in _SHAPES:
        inputs = _draw_inputs(num_steps, _BATCH.value, size, num_heads)
        read_all = jax.vmap(partial(_read_all, num_slots), in_axes=1, out_axes=1)
        forward = jax.jit(read_all)
        gradient = jax.jit(partial(_pull_back, read_all))
        ours = [milliseconds(partial(call, inputs), 20) for call in (forward, gradient)]
        row = (
            f"{num_steps:4d} {num_slots:4d} {size:4d} {num_heads:2d} {ours[0]:9.2f} {ours[1]:14.2f}"
        )
        theirs = _run_peer(inputs, num_slots)
        if theirs is not None:
            times = theirs["forward"], theirs["gradient"]
            ratios = " ".join(f"{a / b:.1f}x" for a, b in zip(times, ours, strict=True))
            apart = np.max(np.abs(np.ravel(forward(inputs)) - np.asarray(theirs["retrieved"])))
            row += "  {:9.2f} {:9.2f}".format(*times) + f"  {ratios}  {apart:.1e}"
        print(row, flush=True)


def _draw_inputs(num_steps: int, batch: int, size: int, num_heads: int) -> dict[str, jax.Array]:
    """What a controller might emit, each with leading axes `[T, B]`."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal((num_steps, batch, *shape)).astype(np.float32)

    def gate(*shape: int) -> np.ndarray:
        return rng.uniform(size=(num_steps, batch, *shape)).astype(np.float32)

    modes = np.exp(normal(num_heads, 3))
    inputs = {
        "code": normal(size),
        "write_key": normal(size),
        "write_strength": 1.0 + 4.0 * gate(),
        "erase": gate(size),
        "free_gate": gate(num_heads),
        "allocation_gate": gate(),
        "write_gate": gate(),
        "read_keys": normal(num_heads, size),
        "read_strengths": 1.0 + 4.0 * gate(num_heads),
        "read_modes": modes / np.sum(modes, axis=-1, keepdims=True),
    }
    return {name: jnp.asarray(value) for name, value in inputs.items()}


def _read_all(num_slots: int, inputs: dict[str, jax.Array]) -> jax.Array:
    """What is read at each step, `[T, H, C]`."""
    _, num_heads, size = inputs["read_keys"].shape
    reads = ("read_keys", "read_strengths", "read_modes")

    def step(memory: dnc.DNCState, now: dict[str, jax.Array]) -> tuple[dnc.DNCState, jax.Array]:
        asked = {name: now[name] for name in reads}
        written = {name: value for name, value in now.items() if name not in reads}
        retrieved, memory = dnc.read(dnc.write(memory, **written), **asked)
        return memory, retrieved

    return jax.lax.scan(jax.checkpoint(step), dnc.init(num_slots, size, num_heads), inputs)[1]


def _pull_back(function, inputs):
    """The output itself is the cotangent: no loss is timed."""
    retrieved, gradient = jax.vjp(function, inputs)
    return gradient(retrieved)


def _run_peer(inputs: dict[str, jax.Array], num_slots: int) -> dict | None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "inputs.npz"
        np.savez(path, num_slots=num_slots, **{k: np.asarray(v) for k, v in inputs.items()})
        return peer.run("torch_dnc.py", path=str(path), rounds=20)


if __name__ == "__main__":
    cli.run(main)
