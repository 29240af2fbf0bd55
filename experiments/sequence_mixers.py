"""Layers that mix the tokens of a sequence, compared: python -m experiments.sequence_mixers.

`--task=recall`, multi-query associative recall (Arora et al. 2024): pairs of a key and a value,
then each key again, in another order: what was its value? Keys and values are drawn anew for each
sequence. After training the `kanerva` mixer also writes a fact, and erases one.

`--task=text`: the next byte of Python's own standard library, whose sources every machine has; each
tenth file is for the test.

Every mixer gets the same blocks around it: a token sees itself and the one before it, then a mixer,
then an MLP. Each of `--mixers` is trained at each of `--key_sizes` with each of `--seeds`; run
again in the same folder, only what is not in its table yet.
"""

import itertools
import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable
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
from memjax import nets, plotting
from memjax.errors import UserError, check_one_of
from memjax.evaluation import Curves
from memjax.memory import causal, kanerva

_CODE_SIZE = 32  # of a head


class SoftmaxLayer(nn.Module):
    """Softmax attention with the other layers' projections and output gate."""

    features: int
    num_heads: int
    key_size: int
    code_size: int

    @nn.compact
    def __call__(self, hidden, memory):
        """`[T, D]` to `[T, features]`; all keys and codes are its memory, which is not taken up."""
        del memory
        key, query = (nn.DenseGeneral((self.num_heads, self.key_size))(hidden) for _ in range(2))
        code = nn.DenseGeneral((self.num_heads, self.code_size))(hidden)
        mask = nn.make_causal_mask(hidden[:, 0])
        found = nn.dot_product_attention(query, key, code, mask=mask).reshape(len(hidden), -1)
        gate = nn.silu(nn.Dense(found.shape[-1])(hidden))
        return nn.Dense(self.features)(gate * nn.RMSNorm()(found)), (key, code)


MIXERS: dict[str, Any] = {
    "softmax": SoftmaxLayer,
    "linear": partial(nets.LinearAttentionLayer, decays=False),
    "delta": partial(nets.DeltaLayer, decays=False),
    "gated_delta": nets.DeltaLayer,
    "kanerva": partial(nets.KanervaLayer, decays=False),
    "gated_kanerva": nets.KanervaLayer,
}
_SYMBOLS = 64  # keys, and as many values

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of table and picture.", required=True)
_TASK = flags.DEFINE_enum("task", "recall", ("recall", "text"), "What is learned.")
_MIXERS = flags.DEFINE_list("mixers", list(MIXERS), "Some of these.")
_KEY_SIZES = flags.DEFINE_multi_integer(
    "key_sizes", [4, 8, 16], "Key sizes of a head.", lower_bound=1
)
_SEEDS = flags.DEFINE_multi_integer("seeds", [0, 1, 2], "Of parameters and sequences.")
_PAIRS = flags.DEFINE_integer("num_pairs", 16, "Pairs to recall.", lower_bound=1)
_LENGTH = flags.DEFINE_integer("length", 128, "Bytes of text in a sequence.")
_WIDTH = flags.DEFINE_integer("width", 64, "Of the residual stream.")
_STEPS = flags.DEFINE_integer("num_steps", 2_000, "Steps of Adam.", lower_bound=1)
_BATCH = flags.DEFINE_integer("batch_size", 32, "Sequences in a step.", lower_bound=1)
_RATE = flags.DEFINE_float("learning_rate", 3e-3, "At its highest.")


class Model(nn.Module):
    """Tokens `[T]` to logits `[T, vocabulary]`; a memory goes in and comes out."""

    mixer: str
    key_size: int
    vocabulary: int
    width: int
    num_heads: int = 2

    @nn.compact
    def __call__(self, tokens, memory=None):
        """Logits and the memory after them; None begins one."""
        hidden = nn.Embed(self.vocabulary, self.width)(tokens)
        before = jnp.pad(hidden[:-1], ((1, 0), (0, 0)))
        hidden = nn.Dense(self.width)(jnp.concatenate([hidden, before], axis=-1))
        sizes = (self.width, self.num_heads, self.key_size, _CODE_SIZE)
        mixer = MIXERS[self.mixer](*sizes, name="mixer")
        found, memory = mixer(nn.RMSNorm()(hidden), memory)
        hidden += found
        inner = nn.gelu(nn.Dense(2 * self.width)(nn.RMSNorm()(hidden)))
        hidden += nn.Dense(self.width)(inner)
        return nn.Dense(self.vocabulary)(nn.RMSNorm()(hidden)), memory


