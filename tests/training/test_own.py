"""Training what a user brings: an experiment made in Python, classes by their path, a start."""

import logging
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from memjax import data, evaluation, models, training
from memjax.errors import UserError
from tests.conftest import assert_states_equal, train


class Mean(nn.Module):
    """Its objective is least where its one image is the mean of the queries."""

    image_shape: tuple[int, ...]
    start: float = 0.0

    def setup(self):
        init = nn.initializers.constant(self.start)
        self.mean = self.param("mean", init, tuple(self.image_shape))

    def write(self, rng_key, support):
        return None

    def __call__(self, rng_key, query, memory, *, train):
        objective = -jnp.sum(jnp.square(query - self.mean))
        return objective, {"nll": -objective}

    def log_weights(self, rng_key, query, memory, num_samples):
        return jnp.full(num_samples, -jnp.sum(jnp.square(query - self.mean)))

    def generate(self, rng_key, memory):
        return self.mean

    def explain(self, rng_key, query, memory):
        return {"query": query, "reconstruction": self.mean}


class Lacking(nn.Module):
    image_shape: tuple[int, ...]

    def write(self, rng_key, support):
        return None


class Encoder(nn.Module):
    @nn.compact
    def __call__(self, images):
        return nn.relu(nn.Dense(3)(images.reshape(len(images), -1)))


def first_images(rng_key, data, *, count):
    """A sampler."""
    return data_lib.EpisodeIndices(jnp.arange(count))


def make_adam(learning_rate, scale):
    """An optimizer."""
    return optax.adam(scale * learning_rate)


data_lib = data
_PATH = "tests.training.test_own"


def images(count=40, shape=(3, 3)):
    return np.random.default_rng(0).random((count, *shape))


