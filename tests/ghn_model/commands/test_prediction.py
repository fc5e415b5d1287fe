"""The commands of `python -m ghn_model` except training: predictions, output, and errors of invalid options."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from deepnets.architecture import GENOTYPES, Network, NetworkConfig
from deepnets.support import CheckpointError, ConfigError, DeepNetsError, TraceError
from ghn_model import describe
from ghn_model.__main__ import main
from ghn_model.checkpoints import bundled, save_checkpoint
from tests.ghn_model.checkpoints.test_files import hypernetwork
from tests.support.processes import without_notices

ROOT = Path(__file__).parents[3]
NET = f"{__name__}:net"


def net(C: int = 8, name: str = "DARTS") -> nn.Module:
    return Network(NetworkConfig(GENOTYPES[name], n_cells=3, C=C))


class Plain(nn.Module):
    """A network for images of 8 pixels and one channel, with an unused parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.fc = nn.Linear(4 * 36, 10)
        self.unused = nn.Parameter(torch.zeros(5))

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.conv(images).flatten(1))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a checkpoint in it."""
    save_checkpoint(hypernetwork(), tmp_path / "ghn.safetensors", {"epochs": 3, "images": "digits"})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def predict(options: str = "", model: str = NET) -> None:
    main(["predict", "--model", model, "--checkpoint", "ghn.safetensors", "--out", "net.safetensors", *options.split()])


# --- predict ----------------------------------------------------------------------------------------------------------


def test_predictions_go_into_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predict("--model-kwarg C=12 --model-kwarg name=DARTS")
    model = net(C=12)
    expected = hypernetwork().predict(model)
    written = load_file("net.safetensors")
    assert written.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(written[name], tensor)
    numbers = sum(parameter.numel() for parameter in model.parameters())
    tensors = len(list(model.parameters()))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(
        f"net.safetensors: {numbers:,} of {numbers:,} parameters predicted ({tensors} of {tensors} tensors) in "
    )
    model.load_state_dict(written, strict=False)
    with safe_open("net.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["model"] == NET
    assert json.loads(metadata["model_kwargs"]) == {"C": 12, "name": "DARTS"}
    assert metadata["checkpoint"] == "ghn.safetensors"
    assert sorted(path.name for path in folder.iterdir()) == ["ghn.safetensors", "net.safetensors"]


def test_class_layers_can_be_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predict("--no-class-layers")
    names = [name for name, _ in net().named_parameters() if not name.startswith("classifier")]
    assert set(load_file("net.safetensors")) == set(names)
    assert f"({len(names)} of {len(names) + 2} tensors)" in capsys.readouterr().out


def test_any_model_and_its_input(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predict("--input-size 1 8 8", model=f"{__name__}:Plain")
    assert set(load_file("net.safetensors")) == {"conv.weight", "conv.bias", "fc.weight", "fc.bias"}
    assert "1,490 of 1,495 parameters predicted (4 of 5 tensors) in " in capsys.readouterr().out
    with pytest.raises(TraceError):
        predict("--overwrite --input-size 3 9 9", model=f"{__name__}:Plain")


class Scaled(nn.Module):
    """Has a parameter that no published type of node stands for."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc, self.scale = nn.Conv2d(3, 4, 3), nn.Linear(4, 10), nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.fc((self.conv(images) * self.scale).mean((2, 3)))


