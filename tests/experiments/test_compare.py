"""Runs of all kinds of models in one table: every number under its own name."""

import json

import pytest

from experiments import charts, page, reporting, results
from experiments.reporting import RunFiles
from memjax import plotting
from memjax.evaluation import Curves, Report
from tests.conftest import make_vma_config
from tests.experiments.test_page import Parsed

# What each kind of model measures; `test_configs` checks it against every config.
_IMAGES = {"nll", "reconstruction", "kl_latent"}
METRICS = {
    "vae.VAE": _IMAGES,
    "mem_vae.MemVAE": _IMAGES,
    "soft_memory.SoftMemory": _IMAGES,
    "matching_network.MatchingNetwork": _IMAGES,
    "vma.VMA": _IMAGES | {"kl_address", "address_prior_entropy"},
    "kanerva_machine.KanervaMachine": _IMAGES | {"kl_address", "kl_memory"},
    "dnc_machine.DNCMachine": _IMAGES | {"kl_address"},
    "dnc_machine.LRUAMachine": _IMAGES | {"kl_address"},
}
_COLUMNS = [
    "nll",
    "reconstruction",
    "address_prior_entropy",
    "kl_address",
    "kl_latent",
    "kl_memory",
]


def value_of(kind, metric):
    """A number that tells whose it is."""
    return 1000.0 * list(METRICS).index(kind) + 10.0 * _COLUMNS.index(metric) + 0.125


@pytest.fixture(scope="module")
def no_pictures():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reporting, "draw_report", lambda *arguments: None)
        patch.setattr(plotting, "curves", lambda *arguments, **options: None)
        yield


@pytest.fixture(scope="module", params=["in order", "reversed"])
def workdirs(request, tmp_path_factory, no_pictures):
    """A run of each kind, without training it, by name; its metrics are sorted, as JAX has them."""
    folder = tmp_path_factory.mktemp("runs")
    for kind, names in METRICS.items():
        config = make_vma_config()
        config.model.name = kind
        reporting.write_json(folder / kind / "config.json", config.to_dict())
        numbers = {name: value_of(kind, name) for name in sorted(names)}
        held_out = {f"eval/{name}": value for name, value in numbers.items()}
        training = {name: -value for name, value in numbers.items()}
        line = {"step": 4, **training, "steps_per_second": 8.0, **held_out}
        (folder / kind / "metrics.jsonl").write_text(json.dumps(line) + "\n")
        panel = Curves("x", "nats", {"": ([0, 1], [1.0, 2.0])})
        report = Report([{"queries": 7} | numbers], curves={"likelihood": {"NLL": panel}})
        reporting.write_report(folder / kind, "likelihood", 4, {}, report)
    kinds = list(METRICS) if request.param == "in order" else list(METRICS)[::-1]
    return {kind: folder / kind for kind in kinds}


def assert_each_number_has_its_name(rows, blank):
    assert len(rows) == len(METRICS)
    for row in rows:
        for name in _COLUMNS:
            own = name in METRICS[row["run"]]
            assert row[name] == (value_of(row["run"], name) if own else blank)


def parse(text):
    """The rows of an aligned table, by what stands above each cell's end."""
    head, *lines, units = text.splitlines()
    assert units.startswith("nll, ") and units.endswith(": nats an image")
    names = head.split()
    ends = [
        head.index(f" {name}") + 1 + len(name) if i else len(name) + head.index(name)
        for i, name in enumerate(names)
    ]
    starts = [0, *ends[:-1]]
    return [
        {n: line[a:b].strip() for n, a, b in zip(names, starts, ends, strict=True)}
        for line in lines
    ]


@pytest.mark.parametrize("task", ["", "likelihood"])
def test_numbers_of_different_kinds_are_joined_by_name(workdirs, tmp_path, capsys, task):
    charts.compare(workdirs, tmp_path, task)
    rows = json.loads((tmp_path / f"compare_{task or 'training'}.json").read_text())["table"]
    assert [row["run"] for row in rows] == list(workdirs)
    assert_each_number_has_its_name(rows, None)
    first = ["run", "queries"] if task else ["run", "step"]
    assert all(list(row) == list(rows[0]) for row in rows) and list(rows[0])[:2] == first
    if not task:
        assert list(rows[0])[2:] == _COLUMNS
    printed = parse(capsys.readouterr().out)
    numbers = [
        {name: float(cell) if name in _COLUMNS and cell else cell for name, cell in row.items()}
        for row in printed
    ]
    assert_each_number_has_its_name(numbers, "")


def test_a_row_may_lack_what_others_have():
    rows = [{"a": 1, "b": 2.5}, {"b": None, "c": "x"}]
    assert reporting.format_table(rows).splitlines() == [
        "a      b  c",
        "1  2.500   ",
        "          x",
    ]


def test_the_learning_curves_are_of_one_metric_each(workdirs):
    runs = [RunFiles(kind, workdir) for kind, workdir in workdirs.items()]
    each = {run.name: plotting.metric_panels(run.entries, held_out=True) for run in runs}
    panels = plotting.merge(each)
    assert list(panels) == _COLUMNS
    for name, panel in panels.items():
        kinds = [kind for kind in workdirs if name in METRICS[kind]]
        assert panel.lines == {kind: ([4], [value_of(kind, name)]) for kind in kinds}


def test_the_page_joins_by_name(workdirs, tmp_path):
    text = page.write(workdirs, tmp_path / "all.html").read_text()
    rows = [[cell.strip() for cell in row] for row in Parsed(text).rows]
    kinds = list(workdirs)
    start = rows.index(["metric", *kinds])
    names = [row[0] for row in rows[start + 1 : start + 2 * len(_COLUMNS) + 2]]
    held_out = [f"eval/{name}" for name in _COLUMNS]
    assert names == [*_COLUMNS, *held_out, "steps_per_second"]
    for name in _COLUMNS:
        expected = [value_of(k, name) if name in METRICS[k] else None for k in kinds]
        assert [f"eval/{name}", *map(reporting.cell, expected)] in rows
        training = [None if value is None else -value for value in expected]
        assert [name, *map(reporting.cell, training)] in rows


def test_a_page_joins_the_rows_of_an_evaluation_by_name(workdirs, tmp_path):
    kind, workdir = next(iter(workdirs.items()))
    report = Report([{"a": 1, "b": 2}, {"b": 3, "c": 4}])
    reporting.write_report(tmp_path, "recall", 4, {}, report)
    (tmp_path / "config.json").write_text((workdir / "config.json").read_text())
    rows = Parsed(page.write({kind: tmp_path}, tmp_path / "one.html").read_text()).rows
    start = rows.index(["a", "b", "c"])
    assert rows[start + 1 : start + 3] == [["1", "2", ""], ["", "3", "4"]]


@pytest.mark.parametrize("task", ["", "task=likelihood "])
def test_tables_of_results_are_blank_where_a_metric_is_absent(workdirs, task):
    """Never the training's number under an evaluation's name."""
    folder = next(iter(workdirs.values())).parent
    names = _COLUMNS if task else [f"eval/{name}" for name in _COLUMNS]
    description = f"runs={','.join(workdirs)} {task}columns=run,{','.join(names)}"
    lines = results.table(description, folder).splitlines()[2:]
    assert len(lines) == len(workdirs)
    for kind, line in zip(workdirs, lines, strict=True):
        cells = [
            reporting.cell(value_of(kind, name)) if name in METRICS[kind] else ""
            for name in _COLUMNS
        ]
        assert line == f"| {' | '.join([kind, *cells])} |"
