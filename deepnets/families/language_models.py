"""Language models of the package transformers, from the sizes that families draw."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from typing import Any

from torch import nn

from deepnets.support import (
    ConfigError,
    MissingDependencyError,
    checked_integer,
    import_torchvision,
    in_one_line,
    install_command,
)

__all__ = ["check_transformers", "gpt2", "import_transformers", "llama"]

INSTALL = install_command("language")
MISSING = f"language models need the package transformers: {INSTALL}"
MAX_LAYERS, MAX_WIDTH, MAX_TOKENS, MAX_CONTEXT = 200, 16_384, 1_000_000, 1_000_000


def import_transformers() -> Any:
    """Import the package transformers.

    Returns
    -------
    module

    Raises
    ------
    MissingDependencyError
        If it is not installed or cannot be imported; the message says what to install.

    Examples
    --------
    >>> try:
    ...     name = import_transformers().__name__
    ... except MissingDependencyError:
    ...     name = "transformers"
    >>> name
    'transformers'
    """
    with contextlib.suppress(ImportError):
        import_torchvision()  # transformers imports it, too, and fails if its compiled part does not load
    try:
        import transformers
    except ModuleNotFoundError as error:
        if error.name != "transformers":
            raise MissingDependencyError(f"transformers cannot be imported: {in_one_line(error)}") from error
        raise MissingDependencyError(MISSING, name="transformers") from error
    except (ImportError, RuntimeError) as error:
        raise MissingDependencyError(
            f"transformers cannot be imported: {in_one_line(error)}; install versions that belong together, for "
            f"example with {INSTALL}",
            name="transformers",
        ) from error
    return transformers


def check_transformers() -> None:
    """Check that the package transformers is installed, without importing it, which takes seconds.

    Raises
    ------
    MissingDependencyError
        If it is not installed; the message says what to install.
    """
    found = sys.modules["transformers"] if "transformers" in sys.modules else importlib.util.find_spec("transformers")
    if found is None:
        raise MissingDependencyError(MISSING, name="transformers")


def gpt2(
    layers: int,
    width: int,
    heads: int,
    vocab_size: int = 50257,
    context_length: int = 1024,
    dropout: float = 0.1,
    tied: bool = False,
) -> nn.Module:
    """Build a GPT-2 with an output layer for the next token, `transformers.GPT2LMHeadModel`.

    Parameters
    ----------
    layers, width, heads : int
        Number of layers, size of the embeddings, and number of attention heads, which divides it.
    vocab_size : int, default 50257
        Number of tokens.
    context_length : int, default 1024
        Number of positions.
    dropout : float, default 0.1
        Probability of dropout in embeddings, attention and residual branches.
    tied : bool, default False
        Whether the output layer shares the matrix of the embedding.  In GPTs-1K it does not.

    Raises
    ------
    ConfigError
        If a value is not allowed.
    MissingDependencyError
        If transformers is not installed.

    Examples
    --------
    >>> try:
    ...     model = gpt2(layers=1, width=16, heads=2, vocab_size=50, context_length=8)
    ...     rows = len(model.lm_head.weight)
    ... except MissingDependencyError:
    ...     rows = 50
    >>> rows
    50
    """
    _check(layers, width, heads, vocab_size, context_length)
    transformers = import_transformers()
    config = transformers.GPT2Config(
        vocab_size=vocab_size,
        n_positions=context_length,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        tie_word_embeddings=tied,
        use_cache=False,
        bos_token_id=vocab_size - 1,
        eos_token_id=vocab_size - 1,
    )
    model: nn.Module = transformers.GPT2LMHeadModel(config)
    return model


def llama(
    layers: int,
    width: int,
    heads: int,
    kv_heads: int,
    mlp_ratio: float = 3.5,
    vocab_size: int = 128_256,
    context_length: int = 131_072,
    tied: bool = False,
) -> nn.Module:
    """Build a Llama with an output layer for the next token, `transformers.LlamaForCausalLM`.

    What is not an argument is as in Llama 3: a base of 500,000 of the rotary encoding, and 1e-5 in the RMS norms.  The
    encoding is not rescaled for long contexts.

    Parameters
    ----------
    layers, width, heads : int
        Number of layers, size of the embeddings, and number of attention heads, which divides it; the quotient is even.
    kv_heads : int
        Number of heads of keys and values, which divides `heads`.
    mlp_ratio : float, default 3.5
        Width of the gated MLPs, divided by `width`.
    vocab_size, context_length : int
        Number of tokens and of positions.
    tied : bool, default False
        Whether the output layer shares the matrix of the embedding.

    Raises
    ------
    ConfigError
        If a value is not allowed.
    MissingDependencyError
        If transformers is not installed.

    Examples
    --------
    >>> try:
    ...     model = llama(layers=1, width=16, heads=2, kv_heads=1, vocab_size=50, context_length=8)
    ...     rows = len(model.model.layers[0].mlp.gate_proj.weight)
    ... except MissingDependencyError:
    ...     rows = 56
    >>> rows
    56
    """
    _check(layers, width, heads, vocab_size, context_length)
    checked_integer("kv_heads", kv_heads, range(1, heads + 1))
    if heads % kv_heads:
        raise ConfigError(f"kv_heads: {kv_heads} do not divide {heads} heads")
    if width // heads % 2:
        raise ConfigError(f"heads: rotary encodings need heads of an even size, got {width // heads}")
    if not isinstance(mlp_ratio, (int, float)) or not 0 < mlp_ratio <= 16:
        raise ConfigError(f"mlp_ratio: expected a number up to 16, got {mlp_ratio!r}")
    transformers = import_transformers()
    config = transformers.LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        intermediate_size=max(1, int(mlp_ratio * width)),
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=context_length,
        rope_theta=500_000.0,
        rms_norm_eps=1e-5,
        tie_word_embeddings=tied,
        use_cache=False,
        bos_token_id=vocab_size - 1,
        eos_token_id=vocab_size - 1,
    )
    model: nn.Module = transformers.LlamaForCausalLM(config)
    return model


def _check(layers: int, width: int, heads: int, vocab_size: int, context_length: int) -> None:
    checked_integer("layers", layers, range(1, MAX_LAYERS + 1))
    checked_integer("width", width, range(1, MAX_WIDTH + 1))
    checked_integer("heads", heads, range(1, width + 1))
    checked_integer("vocab_size", vocab_size, range(1, MAX_TOKENS + 1))
    checked_integer("context_length", context_length, range(1, MAX_CONTEXT + 1))
    if width % heads:
        raise ConfigError(f"heads: {heads} do not divide the width {width}")
