"""Defaults fit the data, whatever is given is refused where it does not; samples become files."""

import dataclasses
import inspect
import io
from functools import partial

import numpy as np
import pytest
from PIL import Image

from memjax import data, evaluation
from memjax.errors import UserError
from memjax.evaluation import Run, drawing
from memjax.evaluation.options import UpTo, as_sequence, cut, up_to
from memjax.evaluation.report import check_save, image_files
from memjax.evaluation.tasks import generate, samples
from tests.evaluation.conftest import make_own_run
from tests.evaluation.fakes import halving_run
from tests.evaluation.own_model import AddressedFlips


def test_defaults_are_cut_and_what_a_caller_gives_is_not():
    assert as_sequence(up_to(2, 4, 12), 10) == [2, 4, 10]
    assert as_sequence(up_to(0, 10, 12), 10) == [0, 10]  # each once
    assert as_sequence((2, 12), 10) == [2, 12] and as_sequence(12, 10) == [12]
    assert as_sequence(np.int64(3)) == [3] and as_sequence([3, 3]) == [3]
    assert cut(up_to(8), 5) == 5 and cut(up_to(8), 9) == 8 and cut(8, 5) == 8
    assert isinstance(up_to(8), UpTo) and repr(up_to(8)) == "8"


@pytest.fixture(scope="module")
def few_images_run():
    """Seven images of three classes, two of the smallest."""
    run = make_own_run(
        AddressedFlips, partial(data.few_shot, num_classes=1, num_support=1, num_queries=1)
    )
    return with_images(run, labels=[0, 0, 1, 1, 1, 2, 2])


def with_images(run, labels):
    """The run with as few of its held-out images, of these classes."""
    stage = run.experiment.eval
    images = np.asarray(stage.arrays.images[: len(labels)])
    arrays = data.ImageArrays.create(images, np.asarray(labels, np.int32))
    stage = dataclasses.replace(stage, arrays=arrays)
    return dataclasses.replace(run, experiment=dataclasses.replace(run.experiment, eval=stage))


@pytest.mark.parametrize(
    ("name", "options", "column", "values"),
    [
        ("addresses", {}, "slots", ["0 to 0", "1 to 1", "2 to 2"]),
        ("classify", {"num_queries": 3}, "ways", [3]),
        pytest.param(
            *("confounders", {"num_queries": 1, "num_samples": 1}, "classes", [1, 2, 3, 3]),
            marks=pytest.mark.slow,
        ),
        ("recall", {"num_memories": 1}, "num_slots", [7]),
        pytest.param(
            *("table1", {"num_queries": 1, "num_samples": 1}, "classes", [1, 2, 3]),
            marks=pytest.mark.slow,
        ),
        ("fewshot_samples", {"num_columns": 1}, "slots", [3]),
    ],
)
def test_few_images_are_enough_for_the_defaults(few_images_run, name, options, column, values):
    table = few_images_run.task(name, **options).table
    assert sorted(row[column] for row in table) == values


class Drawn(Exception):
    """Ends a task where it draws: `args` are the number of images and of classes."""


class DrawingRun(Run):
    """Fits every task until it draws."""

    def require(self, what, protocol):
        pass

    def draw_episodes(self, rng_key, num_episodes, episode_length, num_classes=0):
        raise Drawn(episode_length, num_classes)


@pytest.mark.parametrize(
    "name", ["capacity", "covariance", "denoise", "generate", "interpolate", "weights", "drawing"]
)
def test_few_images_without_classes_make_an_episode(own_run, name):
    def evaluate(run):
        if name == "drawing":
            return drawing.respond(run, np.zeros((8, 8, 1)))
        return evaluation.tasks.find(name).evaluate(run)

    few = with_images(own_run, labels=[-1] * 3)
    with pytest.raises(Drawn) as drawn:
        evaluate(DrawingRun(few.experiment, few.variables))
    assert drawn.value.args == (3, 0)


