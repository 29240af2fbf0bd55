import jax
import numpy as np

from memjax.memory import _linalg


def test_a_matrix_without_a_factor_is_no_fault():
    matrices = np.stack([np.eye(2), -np.eye(2)]).astype(np.float32)
    with jax.debug_nans(True):
        found = _linalg.cholesky_or_nan(matrices)
    np.testing.assert_array_equal(found[0], np.eye(2))
    assert np.isnan(found[1]).any()


def test_writes_of_any_size_are_whitened():
    """Rows of unlike lengths, said twice, with little noise."""
    rng = np.random.default_rng(0)
    lengths = np.array([1e-3, 1.0, 1e3, 1e3, 1e-3, 1.0])
    weights = np.tile(rng.normal(size=(3, 4)), (2, 1)) * lengths[:, None]
    residual, noise = rng.normal(size=(6, 2)) * lengths[:, None], 1e-5 * lengths**2
    weights, residual, noise = (x.astype(np.float32) for x in (weights, residual, noise))
    _, half, log_det = jax.jit(_linalg.whiten)(weights, weights, noise, residual)
    weights, residual, noise = (x.astype(np.float64) for x in (weights, residual, noise))
    cov = weights @ weights.T + np.diag(noise)
    np.testing.assert_allclose(log_det, np.linalg.slogdet(cov)[1], atol=1e-4)
    misfit = np.sum(residual * np.linalg.solve(cov, residual))
    np.testing.assert_allclose(np.sum(np.square(half)), misfit, rtol=1e-4)


def test_small_parts():
    stack = np.arange(18.0, dtype=np.float32).reshape(2, 3, 3)
    expected = 0.5 * (stack + stack.transpose(0, 2, 1))
    np.testing.assert_array_equal(_linalg.symmetrize(stack), expected)
    rows = np.array([[1.0, -2.0, 0.0], [0.0, 2.5, 0.0]], np.float32)
    assert _linalg.largest_row(rows) == 3.0 and _linalg.largest_row(rows[:0]) == 0.0
    eps = np.finfo(np.float32).eps
    variance, noise = np.array([4.0, 0.0, 4.0, 1.0], np.float32), np.array([0, 0, 1, np.inf])
    found = _linalg.bounded_noise(variance, noise.astype(np.float32))
    expected = [eps**1.25 * 4.0, 1.0, 1.0, np.finfo(np.float32).max ** 0.5]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
