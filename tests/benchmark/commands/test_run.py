"""The options of `python -m benchmark run`, selections of networks, and its exit status."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import benchmark.report
from benchmark.commands import run as run_command
from benchmark.results import Machine, read_results, run
from deepnets.support import ConfigError, DeepNetsError, Parser
from tests.support.benchmark_runs import ROOT, table_of
from tests.support.small_corpus import write_predictors, write_small_corpus


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_corpus(tmp_path_factory.mktemp("small"), "test", "val")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_predictors(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def parsed(*words: Any) -> Any:
    parser = Parser(prog="python -m benchmark")
    run_command.add_arguments(parser.add_subparsers(required=True, parser_class=Parser))
    return parser.parse_args(["run", *map(str, words)])


def command(*words: Any) -> None:
    options = parsed(*words, "--workers", 1, "--quiet", "--no-report")
    options.do(options)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--limit", "6,tets=3"], "argument --limit: unknown split 'tets'; did you mean test?"),
        (["--limit", "6,=3"], "argument --limit: unknown split ''; use one of train, val"),
        (["--limit", "6,test=x"], "argument --limit: expected an integer, 0 or more, got 'x'"),
        (["--timeout", "1e300"], "argument --timeout: expected 1e+09 seconds or less, or 0 for no limit, got '1e300'"),
        (["--timeout", "nan"], "argument --timeout: expected a number, 0 or more"),
        (["--device", "meta"], "argument --device: cannot use 'meta', which holds no values"),
        (["--device", "cpu", "nonsense"], "argument --device: cannot use 'nonsense'"),
        (["--out", ""], "argument --out: expected the name of a file or folder, got an empty text"),
        (["--seed", 2**63], "argument --seed: expected an integer from 0 to 2**63 - 1"),
        (["--seed", "9" * 400], "argument --seed: expected an integer from 0 to 2**63 - 1"),
        (["--index", "3,,5"], "argument --index: expected numbers and ranges as in 0:10"),
        (["--index", "3", "--limit", "4"], "argument --limit: not allowed with argument --index"),
    ],
)
def test_values_that_are_not_allowed(words: list[Any], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed(*words)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_gpus_of_a_cluster_can_be_missing_here() -> None:
    words = ["--device", "cuda:98", "cuda:99"]
    assert parsed(*words, "--backend", "ray", "--address", "head:6379").device == words[1:]
    with pytest.raises(ConfigError, match="device: cannot use 'cuda:98'"):
        command(*words)


def test_published_results_are_read_before_anything_is_evaluated(small: Path, here: Path) -> None:
    words = [
        "--predictors",
        "random",
        "--splits",
        "test",
        "--data",
        small,
        "--out",
        here / "out",
        "--published",
        "typo",
    ]
    options = parsed(*words, "--workers", 1, "--quiet")
    with pytest.raises(ConfigError, match="--published: there is no folder typo"):
        options.do(options)
    assert not (here / "out" / "networks.csv").exists()


def test_a_limit_with_a_comma_between_its_digits() -> None:
    """It would be two limits, of which the last one, 0, stands for all networks."""
    with pytest.raises(ConfigError, match="--limit: two numbers for the same networks"):
        command("--limit", "1,000")


def test_limits_may_name_splits_that_are_not_evaluated() -> None:
    for words in (["6,wide=1,torchvision=2"], ["6", "wide=1", "torchvision=2"]):
        assert dict(parsed("--splits", "test", "--limit", *words).limit) == {"": 6, "wide": 1, "torchvision": 2}


def test_the_resnet_of_predefined_is_left_out_without_torchvision(
    small: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "torchvision" else found(name, *a)
    )
    monkeypatch.setattr(run_command, "DEFAULT_SPLITS", ("test", "predefined"))
    command("--predictors", "random", "--limit", "1", "--data", small, "--out", here / "out")
    assert list(read_results(here / "out").rows["split"]) == ["test"]
    error = capsys.readouterr().err
    assert "predefined is left out" in error
    assert 'pip install "deepnets1m[vision]"' in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": {"tets": 3}}, "limit: 'tets' is none of the networks to evaluate, which are test"),
        ({"index": 3, "limit": 2}, "index: cannot be combined with limit"),
        ({"index": "4"}, "index: test has networks 0 to 3, there is no 4"),
        ({"out": ""}, "out: expected the name of a folder"),
    ],
)
def test_wrong_options_in_python(small: Path, here: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(["random"], ["test"], **{"data": small, "out": here / "out", **options})
    assert not (here / "out").exists()


@pytest.mark.parametrize("values", [{"timeout": 1e300}, {"timeout": float("nan")}, {"devices": ("meta",)}])
def test_wrong_machines(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values)).removesuffix("s")):
        Machine(**values)


@pytest.mark.slow
def test_a_report_is_written_before_the_end(small: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first row, it has one network of two, and says that the run is unfinished."""
    pages = []

    def write(*arguments: Any, **options: Any) -> Path:
        pages.append((path := written(*arguments, **options)).read_text())
        return path

    written = benchmark.report.write_report
    monkeypatch.setattr(benchmark.report, "write_report", write)
    monkeypatch.setattr(run_command._DoublingIntervals.__init__, "__defaults__", (0.0,))
    words = (
        "--predictors",
        "plugged_in:zeros",
        "--splits",
        "test",
        "--limit",
        2,
        "--data",
        small,
        "--out",
        "out",
        "-q",
    )
    options = parsed(*words)
    options.do(options)
    assert ["1 of 2" in page for page in pages] == [True, False, False]  # the last one with pictures
    assert all("unfinished" in page.lower() for page in pages[:1])
    options.do(options)  # nothing is left to evaluate
    assert len(pages) == 4
    assert pages[3] == pages[2]


