"""Steps of the memory of the `dnc` package for PyTorch: the peer of `dnc_steps`."""

import json
import sys

import numpy as np
import torch
from dnc.memory import Memory
from torch_timing import median_milliseconds


def run(path: str, rounds: int) -> dict[str, object]:
    """Medians in milliseconds, forward and with the gradient in all inputs, and what is read.

    Args:
      path: an .npz of the inputs, each with leading axes time and batch.
      rounds: how often each is timed.
    """
    with np.load(path) as file:
        inputs = {name: torch.from_numpy(file[name]) for name in file.files}
        num_slots = int(inputs.pop("num_slots"))
    _, batch, num_heads, size = inputs["read_keys"].shape
    memory = Memory(size, num_slots, size, num_heads)

    def read_all(inputs):
        hidden, retrieved = memory.reset(batch), []
        for t in range(len(inputs["code"])):
            now = {name: value[t] for name, value in inputs.items()}
            now |= {name: now[name][:, None] for name in ("write_key", "code", "erase")}
            hidden = memory.write(
                now["write_key"],
                now["code"],
                now["erase"],
                now["free_gate"],
                now["read_strengths"],
                now["write_strength"][:, None],
                now["write_gate"][:, None],
                now["allocation_gate"][:, None],
                hidden,
            )
            # Its order of modes is backward, forward, content.
            modes = now["read_modes"][..., [0, 2, 1]]
            found, hidden = memory.read(now["read_keys"], now["read_strengths"], modes, hidden)
            retrieved.append(found)
        return torch.stack(retrieved)

    def forward():
        with torch.no_grad():
            return read_all(inputs)

    def with_gradient():
        leaves = {name: value.requires_grad_() for name, value in inputs.items()}
        found = read_all(leaves)
        torch.autograd.grad(found, list(leaves.values()), found.detach())

    return {
        "forward": median_milliseconds(forward, rounds),
        "gradient": median_milliseconds(with_gradient, rounds),
        "retrieved": forward().flatten().tolist(),
    }


if __name__ == "__main__":
    print(json.dumps(run(**json.loads(sys.argv[1]))))
