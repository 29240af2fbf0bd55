import json
import os
import shutil
import signal
import threading

import jax
import numpy as np
import pytest

from memjax.errors import UserError
from memjax.training import build, init_state, loop
from memjax.training import metrics as metrics_lib
from tests.conftest import assert_states_equal, make_vma_config, train
from tests.robustness import config as smallest


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def without_speed(entries):
    return [{k: v for k, v in entry.items() if k != "steps_per_second"} for entry in entries]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The state and the workdir of a run that nothing stopped, in as few calls as there can be."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_BLOCK_SECONDS", 1e6)
        return train(smallest.get_config(), workdir), workdir


def test_a_run_leaves_what_the_contract_says(whole):
    state, workdir = whole
    assert int(state.step) == 8
    entries = lines(workdir)
    assert [entry["step"] for entry in entries] == [2, 4, 6, 8]
    plain = {"nll", "reconstruction", "kl_latent", "steps_per_second"}
    assert plain <= entries[0].keys() and "eval/nll" not in entries[0]
    assert {"eval/nll", "eval/kl_latent"} <= entries[1].keys() & entries[3].keys()
    assert all(np.isfinite(list(entry.values())).all() for entry in entries)
    assert json.loads((workdir / "config.json").read_text())["training"]["num_steps"] == 8
    assert sorted(p.name for p in (workdir / "checkpoints").iterdir()) == ["4", "8"]
    assert list(workdir.glob("events.out.tfevents*"))


@pytest.mark.slow
def test_the_run_of_a_model_with_addresses_tells_of_them(tmp_path):
    train(make_vma_config(), tmp_path / "run")
    entries = lines(tmp_path / "run")
    assert "kl_address" in entries[0] and "eval/kl_address" not in entries[0]
    assert "eval/kl_address" in entries[1].keys() & entries[3].keys()


@pytest.fixture
def workdir(whole, tmp_path):
    """A copy of the whole run's."""
    return shutil.copytree(whole[1], tmp_path / "run")


def test_running_again_does_nothing_and_more_steps_go_on(tiny_config, whole, workdir):
    again = train(tiny_config, workdir)
    assert_states_equal(whole[0], again)
    tiny_config.training.num_steps = 12
    assert int(train(tiny_config, workdir).step) == 12
    assert [entry["step"] for entry in lines(workdir)] == [2, 4, 6, 8, 10, 12]


def test_metrics_are_means_though_a_run_ended_between_two_lines(tiny_config, tmp_path):
    tiny_config.training.num_steps, tiny_config.training.log_every = 6, 4
    tiny_config.training.eval_every = tiny_config.training.checkpoint_every = 4
    train(tiny_config, tmp_path / "longer")
    tiny_config.training.num_steps = 8
    train(tiny_config, tmp_path / "longer")
    train(tiny_config, tmp_path / "whole")
    longer, whole = lines(tmp_path / "longer"), lines(tmp_path / "whole")
    assert [entry["step"] for entry in longer] == [4, 6, 8]
    assert without_speed(longer[-1:]) == without_speed(whole[-1:])


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("crash_after", [pytest.param(2, marks=pytest.mark.slow), 6])
def test_resuming_after_a_crash_equals_never_stopping(
    tiny_config, tmp_path, monkeypatch, whole, crash_after
):
    write = metrics_lib.MetricWriter.write

    def crash(self, step, metrics):
        write(self, step, metrics)
        if step == crash_after:
            raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(metrics_lib.MetricWriter, "write", crash)
        with pytest.raises(Interrupted):
            train(tiny_config, tmp_path / "cut")
    resumed = train(tiny_config, tmp_path / "cut")
    assert_states_equal(whole[0], resumed)
    assert without_speed(lines(whole[1])) == without_speed(lines(tmp_path / "cut"))


@pytest.mark.parametrize(
    "signal_number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_signal_saves_and_the_same_command_resumes(
    tiny_config, tmp_path, monkeypatch, whole, signal_number
):
    monkeypatch.setattr(loop, "_BLOCK_SECONDS", 0.0)  # a look after each step
    before = signal.getsignal(signal_number)
    make_advance = loop.make_advance

    def make_signalling_advance(*arguments):
        advance = make_advance(*arguments)

        def signalling_advance(state, stop):
            if int(state.step) == 2:  # in the middle of a logging interval
                os.kill(os.getpid(), signal_number)
            return advance(state, stop)

        return signalling_advance

    with monkeypatch.context() as patch:
        patch.setattr(loop, "make_advance", make_signalling_advance)
        stopped = train(tiny_config, tmp_path / "cut")
    assert int(stopped.step) == 3
    assert signal.getsignal(signal_number) == before
    resumed = train(tiny_config, tmp_path / "cut")
    assert_states_equal(whole[0], resumed)
    assert without_speed(lines(whole[1])) == without_speed(lines(tmp_path / "cut"))


