import jax
import numpy as np
import pytest
import scipy.special
import scipy.stats

from memjax.errors import UserError
from memjax.models.vae import VAE

_SHAPE = (3, 3, 1)
_GRID = np.linspace(-8, 8, 2001)  # of the latent: a Riemann sum of smooth, decaying functions


def tiny(num_samples=1):
    return VAE(_SHAPE, latent_size=1, hidden_sizes=(6, 4), num_samples=num_samples)


def initialize(model):
    rng_key = jax.random.key(0)

    @jax.jit
    def init():
        params = model.init(rng_key, rng_key, query(), train=True)
        return jax.tree.map(lambda p: p + 0.5 * jax.random.normal(rng_key, p.shape), params)

    return init()


def query():
    return np.random.default_rng(0).integers(0, 2, _SHAPE).astype(np.float32)


def exact_log_likelihood(model, params):
    decoder = model.bind(params).decoder
    logits = decoder(_GRID[:, None].astype(np.float32)).base_dist.logits.reshape(len(_GRID), -1)
    probs = scipy.special.expit(np.asarray(logits, np.float64))
    likelihood = np.prod(np.where(query().reshape(-1) == 1, probs, 1 - probs), axis=1)
    return np.log(np.sum(scipy.stats.norm.pdf(_GRID) * likelihood) * (_GRID[1] - _GRID[0]))


def test_importance_weights_average_to_the_exact_likelihood():
    model = tiny()
    params = initialize(model)
    log_weights = jax.jit(model.apply, static_argnames=("method", "num_samples"))(
        params, jax.random.key(1), query(), None, num_samples=100_000, method="log_weights"
    )
    weights = np.exp(np.asarray(log_weights, np.float64))
    exact = np.exp(exact_log_likelihood(model, params))
    assert abs(weights.mean() - exact) < 5 * weights.std() / np.sqrt(len(weights))
    assert weights.std() / np.sqrt(len(weights)) < 0.1 * exact


def test_the_bound_rises_with_samples_towards_the_likelihood():
    rng_keys = jax.random.split(jax.random.key(0), 5_000)
    bounds = []
    for num_samples in (1, 16):
        model = tiny(num_samples)
        params = initialize(model)
        objective, _ = jax.jit(
            jax.vmap(lambda k, m=model, p=params: m.apply(p, k, query(), train=True))
        )(rng_keys)
        bounds.append(objective.mean())
    assert bounds[0] < bounds[1]
    assert bounds[1] < exact_log_likelihood(model, params) + 0.01


def test_elbo_is_reconstruction_and_kl():
    model = tiny()
    params = initialize(model)
    rng_keys = jax.random.split(jax.random.key(0), 5_000)
    bound = jax.jit(jax.vmap(lambda k: model.apply(params, k, query(), train=True)))
    _, metrics = bound(rng_keys)
    gaps = np.asarray(metrics["nll"] - metrics["reconstruction"] - metrics["kl_latent"])
    assert abs(gaps.mean()) < 5 * gaps.std() / np.sqrt(len(gaps))


def test_every_parameter_learns():
    model = tiny(3)
    params = initialize(model)

    def objective(params):  # of all images: a ReLU unit may be dead for some
        pixels = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
        queries = np.pad(pixels, ((0, 0), (0, 1))).reshape(-1, *_SHAPE).astype(np.float32)
        rng_keys = jax.random.split(jax.random.key(0), len(queries))
        bound = jax.vmap(lambda k, x: model.apply(params, k, x, train=True)[0])(rng_keys, queries)
        return bound.mean()

    gradient = jax.jit(jax.grad(objective))(params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.any(leaf != 0) and np.all(np.isfinite(leaf)), jax.tree_util.keystr(path)


def test_generated_and_explained_images():
    model = tiny()
    params = initialize(model)
    pictures = model.apply(params, jax.random.key(0), query(), method="explain")
    generated = model.apply(params, jax.random.key(0), method="generate")
    for image in [generated, *pictures.values()]:
        assert image.shape == _SHAPE and np.all((image >= 0) & (image <= 1))


def test_zero_samples_are_refused():
    with pytest.raises(UserError, match="num_samples is 0; it must be at least 1"):
        initialize(tiny(0))


@pytest.mark.parametrize(
    "fields", [{"likelihood": "gaussian"}, pytest.param({"num_filters": 8}, marks=pytest.mark.slow)]
)
def test_options_have_finite_values_and_gradients_everywhere(fields):
    shape = (8, 8, 1)
    model = VAE(shape, latent_size=2, hidden_sizes=(6,), **fields)
    image = np.random.default_rng(0).integers(0, 2, shape).astype(np.float32)
    rng_key = jax.random.key(0)

    @jax.jit
    def gradient():
        variables = model.init(rng_key, rng_key, image, train=False)
        return jax.grad(lambda v: model.apply(v, rng_key, image, train=True)[0])(variables)

    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient()):
        assert np.all(np.isfinite(leaf)) and np.any(leaf != 0), path


def test_an_unknown_likelihood_is_refused():
    with pytest.raises(UserError, match="likelihood is 'beta'; it must be one of bernoulli"):
        VAE(_SHAPE, likelihood="beta").init(jax.random.key(0), jax.random.key(0), query(), train=1)
