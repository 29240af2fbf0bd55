"""The convolutions of the image nets beside PyTorch's: python -m benchmarks.convolutions.

Each layer at the batch that `vae_omniglot` folds into one call, on one thread: forward, the
gradient of the input, the gradient of the kernel. Processor time, so that other work beside it
counts little. The floor is the operations at the rate of a large matrix product.
"""

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

os.environ["NPROC"] = "1"  # XLA's threads; read when JAX starts

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks import peer
from experiments import cli
from memjax.nets.convolutions import Conv, ConvTranspose

_BATCH = flags.DEFINE_integer("batch", 512, "Images.")
_ROUNDS = flags.DEFINE_integer("rounds", 7, "The median counts.")
_LAYERS = {  # size, channels in and out, kernel, stride, transposed
    "28 to 14": (28, 1, 16, 4, 2, False),
    "14 to 14": (14, 16, 16, 3, 1, False),
    "14 to 7": (14, 16, 16, 4, 2, False),
    "7 to 7": (7, 16, 16, 3, 1, False),
    "4 to 4": (4, 16, 16, 3, 1, False),
    "4 to 8": (4, 16, 16, 4, 2, True),
    "7 to 14": (7, 16, 16, 4, 2, True),
    "14 to 28": (14, 16, 1, 4, 2, True),
    "26 to 13": (26, 16, 16, 3, 2, False),
    "26 to 26": (26, 16, 1, 3, 1, False),
}


def main() -> None:
    """Prints a row for each layer."""
    matrix = jnp.ones((1024, 1024))
    rate = 2 * 1024**3 / milliseconds(jax.jit(jnp.matmul), matrix, matrix)
    print("ms            memjax: forward, input, kernel   PyTorch            Flax         floor")
    for name, layer in _LAYERS.items():
        found = peer.run("torch_convolutions.py", layer=layer, batch=_BATCH.value)
        theirs = found["milliseconds"] if found else [float("nan")] * 3
        rows = measure(layer, ours=True), theirs, measure(layer, ours=False)
        numbers = "   ".join(" ".join(f"{value:6.2f}" for value in row) for row in rows)
        size, inputs, outputs, kernel, stride, transposed = layer
        places = size**2 if transposed else (size // stride) ** 2
        floor = 2 * _BATCH.value * places * kernel**2 * inputs * outputs / rate
        print(f"{name:12}  {numbers}  {floor:6.2f}", flush=True)


def measure(layer: Sequence[Any], ours: bool) -> list[float]:
    """Milliseconds forward and of both gradients, by our module or by Flax's."""
    size, inputs, outputs, kernel, stride, transposed = layer
    module: nn.Module
    window, strides = (kernel, kernel), (stride, stride)
    if ours:
        module = ConvTranspose(outputs) if transposed else Conv(outputs, kernel, stride)
    else:
        module = (nn.ConvTranspose if transposed else nn.Conv)(outputs, window, strides)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(_BATCH.value, size, size, inputs)).astype(np.float32)
    params = jax.jit(module.init)(jax.random.key(0), images)
    change = np.asarray(jax.jit(module.apply)(params, images))
    calls = [
        (module.apply, params, images),
        (lambda p, x, g: jax.vjp(lambda x: module.apply(p, x), x)[1](g), params, images, change),
        (lambda p, x, g: jax.vjp(lambda p: module.apply(p, x), p)[1](g), params, images, change),
    ]
    return [milliseconds(jax.jit(call), *arguments) for call, *arguments in calls]


def milliseconds(call: Callable[..., object], *arguments: object) -> float:
    """The median processor time of a call."""
    times = []
    for _ in range(_ROUNDS.value + 1):
        start = time.process_time()
        jax.block_until_ready(call(*arguments))
        times.append(time.process_time() - start)
    return 1e3 * float(np.median(times[1:]))


if __name__ == "__main__":
    cli.run(main)
