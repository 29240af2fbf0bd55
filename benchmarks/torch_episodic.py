"""Models of memjax that write episodes, in PyTorch; see `torch_models`."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F
from torch_nets import Nets, log_likelihood, normal, standard_normal


class EpisodicVAE(Nets):
    """`memjax.models.episodic.EpisodicVAE`. The KL terms keep the weight that they have at first.

    A subclass gives `write`, from addresses `[E, T, A]` and codes `[E, T, C]` to a memory, and
    `read`, from a memory and addresses to the mean `[E, T, C]` of p(z|y, M).
    """

    write: Any
    read: Any

    def forward(
        self,
        query: torch.Tensor,
        write_noise: torch.Tensor,
        write_address_noise: torch.Tensor,
        code_noise: torch.Tensor,
        read_noise: torch.Tensor,
        read_address_noise: torch.Tensor,
        latent_noise: torch.Tensor,
    ) -> torch.Tensor:
        """The mean of the negative bound over images of episodes `[E, T, H, W]`."""
        embedding = self.encode(query.flatten(0, 1)).view(*query.shape[:2], -1)
        address, code = self._address(embedding, write_noise), normal(embedding)
        memory = self.write(
            address.loc + write_address_noise * address.scale, code.loc + code_noise * code.scale
        )
        address = self._address(embedding, read_noise)
        found = self.read(memory, address.loc + read_address_noise * address.scale)
        divergence = kl_divergence(address, standard_normal(address.loc)).sum(-1)
        prior = posterior = Normal(found, torch.ones_like(found), validate_args=False)
        if "latent_posterior/kernel" in self.params:
            correction = normal(self.mlp("latent_posterior", embedding, found))
            posterior = Normal(found + correction.loc, correction.scale, validate_args=False)
            divergence = divergence + kl_divergence(posterior, prior).sum(-1)
        latent = posterior.loc + latent_noise * posterior.scale
        logits = self.decode(latent.flatten(0, 1)).view(query.shape)
        return (0.02 * divergence - log_likelihood(logits, query)).mean()

    def _address(self, embedding: torch.Tensor, noise: torch.Tensor) -> Normal:
        return normal(self.mlp("address_posterior", embedding + 0.2 * noise), 0.1)


class KanervaMachine(EpisodicVAE):
    """`memjax.models.kanerva_machine.KanervaMachine` with keys, read by the memory's mean."""

    def write(self, address: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """The memory's mean after each of the episodes, `[E, N, C]`, by a T x T solve."""
        scales, mean = self.params["memory_log_scale"].exp(), self.params["memory_mean"]
        factor = self.params["memory_factor"].tril(-1) + scales.diag()
        weights = self._weights(address)
        half = weights @ factor
        code_cov = half @ half.mT + torch.eye(weights.shape[1])
        residual = torch.cholesky_solve(codes - weights @ mean, torch.linalg.cholesky(code_cov))
        return mean + factor @ (half.mT @ residual)

    def read(self, memory: torch.Tensor, address: torch.Tensor) -> torch.Tensor:
        """What the memory's mean holds there."""
        return self._weights(address) @ memory

    def _weights(self, address: torch.Tensor) -> torch.Tensor:
        matrix = F.normalize(self.params["address_matrix"], dim=-1)
        return F.linear(self.mlp("key", address), matrix)


_NUM_SLOTS = 64  # of the DNC; other numbers are those of its parameters


class DNCState(NamedTuple):
    """`memjax.memory.dnc.DNCState` of E episodes, with one head."""

    contents: torch.Tensor  # [E, N, C]
    usage: torch.Tensor  # [E, N]
    link: torch.Tensor  # [E, N, N]
    precedence: torch.Tensor  # [E, N]
    write_weights: torch.Tensor  # [E, N]
    read_weights: torch.Tensor  # [E, N]


class DNCMachine(EpisodicVAE):
    """`memjax.models.dnc_machine.DNCMachine` with one head."""

    def write(self, address: torch.Tensor, codes: torch.Tensor) -> DNCState:
        """The memory after each of the episodes, step by step."""
        emitted = [part.unbind(1) for part in self._emit(address, codes)]
        empty = codes.new_zeros(len(codes), _NUM_SLOTS)
        contents = codes.new_zeros(*empty.shape, codes.shape[-1])
        link = codes.new_zeros(*empty.shape, _NUM_SLOTS)
        memory = DNCState(contents, empty, link, empty, empty, empty)
        for step in zip(*emitted, strict=True):
            memory = _write_and_read(memory, *step)
        return memory

    def read(self, memory: DNCState, address: torch.Tensor) -> torch.Tensor:
        """A linear layer of what is read there; the memory stays as it is."""
        codes = address.new_zeros(*address.shape[:2], memory.contents.shape[-1])
        key, strength, modes, *_ = self._emit(address, codes)
        return self.dense("output", _read_weights(memory, key, strength, modes) @ memory.contents)

    def _emit(self, address: torch.Tensor, codes: torch.Tensor) -> Sequence[torch.Tensor]:
        """The controller's, through their nonlinearities, `[E, T, size]` each."""
        size = codes.shape[-1]
        parts = self.mlp("controller", address, codes).split(
            [size, 1, 3, size, size, 1, size, 1, 1, 1], dim=-1
        )
        read_key, read_strength, modes, code, key, strength, erase, *gates = parts
        free_gate, allocation_gate, write_gate = gates
        return (
            read_key,
            1 + F.softplus(read_strength + 9),
            torch.softmax(modes + torch.tensor([0.0, 4.0, 0.0]), dim=-1),
            code,
            key,
            1 + F.softplus(strength),
            torch.sigmoid(erase + 3),
            torch.sigmoid(free_gate - 3),
            torch.sigmoid(allocation_gate + 3),
            torch.sigmoid(write_gate + 3),
        )


def _write_and_read(
    memory: DNCState,
    read_key: torch.Tensor,
    read_strength: torch.Tensor,
    modes: torch.Tensor,
    code: torch.Tensor,
    key: torch.Tensor,
    strength: torch.Tensor,
    erase: torch.Tensor,
    free_gate: torch.Tensor,
    allocation_gate: torch.Tensor,
    write_gate: torch.Tensor,
) -> DNCState:
    """One step, `[E, size]` of each."""
    usage = memory.usage + (1 - memory.usage) * memory.write_weights
    usage = usage * (1 - free_gate * memory.read_weights)
    content = _content_weights(memory.contents, key[:, None], strength[:, None])[:, 0]
    weights = write_gate * torch.lerp(content, _allocation_weights(usage), allocation_gate)
    contents = memory.contents * (1 - weights[:, :, None] * erase[:, None])
    contents = contents + weights[:, :, None] * code[:, None]
    link = (1 - weights[:, :, None] - weights[:, None]) * memory.link
    link = link + weights[:, :, None] * memory.precedence[:, None]
    link = link * (1 - torch.eye(link.shape[-1]))
    precedence = (1 - weights.sum(1, keepdim=True)) * memory.precedence + weights
    memory = DNCState(contents, usage, link, precedence, weights, memory.read_weights)
    read = _read_weights(memory, read_key[:, None], read_strength[:, None], modes[:, None])
    return memory._replace(read_weights=read[:, 0])


def _read_weights(
    memory: DNCState, key: torch.Tensor, strength: torch.Tensor, modes: torch.Tensor
) -> torch.Tensor:
    """Of T readings of the same memory: `[E, T, N]`."""
    last = memory.read_weights[:, None]
    content = _content_weights(memory.contents, key, strength)
    backward, by_content, forward = modes.split(1, dim=-1)
    follow = backward * (last @ memory.link) + forward * (last @ memory.link.mT)
    return by_content * content + follow


def _content_weights(
    contents: torch.Tensor, key: torch.Tensor, strength: torch.Tensor
) -> torch.Tensor:
    """By cosine similarity: `[E, T, N]`."""
    similarity = F.normalize(key, dim=-1) @ F.normalize(contents, dim=-1).mT
    return torch.softmax(strength * similarity, dim=-1)


def _allocation_weights(usage: torch.Tensor) -> torch.Tensor:
    """Of free slots, in order of usage: `[E, N]`."""
    ascending, order = usage.sort(dim=-1, stable=True)
    before = F.pad(ascending[:, :-1].cumprod(-1), (1, 0), value=1.0)
    return torch.zeros_like(usage).scatter(-1, order, (1 - ascending) * before)
