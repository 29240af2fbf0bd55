"""Models of memjax in PyTorch, with parameters of Flax's names: the peers of `peers`.

Each takes a batch and the noise of a step, and gives the loss, without metrics.
"""

import math
from collections.abc import Sequence

import torch
from torch.nn import functional as F
from torch_nets import Nets, log_likelihood, normal, standard_normal, to_map, to_vector
from torch_vma import vimco

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


class VMA(Nets):
    """`memjax.models.vma.VMA` with pyramids, tied embeddings and a memory of images."""

    def forward(
        self,
        query: torch.Tensor,
        support: torch.Tensor,
        address_uniform: torch.Tensor,
        latent_noise: torch.Tensor,
    ) -> torch.Tensor:
        """The mean of VIMCO's loss over queries `[B, H, W]`, with a memory `[N, H, W]`."""
        embeddings = self._embed(torch.cat([support, query])[:, None])
        slots, queries = embeddings.split([len(support), len(query)])
        slots = F.normalize(slots, dim=-1)
        log_q = torch.log_softmax(queries @ slots.T, dim=-1)
        log_p = torch.log_softmax(slots @ self.params["prior_query"], dim=-1)
        cumulative = log_q.detach().exp().cumsum(1)
        drawn = address_uniform * cumulative[:, -1:]
        addresses = torch.searchsorted(cumulative, drawn, right=True)
        address_log_probs = log_q.gather(1, addresses)
        # Once for each slot and query; then of each of the samples, side by side.
        at = addresses.flatten()
        stems = self.conv("nets/slot_stem", support[:, None])
        *maps, top = self._pyramid("nets/pyramid", stems)
        skips = [self._pixelwise(f"nets/skips_{i}", map_)[at] for i, map_ in enumerate(maps)]
        prior = normal(self.mlp("nets/latent_prior", to_vector(top))[addresses])
        both = self.conv("nets/query_stem", query[:, None])[:, None] + stems[addresses]
        top_of_both = to_vector(self._pyramid("nets/pyramid", both.flatten(0, 1))[-1])
        posterior = normal(
            self.mlp("nets/latent_posterior", top_of_both).view(*latent_noise.shape[:2], -1)
        )
        latent = posterior.loc + latent_noise * posterior.scale
        codes = [self.dense("nets/slot_code", to_vector(top))[addresses], latent]
        logits = self._decode(torch.cat(codes, -1).flatten(0, 1), skips)
        logits = logits.view(*addresses.shape, *query.shape[1:])
        log_weights = log_likelihood(logits, query[:, None]) + log_p[addresses] - address_log_probs
        log_weights = log_weights + (prior.log_prob(latent) - posterior.log_prob(latent)).sum(-1)
        return -vimco(log_weights, address_log_probs).mean()

    def _embed(self, images: torch.Tensor) -> torch.Tensor:
        """`PyramidEncoder`."""
        top = "slot_embedding"
        maps = self._pyramid(f"{top}/Pyramid_0", self.conv(f"{top}/Conv_0", images))
        return self.mlp(f"{top}/MLP_0", to_vector(maps[-1]))

    def _pyramid(self, name: str, stems: torch.Tensor) -> list[torch.Tensor]:
        """`Pyramid`: a map of each size, the finest first, and the top."""
        hidden = F.relu(stems)
        maps = [hidden]
        for i, stride in enumerate((2, 1, 2, 1, 2)):
            hidden = F.relu(self.conv(f"{name}/Conv_{i}", hidden, stride))
            if stride == 1:
                maps.append(hidden)
        return [*maps, hidden]

    def _decode(self, codes: torch.Tensor, skips: Sequence[torch.Tensor]) -> torch.Tensor:
        """`PyramidDecoder`, of `[B, D]`."""
        name = "nets/decoder"
        *sizes, top = self.sizes()
        hidden = to_map(F.relu(self.dense(f"{name}/Dense_0", codes)), top)
        for i, (size, skip) in reversed(list(enumerate(zip(sizes, skips, strict=True)))):
            hidden = self._spread(f"{name}/Dense_{3 - i}", hidden)[..., :size, :size]
            hidden = self.conv(f"{name}/Conv_{2 - i}", F.relu(hidden + skip))
            hidden = F.relu(hidden) if i else hidden
        return hidden

    def _spread(self, name: str, hidden: torch.Tensor) -> torch.Tensor:
        """A linear layer of each pixel, to four."""
        kernel, bias = self.params[f"{name}/kernel"], self.params[f"{name}/bias"]
        kernel = kernel.view(4, -1, kernel.shape[1]).transpose(0, 1).flatten(0, 1)
        bias = bias.view(4, -1).T.flatten()
        return F.pixel_shuffle(F.conv2d(hidden, kernel[..., None, None], bias), 2)

    def _pixelwise(self, name: str, hidden: torch.Tensor) -> torch.Tensor:
        """A linear layer of each pixel."""
        kernel, bias = self.params[f"{name}/kernel"], self.params[f"{name}/bias"]
        return F.conv2d(hidden, kernel[..., None, None], bias)


def _bound(query, logits, latent, posterior) -> torch.Tensor:
    """IWAE's, `[B]`, of L latents `[B, L, D]` for each image."""
    log_weights = log_likelihood(logits, query[:, None])
    ratio = standard_normal(latent).log_prob(latent) - posterior.log_prob(latent)
    log_weights = log_weights + ratio.sum(-1)
    return log_weights.logsumexp(1) - math.log(latent.shape[1])
