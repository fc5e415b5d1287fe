"""Imports of torchvision and timm, also where they or their compiled operators are missing, and models by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from deepnets.support import ConfigError, import_timm, import_torchvision, load_model

ROOT = Path(__file__).parents[3]
START = f"""
import logging, sys
sys.path.insert(0, {str(ROOT)!r})
logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stdout)
from deepnets.support import optional_models as vision
from deepnets.support import ConfigError
"""
INSTALL = 'pip install "deepnets1m[vision]"'
A_LINK = nn.Linear(2, 3)
A_NUMBER = 5


def torchvision() -> None:
    """Skip the test where torchvision is not there."""
    try:
        import_torchvision()
    except ImportError as error:
        pytest.skip(str(error))


def output(code: str, *path: Path) -> list[str]:
    """Run a program that imports modules from these folders first; return the lines that it prints."""
    lines = "".join(f"sys.path.insert(0, {str(folder)!r})\n" for folder in path)
    done = subprocess.run([sys.executable, "-c", START + lines + code], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def package(folder: Path, name: str, **sources: str) -> Path:
    """A folder with a package of these modules."""
    (folder / name).mkdir(parents=True)
    for module, source in sources.items():
        (folder / name / f"{module}.py").write_text(source)
    return folder


REPORT = """
for load in (vision.import_torchvision, vision.import_timm):
    try:
        load()
    except ImportError as error:
        print(type(error).__name__, error)
for name in ("torchvision.models:resnet18", "timm:resnet18"):
    try:
        vision.load_model(name)
    except ConfigError as error:
        print(type(error).__name__, error)
"""


# --- imports ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_importing_the_module_imports_neither_package() -> None:
    assert output("print(sorted({'torchvision', 'timm'} & set(sys.modules)))") == ["[]"]


@pytest.mark.slow
def test_where_torchvision_is_not_installed() -> None:
    missing = f"torchvision is not installed; install it with {INSTALL}"
    assert output("sys.modules['torchvision'] = None" + REPORT) == [
        f"MissingDependencyError {missing}",
        f"MissingDependencyError {missing}",
        f"ConfigError model torchvision.models:resnet18: {missing}",
        f"ConfigError model timm:resnet18: {missing}",
    ]


@pytest.mark.slow
def test_where_timm_is_not_installed(tmp_path: Path) -> None:
    package(tmp_path, "torchvision", __init__="")
    lines = output("sys.modules['timm'] = None" + REPORT, tmp_path)
    missing = f"timm is not installed; install it with {INSTALL}"
    assert lines[0] == f"MissingDependencyError {missing}"
    assert lines[-1] == f"ConfigError model timm:resnet18: {missing}"


NEEDS_OPERATORS = """
import torch
import torchvision.part
for name in {names}:
    torch.library.register_fake("torchvision::" + name)(lambda *arguments: None)
