"""Hypothesis strategies for architectures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import strategies as st

from deepnets.architecture import NORMS, PRIMITIVES, Genotype, NetworkConfig

__all__ = ["configs", "genotypes", "has_output"]


@st.composite
def genotypes(draw: st.DrawFn, max_steps: int = 4, primitives: Sequence[str] = PRIMITIVES) -> Genotype:
    """Draw a valid genotype.

    Most genotypes use few primitives, often including `none`, so that rare cases occur together: absent states and
    cells, sums of a tensor with itself, several attention blocks.
    """
    handful = draw(st.integers(0, 3))
    if handful:
        common = [primitive for primitive in primitives if primitive == "none" and handful > 1]
        primitives = [*common, *draw(st.lists(st.sampled_from(primitives), min_size=1, max_size=3))]
    steps = draw(st.sampled_from(range(1, max_steps + 1)))

    def genes() -> list[tuple[str, int]]:
        return [(draw(st.sampled_from(primitives)), draw(st.integers(0, 1 + j // 2))) for j in range(2 * steps)]

    def concat() -> list[int]:
        return sorted(draw(st.sets(st.integers(2, 1 + steps), min_size=1)))

    return Genotype(normal=genes(), normal_concat=concat(), reduce=genes(), reduce_concat=concat())


@st.composite
def configs(
    draw: st.DrawFn,
    max_steps: int = 4,
    max_cells: int = 6,
    widths: Sequence[int] = (8, 16),
    *,
    max_fc_dim: int = 32,
    primitives: Sequence[str] = PRIMITIVES,
    with_output: bool = False,
) -> NetworkConfig:
    """Draw a valid architecture with random values of all fields.

    Parameters
    ----------
    max_steps, max_cells, max_fc_dim
        Upper bounds.
    widths
        Choices of `C`, even numbers.  If none is a multiple of 8, attention does not occur.
    primitives
        Operations to choose from.
    with_output
        Draw only networks whose output exists.  Otherwise `none` may cut all paths to it, for which `Network` raises.
    """
    if not any(width % 8 == 0 for width in widths):
        primitives = [primitive for primitive in primitives if primitive != "msa"]
    genotype = draw(genotypes(max_steps, primitives))
    is_vit = "msa" in genotype.primitives
    n_cells = draw(st.sampled_from(range(1, max_cells + 1)))
    C_mult = draw(st.sampled_from((1, 2)))
    plain = C_mult == 1 and len(genotype.normal_concat) == len(genotype.reduce_concat) == 1
    config = NetworkConfig(
        genotype,
        n_cells,
        C=draw(st.sampled_from([width for width in widths if width % 8 == 0 or not is_vit])),
        C_mult=C_mult,
        ks=draw(st.sampled_from((3, 5, 7))),
        stem_type=draw(st.sampled_from((0, 1))),
        stem_pool=draw(st.booleans()),
        norm=draw(st.sampled_from(NORMS)),
        preproc=draw(st.booleans()) if plain else True,
        glob_avg=draw(st.booleans()) if n_cells >= 3 and not is_vit else True,
        fc_layers=draw(st.integers(1, 4)),
        fc_dim=draw(st.integers(1, max_fc_dim)),
        imagenet_stride=draw(st.sampled_from((2, 4))),
    )
    return _with_output(config) if with_output else config


def _with_output(config: NetworkConfig) -> NetworkConfig:
    """Replace `none` by skips, one by one, until there is an output; a filter would reject too many examples."""
    for kind in ("reduce", "normal"):
        for j in reversed(range(2 * config.genotype.steps)):
            genes = list(getattr(config.genotype, kind))
            if not has_output(config) and genes[j][0] == "none":
                genes[j] = ("skip_connect", genes[j][1])
                config = config.replace(genotype=replace(config.genotype, **{kind: genes}))
    return config


def has_output(config: NetworkConfig) -> bool:
    """Return whether the input is connected to the classifier, searching backwards from the output."""

    def cell_exists(k: int) -> bool:
        if k < 0:
            return True
        if k not in known:
            reduction = k in {config.n_cells // 3, 2 * config.n_cells // 3} - {0}
            genes = config.genotype.reduce if reduction else config.genotype.normal
            concat = config.genotype.reduce_concat if reduction else config.genotype.normal_concat

            def state_exists(state: int) -> bool:
                if state < 2:
                    return cell_exists(k - 2 + state)
                pair = genes[2 * (state - 2) : 2 * (state - 1)]
                return any(op != "none" and state_exists(source) for op, source in pair)

            known[k] = any(state_exists(state) for state in concat)
        return known[k]

    known: dict[int, bool] = {}
    return cell_exists(config.n_cells - 1)
