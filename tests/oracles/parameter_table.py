"""Names, shapes and number of the parameters of a network, written from spec/deepnets-1m.md, sections 2.2 to 2.7."""

from __future__ import annotations

from collections.abc import Iterator

from deepnets.architecture import NetworkConfig

__all__ = ["count_parameters", "list_parameters"]

Entry = tuple[str, tuple[int, ...]]


def list_parameters(
    config: NetworkConfig, num_classes: int, image_size: int, *, auxiliary: bool = False
) -> list[Entry]:
    """Return (name, shape) of all parameters in the order of registration."""
    return list(_parameters(config, num_classes, image_size, auxiliary))


def _parameters(config: NetworkConfig, num_classes: int, image_size: int, auxiliary: bool) -> Iterator[Entry]:
    small, C, L = image_size == 32, config.C, config.n_cells
    is_vit = any(op == "msa" for op, _ in (*config.genotype.normal, *config.genotype.reduce))

    def norm(name: str, width: int) -> Iterator[Entry]:
        if config.norm is not None:
            yield from both(name, (width,), (width,))

    def both(name: str, weight: tuple[int, ...], bias: tuple[int, ...]) -> Iterator[Entry]:
        yield f"{name}.weight", weight
        yield f"{name}.bias", bias

    def linear(name: str, inputs: int, outputs: int) -> Iterator[Entry]:
        yield from both(name, (outputs, inputs), (outputs,))

    def factorized_reduce(name: str, inputs: int, outputs: int) -> Iterator[Entry]:
        yield f"{name}.conv_1.weight", (outputs // 2, inputs, 1, 1)
        yield f"{name}.conv_2.weight", (outputs // 2, inputs, 1, 1)
        yield from norm(f"{name}.bn", outputs)

    def sequence(name: str, *layers: tuple[int, ...] | str | int) -> Iterator[Entry]:
        """Yield the parameters of the layers of `op`: a shape is a convolution, an integer a norm, a string nothing."""
        for i, layer in enumerate(layers, start=1):
            if isinstance(layer, tuple):
                yield f"{name}.op.{i}.weight", layer
            elif isinstance(layer, int):
                yield from norm(f"{name}.op.{i}", layer)

    def operation(name: str, op: str, w: int, stride: int) -> Iterator[Entry]:
        kernel = int(op[-1]) if "conv" in op else 0
        if op == "skip_connect" and stride == 2:
            yield from factorized_reduce(name, w, w)
        elif op == "conv_7x1_1x7":
            yield from sequence(name, (w, w, 1, 7), (w, w, 7, 1), w)
        elif op.startswith("conv"):
            yield from sequence(name, (w, w, kernel, kernel), w)
        elif op.startswith("sep"):
            half = ((w, 1, kernel, kernel), (w, w, 1, 1), w)
            yield from sequence(name, *half, "relu", *half)
        elif op.startswith("dil"):
            yield from sequence(name, (w, 1, kernel, kernel), (w, w, 1, 1), w)
        elif op == "cse":
            yield from linear(f"{name}.fc1", w, w // 2)
            yield from linear(f"{name}.fc2", w // 2, w)
        elif op == "msa":
            yield f"{name}.to_qkv.weight", (3 * w, w)
            yield from linear(f"{name}.to_out.0", w, w)
            yield from both(f"{name}.ln1", (w,), (w,))
            yield from both(f"{name}.ln2", (w,), (w,))
            yield from linear(f"{name}.ff.net.0", w, w)
            yield from linear(f"{name}.ff.net.3", w, w)

    if is_vit:
        width, patch, side = C, *((3, 11) if small else (16, 14))
        yield "stem0.weight", (C, 3, patch, patch)
        yield "pos_enc.weight", (1, C, side, side)
    elif config.stem_type == 0:
        width = 3 * C if config.preproc and small else C
        yield "stem.0.weight", (width, 3, config.ks, config.ks)
        yield from norm("stem.1", width)
    else:
        width = C
        yield "stem0.0.weight", (C // 2, 3, config.ks, config.ks)
        yield from norm("stem0.1", C // 2)
        yield "stem0.3.weight", (C, C // 2, 3, 3)
        yield from norm("stem0.4", C)
        yield "stem1.1.weight", (C, C, 3, 3)
        yield from norm("stem1.2", C)

    reductions = {L // 3, 2 * L // 3} - {0}
    c0, c1, w = width, width, C
    auxiliary_width = 0
    for k in range(L):
        reduction = k in reductions
        w *= config.C_mult if reduction else 1
        if config.preproc:
            halve = config.stem_type == 1 if k == 0 else k - 1 in reductions
            if halve and not is_vit:
                yield from factorized_reduce(f"cells.{k}.preprocess0", c0, w)
            else:
                yield from sequence(f"cells.{k}.preprocess0", (w, c0, 1, 1), w)
            yield from sequence(f"cells.{k}.preprocess1", (w, c1, 1, 1), w)
        for j, (op, state) in enumerate(config.genotype.reduce if reduction else config.genotype.normal):
            stride = 2 if reduction and state < 2 and not is_vit else 1
            yield from operation(f"cells.{k}._ops.{j}", op, w, stride)
        concat = config.genotype.reduce_concat if reduction else config.genotype.normal_concat
        c0, c1 = c1, len(concat) * w
        if k == 2 * L // 3:
            auxiliary_width = c1

    if auxiliary:
        yield "auxiliary_head.features.2.weight", (128, auxiliary_width, 1, 1)
        yield from norm("auxiliary_head.features.3", 128)
        yield "auxiliary_head.features.5.weight", (768, 128, 2, 2)
        if small:
            yield from norm("auxiliary_head.features.6", 768)
        yield from linear("auxiliary_head.classifier", 768, num_classes)

    features = c1 * _pixels(config, image_size)
    for i in range(config.fc_layers - 1):
        yield from linear(f"classifier.{3 * i}", features, config.fc_dim)
        features = config.fc_dim
    yield from linear(f"classifier.{3 * (config.fc_layers - 1)}", features, num_classes)


def _pixels(config: NetworkConfig, image_size: int) -> int:
    """Return the factor by which a head that flattens is wider than one that averages."""
    if config.glob_avg:
        return 1
    low = config.stem_type == 1 or config.stem_pool
    side = (4 if low else 8) if image_size == 32 else (7 if low else 14)
    if image_size == 224 and config.stem_type == 0:
        side *= 4 // config.imagenet_stride  # not in the specification, which has no such networks
    return side**2


def count_parameters(config: NetworkConfig, num_classes: int, image_size: int, *, auxiliary: bool = False) -> int:
    """Return the number of parameters by the closed form of section 2.7."""
    small, C, L, n = image_size == 32, config.C, config.n_cells, num_classes
    is_vit = any(op == "msa" for op, _ in (*config.genotype.normal, *config.genotype.reduce))

    def b(c: int) -> int:
        return 0 if config.norm is None else 2 * c

    def reduce_terms(i: int, o: int) -> int:
        return 2 * i * (o // 2) + b(o)

    def term(op: str, w: int, stride: int) -> int:
        if op == "skip_connect":
            return reduce_terms(w, w) if stride == 2 else 0
        if op == "conv_7x1_1x7":
            return 14 * w**2 + b(w)
        if op.startswith("conv"):
            return w**2 * int(op[-1]) ** 2 + b(w)
        if op.startswith("sep"):
            return 2 * w * int(op[-1]) ** 2 + 2 * w**2 + 2 * b(w)
        if op.startswith("dil"):
            return w * int(op[-1]) ** 2 + w**2 + b(w)
        return {"cse": 2 * (w // 2) * w + w // 2 + w, "msa": 6 * w**2 + 7 * w}.get(op, 0)

    width = C
    if is_vit:
        q, m = (3, 11) if small else (16, 14)
        total = 3 * C * q**2 + C * m**2
    elif config.stem_type == 0:
        width = 3 * C if config.preproc and small else C
        total = 3 * width * config.ks**2 + b(width)
    else:
        h = C // 2
        total = 3 * h * config.ks**2 + b(h) + 9 * h * C + b(C) + 9 * C**2 + b(C)

    reductions = {L // 3, 2 * L // 3} - {0}
    widths, w = [width, width], C
    for k in range(L):
        genes, concat = config.genotype.normal, config.genotype.normal_concat
        if k in reductions:
            w *= config.C_mult
            genes, concat = config.genotype.reduce, config.genotype.reduce_concat
        if config.preproc:
            halve = not is_vit and (k - 1 in reductions or (k == 0 and config.stem_type == 1))
            total += reduce_terms(widths[-2], w) if halve else widths[-2] * w + b(w)
            total += widths[-1] * w + b(w)
        strided = k in reductions and not is_vit
        total += sum(term(op, w, 2 if strided and state < 2 else 1) for op, state in genes)
        widths.append(len(concat) * w)

    f = widths[-1] * _pixels(config, image_size)
    hidden = config.fc_layers - 1
    if hidden == 0:
        total += f * n + n
    else:
        d = config.fc_dim
        total += f * d + d + (hidden - 1) * (d * d + d) + d * n + n
    if auxiliary:
        a = widths[2 + 2 * L // 3]
        total += 128 * a + b(128) + 4 * 128 * 768 + (b(768) if small else 0) + 769 * n
    return total
