"""`causal.attend` from its definition, in float64 NumPy, and sequences to compare by."""

import numpy as np


def attend(
    memory,
    write_weights,
    codes,
    read_weights,
    noise_var,
    *,
    log_decay=None,
    mask=None,
    reset=None,
    inclusive=True,
):
    """means `[T, C]` and vars `[T]`: an N x N solve at each step, of sums of what was written."""
    mean, row_cov = (np.asarray(x, np.float64) for x in (memory.mean, memory.row_cov))
    weights, codes, reads = (
        np.asarray(x, np.float64) for x in (write_weights, codes, read_weights)
    )
    length, num_slots = weights.shape
    noise = np.broadcast_to(np.asarray(noise_var, np.float64), (length,))
    decay = np.ones(length) if log_decay is None else np.exp(np.asarray(log_decay, np.float64))
    mask = np.ones(length, bool) if mask is None else mask
    prior = np.linalg.inv(np.diag(row_cov) if row_cov.ndim == 1 else row_cov)
    precision, information = np.zeros((num_slots, num_slots)), np.zeros_like(mean)
    means, variances = np.zeros_like(codes), np.zeros(length)
    for t in range(length):
        if reset is not None and reset[t]:
            precision, information = 0.0 * precision, 0.0 * information
        if not mask[t]:
            continue
        precision, information = decay[t] * precision, decay[t] * information
        weight = weights[t]
        after = (
            precision + np.outer(weight, weight) / noise[t],
            information + np.outer(weight, codes[t] - weight @ mean) / noise[t],
        )
        read_precision, read_information = after if inclusive else (precision, information)
        solved = np.linalg.solve(prior + read_precision, reads[t])
        means[t] = reads[t] @ mean + solved @ read_information
        variances[t] = reads[t] @ solved
        precision, information = after
    return means, variances


def mesa(keys, values, queries, strengths, decays, ridge):
    """MesaNet's read (von Oswald et al. 2025): G_t (H_t + ridge)^-1 q_t."""
    squares, products = np.zeros((keys.shape[1],) * 2), np.zeros((values.shape[1], keys.shape[1]))
    read = []
    for key, value, query, strength, decay in zip(
        keys, values, queries, strengths, decays, strict=True
    ):
        squares = decay * squares + strength * np.outer(key, key)
        products = decay * products + strength * np.outer(value, key)
        read.append(products @ np.linalg.solve(squares + np.diag(ridge), query))
    return np.stack(read)


def weights(kind, length, num_slots, rng):
    """`[T, N]` of norm about 1: all different, one or four over and over, or four clusters."""
    rows = rng.normal(size=(length, num_slots))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    repeated = rows[np.arange(length) % (1 if kind == "one" else 4)]
    return {
        "different": rows,
        "one": repeated,
        "four": repeated,
        "clusters": repeated + 0.1 * rows,
    }[kind]


def log_decays(kind, length, rng):
    """`[T]`: none, the same everywhere, any, or nothing but now and then almost all."""
    if kind == "none":
        return None
    return {
        "weak": np.full(length, -0.01),
        "middle": -0.3 * rng.uniform(size=length),
        "strong": -5.0 * rng.uniform(size=length),
        "rare": np.where(rng.uniform(size=length) < 0.02, -8.0, 0.0),
    }[kind]
