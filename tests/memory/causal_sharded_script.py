"""Runs on 4 simulated devices, beside one: what `test_causal_sharded` compares, saved as .npz."""

import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from memjax.memory import causal
from tests.memory.test_causal import as_type, general, masks

SPLIT, SAME = PartitionSpec("devices"), PartitionSpec()
MESH = Mesh(np.array(jax.devices()), ("devices",))


def compare(method, words):
    """Reads, the memory after them, and gradients in the prior's mean and in each step."""
    memory, *steps = as_type(np.float32, general(40))
    options = {k: v for k, v in as_type(np.float32, masks(40)).items() if k in words}

    def step(axis_name, mean, steps, options):
        def loss(mean, steps):
            means, variances, after, residual = causal.attend(
                causal.KanervaState(mean, memory.row_cov),
                *steps,
                **options,
                method=method,
                chunk_size=4,
                axis_name=axis_name,
                return_residual=True,
            )
            total = jnp.sum(jnp.sin(means)) + jnp.sum(jnp.square(variances))
            total = jax.lax.psum(total, axis_name) if axis_name else total
            after = causal.posterior(after)
            return total + jnp.sum(jnp.cos(after.mean)), (means, variances, after, residual)

        return jax.grad(loss, (0, 1), has_aux=True)(mean, steps)

    many = jax.shard_map(
        partial(step, "devices"),
        mesh=MESH,
        in_specs=(SAME, SPLIT, SPLIT),
        out_specs=((SAME, SPLIT), (SPLIT, SPLIT, SAME, SAME)),
    )
    return [
        jax.jit(function)(memory.mean, steps, options) for function in (partial(step, None), many)
    ]


if __name__ == "__main__":
    path, method, *words = sys.argv[1:]
    pair = compare(method, words)
    np.savez(
        path,
        **{f"{side}/{i}": x for side in (0, 1) for i, x in enumerate(jax.tree.leaves(pair[side]))},
    )
