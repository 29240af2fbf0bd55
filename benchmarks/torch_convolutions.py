"""A convolution of the image nets in PyTorch, one thread: the peer of `convolutions`."""

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F


def measure(layer: Sequence[int], batch: int) -> list[float]:
    """Milliseconds of processor time forward and of both gradients."""
    size, inputs, outputs, kernel, stride, transposed = layer
    images = torch.randn(batch, inputs, size, size, requires_grad=True)
    channels = (inputs, outputs) if transposed else (outputs, inputs)
    weights = torch.randn(*channels, kernel, kernel, requires_grad=True)
    convolve = F.conv_transpose2d if transposed else F.conv2d
    outcome = convolve(images, weights, None, stride, 1)
    change = torch.randn_like(outcome)

    def gradient(of: torch.Tensor) -> Callable[[], object]:
        return lambda: torch.autograd.grad(outcome, of, change, retain_graph=True)

    with torch.no_grad():
        forward = milliseconds(lambda: convolve(images, weights, None, stride, 1))
    return [forward, milliseconds(gradient(images)), milliseconds(gradient(weights))]


def milliseconds(call: Callable[[], object]) -> float:
    """The median of 7, after one that does not count."""
    times = []
    for _ in range(8):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return 1e3 * statistics.median(times[1:])


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps({"milliseconds": measure(**json.loads(sys.argv[1]))}))
