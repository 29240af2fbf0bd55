"""Runs on 8 simulated devices, beside one: what `test_sharded` compares, saved as .npz."""

import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from memjax.memory import addressing, kanerva
from tests.memory import causal_sharded_script

SPLIT, SAME = PartitionSpec("devices"), PartitionSpec()
MESH = Mesh(np.array(jax.devices()), ("devices",))
shard_map = partial(jax.shard_map, mesh=MESH)


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def read(axis_name, query, slots, contents):
    """Samples, what stands there, and a loss of both."""
    addresses, log_probs = addressing.sample_streaming(
        jax.random.key(2), query, slots, 5, chunk_size=3, axis_name=axis_name
    )
    found = addressing.lookup(contents, addresses, axis_name=axis_name)
    far = addressing.lookup(contents, jnp.array([-1, 999]), axis_name=axis_name)
    loss = jnp.sum(jnp.sin(log_probs) * jnp.sum(jnp.square(found["code"]), axis=-1))
    best, best_logits = addressing.top_k(
        query, slots, 5, chunk_size=4, axis_name=axis_name, slot_norms=addressing.slot_norms(slots)
    )
    return loss + jnp.sum(jnp.cos(best_logits)), (addresses, log_probs, found, far, best)


def compare_reads():
    contents = {"code": normal(3, 48, 2), "label": jnp.arange(48, dtype=jnp.uint8)}
    arguments = normal(0, 3, 4), normal(1, 48, 4)

    def differentiated(axis_name, query, slots, codes):
        given = {**contents, "code": codes}
        if axis_name:
            given["label"] = jnp.arange(6, dtype=jnp.uint8) + 6 * jax.lax.axis_index(
                axis_name
            ).astype(jnp.uint8)
        return read(axis_name, query, slots, given)

    step = jax.value_and_grad(differentiated, (1, 2, 3), has_aux=True)
    one = jax.jit(partial(step, None))(*arguments, contents["code"])
    many = shard_map(
        partial(step, "devices"),
        in_specs=(SAME, SPLIT, SPLIT),
        out_specs=(SAME, (SAME, SPLIT, SPLIT)),
    )
    return one, jax.jit(many)(*arguments, contents["code"])


def refuse_divided():
    """What a table says that is divided, where no axis is named: the lines, as a NumPy array."""
    slots = jax.device_put(normal(1, 48, 4), NamedSharding(MESH, SPLIT))
    rows = jax.device_put(normal(1, 4, 8), NamedSharding(MESH, PartitionSpec(None, "devices")))
    lines = []
    for table in (slots, rows):
        for call in (
            partial(addressing.sample_streaming, jax.random.key(2), num_samples=2),
            partial(addressing.top_k, k=2),
        ):
            try:
                call(query=jnp.ones(table.shape[1]), slot_embeddings=table)
                lines.append("")
            except ValueError as error:
                lines.append(str(error))
    return np.array(lines)


def compare_learning():
    """Learned slots and Adam's state of them, sharded; queries are sharded too, as data are."""
    optimizer = optax.adam(0.1)
    queries, slots = normal(4, 16, 4), normal(5, 48, 4)

    def step(axis_name, slots, opt_state, queries):
        def loss(slots):
            gathered = queries
            if axis_name:
                gathered = jax.lax.all_gather(queries, axis_name, tiled=True)
            _, log_probs = addressing.sample_streaming(
                jax.random.key(6), gathered, slots, 2, chunk_size=6, axis_name=axis_name
            )
            if axis_name:  # each device goes on with the reads of its own queries
                own = jax.lax.axis_index(axis_name) * len(queries)
                log_probs = jax.lax.dynamic_slice_in_dim(log_probs, own, len(queries))
            total = jnp.sum(jnp.cos(log_probs))
            return jax.lax.psum(total, axis_name) if axis_name else total

        value, gradient = jax.value_and_grad(loss)(slots)
        updates, opt_state = optimizer.update(gradient, opt_state)
        return value, optax.apply_updates(slots, updates), opt_state

    state = slots, optimizer.init(slots)
    specs = (SPLIT, jax.tree.map(lambda leaf: SPLIT if leaf.ndim else SAME, state[1]))
    many = jax.jit(
        shard_map(partial(step, "devices"), in_specs=(*specs, SPLIT), out_specs=(SAME, *specs))
    )
    one = jax.jit(partial(step, None))
    one_state = many_state = (None, *state)
    for _ in range(3):
        one_state, many_state = one(*one_state[1:], queries), many(*many_state[1:], queries)
    moments = jax.tree.leaves(many_state[2])
    assert all(m.sharding.spec == SPLIT for m in moments if m.ndim), "optimizer state is copied"
    return one_state, many_state


def compare_writes():
    """A Kanerva write of 65,536 codes, its gradient in the codes and in the memory's mean."""
    memory = kanerva.KanervaState(normal(7, 8, 3), jnp.eye(8) + 0.1)
    weights, codes = normal(8, 65_536, 8), normal(9, 65_536, 3)
    noise_var = jnp.full(65_536, 50.0)

    def write(axis_name, mean, weights, codes, noise_var):
        def loss(mean, codes):
            state = kanerva.KanervaState(mean, memory.row_cov)
            posterior = kanerva.write(
                state, weights, codes, noise_var, method="information", axis_name=axis_name
            )
            return jnp.sum(jnp.sin(posterior.mean)), posterior

        return jax.grad(loss, (0, 1), has_aux=True)(mean, codes)

    one = jax.jit(partial(write, None))(memory.mean, weights, codes, noise_var)
    many = shard_map(
        partial(write, "devices"),
        in_specs=(SAME, SPLIT, SPLIT, SPLIT),
        out_specs=((SAME, SPLIT), SAME),
    )
    return one, jax.jit(many)(memory.mean, weights, codes, noise_var)


if __name__ == "__main__":
    path, *names = sys.argv[1:]
    compare = {"read": compare_reads, "learn": compare_learning, "write": compare_writes}
    every_word = ["log_decay", "mask", "reset"]
    compare["attend"] = partial(causal_sharded_script.compare, "chunk", every_word)
    arrays = {"refused": refuse_divided()}
    for name in names:
        for side, tree in zip(("one", "many"), compare[name](), strict=True):
            leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
            arrays |= {f"{name}/{side}{jax.tree_util.keystr(k)}": v for k, v in leaves}
    np.savez(path, **arrays)
