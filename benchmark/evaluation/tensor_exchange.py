"""Parameters on their way from the process of a predictor to the evaluating process, in a file without a name.

The file is in memory, has the safetensors format, and can be opened only by the processes that were given it.  Before
it is read, it is sealed, so that it can no longer change, and its size is compared with that of the network.
"""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from deepnets.support import ConfigError
from ghn_model.checkpoints import TensorFile, separate_tensors

__all__ = ["new_file", "read_parameters", "seal", "write_parameters"]

BYTES_PER_NUMBER = 16
"""Twice the size of the largest type of floating-point numbers, as a file can have running statistics, too."""

BYTES_PER_TENSOR = 1024
"""More than the name, type and shape of a tensor take in the header of a file."""


def new_file() -> int:
    """Create an empty file without a name, in memory on Linux, and return its descriptor."""
    if sys.platform == "linux":
        return os.memfd_create("parameters", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    else:  # noqa: RET505  mypy skips the branch of another system
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())


def write_parameters(parameters: Mapping[str, Tensor], file: int) -> None:
    """Write tensors into a file, instead of what it contains.

    Parameters
    ----------
    parameters
        Tensors by name, on any device.
    file
        Descriptor of the file.

    Examples
    --------
    >>> import torch
    >>> file = new_file()
    >>> write_parameters({"weight": torch.ones(2, 3)}, file)
    >>> seal(file)
    >>> read_parameters(file, torch.nn.Linear(3, 2, bias=False))
    {'weight': tensor([[1., 1., 1.],
            [1., 1., 1.]])}
    >>> os.close(file)
    """
    from safetensors.torch import save

    content = memoryview(save(separate_tensors(parameters)))
    os.ftruncate(file, 0)
    os.lseek(file, 0, os.SEEK_SET)
    while content:
        content = content[os.write(file, content) :]


def seal(file: int) -> None:
    """Make the content of a file final, whatever processes still have its descriptor.

    Raises
    ------
    OSError
        If the file is mapped into the memory of a process, which can change it.
    """
    if sys.platform == "linux":
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)


def read_parameters(file: int, model: nn.Module) -> dict[str, Tensor]:
    """Read tensors for a network from a file that is not trusted.

    Parameters
    ----------
    file
        Descriptor of the file.
    model
        The network, on any device.

    Returns
    -------
    Tensors by name, mapped from the file.  Their names and shapes are not checked.

    Raises
    ------
    ConfigError
        If the file is larger than the parameters and buffers of the network can be.
    CheckpointError
        If it is damaged.
    """
    tensors = [*model.parameters(), *model.buffers()]
    header = BYTES_PER_TENSOR * (len(tensors) + 1)
    numbers = BYTES_PER_NUMBER * sum(tensor.numel() for tensor in tensors)
    start = os.pread(file, 8, 0)
    if int.from_bytes(start, "little") > header or os.fstat(file).st_size > 8 + header + numbers:
        raise ConfigError("parameters: they are larger than those of the network")
    return TensorFile(_path(file)).tensors


def _path(file: int) -> Path:
    return Path(f"/dev/fd/{file}")
