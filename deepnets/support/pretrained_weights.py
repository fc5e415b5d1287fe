"""Trained weights of models of torchvision and timm: nothing is downloaded, missing files are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from deepnets.support.errors import MissingDataError

__all__ = ["check_timm_weights", "check_torchvision_weights"]


def check_torchvision_weights(models: Any, name: str, arguments: dict[str, Any]) -> None:
    """Raise an error if the arguments of a model of torchvision ask for weights whose file does not exist.

    Parameters
    ----------
    models
        The module `torchvision.models`.
    name
        Name of the model.
    arguments
        Arguments of its builder.  `weights` and `weights_backbone` may be names, such as "DEFAULT" or
        "ResNet50_Weights.DEFAULT", or members of torchvision's enumerations.

    Raises
    ------
    MissingDataError
        The message states where to get the file and where to save it.

    Examples
    --------
    >>> check_torchvision_weights(None, "resnet50", {"weights": None})
    """
    for argument in ("weights", "weights_backbone"):
        weights = arguments.get(argument)
        if isinstance(weights, str):
            try:
                known = models.get_weight if "." in weights else models.get_model_weights(name).__getitem__
                weights = known(weights)
            except (KeyError, ValueError):
                continue  # the builder knows better what is wrong
        url = getattr(weights, "url", None)
        if url is None:
            continue
        path = _download_path(url)
        if not path.is_file():
            raise MissingDataError(
                f"model torchvision:{name}: {argument}: {weights} needs the file {path}; download {url} and save it "
                "there"
            )


def check_timm_weights(timm: Any, name: str, arguments: dict[str, Any]) -> None:
    """Raise an error if the arguments of a model of timm ask for trained weights that are not on this machine.

    Parameters
    ----------
    timm
        The package.
    name
        Name of the model.
    arguments
        Arguments of `timm.create_model`.

    Raises
    ------
    MissingDataError
        The message states which file to get, and how to use it.

    Examples
    --------
    >>> check_timm_weights(None, "resnet50", {"pretrained": False})
    """
    if not arguments.get("pretrained"):
        return
    overlay = arguments.get("pretrained_cfg_overlay") or {}
    config = arguments.get("pretrained_cfg") or timm.get_pretrained_cfg(name)
    if overlay.get("file") or config is None or not hasattr(config, "url") or config.file:
        return
    if config.hf_hub_id:
        if _is_cached(config.hf_hub_id):
            return
        source = f"model.safetensors of {config.hf_hub_id} on the Hugging Face hub"
    elif config.url and not _download_path(config.url).is_file():
        source = config.url
    else:
        return
    raise MissingDataError(
        f"model timm:{name}: pretrained: the weights are not on this machine; get {source}, and use "
        "checkpoint_path=FILE instead of pretrained"
    )


def _download_path(url: str) -> Path:
    """Return where PyTorch stores the file of a URL."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name


def _is_cached(repository: str) -> bool:
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return False
    return any(
        isinstance(try_to_load_from_cache(repository, name), str) for name in ("model.safetensors", "pytorch_model.bin")
    )