def test_one_image_is_no_pair(own_run):
    with pytest.raises(UserError, match="episode_length is 1; it must be at least 2"):
        evaluation.tasks.find("interpolate").evaluate(with_images(own_run, labels=[0]))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("addresses", {"num_classes": 4}, "num_classes is 4; the data set has 3"),
        ("classify", {"ways": (2, 4)}, "num_classes is 4; the data set has 3"),
        ("classify", {"shots": 2}, r"num_support \+ num_queries is 3; the smallest class"),
        ("confounders", {"num_classes": 4, "num_samples": 1}, "num_classes is 4; the data set"),
        ("recall", {"num_slots": [7, 8]}, "num_slots is 8; it must be between 1 and 7"),
        ("table1", {"num_shots": 2, "num_samples": 1}, r"num_support \+ num_queries is 3; the"),
        ("fewshot_samples", {"num_rows": 4}, "num_classes is 4; the data set has 3"),
    ],
)
def test_what_does_not_fit_is_refused_where_it_is_asked_for(few_images_run, name, options, message):
    with pytest.raises(UserError, match=message):
        few_images_run.task(name, **({"num_queries": 1} if name == "classify" else {}), **options)


def test_images_as_files_are_read_as_data_again(tmp_path, own_run):
    report = own_run.task("samples", num_rows=2, num_columns=3, save="npz")
    rows = np.concatenate(list(report.grids["samples"].values()))
    assert list(report.files) == ["samples.npz"]
    with np.load(io.BytesIO(report.files["samples.npz"])) as file:
        np.testing.assert_array_equal(file["images"], rows)
    report = own_run.task("samples", num_rows=2, num_columns=3, save="png")
    assert list(report.files) == [f"samples/000{i}.png" for i in range(6)]
    report.write_files(tmp_path)
    for i, image in enumerate(rows):
        with Image.open(tmp_path / "samples" / f"000{i}.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture) / 255.0, image[..., 0])
    (tmp_path / "samples" / "mine.png").touch()
    own_run.task("samples", num_rows=1, num_columns=2, save="png").write_files(tmp_path)
    left = sorted(path.name for path in (tmp_path / "samples").iterdir())
    assert left == ["0000.png", "0001.png", "mine.png"]
    assert own_run.task("samples", num_rows=2, num_columns=3).files == {}


@pytest.mark.slow
def test_the_memorys_last_readings_are_saved(kanerva_run):
    options = {"num_classes": 0, "episode_length": 3, "num_iterations": 2, "num_episodes": 2}
    report = kanerva_run.task("generate", **options, save="npz")
    with np.load(io.BytesIO(report.files["generate_memory_0_classes.npz"])) as file:
        images = file["images"]
    assert images.shape == (6, 8, 8, 1)
    shown = report.grids["generate_memory_0_classes"]["2 readings"]
    np.testing.assert_allclose(images[:3], shown, atol=1e-6)


def test_saved_images_are_cut_to_their_range_and_keep_their_colours():
    images = np.array([-0.5, 0.0, 0.5, 1.0, 1.5, 0.25], np.float32).reshape(1, 1, 2, 3)
    (content,) = image_files("x", images, "png").values()
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.mode == "RGB" and picture.size == (2, 1)
        assert np.asarray(picture).ravel().tolist() == [0, 0, 128, 255, 255, 64]
    with np.load(io.BytesIO(image_files("x", images, "npz")["x.npz"])) as file:
        assert file["images"].ravel().tolist() == [0.0, 0.0, 0.5, 1.0, 1.0, 0.25]


def test_files_of_no_kind_are_refused_before_anything_is_drawn(own_run):
    for run, task in ((own_run, samples), (halving_run(), generate)):
        with pytest.raises(UserError, match="save is 'jpg'; it must be one of , npz, png"):
            task.evaluate(run, save="jpg")
    with pytest.raises(UserError, match="save is 'png'; the images have 2 channels, not 1 or 3"):
        check_save("png", (8, 8, 2))


def test_every_default_number_of_images_classes_or_slots_is_cut():
    """Whatever a task may ask too much of: a new option has to be in one of the two lists."""
    enough = {
        "num_samples",
        "num_queries",
        "num_memories",
        "num_episodes",
        "num_iterations",
        "seed",
    }
    enough |= {"num_images", "num_pairs", "num_steps", "num_rounds", "num_columns", "batch_size"}
    enough |= {"rect_size"}  # 0: fits the image
    for name in evaluation.tasks.names():
        parameters = inspect.signature(evaluation.tasks.find(name).evaluate).parameters
        for option, parameter in parameters.items():
            numbers = np.atleast_1d(np.asarray(parameter.default, object))
            if option not in enough and isinstance(numbers[0], int) and name != "samples":
                assert all(isinstance(n, UpTo) for n in numbers), (name, option)