def main() -> None:
    """Trains and tests each; prints a table, and writes it and a picture."""
    for mixer in _MIXERS.value:
        check_one_of("mixers", mixer, list(MIXERS))
    folder = Path(_WORKDIR.value)
    table = folder / f"{_TASK.value}.json"
    flags_kept = (_PAIRS, _LENGTH, _WIDTH, _STEPS, _BATCH, _RATE)
    settings = {flag.name: flag.value for flag in flags_kept}
    kept: dict[str, Any] = {"settings": settings, "table": []}
    if table.exists():
        kept = json.loads(table.read_text())
    if kept["settings"] != settings:
        raise UserError(f"{table} is of other settings, {kept['settings']}; name another --workdir")
    rows = kept["table"]
    done = {(row["mixer"], row["key_size"], row["seed"]) for row in rows}
    for case in itertools.product(_MIXERS.value, _KEY_SIZES.value, _SEEDS.value):
        if case not in done:
            rows.append(run(*case))
            write_json(table, {"settings": settings, "table": rows})
            print(format_table(rows[-1:]), flush=True)
    draw(folder, rows)


def run(mixer: str, key_size: int, seed: int) -> dict[str, Any]:
    """One training and its test."""
    start = time.perf_counter()
    draw_train, draw_test, vocabulary = recall() if _TASK.value == "recall" else text()
    model = Model(mixer, key_size, vocabulary, _WIDTH.value)
    params, test = train(model, seed, draw_train, draw_test)
    tokens = draw_test(jax.random.key(0), 1)[0][0]
    _, memory = model.apply(params, tokens)
    row = {
        "mixer": mixer,
        "key_size": key_size,
        "state": memory_size(memory),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "seed": seed,
        **test,
    }
    if mixer == "kanerva" and _TASK.value == "recall":
        row |= edit_facts(model, params, seed)
    return row | {"minutes": (time.perf_counter() - start) / 60}


def memory_size(memory: Any) -> int:
    """The numbers that a memory holds of its sequence; a symmetric matrix counts by half.

    `CausalState` says the same precision twice, for rounding's sake, and has the prior beside it.
    """
    if not isinstance(memory, causal.CausalState):
        return sum(leaf.size for leaf in jax.tree.leaves(memory))
    *heads, n, code_size = memory.mean.shape
    return math.prod(heads) * (n * code_size + n * (n + 1) // 2)


def recall() -> tuple[Callable, Callable, int]:
    """Draws of sequences `[B, T]`, of the answers `[B, T]`, -1 where nothing is asked."""

    def one(rng_key):
        rng_keys = jax.random.split(rng_key, 3)
        keys = jax.random.choice(rng_keys[0], _SYMBOLS, (_PAIRS.value,), replace=False)
        values = _SYMBOLS + jax.random.randint(rng_keys[1], keys.shape, 0, _SYMBOLS)
        asked = jax.random.permutation(rng_keys[2], _PAIRS.value)
        pairs = jnp.stack([keys, values], axis=1).reshape(-1)
        answers = jnp.concatenate([jnp.full(pairs.shape, -1), values[asked]])
        return jnp.concatenate([pairs, keys[asked]]), answers

    def draw(rng_key, count):
        return jax.vmap(one)(jax.random.split(rng_key, count))

    return draw, draw, 2 * _SYMBOLS


def text() -> tuple[Callable, Callable, int]:
    """Draws of bytes `[B, T]` and of those that follow them, from files of each kind."""
    files = sorted(Path(os.__file__).parent.glob("*.py"))
    data = [path.read_bytes() for path in files]
    splits = [
        b"".join(data[i] for i in range(len(data)) if (i % 10 == 0) == is_test)
        for is_test in (0, 1)
    ]
    streams = [jnp.asarray(np.minimum(np.frombuffer(split, np.uint8), 127)) for split in splits]

    def draw(stream, rng_key, count):
        first = jax.random.randint(rng_key, (count, 1), 0, len(stream) - _LENGTH.value)
        found = stream[first + jnp.arange(_LENGTH.value + 1)].astype(jnp.int32)
        return found[:, :-1], found[:, 1:]

    return partial(draw, streams[0]), partial(draw, streams[1]), 128


def train(model: Model, seed: int, draw_train: Callable, draw_test: Callable) -> Any:
    """Trained parameters; cross-entropy in bits and accuracy in percent, of test sequences."""
    params_rng_key, rng_key = jax.random.split(jax.random.key(seed))
    params = jax.jit(model.init)(params_rng_key, draw_train(rng_key, 1)[0][0])
    warmup = _STEPS.value // 20
    schedule = optax.warmup_cosine_decay_schedule(0.0, _RATE.value, warmup, _STEPS.value)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))

    def loss(params, tokens, answers):
        logits, _ = jax.vmap(model.apply, (None, 0))(params, tokens)
        asked = answers >= 0
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(answers, 0))
        hits = jnp.argmax(logits, axis=-1) == answers
        return tuple(jnp.sum(jnp.where(asked, x, 0)) / jnp.sum(asked) for x in (losses, hits))

    def step(state, index):
        params, opt_state = state
        batch = draw_train(jax.random.fold_in(rng_key, index), _BATCH.value)
        gradient = jax.grad(lambda params: loss(params, *batch)[0])(params)
        updates, opt_state = optimizer.update(gradient, opt_state)
        return (optax.apply_updates(params, updates), opt_state), None

    state, steps = (params, optimizer.init(params)), jnp.arange(_STEPS.value)
    (params, _), _ = jax.jit(partial(jax.lax.scan, step))(state, steps)
    test = jax.jit(lambda rng_key: loss(params, *draw_test(rng_key, 64)))
    found = np.mean([test(k) for k in jax.random.split(jax.random.key(1), 32)], axis=0)
    return params, {"bits": float(found[0] / np.log(2)), "accuracy %": 100 * float(found[1])}