def experiment(model=None, own=None, **fields):
    train_set, held_out = data.from_arrays(images() if own is None else own).split(0.25, seed=0)
    sampler = partial(data.minibatch, batch_size=8)
    return training.Experiment(
        model=Mean((3, 3, 1)) if model is None else model,
        optimizer=optax.sgd(0.05),
        train=training.Stage.create(train_set, sampler),
        eval=training.Stage.create(held_out, sampler),
        **{"num_steps": 4, "log_every": 2, "eval_every": 4, "checkpoint_every": 4} | fields,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An experiment made in Python, its folder, its last state, and what a callback saw."""
    workdir, seen = tmp_path_factory.mktemp("own"), []
    own = experiment()
    state = training.train(own, workdir, callbacks=[lambda *told: seen.append(told)])
    return own, workdir, state, seen


def test_an_experiment_without_a_config_trains_and_goes_on(trained):
    own, workdir, state, _ = trained
    assert int(state.step) == 4
    assert_states_equal(training.train(own, workdir), state)
    config = training.workdir.load_config(workdir)
    assert config.model.name == f"{_PATH}:Mean" and config.training.num_steps == 4
    with pytest.raises(UserError, match=r"another config's run: its model.start is 0.0, .* is 1.0"):
        training.train(experiment(Mean((3, 3, 1), start=1.0)), workdir)


def test_a_callback_sees_what_is_written_and_the_state(trained):
    _, workdir, _, seen = trained
    assert [(step, int(state.step)) for step, _, state in seen] == [(2, 2), (4, 4)]
    written = training.metrics.read(workdir)
    assert [{"step": step, **metrics} for step, metrics, _ in seen] == written
    assert "eval/nll" in seen[1][1]


def test_training_saves_before_a_callbacks_error(tmp_path):
    def fail(step, metrics, state):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        training.train(experiment(), tmp_path, callbacks=[fail])
    assert int(training.train(experiment(), tmp_path).step) == 4
    assert (tmp_path / "checkpoints/2").is_dir()


def test_a_run_made_in_python_is_evaluated(trained):
    own, workdir, state, _ = trained
    run = evaluation.Run(own, state.eval_variables)
    mean = np.asarray(state.params["mean"])
    np.testing.assert_array_equal(run.generate(jax.random.key(0), 2), [mean, mean])
    with pytest.raises(UserError, match="was trained from Python: give its experiment too"):
        evaluation.load_run(workdir)
    again = evaluation.load_run(workdir, experiment=own)
    np.testing.assert_array_equal(again.variables["params"]["mean"], mean)


def test_another_runs_parameters_are_the_start(trained, tmp_path, caplog):
    _, workdir, state, _ = trained
    with caplog.at_level(logging.INFO, logger="memjax"):
        started = training.checkpoints.start_from(workdir, training.init_state(experiment()))
    np.testing.assert_array_equal(started.params["mean"], state.params["mean"])
    assert int(started.step) == 0 and "1 of 1 parameters begin as in" in caplog.text
    first = []
    own = experiment(num_steps=1, log_every=1, eval_every=1, init_from=str(workdir))
    end = training.train(own, tmp_path, callbacks=[lambda *told: first.append(told)])
    moved = np.abs(np.asarray(end.params["mean"]) - np.asarray(state.params["mean"]))
    assert 0 < moved.max() < 0.1  # one step, from there
    assert_states_equal(training.train(own, tmp_path), end)  # it goes on from its own


def test_what_does_not_fit_of_a_start_is_told(trained, tmp_path, caplog):
    _, workdir, _, _ = trained

    class Wider(Mean):
        def setup(self):
            super().setup()
            self.more = self.param("more", nn.initializers.zeros, ())

    state = training.init_state(experiment(Wider((3, 3, 1))))
    with caplog.at_level(logging.INFO, logger="memjax"):
        training.checkpoints.start_from(workdir, state)
    assert "1 of 2 parameters begin as in" in caplog.text and ", not more" in caplog.text
    other = training.init_state(
        experiment(models.VAE((3, 3, 1), hidden_sizes=(2,), likelihood="gaussian"))
    )
    with pytest.raises(
        UserError, match="it is of another model: none of its 1 parameters, such as mean"
    ):
        training.checkpoints.start_from(workdir, other)
    with pytest.raises(UserError, match="init_from is nowhere; it must be the folder of a trained"):
        training.checkpoints.start_from("nowhere", other)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_steps": 0}, "num_steps is 0; it must be at least 1"),
        ({"eval_every": 3}, "eval_every is 3; it must be a multiple of log_every, 2"),
        ({"seed": -1}, "seed is -1; it must be at least 0"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0; it must be at least 0 and below 1"),
        ({"model": Mean((4, 4, 1))}, r"model.image_shape is \(4, 4, 1\); the training images have"),
        ({"model": Lacking((3, 3, 1))}, "model is a Lacking; it lacks __call__, log_weights, gen"),
        ({"model": models.VAE((3, 3, 1))}, "likelihood is 'bernoulli'; the data have grey levels"),
    ],
)
def test_an_experiment_that_does_not_fit_itself_is_refused(fields, message):
    with pytest.raises(UserError, match=message) as error:
        experiment(**fields)
    assert "\n" not in str(error.value)


def test_black_and_white_suits_a_bernoulli_and_so_do_binarised_grey_levels():
    experiment(models.VAE((3, 3, 1)), own=np.round(images()))
    dataset = data.from_arrays(images())
    sampler = partial(data.minibatch, batch_size=8)
    for binarization in ("threshold", "static", "dynamic"):
        assert training.Stage.create(dataset, sampler, binarization).is_binary
    assert not training.Stage.create(dataset, sampler).is_binary


def own_config(tiny_config, **model):
    tiny_config.dataset.binarization = "none"
    with tiny_config.unlocked():
        tiny_config.model = {"name": f"{_PATH}:Mean", **model}
        tiny_config.optimizer.name, tiny_config.optimizer.scale = f"{_PATH}:make_adam", 2.0
        tiny_config.episodes = {"name": f"{_PATH}:first_images", "count": 8}
    return tiny_config


def test_a_config_takes_the_users_model_sampler_and_optimizer(tiny_config, tmp_path):
    config = own_config(tiny_config, start=0.5)
    built = training.build(config)
    assert built.model == Mean((8, 8, 1), start=0.5) and built.train.batch_size == 8
    state = train(config, tmp_path)
    # Adam's first steps are its rate, here twice the config's.
    moved = np.abs(np.asarray(state.params["mean"]) - 0.5)
    assert moved.max() == pytest.approx(8 * 2 * config.optimizer.learning_rate, rel=0.1)


def test_a_config_takes_the_users_net():
    net = training.build_model("vae.VAE", (8, 8, 1), encoder=f"{_PATH}:Encoder").encoder
    assert net == Encoder()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model.name", "no_such:Model", "it can't be imported: ModuleNotFoundError: No module"),
        ("model.name", f"{_PATH}:Nothing", "it can't be imported: AttributeError: module"),
        ("model.name", f"{_PATH}:Lacking", "it lacks __call__, log_weights, generate, explain"),
        ("model.name", f"{_PATH}:make_adam", "it lacks write,"),
        ("model.width", 3, "unexpected keyword argument 'width'"),
        ("episodes.name", "mine", "'mine'; it must be one of minibatch, .* 'package.module:Name'"),
        ("episodes.size", 3, "got an unexpected keyword argument 'size'"),
        ("optimizer.name", "mine", "it must be one of optax's, such as 'adam', or 'package"),
    ],
)
def test_names_that_stand_for_nothing_are_refused(tiny_config, field, value, message):
    config = own_config(tiny_config)
    with config.unlocked():
        config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=message) as error:
        training.build(config)
    assert "\n" not in str(error.value)