def test_intervals_double(monkeypatch: pytest.MonkeyPatch) -> None:
    now, calls = [100.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    call = run_command._DoublingIntervals(lambda: calls.append(now[0] - 100))
    for _ in range(2000):
        now[0] += 1
        call()
    assert calls == [60, 180, 420, 900, 1860]


@pytest.mark.slow
def test_networks_by_index(small: Path, here: Path) -> None:
    words = ["--predictors", "plugged_in:zeros", "--data", small, "--out", here / "out"]
    command(*words, "--index", "3,1")
    table = table_of(here / "out")
    assert table[["split", "index"]].values.tolist() == [["test", "1"], ["test", "3"]]
    command(*words, "--splits", "test,val", "--index", "1:3")
    table = table_of(here / "out")
    assert table["index"].tolist() == ["1", "2", "3", "1", "2"]  # 1 of test had its row
    results = read_results(here / "out")
    assert [run["index"] for run in results.runs.values()] == [[1, 2, 3], [1, 2]]  # also of the first call
    with pytest.raises(ConfigError, match="index: test has networks 0 to 3, there is no 17"):
        command(*words, "--index", "3,17")
    with pytest.raises(ConfigError, match="the networks of test have no names"):
        command(*words, "--splits", "test", "--index", "resnet50")


@pytest.mark.slow
def test_networks_by_name(here: Path) -> None:
    """A name alone is one of the predefined networks; the predictor fails before anything is expensive."""
    with pytest.raises(DeepNetsError, match="run: every network failed"):
        command("--predictors", "plugged_in:raises", "--out", here / "out", "--index", "resnet50")
    table = table_of(here / "out")
    assert table[["split", "index", "network"]].values.tolist() == [["predefined", "0", "resnet50"]]


@pytest.mark.slow
def test_a_run_in_which_every_network_failed(small: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The rows are kept, and the same command says the same again; one success is enough."""
    words = ["--data", small, "--out", here / "out", "--splits", "test", "--limit", 2]
    for _ in range(2):
        with pytest.raises(DeepNetsError, match=r"run: every network failed; .*networks\.csv gives the reasons"):
            command("--predictors", "plugged_in:raises", *words)
        assert table_of(here / "out")["status"].tolist() == ["failed"] * 2
    command("--predictors", "plugged_in:raises", "plugged_in:zeros", *words)
    assert "note: plugged_in:raises failed on every network" in capsys.readouterr().err
    assert table_of(here / "out")["status"].tolist() == ["failed"] * 2 + ["ok"] * 2


# --- make ---


def make_bench(**variables: object) -> list[str]:
    """Return the words of the command that `make bench` would run to evaluate predictors."""
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    installed = [f"--old-file={sys.prefix}/{stamp}" for stamp in ("core", "bench", "development")]
    words = [f"{name}={value}" for name, value in {"VENV": sys.prefix, **variables}.items()]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", *installed, "bench", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=clean,
    )
    lines = done.stdout.replace("\\\n", " ").splitlines()
    (line,) = (line for line in lines if "-m benchmark run" in line)
    found = shlex.split(line)
    return found[found.index("run") + 1 :]


def test_make_passes_its_variables_on() -> None:
    splits = ["--splits", "test", "wide", "deep", "dense", "bnfree", "predefined"]
    folders = ["--data", "data", "--out", "results"]
    assert make_bench() == [*splits, "--images", "digits", "--limit", "6,wide=1", *folders]
    assert make_bench(BACKEND="dask", ADDRESS="tcp://x:1")[-4:] == ["--backend", "dask", "--address", "tcp://x:1"]
    given = {
        "PREDICTORS": "random mine=my_module:predict",
        "SPLITS": "val,test",
        "IMAGES": "my $$HOME",
        "IMAGE_ROOT": "some images",
        "LIMIT": 3,
        "OUT": "my data",
        "RESULTS": "my & results",
        "WORKERS": 4,
        "BACKEND": "ray",
        "ADDRESS": "10.0.0.1:6379",
        "ARGS": "--quiet --seed 7",
    }
    expected = [
        *("--predictors", "random", "mine=my_module:predict", "--splits", "val,test", "--images", "my $HOME"),
        *("--image-root", "some images", "--limit", "3", "--data", "my data", "--out", "my & results"),
        *("--workers", "4", "--backend", "ray", "--address", "10.0.0.1:6379", "--quiet", "--seed", "7"),
    ]
    assert make_bench(**given) == expected
    options = parsed(*make_bench(**{**given, "IMAGES": "digits"}))  # the command accepts all of them
    assert (options.backend, options.address, options.workers) == ("ray", "10.0.0.1:6379", 4)
