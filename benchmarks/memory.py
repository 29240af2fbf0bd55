"""The Kanerva write, each form, beside PyTorch and the floor: python -m benchmarks.memory.

Milliseconds for all episodes, forward and with the gradient in every input. The floor is the time
of the cheapest form's multiplications at the rate of one large matrix product on this machine.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from absl import flags

from benchmarks import peer, steps
from experiments import cli
from experiments.configs import kanerva_omniglot
from memjax import estimators, training
from memjax.memory import addressing, conditioning, kanerva

_ROUNDS = flags.DEFINE_integer("rounds", 20, "Calls; the median counts.")
_SHAPES = ((16, 32, 64, 100), (16, 32, 128, 200), (16, 256, 64, 100), (1, 4096, 256, 256))


def main() -> None:
    """Prints the table of the write, then the cost of VIMCO alone."""
    rate = matrix_rate()
    print(f"one large matrix product: {rate / 1e9:.0f} G multiplications and additions a second\n")
    print("episodes     T    N    C  form             forward   gradient ms  gradient / floor")
    for shape in _SHAPES:
        rounds = _ROUNDS.value if shape[1] < 1_000 else 3
        torch = peer.run(
            "torch_kanerva.py",
            **dict(zip(("episodes", "t", "n", "c"), shape, strict=True)),
            rounds=rounds,
        )
        floor = floor_milliseconds(shape, rate)
        for method in kanerva.WRITE_METHODS:
            forward, gradient = write_milliseconds(shape, method, rounds)
            print(_row(shape, method, forward, gradient, floor), flush=True)
        if torch is not None:
            for name in ("online", "batch"):
                times = torch[f"{name} forward"], torch[f"{name} gradient"]
                print(_row(shape, f"PyTorch {name}", *times, floor))
            best = write_milliseconds(shape, "auto", rounds)[1]
            ratios = [torch[f"{name} gradient"] / best for name in ("online", "batch")]
            online, batch = (f"{ratio:.1f}x" for ratio in ratios)
            print(f"  auto is {online} PyTorch's online loop, {batch} its batch solve\n")
    print(f"VIMCO, 32 data points of 4 samples, with gradient: {vimco_milliseconds():.3f} ms")
    step, write = kanerva_step_milliseconds(_ROUNDS.value)
    share = write / step
    print(f"kanerva_omniglot: a training step {step:.0f} ms, its write {write:.1f} ms, {share:.1%}")


def write_milliseconds(shape: Sequence[int], method: str, rounds: int) -> tuple[float, float]:
    """Forward, and with the gradient in all inputs."""
    episodes, t, n, c = shape
    rng_keys = jax.random.split(jax.random.key(0), 3)
    mean = jax.random.normal(rng_keys[0], (episodes, n, c))
    row_cov = jnp.broadcast_to(jnp.eye(n), (episodes, n, n))
    weights = jax.random.normal(rng_keys[1], (episodes, t, n)) / n**0.5
    codes = jax.random.normal(rng_keys[2], (episodes, t, c))

    def write(mean, row_cov, weights, codes):
        memory = kanerva.KanervaState(mean, row_cov)
        return kanerva.write(memory, weights, codes, 1.0, method=method)

    def pull_back(*arguments):
        """The posterior itself is the cotangent: no loss is timed."""
        posterior, gradient = jax.vjp(jax.vmap(write), *arguments)
        return gradient(posterior)

    arguments = (mean, row_cov, weights, codes)
    forward = jax.jit(jax.vmap(write))
    gradient = jax.jit(pull_back)
    return milliseconds(partial(forward, *arguments), rounds), milliseconds(
        partial(gradient, *arguments), rounds
    )


def floor_milliseconds(shape: Sequence[int], rate: float) -> float:
    """Time of the cheapest form's products alone, forward and backward."""
    episodes, t, n, c = shape
    operations = conditioning.operations((t, n), (n, c))
    return 1e3 * episodes * 2 * min(operations.values()) / rate


def vimco_milliseconds() -> float:
    """Addresses' log probabilities to gradient, for a batch of 32."""

    def vimco(log_weights, log_probs):
        return estimators.vimco(log_weights - log_probs, log_probs)

    def iwae(log_weights, log_probs):
        return estimators.iwae(log_weights - log_probs)

    def time_with(objective: Callable) -> float:
        def one(rng_key, logits, log_weights):
            _, log_probs = addressing.sample(rng_key, logits, 4)
            return objective(log_weights, log_probs)

        def loss(logits, log_weights):
            rng_keys = jax.random.split(jax.random.key(0), 32)
            return jnp.mean(jax.vmap(one)(rng_keys, logits, log_weights))

        arguments = (jnp.zeros((32, 256)), jnp.ones((32, 4)))
        return milliseconds(partial(jax.jit(jax.grad(loss)), *arguments), 200)

    return time_with(vimco) - time_with(iwae)


def kanerva_step_milliseconds(rounds: int) -> tuple[float, float]:
    """A training step of the Kanerva Machine at the paper's sizes, and its write in that."""
    config = kanerva_omniglot.get_config()
    experiment = training.build(config, steps.random_images(1_000, 28, 28))
    take_step = steps.compile_steps(experiment, 1)
    episodes, model = config.episodes, config.model
    shape = (episodes.num_episodes, episodes.episode_length, model.num_slots, model.code_size)
    return milliseconds(take_step, rounds), write_milliseconds(shape, "auto", rounds)[1]


def matrix_rate() -> float:
    """Multiplications and additions a second of a 1024 x 1024 product."""
    matrix = jnp.ones((1024, 1024))
    product = jax.jit(jnp.matmul)
    return 2 * 1024**3 / (1e-3 * milliseconds(partial(product, matrix, matrix), 20))


def milliseconds(call: Callable, rounds: int) -> float:
    """The median time of a call."""
    jax.block_until_ready(call())
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        jax.block_until_ready(call())
        seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds)


def _row(shape: Sequence[int], name: str, forward: float, gradient: float, floor: float) -> str:
    sizes = "{:8d} {:5d} {:4d} {:4d}".format(*shape)
    return f"{sizes}  {name:15s} {forward:8.2f} {gradient:10.2f} {gradient / floor:12.1f}"


if __name__ == "__main__":
    cli.run(main)
