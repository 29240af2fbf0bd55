"""Training steps of the VAEs of `vae_mnist` and `vae_omniglot` in PyTorch: the peer of `peers`.

Prints the loss on what the file holds, then, for each line that comes in, steps a second.
"""

import json
import math
import sys
import time

import numpy as np
import torch
from torch.distributions import Normal
from torch.nn import functional as F

_BLOCKS = 3


class VAE(torch.nn.Module):
    """`memjax.models.vae.VAE` with parameters of its names, MLPs or residual convolutions."""

    def __init__(self, params: dict[str, np.ndarray], image_size: int):
        """Takes Flax's parameters."""
        super().__init__()
        self.size, self.names = image_size, list(params)
        tensors = [torch.nn.Parameter(_to_torch(*item)) for item in params.items()]
        self.tensors = torch.nn.ParameterList(tensors)

    def forward(self, images: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """The mean of the negative bound over images `[B, H, W]`, with noise `[L, B, D]`."""
        self.params = dict(zip(self.names, self.tensors, strict=True))
        loc, log_scale = self._encode(images).chunk(2, dim=-1)
        posterior = Normal(loc, torch.exp(7 * torch.tanh(log_scale / 7)), validate_args=False)
        latent = posterior.loc + noise * posterior.scale
        prior = Normal(torch.zeros_like(loc), torch.ones_like(loc), validate_args=False)
        logits = self._decode(latent.flatten(0, 1)).view(len(noise), *images.shape)
        target = images.expand_as(logits)
        cost = F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum((-2, -1))
        log_weights = (prior.log_prob(latent) - posterior.log_prob(latent)).sum(-1) - cost
        return -(log_weights.logsumexp(0) - math.log(len(noise))).mean()

    def _encode(self, images: torch.Tensor) -> torch.Tensor:
        top = "image_encoder/"
        if f"{top}MLP_0/kernel" in self.params:
            return self._mlp(f"{top}MLP_0", images.flatten(1))
        hidden = images[:, None]
        for i in range(_BLOCKS):
            odd = hidden.shape[-1] % 2
            hidden = F.relu(self._conv(f"{top}Conv_{i}", F.pad(hidden, (1, 1 + odd) * 2), 2, 0))
            hidden = self._residual(f"{top}_ResidualBlock_{i}", hidden)
        return self._dense(f"{top}Dense_0", hidden.permute(0, 2, 3, 1).flatten(1))

    def _decode(self, latent: torch.Tensor) -> torch.Tensor:
        top = "image_decoder/"
        if f"{top}MLP_0/kernel" in self.params:
            return self._mlp(f"{top}MLP_0", latent)
        sizes = [self.size]
        for _ in range(_BLOCKS):
            sizes.append(-(-sizes[-1] // 2))
        hidden = F.relu(self._dense(f"{top}Dense_0", latent))
        hidden = hidden.view(len(latent), sizes[-1], sizes[-1], -1).permute(0, 3, 1, 2)
        for i, size in enumerate(reversed(sizes[:-1])):
            hidden = self._residual(f"{top}_ResidualBlock_{i}", hidden)
            name = f"{top}ConvTranspose_{i}"
            kernel, bias = self.params[f"{name}/kernel"], self.params[f"{name}/bias"]
            hidden = F.conv_transpose2d(hidden, kernel, bias, stride=2, padding=1)
            hidden = hidden[..., :size, :size]
            hidden = hidden if i == _BLOCKS - 1 else F.relu(hidden)
        return hidden

    def _mlp(self, name: str, hidden: torch.Tensor) -> torch.Tensor:
        hidden = F.relu(self._dense(name, hidden))
        i = 1
        while f"{name}/hidden_{i}/kernel" in self.params:
            hidden = F.relu(self._dense(f"{name}/hidden_{i}", hidden))
            i += 1
        return self._dense(f"{name}/output", hidden)

    def _residual(self, name: str, inputs: torch.Tensor) -> torch.Tensor:
        hidden = F.relu(self._conv(f"{name}/Conv_0", inputs, 1, 1))
        return F.relu(inputs + self._conv(f"{name}/Conv_1", hidden, 1, 1))

    def _conv(self, name: str, inputs: torch.Tensor, stride: int, padding: int) -> torch.Tensor:
        kernel, bias = self.params[f"{name}/kernel"], self.params[f"{name}/bias"]
        return F.conv2d(inputs, kernel, bias, stride, padding)

    def _dense(self, name: str, inputs: torch.Tensor) -> torch.Tensor:
        return F.linear(inputs, self.params[f"{name}/kernel"], self.params[f"{name}/bias"])


def _to_torch(name: str, array: np.ndarray) -> torch.Tensor:
    if "ConvTranspose" in name and array.ndim == 4:
        array = array[::-1, ::-1].transpose(2, 3, 0, 1)  # PyTorch's own flips it
    elif array.ndim == 4:
        array = array.transpose(3, 2, 0, 1)
    elif array.ndim == 2:
        array = array.T
    return torch.tensor(array.copy())


def work(path: str, threads: int, compiled: bool, seconds: float, clock: str) -> None:
    """See above; `clock` is one of `time`'s."""
    now = getattr(time, clock)
    torch.set_num_threads(threads)
    file = np.load(path)
    params = {name[7:]: file[name] for name in file if name.startswith("params/")}
    images, noise = torch.tensor(file["images"]), torch.tensor(file["noise"])
    model = VAE(params, images.shape[-1])
    loss = torch.compile(model) if compiled else model
    print(loss(images, noise).item(), flush=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    arrays = torch.randint(2, (20_000, *images.shape[1:]), dtype=torch.uint8) * 255
    for _ in sys.stdin:
        start, taken = now(), 0
        while now() < start + seconds:
            batch = arrays[torch.randint(len(arrays), (len(images),))].float() / 255
            optimizer.zero_grad()
            loss(batch, torch.randn(noise.shape)).backward()
            optimizer.step()
            taken += 1
        print(taken / (now() - start), flush=True)


if __name__ == "__main__":
    work(**json.loads(sys.argv[1]))
