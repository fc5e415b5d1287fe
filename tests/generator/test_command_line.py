"""`python -m generator` and `make dataset`: options, output, and errors for invalid options."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from deepnets.support import ConfigError, DeepNetsError, Parser, run
from deepnets.support import command_line as cli
from deepnets.support.standard_streams import RESET
from generator import SPLITS, BuildPlan
from generator.__main__ import main
from tests.support.processes import ROOT, Corpus, Terminal, build, command, digests, one_error, without_notices

HELP = "(see python -m generator build --help)"


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--train-size 0", "argument --train-size: expected an integer, 1 or more, got '0'"),
        ("--train-size many", "argument --train-size: expected an integer, 1 or more, got 'many'"),
        ("--search-size -5", "argument --search-size: expected an integer, 1 or more, got '-5'"),
        ("--search-size 1.5", "argument --search-size: expected an integer, 1 or more, got '1.5'"),
        ("--seed=-1", "argument --seed: expected an integer, 0 or more, got '-1'"),
        ("--workers 0", "argument --workers: expected an integer, 1 or more, got '0'"),
        ("--shard-size 0", "argument --shard-size: expected an integer, 1 or more, got '0'"),
        ("--patience none", "argument --patience: expected an integer, 1 or more, got 'none'"),
        ("--backend threads", "argument --backend: invalid choice: 'threads' (choose from "),
        ("--out", "argument --out: expected one argument"),
        ("--trian-size 5", "unrecognized arguments: --trian-size 5"),
        ("--seed 1 'two\nlines'", "unrecognized arguments: two lines"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["build", "--splits", "val", *shlex.split(words)])
    assert ended.value.code == 2
    output, errors = capsys.readouterr()
    assert output == ""
    (line,) = errors.splitlines()
    assert line.startswith("python -m generator")
    assert f"error: {message}" in line
    assert line.endswith("--help)")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--splits tset", "split: unknown 'tset'; use one of train, val, test, deep, dense, bnfree, wide, search"),
        ("--splits val,,test", "split: unknown ''; use one of "),
        ("--splits ''", "split: unknown ''; use one of "),
        ("--train-size 1,000,000,001", "train_size: expected 1 to 1,000,000,000, got 1,000,000,001"),
        ("--address tcp://localhost:1", "address: only the backends dask and ray have one, got 'tcp://localhost:1'"),
    ],
)
def test_wrong_values_are_refused_in_one_line(tmp_path: Path, words: str, message: str) -> None:
    with pytest.raises(DeepNetsError) as raised:
        main(["build", "--out", str(tmp_path / "data"), *shlex.split(words)])
    assert str(raised.value).startswith(message)
    assert len(str(raised.value).splitlines()) == 1
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
def test_what_is_refused_ends_with_a_status(tmp_path: Path) -> None:
    refused = build(tmp_path, splits="tset")
    assert one_error(refused.returncode, refused.stdout, refused.stderr).startswith("error: split: unknown 'tset'; use")
    refused = build(tmp_path, workers="all")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == (
        f"python -m generator build: error: argument --workers: expected an integer, 1 or more, got 'all' {HELP}\n"
    )


def test_numbers_may_be_written_readably(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["build", "--out", str(tmp_path), "--splits", " search , val ", "--search-size", "1_0", "--workers", "1"])
    assert sorted(digests(tmp_path)) == ["search", "val"]
    assert capsys.readouterr().out.splitlines()[-1].startswith("510 networks made in ")


def test_every_option_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["build", "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for option in ("out", "splits", "train-size", "search-size", "seed", "workers", "backend", "address", "patience"):
        assert f"--{option}" in text
    assert "1,000,000" in text


def test_a_command_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    assert "required: command" in capsys.readouterr().err


# --- output -----------------------------------------------------------------------------------------------------------


def test_splits_lists_the_splits(capsys: pytest.CaptureFixture[str]) -> None:
    main(["splits"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["split", *SPLITS]
    assert "1,000,000" in lines[1]


@pytest.mark.slow
def test_the_table_holds_what_was_made(corpus: Corpus) -> None:
    done = build(corpus.out, **corpus.sizes)
    header, *rows, last = done.stdout.splitlines()
    assert header.split() == ["split", "networks", "size", "content", "digest"]
    assert {row.split()[0]: row.split()[4] for row in rows} == {
        split: digest[:16] for split, digest in corpus.digests.items()
    }
    assert last == f"nothing to do: {corpus.out} is complete"


def test_all_splits_and_others(monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[BuildPlan] = []
    monkeypatch.setattr("generator.build.build_corpus", lambda out, plan, **_: plans.append(plan) or [])
    main(["build", "--splits", "all,val", "--quiet"])
    main(["build", "--splits", "val", "all", "--quiet"])
    assert [sorted(plan.splits) for plan in plans] == [sorted(SPLITS)] * 2
    with pytest.raises(ConfigError, match="tset"):
        main(["build", "--splits", "all,tset", "--quiet"])


@pytest.mark.slow
def test_quiet_says_nothing(tmp_path: Path) -> None:
    words = command(tmp_path, splits="search", search_size=300, shard_size=100, workers=1, quiet=True)
    with Terminal(words) as terminal:
        assert terminal.wait() == 0
    assert terminal.text.replace(RESET, "") == ""  # colorama, if it is installed, writes it for numba
    failed = build(tmp_path, splits="search", search_size=301, quiet=True)
    one_error(failed.returncode, failed.stdout, failed.stderr)


def test_a_reader_may_leave_early() -> None:
    """The reader of a pipe may close it early, as in `python -m generator splits | head -1`."""
    words = f"{shlex.quote(sys.executable)} -m generator splits | true"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", words], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# --- errors and exit statuses -----------------------------------------------------------------------------------------


def ends(monkeypatch: pytest.MonkeyPatch, action: object) -> object:
    """Return the exit status of a program whose command calls this function."""

    def command(words: Sequence[str]) -> None:
        if isinstance(action, BaseException):
            raise action
        assert callable(action)
        action()

    monkeypatch.setattr(cli, "GRACE", 3600.0)
    hook = sys.unraisablehook
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(SystemExit) as ended:
            run(command, after_interrupt="try again")
    finally:
        sys.unraisablehook = hook
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return ended.value.code


@pytest.mark.parametrize(
    ("action", "status", "errors"),
    [
        (lambda: None, 0, ""),
        (DeepNetsError("file.h5: is damaged"), 1, "error: file.h5: is damaged\n"),
        (MemoryError(), 1, "error: there is not enough memory\n"),
        (lambda: signal.raise_signal(signal.SIGINT), 130, "interrupted; try again\n"),
        (lambda: signal.raise_signal(signal.SIGTERM), 130, "interrupted; try again\n"),
    ],
)
def test_how_a_program_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], action: object, status: int, errors: str
) -> None:
    assert ends(monkeypatch, action) == status
    assert capsys.readouterr() == ("", errors)


def test_an_interrupt_that_turned_into_another_error_is_still_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def compiled_code() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            raise SystemError("returned a result with an exception set") from error

    assert ends(monkeypatch, compiled_code) == 130
    assert capsys.readouterr().err == "interrupted; try again\n"


def test_a_second_interrupt_does_not_disturb_cleaning_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = []

    def work() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            steps.append("cleaned up")

    assert ends(monkeypatch, work) == 130
    assert steps == ["cleaned up"]
    assert capsys.readouterr().err == "interrupted; try again\n"


def test_an_interrupt_that_a_callback_swallowed_does_not_count(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Callback:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    def work() -> None:
        callback = Callback()
        del callback
        signal.raise_signal(signal.SIGINT)

    assert ends(monkeypatch, work) == 130
    assert capsys.readouterr().err == "interrupted; try again\n"


def test_mistakes_keep_their_traceback() -> None:
    def mistaken(words: Sequence[str]) -> None:
        raise ZeroDivisionError

    handler = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.unraisablehook
    with pytest.raises(ZeroDivisionError):
        run(mistaken)
    signal.signal(signal.SIGINT, handler[0])
    signal.signal(signal.SIGTERM, handler[1])
    sys.unraisablehook = handler[2]


def test_a_parser_says_what_is_wrong_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        Parser(prog="program").parse_args(["a\nb"])
    assert capsys.readouterr().err == "program: error: unrecognized arguments: a b (see program --help)\n"


# --- make -------------------------------------------------------------------------------------------------------------


def make(**variables: object) -> str:
    """Return the command that `make dataset` would run to build a corpus."""
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    words = [f"{name}={value}" for name, value in {"VENV": sys.prefix, **variables}.items()]
    installed = [f"--old-file={sys.prefix}/{stamp}" for stamp in ("core", "development")]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", *installed, "dataset", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=clean,
    )
    text = done.stdout.replace("\\\n", " ")
    (line,) = (line for line in text.splitlines() if "-m generator build" in line)
    return line


def options(line: str) -> dict[str, str]:
    """Return the options of a command line."""
    words = shlex.split(line)
    words = words[words.index("build") + 1 :]
    return {
        word: "" if i + 1 == len(words) or words[i + 1].startswith("--") else words[i + 1]
        for i, word in enumerate(words)
        if word.startswith("--")
    }


def test_make_passes_its_variables_on() -> None:
    assert options(make()) == {
        "--splits": "all",
        "--train-size": "1000000",
        "--search-size": "100000",
        "--out": "data",
        "--seed": "0",
        "--backend": "loky",
    }
    given = {
        "SPLITS": "val,test",
        "SIZE": 5,
        "SEARCH_SIZE": 6,
        "OUT": "my $$HOME & data",
        "WORKERS": 3,
        "BACKEND": "other",
        "ADDRESS": "tcp://127.0.0.1:8786",
        "SEED": 9,
        "OVERWRITE": 1,
    }
    assert options(make(**given)) == {
        "--splits": "val,test",
        "--train-size": "5",
        "--search-size": "6",
        "--out": "my $HOME & data",
        "--seed": "9",
        "--backend": "other",
        "--workers": "3",
        "--address": "tcp://127.0.0.1:8786",
        "--overwrite": "",
    }


@pytest.mark.slow
def test_what_make_runs_works(tmp_path: Path) -> None:
    out = tmp_path / "my data"
    line = make(SPLITS="search", SEARCH_SIZE=12, OUT=out, WORKERS=1)
    done = subprocess.run(["sh", "-c", line], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, without_notices(done.stderr)) == (0, "")
    assert [path.name for path in out.iterdir()] == ["deepnets1m_search.h5"]


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("variables", "status", "message"),
    [
        ({"SIZE": "huge"}, 2, "argument --train-size: expected an integer, 1 or more, got 'huge'"),
        ({"SIZE": ""}, 2, "argument --train-size: expected an integer, 1 or more, got ''"),
        ({"WORKERS": "-1"}, 2, "argument --workers: expected an integer, 1 or more, got '-1'"),
        ({"BACKEND": "threads"}, 2, "argument --backend: invalid choice: 'threads'"),
        ({"SPLITS": "valid"}, 1, "error: split: unknown 'valid'; use one of train, val"),
    ],
)
def test_wrong_variables_of_make_are_refused_in_one_line(
    tmp_path: Path, variables: dict[str, str], status: int, message: str
) -> None:
    line = make(OUT=tmp_path, **variables)
    done = subprocess.run(["sh", "-c", line], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (status, "")
    (error,) = done.stderr.splitlines()
    assert message in error
    assert not list(tmp_path.iterdir())
