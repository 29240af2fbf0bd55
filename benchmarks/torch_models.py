"""Models of memjax in PyTorch, with parameters of Flax's names: the peers of `peers`.

Each takes a batch and the noise of a step, and gives the loss, without metrics.
"""

import math

import torch
from torch.nn import functional as F
from torch_nets import Nets, log_likelihood, normal, standard_normal

_COMBINATION = ("a1", "a2", "a3", "a4", "b1", "c1", "c2", "c3", "c4")


class VAE(Nets):
    """`memjax.models.vae.VAE` with MLPs or residual convolutions."""

    def forward(self, query: torch.Tensor, latent_noise: torch.Tensor) -> torch.Tensor:
        """The mean of the negative bound over images `[B, H, W]`, with noise `[B, L, D]`."""
        posterior = normal(self.encode(query)[:, None])
        latent = posterior.loc + latent_noise * posterior.scale
        logits = self.decode(latent.flatten(0, 1)).view(*latent.shape[:2], *query.shape[1:])
        return -_bound(query, logits, latent, posterior).mean()


class MemVAE(Nets):
    """`memjax.models.mem_vae.MemVAE` with batch norm, sigmoid attention and the MLP composition."""

    def forward(self, query: torch.Tensor, latent_noise: torch.Tensor) -> torch.Tensor:
        """The mean of the negative bound over images `[B, H, W]`, with the penalty."""
        recognized = [query.flatten(1)]
        for i in range(2):
            recognized.append(self._layer(f"recognition_{i}", recognized[-1]))
        posterior = normal(self.dense("latent_posterior", recognized[-1])[:, None])
        latent = posterior.loc + latent_noise * posterior.scale
        generated = [latent.flatten(0, 1)]
        for i in (1, 0):
            generated.append(self._layer(f"generation_{i}", generated[-1]))
        logits = self.dense("pixels", generated[-1]).view(*latent.shape[:2], *query.shape[1:])
        bound = _bound(query, logits, latent, posterior).mean()
        pairs = zip(recognized[1:], reversed(generated[1:]), strict=True)
        penalties = [self._penalty(up, down.view(*latent.shape[:2], -1)) for up, down in pairs]
        return 0.1 * sum(penalties) - bound

    def _layer(self, name: str, inputs: torch.Tensor) -> torch.Tensor:
        """`memjax.nets.MemoryLayer`."""
        scale, bias = self.params[f"{name}/norm/scale"], self.params[f"{name}/norm/bias"]
        averages = self.state[f"{name}/norm/mean"], self.state[f"{name}/norm/var"]
        hidden = self.dense(f"{name}/dense", inputs)
        hidden = F.relu(F.batch_norm(hidden, *averages, scale, bias, True, momentum=0.01))
        if f"{name}/slots" not in self.params:
            return hidden
        keys, bias = self.params[f"{name}/slot_keys"], self.params[f"{name}/slot_bias"]
        read = torch.sigmoid(F.linear(hidden, keys, bias)) @ self.params[f"{name}/slots"]
        both = hidden * read
        p = {key: self.params[f"{name}/combination/{key}"] for key in _COMBINATION}
        gate = torch.sigmoid(p["c1"] + p["c2"] * read + p["c3"] * hidden + p["c4"] * both)
        linear = p["a1"] + p["a2"] * read + p["a3"] * hidden + p["a4"] * both
        return F.relu(linear + p["b1"] * gate)

    def _penalty(self, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
        pair = (F.batch_norm(x, None, None, training=True) for x in (up, down.mean(1)))
        return F.mse_loss(*pair)


def _bound(query, logits, latent, posterior) -> torch.Tensor:
    """IWAE's, `[B]`, of L latents `[B, L, D]` for each image."""
    log_weights = log_likelihood(logits, query[:, None])
    ratio = standard_normal(latent).log_prob(latent) - posterior.log_prob(latent)
    log_weights = log_weights + ratio.sum(-1)
    return log_weights.logsumexp(1) - math.log(latent.shape[1])
