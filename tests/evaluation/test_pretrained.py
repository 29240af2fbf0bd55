"""The models that come with memjax: their files, and the numbers that these give again."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax import evaluation
from memjax.errors import UserError
from memjax.evaluation import pretrained

_PAGE = Path(__file__).parents[2] / "docs/pretrained.md"


@pytest.mark.parametrize("name", pretrained.names())
def test_a_file_is_small_and_whole_and_the_page_has_it(name):
    found = pretrained.read(name)
    assert (pretrained._FOLDER / f"{name}.npz").stat().st_size < 5_000_000
    assert found.config.data_dir == "" and not found.config.get("init_from")
    assert found.step > 0 and found.evaluations
    assert all(np.isfinite(x).all() and x.dtype != object for x in found.arrays.values())
    assert f"`pretrained:{name}`" in _PAGE.read_text()


def test_one_line_loads_a_run():
    run = evaluation.load_run("pretrained:kanerva_digits_denoise")
    stored = pretrained.read("kanerva_digits_denoise").arrays
    assert run.step == 6000 and run.experiment.name == "kanerva_machine.KanervaMachine"
    kernel = run.variables["params"]["address_posterior"]["kernel"]
    assert kernel.dtype == jnp.float32
    np.testing.assert_array_equal(kernel, stored["params.address_posterior.kernel"])


@pytest.mark.slow
@pytest.mark.parametrize("name", pretrained.names())
def test_the_numbers_come_out_again(name):
    try:
        run = evaluation.load_run(pretrained.PREFIX + name)
    except UserError as error:
        assert "data_dir" in str(error)
        pytest.skip("its data set is not here")
    for task, expected in pretrained.read(name).evaluations.items():
        table = run.task(task, **expected["options"]).table
        assert len(table) == len(expected["table"])
        for row, expected_row in zip(table, expected["table"], strict=True):
            for field, value in expected_row.items():
                is_word = isinstance(value, str)
                wanted = value if is_word else pytest.approx(value, rel=0.02, abs=0.01)
                assert row[field] == wanted, field


def test_what_is_written_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "_FOLDER", tmp_path / "new")
    variables = {"params": {"a": {"kernel": jnp.array([[1.5, -2.0, 0.1]])}, "b": jnp.array([1e6])}}
    config = {"data_dir": "/somewhere", "init_from": "/elsewhere", "seed": 3}
    pretrained.write("mine", config, 7, variables, {"likelihood": {"options": {}, "table": []}})
    assert pretrained.names() == ["mine"]
    found = pretrained.read("mine")
    assert found.config.to_dict() == {"data_dir": "", "init_from": "", "seed": 3}
    assert found.step == 7
    assert found.arrays["params.a.kernel"].dtype == np.float16
    again = found.variables(like=variables)
    jax.tree.map(np.testing.assert_array_equal, again, pretrained.rounded(variables))
    assert again["params"]["b"] == 1e6 and again["params"]["b"].dtype == jnp.float32
    np.testing.assert_array_equal(again["params"]["a"]["kernel"], [[1.5, -2.0, np.float16(0.1)]])
    with pytest.raises(UserError, match="not those of this model"):
        found.variables(like={"params": {"a": variables["params"]["a"]}})
    (tmp_path / "new/mine.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"^the pretrained model mine can't be read"):
        pretrained.read("mine")


def test_a_name_that_is_not_there_is_told_with_those_that_are():
    with pytest.raises(UserError, match=r"pretrained model is 'nothing'.*kanerva_digits_denoise"):
        evaluation.load_run("pretrained:nothing")
