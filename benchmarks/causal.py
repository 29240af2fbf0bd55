"""A memory along a sequence, against its length: python -m benchmarks.causal.

For all heads, forward and with the gradient in weights, codes and reads: milliseconds, the least of
some calls in turns, and MB of working memory beside arguments and results. The ways are both
methods of `causal.attend`, without decays and with; the scan of a read and an online write, as
`nets.KanervaCell` does them; `kanerva.write_prefix` and reads; and linear and softmax attention of
the same sizes, for the least that a sequence can take. What needs T covariances or T x T numbers
stops at 4,096. Beside them what does not depend on the machine: how many steps wait for each other,
and thousands of multiplications a step and head, forward.
"""

import math
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags

from experiments import cli
from memjax.memory import causal, kanerva

_LENGTHS = flags.DEFINE_list("lengths", ["64", "256", "1024", "4096", "32768"], "T, each.")
_HEADS = flags.DEFINE_integer("heads", 1, "Sequences at once.")
_SIZE = flags.DEFINE_integer("size", 64, "N and C.")
_CALLS = flags.DEFINE_integer("calls", 5, "Calls; the fastest counts.")
_BLOCK, _CHUNK, _ITERATIONS = 16, 32, 32  # as `causal.attend` has them
_LARGEST = {"write_prefix": 4_096, "softmax attention": 4_096}


def main() -> None:
    """Prints a row for each length and way."""
    print(
        "     T  way                 forward  gradient ms  forward gradient MB  dependent  k mult."
    )
    for length in map(int, _LENGTHS.value):
        names = [name for name in ways() if length <= _LARGEST.get(name, length)]
        calls = {name: compiled(*ways()[name], length) for name in names}
        milliseconds = times([call for pair in calls.values() for call in pair])
        for name, pair in calls.items():
            forward, gradient = (next(milliseconds) for _ in pair)
            sizes = [call.func.memory_analysis().temp_size_in_bytes / 1e6 for call in pair]
            steps, operations = counts(name, length, _SIZE.value)
            print(
                f"{length:6d}  {name:18s} {forward:8.2f} {gradient:12.2f} {sizes[0]:8.1f}"
                f" {sizes[1]:11.1f} {steps:10d} {operations / 1e3:8.0f}",
                flush=True,
            )
    print("load in the last 1, 5 and 15 minutes: {:.1f}, {:.1f}, {:.1f}".format(*os.getloadavg()))


def ways() -> dict[str, tuple[Callable, bool]]:
    """By name: a function of weights, codes, reads and decays, and whether it takes decays."""
    found: dict[str, tuple[Callable, bool]] = {
        f"{method}{', decays' * decays}": (partial(memory, method), decays)
        for decays in (False, True)
        for method in ("recurrent", "chunk")
    }
    return found | {
        "cell": (cell, False),
        "write_prefix": (prefix, False),
        "linear attention": (linear_attention, False),
        "softmax attention": (softmax_attention, False),
    }


def memory(method: str, weights: Any, codes: Any, reads: Any, log_decay: Any) -> Any:
    """`causal.attend` from an empty memory."""
    prior = kanerva.prior(weights.shape[1], codes.shape[1], diagonal=True)
    options = {"log_decay": log_decay, "method": method}
    return causal.attend(prior, weights, codes, reads, 1.0, **options)[:2]


def cell(weights: Any, codes: Any, reads: Any, log_decay: Any) -> Any:
    """Reads, then writes, at each step."""
    del log_decay

    def step(memory: Any, now: Any) -> Any:
        weight, code, read = now
        after = kanerva.write(memory, weight[None], code[None], 1.0, method="online")
        return after, kanerva.read(memory, read)

    prior = kanerva.prior(weights.shape[1], codes.shape[1])
    return jax.lax.scan(step, prior, (weights, codes, reads))[1]


def prefix(weights: Any, codes: Any, reads: Any, log_decay: Any) -> Any:
    """The posterior after each step, read at that step."""
    del log_decay
    prior = kanerva.prior(weights.shape[1], codes.shape[1])
    return jax.vmap(kanerva.read)(kanerva.write_prefix(prior, weights, codes, 1.0), reads)


def linear_attention(weights: Any, codes: Any, reads: Any, log_decay: Any) -> Any:
    """In chunks of 64."""
    del log_decay
    chunks = jax.tree.map(lambda x: x.reshape(-1, 64, x.shape[1]), (weights, codes, reads))
    sums = jnp.einsum("ksn,ksc->knc", *chunks[:2])
    before = jnp.cumsum(sums, axis=0) - sums
    inside = jnp.tril(jnp.einsum("ktn,ksn->kts", chunks[2], chunks[0]))
    return jnp.einsum("ktn,knc->ktc", chunks[2], before) + inside @ chunks[1]


def softmax_attention(weights: Any, codes: Any, reads: Any, log_decay: Any) -> Any:
    """All T x T products at once."""
    del log_decay
    scores = reads @ weights.T / math.sqrt(weights.shape[1])
    allowed = jnp.tri(len(scores), dtype=bool)
    return jax.nn.softmax(jnp.where(allowed, scores, -jnp.inf)) @ codes


def compiled(attend: Callable, decays: bool, length: int) -> tuple[partial, partial]:
    """Forward, and with the gradient; the result itself is the cotangent: no loss is timed."""
    shape = (_HEADS.value, length, _SIZE.value)
    weights, codes, reads = (
        jax.random.normal(rng_key, shape) for rng_key in jax.random.split(jax.random.key(0), 3)
    )
    arguments = weights / shape[2] ** 0.5, codes, reads
    log_decay = jnp.full(shape[:2], -0.02) if decays else None

    def forward(*arguments: Any) -> Any:
        return jax.vmap(attend)(*arguments, log_decay)

    def pull_back(*arguments: Any) -> Any:
        result, gradient = jax.vjp(forward, *arguments)
        return gradient(result)

    first, second = (
        partial(jax.jit(function).lower(*arguments).compile(), *arguments)
        for function in (forward, pull_back)
    )
    return first, second


def times(calls: Sequence[Callable]) -> Any:
    """Milliseconds of each, the least of those in turns."""
    least = [math.inf] * len(calls)
    for _ in range(_CALLS.value):
        for i, call in enumerate(calls):
            start = time.perf_counter()
            jax.block_until_ready(call())
            least[i] = min(least[i], 1e3 * (time.perf_counter() - start))
    return iter(least)


def counts(name: str, length: int, n: int) -> tuple[int, float]:
    """Dependent steps forward, and multiplications a step, for N = C = n; leading terms.

    With decays, "recurrent" takes about 10 iterations, and makes a root every 48 steps.
    """
    blocks, chunks = -(-length // _BLOCK), -(-length // _CHUNK)
    block = 8 * n**2 + 8 * _BLOCK * n
    chunk = 6 * n**2 + (4 + 2 * _ITERATIONS) * _CHUNK * n
    decays = _ITERATIONS * (2 * _CHUNK * n + 2 * n**2) + 5 * n**3 / _CHUNK
    return {
        "recurrent": (blocks, block),
        "recurrent, decays": (11 * blocks, block + 22 * (n**2 + _BLOCK * n) + n**3 / 21),
        "chunk": (chunks + _ITERATIONS, chunk),
        "chunk, decays": (chunks + _ITERATIONS, chunk + decays),
        "cell": (length, 8 * n**2),
        "write_prefix": (length, 8 * n**2),
        "linear attention": (1, 2 * n**2 + 2 * 64 * n),
        "softmax attention": (1, 2 * length * n),
    }[name]


if __name__ == "__main__":
    cli.run(main)
