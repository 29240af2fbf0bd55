"""Training steps a second beside the floor and a peer: python -m benchmarks.train_step.

The floor is the same matrix products alone: every one of a step's, forward and backward, in the
same shapes, nothing in between. The peer is the same VMA in eager PyTorch.
"""

import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
from absl import flags

from benchmarks import peer, steps
from experiments import cli
from experiments.configs import vma_mnist_recall
from memjax import training
from memjax.training import step as step_lib

_SLOTS = flags.DEFINE_multi_integer("num_slots", [256, 1024], "Slots; repeatable.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Interleaved rounds; the median counts.")
_STEPS = flags.DEFINE_integer("steps", 200, "Steps in a round.")


def main() -> None:
    """Measures each contestant in turn, round by round, and prints the medians and ratios."""
    print("vma_mnist_recall, steps a second; ratio to the floor")
    for num_slots in _SLOTS.value:
        contestants = {
            "matrix products alone": matrix_products(num_slots),
            "memjax": memjax_steps(num_slots),
        }
        speeds: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(_ROUNDS.value):
            for name, take_steps in contestants.items():
                start = time.perf_counter()
                take_steps(_STEPS.value)
                speeds[name].append(_STEPS.value / (time.perf_counter() - start))
        floor = np.median(speeds["matrix products alone"])
        torch = peer.run(
            "torch_vma.py", num_slots=num_slots, rounds=_ROUNDS.value, steps=_STEPS.value // 4
        )
        if torch is not None:
            speeds["PyTorch, eager"] = [torch["steps_per_second"]]
        for name, values in speeds.items():
            median = np.median(values)
            print(f"{num_slots:5d} slots  {name:22s} {median:7.1f}  {median / floor:5.2f}")


def memjax_steps(num_slots: int) -> Callable[[int], None]:
    """The loop's own compiled call."""
    call = steps.compile_steps(_experiment(num_slots), _STEPS.value)
    return lambda num_steps: call()


def matrix_products(num_slots: int) -> Callable[[int], None]:
    """Every matrix product of a training step, and nothing else."""
    experiment = _experiment(num_slots)
    state = training.init_state(experiment)
    one_step = step_lib.make_train_call(experiment, in_loop=False)
    jaxpr = jax.make_jaxpr(one_step)(state, 1, experiment.train.arrays, step_lib.device_indices())
    products = list(_products(jaxpr.jaxpr))
    operands = [
        tuple(jax.random.normal(jax.random.key(i), v.aval.shape) for v in equation.invars)
        for i, equation in enumerate(products)
    ]
    parameters = [equation.params["dimension_numbers"] for equation in products]

    @jax.jit
    def call(operands):
        return [
            jax.lax.dot_general(*pair, numbers)
            for pair, numbers in zip(operands, parameters, strict=True)
        ]

    def take_steps(num_steps: int) -> None:
        for _ in range(num_steps):
            results = call(operands)
        jax.block_until_ready(results)

    take_steps(2)
    return take_steps


def _experiment(num_slots: int) -> training.Experiment:
    config = vma_mnist_recall.get_config()
    config.episodes.num_slots = num_slots
    return training.build(config, steps.random_images(60_000, 28, 28))


def _products(jaxpr: jax.extend.core.Jaxpr) -> Iterator[jax.extend.core.JaxprEqn]:
    """All matrix products of `jaxpr` and of the functions that it calls."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _products(inner)


if __name__ == "__main__":
    cli.run(main)
