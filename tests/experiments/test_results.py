"""Tables of a Markdown file from the runs' own files."""

import pytest

from experiments import reporting, results
from memjax.errors import UserError
from tests.experiments.test_command_line import run
from tests.experiments.test_page import make_run

_TEXT = """# Title
before 1.234
<!-- results runs=one,second=two task=recall columns=run,num_slots,nll:NLL,seed -->
| old | 9.999 |
<!-- end -->
between
<!-- results runs=one columns=eval/nll,step,minutes,model.name -->
<!-- end -->
after
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder / "one")
    make_run(folder / "two", seed=5, nll=3.5)
    return folder


def test_tables_are_made_anew_and_prose_is_left(runs):
    filled = results.fill_in(_TEXT, runs)
    assert filled.splitlines() == [
        "# Title",
        "before 1.234",
        _TEXT.splitlines()[2],
        "| run | num_slots | NLL | seed |",
        "| --- | --- | --- | --- |",
        "| one | 16 | 2.500 | 0 |",
        "| second | 16 | 3.500 | 5 |",
        "<!-- end -->",
        "between",
        _TEXT.splitlines()[6],
        "| eval/nll | step | minutes | model.name |",
        "| --- | --- | --- | --- |",
        # Three steps at 7 a second, one at 8.
        f"| 2.500 | 4 | {(3 / 7 + 1 / 8) / 60:.4g} | vma.VMA |",
        "<!-- end -->",
        "after",
    ]
    assert results.fill_in(filled, runs) == filled


@pytest.fixture(scope="module")
def denoised(runs):
    """A run with an evaluation of several rows."""
    rows = [
        {"noise": noise, "iteration": i, "error": 0.1 * i + 0.01 * (noise == "block")}
        for noise in ("block", "salt")
        for i in (0, 1, 10)
    ]
    content = {"task": "denoise", "step": 4, "options": {}, "table": rows}
    content |= {"curves": {}, "figures": []}
    reporting.write_json(runs / "two/eval_denoise.json", content)
    return runs


def test_rows_are_selected_and_numbers_picked_and_rounded(denoised):
    table = results.table("runs=two task=denoise[iteration=0|10] columns=noise,error::1", denoised)
    assert table.splitlines()[2:] == [
        "| block | 0.0 |",
        "| block | 1.0 |",
        "| salt | 0.0 |",
        "| salt | 1.0 |",
    ]
    columns = "run:the system,recall[].nll:NLL (nats):2,denoise[noise=block,iteration=10].error::3"
    table = results.table(f'runs=two columns="{columns},seed"', denoised)
    assert table.splitlines() == [
        "| the system | NLL (nats) | denoise[noise=block,iteration=10].error | seed |",
        "| --- | --- | --- | --- |",
        "| two | 3.50 | 1.010 | 5 |",
    ]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("denoise[noise=block].error", r"has 3 rows of run two; say which"),
        ("denoise[noise=pepper].error", r"eval_denoise\.json of run two has no row with noise=pe"),
        ("denoise[noise=salt,iteration=1].nll", r"run two has no column 'nll' there"),
        ("denoise[noise=salt]", r"'denoise\[noise=salt\]' must be TASK\[FIELD=VALUE,...\]\.COLUMN"),
        ("impute[].mse", r"run two has no eval_impute\.json: evaluate it"),
        ("seed:Seed:two", r"column 'seed:Seed:two' has decimals 'two'; they must be a number"),
    ],
)
def test_numbers_that_can_not_be_picked_are_refused(denoised, column, message):
    with pytest.raises(UserError, match=message):
        results.table(f"runs=two columns={column}", denoised)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("runs=one,", "runs=none,", "none holds no run"),
        ("task=recall", "task=denoise", r"has no eval_denoise\.json: evaluate it"),
        (",seed -->", ",sead -->", "column 'sead' is neither in the table"),
        ("columns=run", "rows=run", "must give runs=, columns="),
        ("columns=run", 'columns="run', "can't be read: No closing quotation"),
    ],
)
def test_tables_that_can_not_be_made_are_refused(runs, old, new, message):
    with pytest.raises(UserError, match=message):
        results.fill_in(_TEXT.replace(old, new), runs)


@pytest.mark.slow
def test_the_command_checks_and_writes(runs, tmp_path):
    path = tmp_path / "RESULTS.md"
    path.write_text(_TEXT)
    flags = (f"--file={path}", f"--runs={runs}")
    checked = run("results", *flags, "--check")
    assert checked.returncode == 1 and "is not what the runs" in checked.stdout
    assert path.read_text() == _TEXT
    assert run("results", *flags).returncode == 0
    assert path.read_text() == results.fill_in(_TEXT, runs)
    assert run("results", *flags, "--check").returncode == 0
