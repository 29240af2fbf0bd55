"""Independent float64 NumPy oracles, written from the definitions: loops, no JAX, no tricks."""

import numpy as np

LATENT_GRID = np.linspace(-8, 8, 801, dtype=np.float32)


def similarity(query, slots, kind):
    """VMA eq. 5 and its two alternatives, one pair at a time."""
    query, slots = np.asarray(query, np.float64), np.asarray(slots, np.float64)
    scores = np.zeros((*query.shape[:-1], len(slots)))
    for index in np.ndindex(*query.shape[:-1]):
        for n, slot in enumerate(slots):
            score = sum(q * s for q, s in zip(query[index], slot, strict=True))
            if kind in ("key_normalized", "cosine"):
                score /= np.sqrt(np.sum(slot**2))
            if kind == "cosine":
                score /= np.sqrt(np.sum(query[index] ** 2))
            scores[(*index, n)] = score
    return scores


def softmax(logits):
    """Probabilities of a categorical; -inf is a probability of zero."""
    logits = np.asarray(logits, np.float64)
    exponentials = np.exp(logits - np.max(logits, axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def categorical_kl(posterior_logits, prior_logits):
    """sum_a q(a) log q(a) / p(a), over the slots that q can choose."""
    q, p = softmax(posterior_logits), softmax(prior_logits)
    return sum(q[a] * np.log(q[a] / p[a]) for a in range(len(q)) if q[a] > 0)


def log_mean_exp(log_weights):
    """log of the mean weight, stable for weights of any size."""
    log_weights = np.asarray(log_weights, np.float64)
    largest = np.max(log_weights)
    if np.isneginf(largest):
        return -np.inf
    return largest + np.log(np.mean(np.exp(log_weights - largest)))


def log_likelihood_by_quadrature(mean, variance, logits, image):
    """log integral p(z) p(x|z) dz for a Gaussian z `[1]` and an image of Bernoulli pixels.

    `logits` `[G, H, W, C]` are of p(x|z) at `LATENT_GRID`.
    """
    mean, variance = float(mean[0]), float(variance[0])
    log_density = -0.5 * (LATENT_GRID - mean) ** 2 / variance - 0.5 * np.log(2 * np.pi * variance)
    probs = 1 / (1 + np.exp(-np.asarray(logits, np.float64).reshape(len(LATENT_GRID), -1)))
    likelihood = np.prod(np.where(image.reshape(-1) == 1, probs, 1 - probs), axis=1)
    step = float(LATENT_GRID[1] - LATENT_GRID[0])
    return np.log(np.sum(np.exp(log_density) * likelihood) * step)


def vimco_learning_signals(log_weights, baseline):
    """VMA eq. 8: the bound minus the bound without each sample, by loops."""
    num_samples = len(log_weights)
    signals = []
    for k in range(num_samples):
        others = [log_weights[j] for j in range(num_samples) if j != k]
        if baseline == "arithmetic":
            without = log_mean_exp(others)
        else:
            without = log_mean_exp([*others, np.mean(others)])
        signals.append(log_mean_exp(log_weights) - without)
    return np.array(signals)


def exact_bound_gradient(log_joint, logits, num_samples):
    """The multi-sample bound of a categorical a and its gradient, by enumeration of all samples.

    Args:
      log_joint: `[N]`, log p(x, a).
      logits: `[N]`, of q(a|x).
      num_samples: L.

    Returns:
      (bound, gradient with respect to the logits `[N]`).
    """
    log_joint, q = np.asarray(log_joint, np.float64), softmax(logits)
    size = len(q)
    bound, gradient = 0.0, np.zeros(size)
    for addresses in np.ndindex(*(size,) * num_samples):
        probability = np.prod([q[a] for a in addresses])
        log_weights = np.array([log_joint[a] - np.log(q[a]) for a in addresses])
        value = log_mean_exp(log_weights)
        weights = softmax(log_weights)
        bound += probability * value
        for weight, a in zip(weights, addresses, strict=True):
            score = -q.copy()
            score[a] += 1.0
            # d log q(a) enters through the sampling probability and through -log q in the weight.
            gradient += probability * (value - weight) * score
    return bound, gradient


def matrix_posterior(mean, row_cov, write_weights, codes, noise_vars):
    """p(M | Z) by dense conditioning of vec(M), an N C-vector with covariance U kron I.

    Returns (mean `[N, C]`, covariance of vec(M) `[N C, N C]`, row-major).
    """
    mean, row_cov, write_weights, codes = (
        np.asarray(array, np.float64) for array in (mean, row_cov, write_weights, codes)
    )
    num_slots, code_size = mean.shape
    identity = np.eye(code_size)
    prior_cov = np.kron(row_cov, identity)
    design = np.kron(write_weights, identity)  # vec(W M) = (W kron I) vec(M)
    noise_cov = np.kron(np.diag(np.broadcast_to(noise_vars, len(codes))), identity)
    code_cov = design @ prior_cov @ design.T + noise_cov
    gain = np.linalg.solve(code_cov, design @ prior_cov).T
    posterior_mean = mean.reshape(-1) + gain @ (codes - write_weights @ mean).reshape(-1)
    posterior_cov = prior_cov - gain @ design @ prior_cov
    return posterior_mean.reshape(num_slots, code_size), posterior_cov


def kanerva_posterior(mean, row_cov, write_weights, codes, noise_vars):
    """The posterior by singular values, which needs no square of anything; noise may be infinite.

    Returns (mean `[N, C]`, row_cov `[N, N]`, the largest singular value of D^-1/2 W U^1/2, the
    largest norm, of any column, of what the posterior leaves unexplained in units of the noise).
    """
    mean, row_cov, write_weights, codes, noise_vars = (
        np.asarray(array, np.float64) for array in (mean, row_cov, write_weights, codes, noise_vars)
    )
    eigenvalues, vectors = np.linalg.eigh(row_cov)
    root = vectors * np.sqrt(np.maximum(eigenvalues, 0))
    scale = 1.0 / np.sqrt(np.broadcast_to(noise_vars, len(codes)))[:, None]
    left, values, right = np.linalg.svd(scale * (write_weights @ root), full_matrices=False)
    directions = root @ right.T
    moved = directions @ (
        (values / (1 + values**2))[:, None] * (left.T @ (scale * (codes - write_weights @ mean)))
    )
    taken = (directions * (values**2 / (1 + values**2))) @ directions.T
    unexplained = scale * (codes - write_weights @ (mean + moved))
    norm = np.max(np.linalg.norm(unexplained, axis=0))
    return mean + moved, row_cov - taken, np.max(values), norm


def exact_posterior(mean, write_weights, codes):
    """From a prior of covariance I without noise: (mean, row_cov), by the pseudo-inverse."""
    mean, write_weights, codes = (np.asarray(a, np.float64) for a in (mean, write_weights, codes))
    inverse = np.linalg.pinv(write_weights, rcond=1e-6)
    moved = mean + inverse @ (codes - write_weights @ mean)
    return moved, np.eye(len(mean)) - inverse @ write_weights


def gaussian_kl(mean_q, cov_q, mean_p, cov_p):
    """KL between two dense multivariate Gaussians, in nats."""
    difference = mean_q - mean_p
    return 0.5 * (
        np.trace(np.linalg.solve(cov_p, cov_q))
        + difference @ np.linalg.solve(cov_p, difference)
        - len(mean_q)
        + np.linalg.slogdet(cov_p)[1]
        - np.linalg.slogdet(cov_q)[1]
    )


def memory_layer(params, stats, inputs, attention="sigmoid", composition="mlp", disabled=False):
    """MEM-VAE's section 3.3, one datum and one unit at a time: (h, h_a), h_a None without slots."""
    hidden = _float64(params["dense"]["kernel"]).T @ inputs + _float64(params["dense"]["bias"])
    hidden = (hidden - _float64(stats["norm"]["mean"])) / np.sqrt(
        _float64(stats["norm"]["var"]) + 1e-5
    )
    hidden = hidden * _float64(params["norm"]["scale"]) + _float64(params["norm"]["bias"])
    h_g = np.maximum(hidden, 0)
    if "slots" not in params:
        return h_g, None
    logits = _float64(params["slot_keys"]) @ h_g + _float64(params["slot_bias"])
    h_a = softmax(logits) if attention == "softmax" else 1 / (1 + np.exp(-logits))
    h_m = sum(weight * slot for weight, slot in zip(h_a, _float64(params["slots"]), strict=True))
    h_m = np.ones_like(h_g) if disabled else h_m
    if composition == "sum":
        return h_g + h_m, h_a
    c = params["combination"]
    output = np.zeros_like(h_g)
    for d, (g, m) in enumerate(zip(h_g, h_m, strict=True)):
        linear = float(c.a1[d]) + c.a2[d] * m + c.a3[d] * g + c.a4[d] * g * m
        inner = float(c.c1[d]) + c.c2[d] * m + c.c3[d] * g + c.c4[d] * g * m
        output[d] = max(linear + c.b1[d] / (1 + np.exp(-inner)), 0)
    return output, h_a


def _float64(array):
    return np.asarray(array, np.float64)