def test_vocabulary_and_kept_parameters(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = f"{__name__}:Scaled"
    predict(model=model)
    assert "scale" in load_file("net.safetensors")
    assert len(capsys.readouterr().out.splitlines()) == 1
    predict("--vocabulary published --overwrite", model=model)
    assert set(load_file("net.safetensors")) == {"conv.weight", "conv.bias", "fc.weight", "fc.bias"}
    assert "(4 of 5 tensors)" in (output := capsys.readouterr().out)
    assert output.endswith("\nkept, not in the file: scale\n")
    with safe_open("net.safetensors", "pt") as file:
        assert file.metadata()["vocabulary"] == "ghn3"
    torch.save({"state_dict": hypernetwork().state_dict()}, "ppuda.pt")
    predict("--overwrite --checkpoint ppuda.pt", model=model)
    expected = hypernetwork().predict(Scaled(), vocabulary="ppuda")
    written = load_file("net.safetensors")
    assert written.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(written[name], tensor)


def test_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predict("--vocabulary ghn3 --report", model=f"{__name__}:Scaled")
    _, _, header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["parameter", "shape", "node", "node_type", "source", "block", "norm", "reason"]
    assert [row.split()[0] for row in rows] == [name for name, _ in Scaled().named_parameters()]
    assert "no node in the graph" in rows[0]
    predict("--overwrite --vocabulary ghn3 --report report.csv", model=f"{__name__}:Scaled")
    assert len(capsys.readouterr().out.splitlines()) == 2
    lines = (folder / "report.csv").read_text().splitlines()
    assert lines[0] == "parameter,shape,node,node_type,source,block,norm,reason"
    assert lines[1].startswith('scale,"(4, 1, 1)",-1,,kept,(),2.0,no node in the graph')
    with pytest.raises(ConfigError, match=r"^--report: report.csv already exists; .* --overwrite$"):
        predict("--out other.safetensors --report report.csv", model=NET)
    with pytest.raises(CheckpointError, match=r"^missing/report.csv: cannot be written"):
        predict("--overwrite --report missing/report.csv", model=NET)
    predict("--overwrite --report", model=NET)
    assert " tiled map " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "place", "source"),
    [
        ("ghn2_cifar10", "checkpoints/ghn2_cifar10.pt", "https://github.com/facebookresearch/ppuda"),
        ("ghn1_imagenet.pt", "checkpoints/ghn1_imagenet.pt", "https://github.com/facebookresearch/ppuda"),
        ("models/ghn3xlm16.pt", "models/ghn3xlm16.pt", "https://huggingface.co/SamsungSAILMontreal/ghn3"),
    ],
)
def test_official_checkpoints_by_name(folder: Path, name: str, place: str, source: str) -> None:
    """The message says which file is missing, where to get it, and where it is looked for; there it is found."""
    with pytest.raises(CheckpointError) as raised:
        predict(f"--checkpoint {name}")
    file = Path(place).name
    assert str(raised.value) == (
        f"{name!r}: no such file; get {file} from {source} and save it as {place}, or pass the path of the file"
    )
    Path(place).parent.mkdir()
    torch.save({"state_dict": hypernetwork().state_dict()}, place)
    predict(f"--checkpoint {name}")
    assert describe(name).path == Path(place)
    if "/" not in name:  # a file in the current folder comes first
        torch.save({"state_dict": hypernetwork(seed=1).state_dict()}, file)
        assert describe(name).path == Path(file)


@pytest.mark.parametrize("suffix", ["pt", "pth"])
def test_the_name_of_the_file_decides_its_format(folder: Path, suffix: str) -> None:
    predict(f"--out net.{suffix}")
    written = torch.load(f"net.{suffix}", weights_only=True)
    assert type(written) is dict
    expected = hypernetwork().predict(net())
    assert written.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(written[name], tensor)


@pytest.mark.parametrize("name", ["net.onnx", "net.json", "net.h5", "net.safetensor"])
def test_names_of_other_formats_are_refused(folder: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"^--out: expected a name that ends in .safetensors, .pt or .pth, got net"):
        predict(f"--out {name}", model="nowhere:net")  # before any work
    with pytest.raises(ConfigError, match=r"^--report: expected a name that ends in .csv, got report.json"):
        predict("--report report.json", model="nowhere:net")


def test_hypernetworks_are_not_saved_under_misleading_names(folder: Path) -> None:
    ghn = hypernetwork()
    with pytest.raises(ConfigError, match=r"ghn.pt: files of the format deepnets1m end in .safetensors"):
        ghn.save(folder / "ghn.pt")
    with pytest.raises(ConfigError, match=r"ghn2.safetensors: files of the format ppuda end in .pt"):
        main(["export", "ghn.safetensors", "--format", "ppuda", "--out", "ghn2.safetensors"])
    assert [path.name for path in folder.iterdir()] == ["ghn.safetensors"]


def test_an_exported_file_does_not_state_the_checksum_of_another(folder: Path) -> None:
    main(["export", "mlp-digits", "--format", "deepnets1m", "--out", "other.safetensors"])
    found, bundled = describe("other.safetensors"), describe("mlp-digits")
    assert found.metadata == {name: value for name, value in bundled.metadata.items() if name != "sha256"}


