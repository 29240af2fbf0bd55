"""Associative recall over digits by a small transformer: python -m experiments.associative_recall.

An episode gives each of the ten digits a random symbol: it shows an image of each digit with its
symbol, then asks for the symbols of ten other images, in another order. Attention looks back over
`--window` tokens only, so that most pairs are out of its reach; a memory cell of `memjax.nets` in
every block carries them on. Trained on scikit-learn's training digits, tested on its test digits,
with each of `--memories` in turn.
"""

from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from experiments import cli
from experiments.reporting import format_table, write_json
from memjax import data, nets
from memjax.errors import check_one_of

_CELLS: dict[str, Any] = {
    "none": None,
    "kanerva": nets.KanervaCell,
    "categorical": nets.CategoricalCell,
}
_DIGITS, _WIDTH, _BLOCKS, _HEADS = 10, 64, 2, 4
_ASK = _DIGITS  # in the place of a symbol

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the table.", required=True)
_MEMORIES = flags.DEFINE_list("memories", ["none", "kanerva"], f"Some of {', '.join(_CELLS)}.")
_WINDOW = flags.DEFINE_integer(
    "window", 4, "Tokens that attention sees, with the one it is at.", lower_bound=1
)
_STEPS = flags.DEFINE_integer("num_steps", 2_000, "Steps of Adam.", lower_bound=1)
_BATCH = flags.DEFINE_integer("batch_size", 32, "Episodes in a step.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Of parameters and episodes.")


class Transformer(nn.Module):
    """Causal blocks, pre-norm: attention over a window, a memory if there is one, an MLP."""

    memory: str
    window: int

    @nn.compact
    def __call__(self, images, symbols, memory_rng_key):
        """Images `[T, P]` in [0, 1] and symbols `[T]` to logits of symbols `[T, 10]`."""
        length = len(images)
        hidden = nn.Dense(_WIDTH)(images) + nn.Embed(_DIGITS + 1, _WIDTH)(symbols)
        hidden += self.param("positions", nn.initializers.normal(0.02), (length, _WIDTH))
        age = jnp.arange(length)[:, None] - jnp.arange(length)[None, :]
        mask = ((age >= 0) & (age < self.window))[None]
        cell = _CELLS[self.memory]
        for _ in range(_BLOCKS):
            hidden += nn.MultiHeadDotProductAttention(_HEADS)(nn.LayerNorm()(hidden), mask=mask)
            if cell is not None:
                memory_rng_key, rng_key = jax.random.split(memory_rng_key)
                hidden += nn.RNN(cell(_WIDTH))(nn.LayerNorm()(hidden), init_key=rng_key)
            inner = nn.gelu(nn.Dense(2 * _WIDTH)(nn.LayerNorm()(hidden)))
            hidden += nn.Dense(_WIDTH)(inner)
        return nn.Dense(_DIGITS)(nn.LayerNorm()(hidden))


def main() -> None:
    """Trains and tests each; prints a table and writes it to `recall.json`."""
    for memory in _MEMORIES.value:
        check_one_of("memories", memory, list(_CELLS))
    rows = [train(memory) for memory in _MEMORIES.value]
    print(format_table(rows))
    write_json(Path(_WORKDIR.value) / "recall.json", {"window": _WINDOW.value, "table": rows})


def train(memory: str) -> dict[str, Any]:
    """Test accuracy after training, in percent; chance is 10."""
    train_set, test_set = (by_digit(split) for split in ("train", "test"))
    model = Transformer(memory, _WINDOW.value)
    params_rng_key, rng_key = jax.random.split(jax.random.key(_SEED.value))
    params = model.init(params_rng_key, *sample_episode(rng_key, train_set)[:2], rng_key)
    optimizer = optax.adam(optax.cosine_decay_schedule(2e-3, _STEPS.value))

    def loss(params, rng_key, images):
        """Cross-entropy in nats, and accuracy, at the questions."""

        def one(rng_key):
            episode_rng_key, memory_rng_key = jax.random.split(rng_key)
            pixels, symbols, targets = sample_episode(episode_rng_key, images)
            logits: Any = model.apply(params, pixels, symbols, memory_rng_key)
            logits = logits[_DIGITS:]
            hits = jnp.argmax(logits, axis=-1) == targets
            return optax.softmax_cross_entropy_with_integer_labels(logits, targets), hits

        losses, hits = jax.vmap(one)(jax.random.split(rng_key, _BATCH.value))
        return jnp.mean(losses), jnp.mean(hits)

    @jax.jit
    def step(params, opt_state, rng_key):
        gradient = jax.grad(lambda p: loss(p, rng_key, train_set)[0])(params)
        updates, opt_state = optimizer.update(gradient, opt_state)
        return optax.apply_updates(params, updates), opt_state

    opt_state = optimizer.init(params)
    for i in range(_STEPS.value):
        params, opt_state = step(params, opt_state, jax.random.fold_in(rng_key, i))
    test = jax.jit(partial(loss, images=test_set))
    test_rng_keys = jax.random.split(jax.random.key(_SEED.value + 1), 32)
    nll, accuracy = np.mean([test(params, rng_key) for rng_key in test_rng_keys], axis=0)
    return {
        "memory": memory,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "nll": float(nll),
        "accuracy %": 100 * float(accuracy),
    }


def by_digit(split: str) -> jax.Array:
    """Images `[10, n, P]` in [0, 1], as many of each digit."""
    dataset = data.load("digits", split, None)
    pixels = dataset.images.reshape(len(dataset.images), -1).astype(np.float32) / 255
    groups = [pixels[dataset.labels == digit] for digit in range(_DIGITS)]
    return jnp.asarray([group[: min(map(len, groups))] for group in groups])


def sample_episode(rng_key, images):
    """Pixels `[20, P]`, symbols `[20]` with `_ASK` in the second half, and its answers `[10]`."""
    shown, asked, meaning, image = jax.random.split(rng_key, 4)
    digits = jnp.concatenate([jax.random.permutation(k, _DIGITS) for k in (shown, asked)])
    symbols = jax.random.permutation(meaning, _DIGITS)[digits]
    pixels = images[digits, jax.random.randint(image, digits.shape, 0, images.shape[1])]
    return pixels, jnp.where(jnp.arange(2 * _DIGITS) < _DIGITS, symbols, _ASK), symbols[_DIGITS:]


if __name__ == "__main__":
    cli.run(main)