"""


@pytest.mark.slow
def test_missing_operators_are_declared_and_reported_once(tmp_path: Path) -> None:
    source = NEEDS_OPERATORS.format(names=("nms", "qnms"))
    package(
        tmp_path, "torchvision", __init__=source, part="import sys; print('part of', id(sys.modules['torchvision']))"
    )
    package(tmp_path, "timm", __init__="import torchvision")
    lines = output("print('is', id(vision.import_torchvision())); vision.import_timm()", tmp_path)
    assert [line for line in lines if "operators" in line] == [
        f"torchvision's compiled operators are missing: they do not fit PyTorch {torch.__version__}"
    ]
    parts = [line.removeprefix("part of ") for line in lines if line.startswith("part of ")]
    assert len(parts) == 3  # every attempt starts afresh
    assert lines[-1] == f"is {parts[-1]}"


@pytest.mark.slow
def test_import_after_a_failed_import(tmp_path: Path) -> None:
    package(tmp_path, "torchvision", __init__=NEEDS_OPERATORS.format(names=("nms",)), part="")
    tried = "\ntry:\n    import torchvision\nexcept RuntimeError as error:\n    print(error)\n"
    lines = output(f"{tried}\nprint(vision.import_torchvision().part.__name__)", tmp_path)
    assert "operator torchvision::nms does not exist" in lines[0]
    assert lines[-1] == "torchvision.part"


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (NEEDS_OPERATORS.format(names=("nms", "other")), "RuntimeError: operator torchvision::other does not exist"),
        ("raise RuntimeError('compiled for CUDA 12\\nnot 13')", "RuntimeError: compiled for CUDA 12 not 13"),
        *(
            pytest.param(source, reason, marks=pytest.mark.slow)
            for source, reason in (
                ("raise RuntimeError('operator torchvision::nms does not exist')", "torchvision::nms does not exist"),
                ("raise OSError('undefined symbol')", "OSError: undefined symbol"),
                ("import torchvision.nowhere", "ModuleNotFoundError: No module named 'torchvision.nowhere'"),
                ("import numpyy", "ModuleNotFoundError: No module named 'numpyy'"),
            )
        ),
    ],
)
def test_other_errors_of_imports(tmp_path: Path, source: str, reason: str) -> None:
    package(tmp_path, "torchvision", __init__=source, part="")
    lines = [line for line in output(REPORT, tmp_path) if "Error" in line]
    assert [line.split()[0] for line in lines] == [
        "MissingDependencyError",
        "MissingDependencyError",
        "ConfigError",
        "ConfigError",
    ]
    for line in lines:
        assert f"cannot be imported with torch {torch.__version__}: " in line
        assert reason in line
        assert line.endswith(INSTALL)


def test_models_of_the_libraries() -> None:
    torchvision()
    assert import_torchvision() is import_torchvision()
    assert import_timm() is sys.modules["timm"]
    model = load_model("torchvision.models:resnet18", num_classes=7, meta=True)
    assert model.get_parameter("fc.weight").shape == (7, 512)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    model = load_model("timm:resnet18", num_classes=5)
    assert model.get_parameter("fc.weight").shape == (5, 512)
    assert model.get_parameter("fc.weight").device.type == "cpu"


@pytest.mark.slow
def test_modules_that_import_torchvision_themselves(tmp_path: Path) -> None:
    torchvision()
    (tmp_path / "mine.py").write_text("import torchvision, torch\ndef net(): return torch.nn.Linear(2, 3)\n")
    assert (
        output("print(vision.load_model('mine:net'))", tmp_path)[-1]
        == "Linear(in_features=2, out_features=3, bias=True)"
    )


# --- models by name ---------------------------------------------------------------------------------------------------


class NeedsValues(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.layer = nn.Linear(int(torch.full((), width).item()), 1)


class Nested:
    @staticmethod
    def make(width: int) -> nn.Module:
        return nn.Linear(width, width)


def test_models_of_any_module() -> None:
    linear = load_model("torch.nn:Linear", in_features=2, out_features=3)
    assert isinstance(linear, nn.Linear)
    assert linear.weight.shape == (3, 2)
    assert isinstance(load_model(f"{__name__}:Nested.make", width=2), nn.Linear)
    assert load_model(f"{__name__}:A_LINK") is A_LINK


def test_the_meta_device_works_even_where_constructors_read_values() -> None:
    assert load_model("torch.nn:Linear", in_features=2, out_features=3, meta=True).get_parameter("weight").is_meta
    model = load_model(f"{__name__}:NeedsValues", width=3, meta=True)
    assert model.get_parameter("layer.weight").is_meta
    assert model.get_parameter("layer.weight").shape == (1, 3)


@pytest.mark.parametrize(
    ("spec", "arguments", "message"),
    [
        ("resnet50", {}, "model: expected 'torchvision:name', 'timm:name' or "),
        ("", {}, "model: expected 'torchvision:name', 'timm:name' or "),
        (":Linear", {}, "model: expected 'torchvision:name', 'timm:name' or "),
        ("torch.nn:", {}, "model: expected 'torchvision:name', 'timm:name' or "),
        (
            "__import__('os'):x",
            {},
            "model: expected 'torchvision:name', 'timm:name' or ",
        ),
        (
            "nowhere:Net",
            {},
            "model nowhere:Net: there is no module 'nowhere'; is it installed, or in the current folder?",
        ),
        ("torch.nowhere:Net", {}, "model torch.nowhere:Net: there is no module 'torch.nowhere'"),
        ("torch.nn:Linaer", {}, "model torch.nn:Linaer: torch.nn has no attribute 'Linaer'; did you mean Linear or "),
        ("torch.nn:Zxqwv", {}, "model torch.nn:Zxqwv: torch.nn has no attribute 'Zxqwv'"),
        ("torch.nn:functional", {}, "model torch.nn:functional: expected something to call, got a module"),
        ("torch.nn:Linear", {"width": 3}, "model torch.nn:Linear: cannot be built with width=3: TypeError: "),
        ("torch.nn:Linear", {}, "model torch.nn:Linear: cannot be built with no arguments: TypeError: "),
        ("os:getcwd", {}, "model os:getcwd: expected it to make a torch.nn.Module, got a str"),
        ("math:pi", {}, "model math:pi: expected something to call, got a float"),
        (f"{__name__}:A_LINK", {"width": 3}, f"model {__name__}:A_LINK: expected something to call, got a Linear"),
    ],
)
def test_errors_are_one_line(spec: str, arguments: dict[str, int], message: str) -> None:
    for meta in (False, True):
        with pytest.raises(ConfigError) as raised:
            load_model(spec, meta=meta, **arguments)
        assert str(raised.value).startswith(message)
        assert len(str(raised.value).splitlines()) == 1


@pytest.mark.slow
def test_modules_with_errors_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "incomplete.py").write_text("import numpyy\n")
    (tmp_path / "wrong.py").write_text("def f(:\n")
    code = """
