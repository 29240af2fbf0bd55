"""A memory along a sequence, against its length: python -m benchmarks.causal.

Milliseconds for all heads, forward and with the gradient in weights, codes and reads, of both
methods of `causal.attend`, without decays and with; of `kanerva.write_prefix` and reads, where its
T covariances fit; and of linear and softmax attention of the same sizes, for the least that a
sequence of so many steps can take. Beside them what does not depend on the machine: how many steps
wait for each other, and thousands of multiplications a step and head, forward.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags

from benchmarks.memory import milliseconds
from experiments import cli
from memjax.memory import causal, kanerva

_LENGTHS = flags.DEFINE_list("lengths", ["64", "256", "1024", "4096", "32768"], "T, each.")
_HEADS = flags.DEFINE_integer("heads", 1, "Sequences at once.")
_SIZE = flags.DEFINE_integer("size", 64, "N and C.")
_CALLS = flags.DEFINE_integer("calls", 3, "Calls; the median counts.")
_CHUNK, _ITERATIONS = 32, 32  # as `causal.attend` has them
_LARGEST = {"write_prefix": 1_024, "softmax attention": 4_096}


def main(argv: Sequence[str]) -> None:
    """Prints a row for each length and way."""
    del argv
    print("     T  way                    forward   gradient ms   dependent steps   k mult. a step")
    for length in map(int, _LENGTHS.value):
        for name, (attend, decays) in ways().items():
            if length > _LARGEST.get(name, length):
                continue
            forward, gradient = times(attend, length, decays)
            steps, operations = counts(name, length, _SIZE.value)
            print(
                f"{length:6d}  {name:20s} {forward:9.2f} {gradient:13.2f} {steps:17d}"
                f" {operations / 1e3:16.1f}",
                flush=True,
            )


def ways() -> dict[str, tuple[Callable, bool]]:
    """By name: a function of weights, codes, reads and decays, and whether it takes decays."""
    found: dict[str, tuple[Callable, bool]] = {
        f"{method}{', decays' * decays}": (partial(memory, method), decays)
        for decays in (False, True)
        for method in ("recurrent", "chunk")
    }
    return found | {
        "write_prefix": (prefix, False),
        "linear attention": (linear_attention, False),
        "softmax attention": (softmax_attention, False),
    }


def memory(method: str, weights: Any, codes: Any, reads: Any, log_decay: Any) -> Any:
    """`causal.attend` from an empty memory."""
    prior = kanerva.prior(weights.shape[1], codes.shape[1], diagonal=True)
    options = {"log_decay": log_decay, "method": method}
    return causal.attend(prior, weights, codes, reads, 1.0, **options)[:2]


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


def times(attend: Callable, length: int, decays: bool) -> tuple[float, float]:
    """Forward, and with the gradient; the result itself is the cotangent: no loss is timed."""
    shape = (_HEADS.value, length, _SIZE.value)
    weights, codes, reads = (
        jax.random.normal(rng_key, shape) for rng_key in jax.random.split(jax.random.key(0), 3)
    )
    arguments = weights / shape[2] ** 0.5, codes, reads
    log_decay = jnp.full(shape[:2], -0.02) if decays else None
    forward = jax.vmap(attend)

    def pull_back(*arguments):
        result, gradient = jax.vjp(lambda *given: forward(*given, log_decay), *arguments)
        return gradient(result)

    calls = (
        partial(jax.jit(function), *given)
        for function, given in ((forward, (*arguments, log_decay)), (pull_back, arguments))
    )
    first, second = (milliseconds(call, _CALLS.value) for call in calls)
    return first, second


def counts(name: str, length: int, n: int) -> tuple[int, float]:
    """Dependent steps forward, and multiplications a step, for N = C = n; leading terms."""
    chunk, chunks = _CHUNK, -(-length // _CHUNK)
    solve = {
        "chunk": 2 * _ITERATIONS * chunk * n,
        "chunk, decays": _ITERATIONS * (4 * chunk * n + 2 * n**2),
    }
    return {
        "recurrent": (length, 10 * n**2),
        "recurrent, decays": (length, 4 * n**3 / 3 + 12 * n**2),
        "chunk": (chunks + _ITERATIONS, solve["chunk"] + 6 * n**2 + 4 * chunk * n),
        "chunk, decays": (
            chunks + _ITERATIONS,
            solve["chunk, decays"] + 5 * n**3 / chunk + 6 * n**2 + 4 * chunk * n,
        ),
        "write_prefix": (length, 8 * n**2),
        "linear attention": (1, 2 * n**2 + 2 * 64 * n),
        "softmax attention": (1, 2 * length * n),
    }[name]


if __name__ == "__main__":
    cli.run(main)