def test_files_are_replaced_only_on_request(folder: Path) -> None:
    (folder / "net.safetensors").write_text("precious")
    with pytest.raises(ConfigError, match=r"^--out: net.safetensors already exists; .* --overwrite$"):
        predict(model="nowhere:net")  # before any work
    assert (folder / "net.safetensors").read_text() == "precious"
    predict("--overwrite")
    assert load_file("net.safetensors").keys() == dict(net().named_parameters()).keys()


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        ("--model nowhere:net", ConfigError, "model nowhere:net: there is no module 'nowhere'; "),
        (
            "--model resnet50",
            ConfigError,
            "model: expected 'torchvision:name', 'timm:name' or 'module:callable', ",
        ),
        (f"--model {NET} --model-kwarg C=-1", ConfigError, f"model {NET}: cannot be built with C=-1: "),
        ("--model torch.nn:Linear", ConfigError, "model torch.nn:Linear: cannot be built with no arguments: "),
        ("--checkpoint ghn9", CheckpointError, "'ghn9': no such file, and "),
        ("--checkpoint .", CheckpointError, ".: is the folder of a training; use ghn.safetensors"),
        ("--out nowhere/net.safetensors", CheckpointError, "nowhere/net.safetensors: cannot be written: No such file"),
        ("--out . --overwrite", CheckpointError, ".: cannot be written: it is a folder"),
        ("--out same --report same", ConfigError, "--report: same is the file of --out; choose another one"),
        ("--device gpu", ConfigError, "device: cannot use 'gpu': "),
    ],
)
def test_errors_are_one_line(folder: Path, words: str, kind: type[DeepNetsError], message: str) -> None:
    given = {"--model": NET, "--checkpoint": "ghn.safetensors", "--out": "net.safetensors"}
    first, value, *rest = shlex.split(words)
    given[first] = value
    with pytest.raises(kind) as raised:
        main(["predict", *(word for pair in given.items() for word in pair), *rest])
    assert str(raised.value).startswith(message)
    assert len(str(raised.value).splitlines()) == 1
    assert [path.name for path in folder.iterdir()] == ["ghn.safetensors"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("predict --model-kwarg C", "argument --model-kwarg: expected NAME=VALUE, got 'C'"),
        ("predict --model-kwarg =3", "argument --model-kwarg: expected NAME=VALUE, got '=3'"),
        ("predict --input-size 3 0 8", "argument --input-size: expected an integer, 1 or more, got '0'"),
        ("predict --input-size", "argument --input-size: expected at least one argument"),
        ("predict --model a:b", "the following arguments are required: --checkpoint, --out"),
        ("info", "the following arguments are required: checkpoints"),
        ("lisst", "invalid choice: 'lisst'"),
        ("", "the following arguments are required: command"),
    ],
)
def test_invalid_options_are_one_line(capsys: pytest.CaptureFixture[str], words: str, message: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(words))
    assert ended.value.code == 2
    output, errors = capsys.readouterr()
    assert output == ""
    (line,) = errors.splitlines()
    assert message in line
    assert line.endswith("--help)")


def test_arguments_of_models_are_values() -> None:
    from deepnets.commands.model_options import model_argument

    for text, value in {
        "3": 3,
        "-1.5e3": -1500.0,
        "true": True,
        "null": None,
        "[1, 2]": [1, 2],
        '{"a": "b"}': {"a": "b"},
        "text": "text",
        "True": "True",
        "": "",
        "a=b": "a=b",
        '"3"': "3",
        "[1": "[1",
        "__import__('os')": "__import__('os')",
    }.items():
        assert model_argument(f"name={text}") == ("name", value)
    assert model_argument("name=" + "[" * 100_000) == ("name", "[" * 100_000)


# --- list and info ----------------------------------------------------------------------------------------------------


def test_list_shows_bundled_hypernetworks(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bundled, "PRETRAINED", folder)
    main(["list"])
    assert capsys.readouterr().out.startswith("no hypernetwork is bundled; ")
    card = {"sha256": describe(folder / "ghn.safetensors").sha256, "about": "for tests"}
    (folder / "ghn.json").write_text(json.dumps(card))
    main(["list"])
    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "hypernet", "classes", "parameters", "about"]
    number = sum(parameter.numel() for parameter in hypernetwork().parameters())
    assert line.split() == ["ghn", "gatedgnn", "10", f"{number:,}", "for", "tests"]


def test_info_describes_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": hypernetwork().state_dict()}, "official.pt")
    main(["info", "ghn.safetensors", "official.pt"])
    text = capsys.readouterr().out
    number = sum(parameter.numel() for parameter in hypernetwork().parameters())
    assert text.count(f"  parameters   {number:,}\n") == 2
    assert "  kind         deepnets1m, 0.10 MB\n" in text
    assert "  kind         official, config inferred, " in text
    assert "hidden 8, max_shape [16, 16, 3, 3], num_classes 10" in text
    assert f"  sha256       {describe('ghn.safetensors').sha256}\n" in text
    assert "  epochs       3\n  images       digits\n" in text


# --- as a program -----------------------------------------------------------------------------------------------------


def program(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "ghn_model", *words], capture_output=True, text=True, timeout=300)


@pytest.fixture
def words(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The arguments of a prediction for a model of a file in the current folder."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (folder / "mine.py").write_text(
        "from torch import nn\ndef net(width=4): return nn.Sequential(nn.Linear(3, width))\n"
    )
    return ["predict", "--model", "mine:net", "--checkpoint", "ghn.safetensors", "--out", "net.safetensors"]


@pytest.mark.slow
def test_as_a_program(words: list[str]) -> None:
    done = program(*words, "--model-kwarg", "width=10", "--input-size", "3")
    assert (done.returncode, without_notices(done.stderr)) == (0, "")
    assert load_file("net.safetensors")["0.weight"].shape == (10, 3)


@pytest.mark.slow
def test_errors_and_help_of_the_program(folder: Path, words: list[str]) -> None:
    (folder / "net.safetensors").touch()
    done = program(*words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: --out: net.safetensors already exists; ")
    assert len(done.stderr.splitlines()) == 1
    done = program(*words, "--overwrite", "--model-kwarg", "width=x")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: model mine:net: cannot be built with width='x': TypeError: ")
    assert len(done.stderr.splitlines()) == 1
    done = program("info", "mine.py")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: mine.py: is of an unknown kind; expected a checkpoint: ")
    done = program("predict", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "--no-class-layers" in done.stdout