for name in ("broken", "incomplete", "wrong", "incomplete.deeper"):
    try:
        vision.load_model(name + ":Net")
    except ConfigError as error:
        print(error)
"""
    lines = output(code, tmp_path)
    assert lines[0] == "model broken:Net: broken cannot be imported: ZeroDivisionError: division by zero"
    assert lines[1].startswith(
        "model incomplete:Net: incomplete cannot be imported: ModuleNotFoundError: No module named"
    )
    assert lines[2].startswith("model wrong:Net: wrong cannot be imported: SyntaxError: ")
    assert len(lines) == 4


def test_unknown_models_of_the_libraries() -> None:
    torchvision()
    with pytest.raises(
        ConfigError, match=r"^model torchvision.models:resnet51: .* has no attribute 'resnet51'; did you mean resnet"
    ):
        load_model("torchvision.models:resnet51")
    with pytest.raises(ConfigError, match=r"^model timm:resnet_50: timm has no such model; did you mean .*resnet50"):
        load_model("timm:resnet_50")
    with pytest.raises(ConfigError, match=r"^model timm:hf_hub:somebody/something: timm has no such model$"):
        load_model("timm:hf_hub:somebody/something")


def test_a_module_of_a_user_keeps_its_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if it is needed without values; weights that layers share are shared then, too."""
    (tmp_path / "tied_net.py").write_text(
        "from torch import nn\nnet = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.BatchNorm1d(3))\n"
        "net[1].weight = net[0].weight\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    model: Any = load_model("tied_net:net", meta=True)
    assert {tensor.device.type for tensor in (*model.parameters(), *model.buffers())} == {"meta"}
    assert model[0].weight is model[1].weight
    assert len(list(model.parameters())) == 5
    own: Any = load_model("tied_net:net")
    assert own[0].weight is own[1].weight
    assert own[0].weight.device.type == "cpu"