def edit_facts(model: Model, params: Any, seed: int) -> dict[str, float]:
    """Recall, in percent, of a pair told last, of the same once it is erased, and of the others.

    The pair is erased by `kanerva.erase` of what the layer wrote for it, in each head.
    """
    length = 2 * _PAIRS.value

    def one(rng_key):
        tokens, answers = recall()[0](rng_key, 1)
        tokens, answers = tokens[0], answers[0]
        (_, memory), seen = model.apply(
            params, tokens[:length], capture_intermediates=True, mutable="intermediates"
        )
        seen = seen["intermediates"]["mixer"]

        def split(name):
            """What the layer told each head of the last token."""
            return seen[name]["__call__"][0][-1].reshape(model.num_heads, -1)

        keys, codes, gates = split("key"), split("code"), jax.nn.sigmoid(split("write_gate"))[:, 0]
        keys /= jnp.linalg.norm(keys, axis=-1, keepdims=True)
        noise_vars = jnp.exp(params["params"]["mixer"]["log_noise_var"]) / gates

        def forget(memory, key, code, noise_var):
            held = causal.posterior(memory)
            return causal.begin(kanerva.erase(held, key[None], code[None], noise_var))

        erased = jax.vmap(forget)(memory, keys, codes, noise_vars)
        is_last = tokens[length:] == tokens[length - 2]

        def hits(memory):
            logits, _ = model.apply(params, tokens[length:], memory)
            right = jnp.argmax(logits, axis=-1) == answers[length:]
            return jnp.sum(right & is_last), jnp.sum(right & ~is_last) / (_PAIRS.value - 1)

        return jnp.array([*hits(memory), *hits(erased)])

    found = 100 * jnp.mean(jax.vmap(one)(jax.random.split(jax.random.key(seed), 500)), axis=0)
    names = ("told last %", "others %", "erased %", "others after %")
    return dict(zip(names, map(float, found), strict=True))


def draw(folder: Path, rows: list[dict[str, Any]]) -> None:
    """What each mixer reaches, by the size of its keys and by that of its memory at the end."""
    is_recall = _TASK.value == "recall"
    name, label = ("accuracy %", "recalled, %") if is_recall else ("bits", "bits a byte")
    panels = {}
    for title, size, axis in (
        ("by the size of keys", "key_size", "log2 of a head's key size"),
        ("by the size of the memory", "state", "log2 of the numbers in the memory"),
    ):
        found = defaultdict[str, Any](lambda: defaultdict(list))  # by mixer and size
        for row in rows:
            found[row["mixer"]][math.log2(row[size])].append(row[name])
        lines = {
            mixer: (sorted(by_size), [float(np.mean(by_size[x])) for x in sorted(by_size)])
            for mixer, by_size in found.items()
        }
        panels[title] = Curves(axis, label, lines)
    plotting.curves(folder / f"{_TASK.value}.png", panels)


if __name__ == "__main__":
    cli.run(main)
