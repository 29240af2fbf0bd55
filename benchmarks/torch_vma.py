"""The VMA of `vma_mnist_recall` in eager PyTorch: the peer of `train_step`."""

import itertools
import json
import math
import statistics
import sys
import time

import torch
from torch import nn
from torch.distributions import Bernoulli, kl_divergence
from torch_nets import normal

_BATCH, _SAMPLES, _LATENT = 32, 4, 32


class VMA(nn.Module):
    """Same nets, similarity, priors and direct path as `memjax.models.vma.VMA`."""

    def __init__(self):
        """Creates the parameters."""
        super().__init__()
        self.slot_embedding = _mlp(784, 128, 128)
        self.query_embedding = _mlp(784, 128, 128)
        self.prior_query = nn.Parameter(0.01 * torch.randn(128))
        self.latent_prior = _mlp(784, 256, 128, 2 * _LATENT)
        self.latent_posterior = _mlp(2 * 784, 256, 128, 2 * _LATENT)
        self.decoder = _mlp(784 + _LATENT, 128, 256, 784)
        self.log_gain = nn.Parameter(torch.zeros(784))

    def forward(self, query: torch.Tensor, support: torch.Tensor) -> torch.Tensor:
        """The mean over `query` `[B, 784]` of VIMCO's loss; memory `[N, 784]`."""
        embeddings = nn.functional.normalize(self.slot_embedding(support), dim=-1)
        log_q = torch.log_softmax(self.query_embedding(query) @ embeddings.T, dim=-1)
        log_p = torch.log_softmax(embeddings @ self.prior_query, dim=-1)
        addresses = torch.multinomial(log_q.detach().exp(), _SAMPLES, replacement=True)
        address_log_probs = log_q.gather(1, addresses)
        slots = support[addresses]
        both = torch.cat([query[:, None].expand_as(slots), slots], dim=-1)
        prior = normal(self.latent_prior(slots))
        posterior = normal(self.latent_posterior(both))
        latent = posterior.rsample()
        logits = self.decoder(torch.cat([slots, latent], dim=-1))
        logits = logits + self.log_gain.exp() * (2 * slots - 1)
        log_likelihood = Bernoulli(logits=logits).log_prob(query[:, None]).sum(-1)
        kl_divergence(posterior, prior).sum(-1).mean().detach()  # a metric
        log_ratio = (prior.log_prob(latent) - posterior.log_prob(latent)).sum(-1)
        log_weights = log_likelihood + log_p[addresses] - address_log_probs + log_ratio
        return -vimco(log_weights, address_log_probs).mean()


def steps_per_second(num_slots: int, rounds: int, steps: int) -> dict[str, float]:
    """The median over rounds, on all cores."""
    arrays = torch.randint(2, (60_000, 784), dtype=torch.uint8) * 255
    model = VMA()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

    def take_steps(num_steps: int) -> None:
        for _ in range(num_steps):
            rows = torch.randint(len(arrays), (num_slots,))
            support = arrays[rows].float() / 255
            query = support[torch.randint(num_slots, (_BATCH,))]
            optimizer.zero_grad()
            model(query, support).backward()
            optimizer.step()

    take_steps(5)
    speeds = []
    for _ in range(rounds):
        start = time.perf_counter()
        take_steps(steps)
        speeds.append(steps / (time.perf_counter() - start))
    return {"steps_per_second": statistics.median(speeds)}


def _mlp(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes[:-1]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


def vimco(log_weights: torch.Tensor, address_log_probs: torch.Tensor) -> torch.Tensor:
    """VIMCO's objective for L samples of each query, both `[B, L]`: `[B]`."""
    count = log_weights.shape[1]
    bound = log_weights.logsumexp(1) - math.log(count)
    own = torch.eye(count, dtype=torch.bool)
    others = log_weights[:, None].masked_fill(own, -torch.inf).logsumexp(2) - math.log(count - 1)
    score = ((bound[:, None] - others).detach() * address_log_probs).sum(1)
    return bound + score - score.detach()


if __name__ == "__main__":
    print(json.dumps(steps_per_second(**json.loads(sys.argv[1]))))
