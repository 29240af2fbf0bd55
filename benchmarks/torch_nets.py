"""The nets of `memjax.nets` in PyTorch, with parameters of Flax's names."""

from collections.abc import Mapping

import numpy as np
import torch
from torch.distributions import Normal
from torch.nn import functional as F

_BLOCKS = 3


class Nets(torch.nn.Module):
    """What the models are made of; `name` is where Flax has the parameters."""

    def __init__(self, params: Mapping[str, np.ndarray], image_size: int):
        """Takes Flax's parameters, as they are named there."""
        super().__init__()
        self.size = image_size
        tensors = {name: _to_torch(name, array) for name, array in params.items()}
        self.params = torch.nn.ParameterDict(tensors)

    def dense(self, name: str, inputs: torch.Tensor) -> torch.Tensor:
        """Linear."""
        return F.linear(inputs, self.params[f"{name}/kernel"], self.params[f"{name}/bias"])

    def mlp(self, name: str, *inputs: torch.Tensor) -> torch.Tensor:
        """ReLU layers and a linear one."""
        hidden = F.relu(self.dense(name, torch.cat(inputs, -1) if inputs[1:] else inputs[0]))
        i = 1
        while f"{name}/hidden_{i}/kernel" in self.params:
            hidden = F.relu(self.dense(f"{name}/hidden_{i}", hidden))
            i += 1
        return self.dense(f"{name}/output", hidden)

    def conv(self, name: str, inputs: torch.Tensor, stride: int = 1) -> torch.Tensor:
        """With padding "SAME"; at stride 2 an odd border comes last."""
        kernel = self.params[f"{name}/kernel"]
        bias = self.params.get(f"{name}/bias")
        if stride == 1:
            return F.conv2d(inputs, kernel, bias, padding=1)
        border = kernel.shape[-1] - 2 + inputs.shape[-1] % 2
        if border % 2 == 0:
            return F.conv2d(inputs, kernel, bias, stride, border // 2)
        pads = (border // 2, border - border // 2) * 2
        return F.conv2d(F.pad(inputs, pads), kernel, bias, stride)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """`ImageEncoder`, of images `[B, H, W]`."""
        top = "image_encoder/"
        if f"{top}MLP_0/kernel" in self.params:
            return self.mlp(f"{top}MLP_0", images.flatten(1))
        hidden = images[:, None]
        for i in range(_BLOCKS):
            hidden = F.relu(self.conv(f"{top}Conv_{i}", hidden, 2))
            hidden = self._residual(f"{top}_ResidualBlock_{i}", hidden)
        return self.dense(f"{top}Dense_0", to_vector(hidden))

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """`ImageDecoder`, of `[B, D]`."""
        top = "image_decoder/"
        if f"{top}MLP_0/kernel" in self.params:
            return self.mlp(f"{top}MLP_0", latent)
        *sizes, _ = self.sizes()
        hidden = to_map(F.relu(self.dense(f"{top}Dense_0", latent)), self.sizes()[-1])
        for i, size in enumerate(reversed(sizes)):
            hidden = self._residual(f"{top}_ResidualBlock_{i}", hidden)
            name = f"{top}ConvTranspose_{i}"
            kernel, bias = self.params[f"{name}/kernel"], self.params[f"{name}/bias"]
            hidden = F.conv_transpose2d(hidden, kernel, bias, stride=2, padding=1)
            hidden = hidden[..., :size, :size]
            hidden = hidden if i == _BLOCKS - 1 else F.relu(hidden)
        return hidden

    def sizes(self) -> list[int]:
        """Of the image, and of its halves, rounded up."""
        sizes = [self.size]
        for _ in range(_BLOCKS):
            sizes.append(-(-sizes[-1] // 2))
        return sizes

    def _residual(self, name: str, inputs: torch.Tensor) -> torch.Tensor:
        hidden = F.relu(self.conv(f"{name}/Conv_0", inputs))
        return F.relu(inputs + self.conv(f"{name}/Conv_1", hidden))


def to_vector(hidden: torch.Tensor) -> torch.Tensor:
    """`[B, F, H, W]` to `[B, H W F]`, in Flax's order."""
    return hidden.permute(0, 2, 3, 1).flatten(1)


def to_map(vectors: torch.Tensor, size: int) -> torch.Tensor:
    """`[B, H W F]` to `[B, F, H, W]`."""
    return vectors.view(len(vectors), size, size, -1).permute(0, 3, 1, 2)


def normal(parameters: torch.Tensor, scale: float = 1.0) -> Normal:
    """`distributions.diagonal_normal`."""
    loc, log_scale = parameters.chunk(2, dim=-1)
    return Normal(loc, scale * torch.exp(7 * torch.tanh(log_scale / 7)), validate_args=False)


def standard_normal(like: torch.Tensor) -> Normal:
    """N(0, I), of the shape of `like`."""
    return Normal(torch.zeros_like(like), torch.ones_like(like), validate_args=False)


def log_likelihood(logits: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Of Bernoulli pixels `[..., H, W]`, summed; images broadcast."""
    target = images.expand_as(logits)
    cost = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return -cost.sum((-2, -1))


def _to_torch(name: str, array: np.ndarray) -> torch.nn.Parameter:
    if array.ndim == 4:
        is_up = "ConvTranspose" in name  # PyTorch's own flips it
        array = array[::-1, ::-1].transpose(2, 3, 0, 1) if is_up else array.transpose(3, 2, 0, 1)
        tensor = torch.tensor(array.copy()).contiguous(memory_format=torch.channels_last)
        return torch.nn.Parameter(tensor)
    return torch.nn.Parameter(torch.tensor(array.T.copy() if name.endswith("kernel") else array))
