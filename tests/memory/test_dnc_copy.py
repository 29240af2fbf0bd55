"""The DNC learns to copy: sequences of random bits, written down and recited."""

import itertools

import jax
import jax.numpy as jnp
import optax
import pytest

from memjax.memory import dnc

_BITS, _LONGEST, _SLOTS, _CODE_SIZE, _HIDDEN = 4, 4, 8, 8, 64
_SIZES = {  # of what the controller emits
    "code": _CODE_SIZE,
    "write_key": _CODE_SIZE,
    "erase": _CODE_SIZE,
    "read_key": _CODE_SIZE,
    "scalars": 5,
    "read_modes": 3,
    "output": _BITS,
}


@pytest.mark.slow
def test_learns_the_copy_task():
    optimizer = optax.chain(optax.clip_by_global_norm(10.0), optax.adam(3e-3))

    @jax.jit
    def train(carry, rng_keys):
        def step(carry, rng_key):
            params, opt_state = carry
            batch = jax.vmap(_draw)(jax.random.split(rng_key, 32))
            gradient = jax.grad(lambda p: jnp.mean(jax.vmap(_loss, (None, 0))(p, batch)))(params)
            updates, opt_state = optimizer.update(gradient, opt_state)
            return (optax.apply_updates(params, updates), opt_state), None

        return jax.lax.scan(step, carry, rng_keys)[0]

    @jax.jit
    def accuracy(params, rng_key):
        batch = jax.vmap(_draw)(jax.random.split(rng_key, 512))
        logits = jax.vmap(_run, (None, 0))(params, batch[0])
        right = (logits > 0) == (batch[1] > 0.5)
        return jnp.mean(jnp.all(right | ~(batch[2] > 0)[..., None], axis=(1, 2)))

    params = _init(jax.random.key(0))
    carry = params, optimizer.init(params)
    for i in range(30):
        carry = train(carry, jax.random.split(jax.random.fold_in(jax.random.key(1), i), 200))
        share = accuracy(carry[0], jax.random.key(2))
        if share == 1.0:
            return
    raise AssertionError(f"{share:.1%} of 512 sequences copied after {200 * 30} steps")


def _draw(rng_key):
    """A sequence of 1 to `_LONGEST` words, then as many steps of silence to recite it in.

    Returns inputs `[2 longest, bits + 1]`, of which the last says that it is time to recite,
    targets `[2 longest, bits]`, and where they count.
    """
    length_rng_key, word_rng_key = jax.random.split(rng_key)
    length = jax.random.randint(length_rng_key, (), 1, _LONGEST + 1)
    words = jax.random.bernoulli(word_rng_key, 0.5, (_LONGEST, _BITS)).astype(jnp.float32)
    time = jnp.arange(2 * _LONGEST)
    listening = time < length
    reciting = (time >= length) & (time < 2 * length)
    heard = jnp.where(listening[:, None], 2.0 * words[time % _LONGEST] - 1.0, 0.0)
    targets = jnp.where(reciting[:, None], words[(time - length) % _LONGEST], 0.0)
    inputs = jnp.concatenate([heard, reciting[:, None].astype(jnp.float32)], axis=1)
    return inputs, targets, reciting.astype(jnp.float32)


def _init(rng_key):
    sizes = (_BITS + 1 + _CODE_SIZE, _HIDDEN, sum(_SIZES.values()))
    keys = jax.random.split(rng_key, 2)
    glorot = jax.nn.initializers.glorot_uniform()
    return [
        (glorot(key, shape), jnp.zeros(shape[1]))
        for key, shape in zip(keys, itertools.pairwise(sizes), strict=True)
    ]


def _run(params, inputs):
    """Logits `[time, bits]` of the sequence; the controller has no state but the memory."""

    def step(carry, heard):
        memory, retrieved = carry
        (w1, b1), (w2, b2) = params
        hidden = jnp.tanh(jnp.concatenate([heard, retrieved]) @ w1 + b1)
        splits = [sum(list(_SIZES.values())[: i + 1]) for i in range(len(_SIZES) - 1)]
        emitted = dict(zip(_SIZES, jnp.split(hidden @ w2 + b2, splits), strict=True))
        free, allocate, write = jax.nn.sigmoid(emitted["scalars"][:3])
        write_strength, read_strength = 1.0 + jax.nn.softplus(emitted["scalars"][3:])
        memory = dnc.write(
            memory,
            jnp.tanh(emitted["code"]),
            write_key=emitted["write_key"],
            write_strength=write_strength,
            erase=jax.nn.sigmoid(emitted["erase"]),
            free_gate=free[None],
            allocation_gate=allocate,
            write_gate=write,
        )
        retrieved, memory = dnc.read(
            memory,
            read_keys=emitted["read_key"][None],
            read_strengths=read_strength[None],
            read_modes=jax.nn.softmax(emitted["read_modes"])[None],
        )
        output = emitted["output"] + retrieved[0, :_BITS] * 4.0
        return (memory, retrieved[0]), output

    start = dnc.init(_SLOTS, _CODE_SIZE), jnp.zeros(_CODE_SIZE)
    return jax.lax.scan(step, start, inputs)[1]


def _loss(params, sequence):
    inputs, targets, counted = sequence
    losses = optax.sigmoid_binary_cross_entropy(_run(params, inputs), targets)
    return jnp.sum(losses * counted[:, None]) / jnp.sum(counted)
