"""Training steps of a twin: the peer of `peers`.

Prints the loss on what the file holds and its gradient's norm, then, for each line that comes in,
steps a second. Images are drawn as of one class each, whatever the episodes are.
"""

import json
import sys
import time

import numpy as np
import torch
from torch_episodic import DNCMachine, KanervaMachine
from torch_models import VAE, VMA, MemVAE

_MODELS = {model.__name__: model for model in (VAE, MemVAE, VMA, KanervaMachine, DNCMachine)}


def work(path: str, threads: int, compiled: bool, seconds: float, clock: str) -> None:
    """See above.

    Args:
      path: a file by `first_step`.
      threads: of PyTorch.
      compiled: whether by `torch.compile`.
      seconds: how long a turn takes, at least.
      clock: one of `time`'s.
    """
    now = getattr(time, clock)
    torch.set_num_threads(threads)
    file = np.load(path)
    first = {name: torch.tensor(array) for name, array in _under("inputs/", file).items()}
    size, binarize = first["query"].shape[-1], bool(file["binarize"])
    nets = _MODELS[str(file["model"])](_under("params/", file), size)
    nets.state = {name: torch.tensor(a) for name, a in _under("batch_stats/", file).items()}
    loss = torch.compile(nets) if compiled else nets
    value = loss(**first)
    value.backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in nets.parameters()])
    print(json.dumps([value.item(), norm.item()]), flush=True)
    optimizer = torch.optim.Adam(nets.parameters(), lr=1e-4, fused=True)
    images = torch.randint(2, (20_000, size, size), dtype=torch.uint8) * 255

    def new(name: str, like: torch.Tensor) -> torch.Tensor:
        if name in ("query", "support"):
            batch = images[torch.randint(len(images), like.shape[:-2])].float() / 255
            return torch.bernoulli(batch) if binarize else batch
        return torch.rand_like(like) if name.endswith("uniform") else torch.randn_like(like)

    for _ in sys.stdin:
        start, taken = now(), 0
        while now() < start + seconds:
            optimizer.zero_grad()
            loss(**{name: new(name, like) for name, like in first.items()}).backward()
            optimizer.step()
            taken += 1
        print(taken / (now() - start), flush=True)


def _under(prefix: str, file: np.lib.npyio.NpzFile) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): file[name] for name in file if name.startswith(prefix)}


if __name__ == "__main__":
    work(**json.loads(sys.argv[1]))
