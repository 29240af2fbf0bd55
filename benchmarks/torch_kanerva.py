"""The Kanerva write in eager PyTorch, the online loop and the batch solve: the peer of `memory`."""

import json
import sys

import torch
from torch_timing import median_milliseconds


def online(mean, row_cov, weights, codes, noise_var):
    """Rank-one updates in order, all episodes side by side; KM eqs. 9-11 with T = 1."""
    for t in range(weights.shape[1]):
        weight, code = weights[:, t], codes[:, t]
        cross_cov = torch.einsum("bnm,bm->bn", row_cov, weight)
        code_var = (weight * cross_cov).sum(-1) + noise_var
        gain = cross_cov / code_var[:, None]
        residual = code - torch.einsum("bn,bnc->bc", weight, mean)
        mean = mean + gain[:, :, None] * residual[:, None, :]
        row_cov = row_cov - gain[:, :, None] * cross_cov[:, None, :]
    return mean, row_cov


def batch(mean, row_cov, weights, codes, noise_var):
    """A T x T solve by Cholesky; KM eqs. 9-11."""
    cross_cov = weights @ row_cov
    code_cov = cross_cov @ weights.mT + noise_var * torch.eye(weights.shape[1])
    root = torch.linalg.cholesky(code_cov)
    solved = torch.cholesky_solve(torch.cat([codes - weights @ mean, cross_cov], -1), root)
    residual, gain = solved.split([codes.shape[-1], cross_cov.shape[-1]], dim=-1)
    return mean + cross_cov.mT @ residual, row_cov - cross_cov.mT @ gain


def milliseconds(episodes: int, t: int, n: int, c: int, rounds: int) -> dict[str, float]:
    """Medians, forward and with the gradient in all inputs."""
    torch.manual_seed(0)
    arguments = [
        torch.randn(episodes, n, c),
        torch.eye(n).expand(episodes, n, n).clone(),
        torch.randn(episodes, t, n) / n**0.5,
        torch.randn(episodes, t, c),
    ]
    found = {}
    for name, write in (("online", online), ("batch", batch)):

        def forward(write=write):
            with torch.no_grad():
                write(*arguments, 1.0)

        def with_gradient(write=write):
            leaves = [argument.requires_grad_() for argument in arguments]
            posterior = write(*leaves, 1.0)
            torch.autograd.grad(posterior, leaves, [array.detach() for array in posterior])

        for kind, call in (("forward", forward), ("gradient", with_gradient)):
            found[f"{name} {kind}"] = median_milliseconds(call, rounds)
    return found


if __name__ == "__main__":
    print(json.dumps(milliseconds(**json.loads(sys.argv[1]))))