def test_it_runs_outside_the_main_thread(tiny_config, tmp_path):
    tiny_config.training.num_steps = 4
    results = []
    thread = threading.Thread(target=lambda: results.append(train(tiny_config, tmp_path)))
    thread.start()
    thread.join()
    assert int(results[0].step) == 4


def test_results_do_not_depend_on_the_steps_of_a_call(tiny_config, tmp_path, monkeypatch, whole):
    monkeypatch.setattr(loop, "_BLOCK_SECONDS", 0.0)  # one step each
    assert_states_equal(train(tiny_config, tmp_path), whole[0])
    assert without_speed(lines(tmp_path)) == without_speed(lines(whole[1]))


def test_ema_and_clipping(tiny_config, tmp_path):
    tiny_config.training.ema_decay = 0.5
    tiny_config.optimizer.clip_norm = 1e-3
    tiny_config.optimizer.name = "sgd"
    tiny_config.optimizer.learning_rate = 1.0
    tiny_config.training.num_steps = 2
    tiny_config.training.log_every = tiny_config.training.eval_every = 1
    start, seen = init_state(build(tiny_config)).params, []

    def keep(step, metrics, state):
        seen.append(jax.tree.map(np.asarray, state.params))

    state = train(tiny_config, tmp_path, callbacks=[keep])
    moved = jax.tree.map(lambda a, b: a - b, state.params, start)
    norm = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(moved)))
    assert 0 < norm <= 2.001e-3  # two steps of at most 1e-3
    # With decay 1/2 the average of start, p1, p2 has the weights 1/4, 1/4, 1/2.
    one, _ = seen
    expected = jax.tree.map(lambda s, a, b: 0.25 * s + 0.25 * a + 0.5 * b, start, one, state.params)
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(state.ema_params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "field,value,message",
    [
        ("training.num_steps", 0, "num_steps is 0; it must be at least 1"),
        (
            "training.eval_every",
            3,
            "eval_every is 3; it must be a multiple of log_every, 2",
        ),
        ("dataset.name", "mnits", "mnits"),
        ("dataset.train_split", "tarin", "tarin"),
        (
            "dataset.binarization",
            "yes",
            "binarization is 'yes'; it must be one of none, threshold,",
        ),
        ("episodes.name", "recal", "episodes.name is 'recal'; it must be one of minibatch, recall"),
        ("episodes.num_slots", 0, "num_slots is 0; it must be at least 1"),
        ("episodes.num_slots", 1501, "num_slots is 1501; the data set has 1500 images"),
        (
            "model.name",
            "vma.VMAA",
            "model.name is 'vma.VMAA'; it must be 'file.Class' of memjax.models",
        ),
        ("model.similarity", "dot", "similarity is 'dot'; it must be one of key_normalized"),
        ("model.num_samples", 1, "num_samples is 1; VIMCO needs at least 2"),
        ("model.num_slots", -1, "num_slots is -1"),
        ("model.address_prior", "none", "address_prior is 'none'; it must be 'learned' or 'flat'"),
        ("model.width", 3, "unexpected keyword argument 'width'"),
        ("optimizer.name", "adamm", "optimizer.name is 'adamm'"),
        ("optimizer.learning_rate", -1.0, "optimizer.learning_rate is -1.0; it must be above 0"),
        ("optimizer.clip_norm", -1.0, "optimizer.clip_norm is -1.0; it must be at least 0"),
        (
            "optimizer.momentun",
            0.1,
            "optimizer adam: got an unexpected keyword argument 'momentun'",
        ),
    ],
)
def test_bad_configs_are_refused_before_anything_is_written(tmp_path, field, value, message):
    config = make_vma_config()
    with config.unlocked():
        config.update_from_flattened_dict({field: value})
    workdir = tmp_path / "run"
    with pytest.raises(UserError) as error:
        train(config, workdir)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not workdir.exists()


