"""The tutorial of a hypernetwork of your own: its commands run in a folder outside the package."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmark.evaluation import close_workers, describe_predictor
from benchmark.report import leaderboard_text
from benchmark.results import read_results
from deepnets import GENOTYPES, DeepNets1M, NetworkConfig, build_graph
from deepnets.__main__ import main as deepnets_main
from deepnets.architecture import run_network
from deepnets.data import load_images
from deepnets.support import ConfigError

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "own-hypernetwork.md").read_text()
EXAMPLE = (ROOT / "examples" / "gcn.py").read_text()


def commands(name: str) -> list[list[str]]:
    """Return the arguments of `deepnets` in the commands of this name on the page, in order."""
    text = "\n".join(re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)).replace("\\\n", " ")
    return [shlex.split(line)[1:] for line in text.splitlines() if line.startswith(f"deepnets {name} ")]


@pytest.fixture
def folder(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with the file of the tutorial and a corpus."""
    (tmp_path / "gcn.py").write_text(EXAMPLE)
    (tmp_path / "data").symlink_to(corpus)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    monkeypatch.delitem(sys.modules, "gcn", raising=False)
    yield tmp_path
    close_workers()
    sys.modules.pop("gcn", None)


def train(steps: int) -> None:
    (command,) = commands("train")
    minutes = command.index("--minutes")
    deepnets_main([*command[:minutes], "--steps", str(steps), *command[minutes + 2 :], "--quiet", "--device", "cpu"])


def test_the_page_shows_the_example() -> None:
    (shown,) = re.findall(r"^```python\n# gcn.py\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert shown.strip() == EXAMPLE.partition('"""\n\n')[2].strip()
    code = [line for line in shown.splitlines() if line.strip()]
    assert len(code) <= 42


@pytest.mark.slow
def test_the_commands_of_the_tutorial(folder: Path) -> None:
    """Train, evaluate beside bundled hypernetworks, and predict; with fewer steps and networks than on the page."""
    train(steps=30)
    path = folder / "runs" / "gcn" / "hypernetwork.safetensors"
    run = commands("bench")[0]
    limit = run.index("--limit")
    deepnets_main([*run[: limit + 1], "2", *run[limit + 2 :], "--no-report", "--quiet", "--workers", "1"])
    rows = read_results(folder / "results").rows
    assert set(rows["predictor"]) == {"gcn", "ghn2-digits", "mlp-digits", "random"}
    assert set(rows["status"]) == {"ok"}, rows["reason"].tolist()
    board = leaderboard_text(folder / "results")
    assert all(re.search(rf"^\W*{name}\b", board, re.MULTILINE) for name in set(rows["predictor"])), board

    for block in re.findall(r"^```python\n(?!# gcn)(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        exec(compile(block, "own-hypernetwork.md", "exec"), {"__name__": "example"})
    before = describe_predictor(f"trained:gcn:GCN:{path}").digest
    train(steps=31)
    assert describe_predictor(f"trained:gcn:GCN:{path}").digest != before, "other weights are another run"


@pytest.mark.slow
def test_the_example_learns(folder: Path) -> None:
    """The loss of one small network on a few images decreases."""
    import gcn

    torch.manual_seed(0)
    net = gcn.GCN(hidden=16, layers=2)
    graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=8))
    pixels, labels = next(iter(load_images("digits", "train").batches(16)))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        (parameters,) = net([graph])
        loss = torch.nn.functional.cross_entropy(run_network(graph.config, parameters, pixels), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_edges_matter(folder: Path) -> None:
    """The prediction depends on the neighbours of a node, and not on the other graphs of a batch."""
    import gcn

    torch.manual_seed(0)
    net = gcn.GCN().eval()
    nets = DeepNets1M("data", "val")
    one, two = nets[0], nets[1]
    (alone,), (first, _) = net([one]), net([one, two])
    assert all(torch.allclose(alone[name], first[name], atol=1e-5) for name in alone)
    x = torch.eye(3)
    source, target = torch.tensor([0, 1]), torch.tensor([2, 2])
    assert torch.equal(gcn.mean(x, source, target), torch.tensor([[0.0, 0, 0], [0, 0, 0], [0.5, 0.5, 0]]))


def test_mistakes_are_one_error(folder: Path) -> None:
    for spec, message in {
        "trained:gcn": "expected trained:MODULE:ATTRIBUTE:FILE",
        "trained:gcn:GCN:missing.safetensors": "missing.safetensors",
        "trained:gcn:GNC:x.safetensors": "did you mean GCN",
    }.items():
        with pytest.raises(Exception, match=message) as caught:
            describe_predictor(spec)
        assert "\n" not in str(caught.value)
    (folder / "wrong.py").write_text(EXAMPLE.replace("return self.decoder(batch, self.norm(x))", "return [{}]"))
    with pytest.raises(ConfigError, match=r"^GCN: network \d+ of train: parameters: \d+ of \d+ are missing: stem"):
        deepnets_main(["train", "--hypernetwork", "wrong:GCN", "--steps", "1", "--out", "runs/x", "--quiet"])
    sys.modules.pop("wrong", None)
