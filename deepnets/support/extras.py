"""Optional packages: the extra that installs each, and what is said where one is missing.

Without extras, only what the corpus needs is installed.  Modules import the packages of the extra `torch` where they
need them; what users call first, the commands and the public names of packages, turns a failed import into a
`MissingDependencyError` with the command to type.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator

from deepnets.support.errors import MissingDependencyError

__all__ = ["EXTRA_OF", "install_command", "missing_dependency", "naming_extras"]

_TORCH = ("torch", "cloudpickle", "jinja2", "markupsafe", "safetensors", "sklearn")
EXTRA_OF = {
    **dict.fromkeys(_TORCH, "torch"),
    **dict.fromkeys(("torchvision", "timm"), "vision"),
    **dict.fromkeys(("dask", "distributed", "ray"), "cluster"),
    **dict.fromkeys(("transformers", "tokenizers"), "language"),
    "huggingface_hub": "hub",
    "matplotlib": "plotting",
    "onnx": "onnx",
    "pyarrow": "parquet",
    "shtab": "completion",
    "submitit": "slurm",
    "torch_geometric": "pyg",
}
"""The extra that installs an optional package, by the name under which the package is imported."""

_TITLES = {"torch": "PyTorch", "sklearn": "scikit-learn", "torch_geometric": "PyTorch Geometric"}


def install_command(extra: str) -> str:
    """Return the command that installs an extra.

    Parameters
    ----------
    extra
        Name of the extra in `pyproject.toml`.

    Examples
    --------
    >>> install_command("plotting")
    'pip install "deepnets1m[plotting]"'
    """
    return f'pip install "deepnets1m[{extra}]"'


def missing_dependency(package: str) -> MissingDependencyError:
    """Return the error to raise where an optional package is not installed.

    Parameters
    ----------
    package
        The name under which it is imported, a key of `EXTRA_OF`.

    Examples
    --------
    >>> print(missing_dependency("torch"))
    this needs PyTorch: pip install "deepnets1m[torch]"
    """
    extra = EXTRA_OF[package]
    if extra == "torch" and importlib.util.find_spec("torch") is None:  # it says more than, for example, Jinja2
        package = "torch"
    return MissingDependencyError(f"this needs {_TITLES.get(package, package)}: {install_command(extra)}", name=package)


@contextlib.contextmanager
def naming_extras() -> Iterator[None]:
    """Name the extra to install if an import of an optional package fails in the block.

    Raises
    ------
    MissingDependencyError
        Instead of the `ModuleNotFoundError` of an optional package.  Failures of other imports, also of modules inside
        an optional package, are raised unchanged.

    Examples
    --------
    >>> with naming_extras():
    ...     raise ModuleNotFoundError("No module named 'onnx'", name="onnx")
    Traceback (most recent call last):
    deepnets.support.errors.MissingDependencyError: this needs onnx: pip install "deepnets1m[onnx]"
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in EXTRA_OF:
            raise
        raise missing_dependency(error.name) from error