def test_a_few_shot_config_with_too_many_classes(tiny_config, tmp_path):
    tiny_config.episodes = {
        "name": "few_shot",
        "num_classes": 11,
        "num_support": 1,
        "num_queries": 1,
    }
    with pytest.raises(UserError, match="num_classes is 11; the data set has 10"):
        train(tiny_config, tmp_path)


def test_a_model_that_needs_a_memory_without_one(tmp_path):
    config = make_vma_config()
    config.episodes = {"name": "minibatch", "batch_size": 8}
    with pytest.raises(UserError, match="the memory is empty"):
        train(config, tmp_path)


def test_another_configs_workdir_is_left_alone(tiny_config, workdir):
    before = {p: p.stat().st_mtime_ns for p in workdir.rglob("*")}
    tiny_config.seed = 1
    with pytest.raises(UserError, match=r"holds another config's run: its seed is 0, this .* is 1"):
        train(tiny_config, workdir)
    assert {p: p.stat().st_mtime_ns for p in workdir.rglob("*")} == before


def test_a_workdir_that_cannot_be_written(tiny_config, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked").chmod(0o555)
    for workdir in (tmp_path / "file/run", tmp_path / "locked", tmp_path / "locked/run"):
        with pytest.raises(UserError, match=f"workdir {workdir} can't be written"):
            train(tiny_config, workdir)
    assert not list((tmp_path / "locked").iterdir())


def test_an_unreadable_config_file(tiny_config, tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config.json can't be read"):
        train(tiny_config, tmp_path)
    assert (tmp_path / "config.json").read_text() == "{"


def newest_files(workdir, step):
    files = [p for p in (workdir / "checkpoints" / str(step)).rglob("*") if p.is_file()]
    return sorted(files, key=lambda p: p.stat().st_size)


def test_a_corrupt_checkpoint_falls_back_to_the_one_before(tiny_config, whole, workdir, caplog):
    for path in newest_files(workdir, 8):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with caplog.at_level("WARNING", logger="memjax"):
        resumed = train(tiny_config, workdir)
    assert "checkpoint 8 is unreadable" in caplog.text
    assert "falling back to the checkpoint of step 4" in caplog.text
    assert_states_equal(whole[0], resumed)
    assert [entry["step"] for entry in lines(workdir)] == [2, 4, 6, 8]
    assert (workdir / "unreadable_checkpoints/8").is_dir()
    assert sorted(p.name for p in (workdir / "checkpoints").iterdir()) == ["4", "8"]


def test_no_readable_checkpoint_is_an_error_and_nothing_is_lost(tiny_config, workdir):
    metrics = (workdir / "metrics.jsonl").read_bytes()
    for step in (4, 8):
        for path in newest_files(workdir, step):
            path.write_bytes(b"")
    with pytest.raises(UserError, match=r"none of the checkpoints \[8, 4\] in .* can be read"):
        train(tiny_config, workdir)
    assert (workdir / "metrics.jsonl").read_bytes() == metrics
    assert sorted(p.name for p in (workdir / "checkpoints").iterdir()) == ["4", "8"]


def test_a_metrics_line_cut_short_is_dropped(tiny_config, workdir):
    path = workdir / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 10, "nl')
    assert [entry["step"] for entry in metrics_lib.read(workdir)] == [2, 4, 6, 8]
    tiny_config.training.num_steps = 10
    train(tiny_config, workdir)
    assert [entry["step"] for entry in lines(workdir)] == [2, 4, 6, 8, 10]


def test_a_log_tells_what_is_trained_and_how_long_it_takes(
    tiny_config, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(metrics_lib, "_LINE_SECONDS", 0.0)
    monkeypatch.setattr(loop, "_BLOCK_SECONDS", 0.0)  # a look after each step
    with caplog.at_level("INFO", "memjax"):
        train(tiny_config, tmp_path)
    header, model, *others = [record.getMessage() for record in caplog.records]
    assert header.startswith("vae.VAE: 1,500 images of 8 x 8 x 1, on ") and str(tmp_path) in header
    assert model == "1,156 parameters; compiling; then steps 0 to 8"
    assert any(line.startswith("step 3 of 8, ") and line.endswith(" left") for line in others)
    assert any(line.startswith("step 4: nll ") and ", eval/nll " in line for line in others)
    assert [metrics_lib._duration(x) for x in (40.2, 400.0, 9000.0)] == ["40 s", "7 min", "2.5 h"]
