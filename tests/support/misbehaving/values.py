"""Predictors that return wrong values, or raise errors."""

from __future__ import annotations

from collections import UserDict
from typing import Any

import torch
from torch import Tensor

from tests.support.misbehaving import ANY, EXPECTED, SAME, good


class Lies(Tensor):
    """A tensor that claims to have any shape and type."""

    @property
    def shape(self) -> Any:  # type: ignore[override]
        return torch.Size([1])

    def is_floating_point(self) -> bool:
        return True

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return 1


class Marked(Tensor):
    """A harmless subclass."""


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise self


def raises(error: BaseException) -> Any:
    def predictor(model: Any, graph: Any) -> Any:
        raise error

    return predictor


def each(change: Any) -> Any:
    """A predictor that changes every initial value."""
    return lambda model, graph: {name: change(value) for name, value in good(model).items()}


def views(model: Any, graph: Any) -> Any:
    """All tensors are views of one."""
    values = good(model)
    flat = torch.cat([value.flatten() for value in values.values()])
    parts = flat.split([value.numel() for value in values.values()])
    return {name: part.view(value.shape) for (name, value), part in zip(values.items(), parts)}


def strided(value: Tensor) -> Tensor:
    order = list(range(value.ndim))[::-1]
    return value.permute(order).contiguous().permute(order)


def endless(model: Any, graph: Any) -> Any:
    while True:
        yield "weight", torch.zeros(1)


CASES: dict[str, tuple[Any, str]] = {
    "views": (views, SAME),
    "strided": (each(strided), SAME),
    "double": (each(lambda value: value.double()), SAME),
    "bfloat16": (each(lambda value: value.bfloat16()), ANY),
    "expanded": (each(lambda value: torch.zeros(()).expand(value.shape)), ANY),
    "parameters": (lambda model, graph: dict(model.named_parameters()), SAME),
    "differentiable": (each(lambda value: value.requires_grad_() * 1), SAME),
    "subclass": (each(lambda value: value.as_subclass(Marked)), SAME),
    "lies": (each(lambda value: value.as_subclass(Lies)), "Error|parameters: "),
    "mapping": (lambda model, graph: UserDict(good(model)), SAME),
    "integers": (each(lambda value: value.long()), "expected floating-point numbers"),
    "complex": (each(lambda value: value.cfloat()), "expected floating-point numbers"),
    "quantised": (
        each(lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8)),
        "expected floating-point numbers",
    ),
    "sparse": (each(lambda value: value.to_sparse()), "Error"),
    "meta": (each(lambda value: value.to("meta")), "is on the meta device"),
    "nan": (each(lambda value: value * float("nan")), "are not finite"),
    "infinite": (each(lambda value: value + float("inf")), "are not finite"),
    "scalars": (each(lambda value: 1.0), "expected floating-point numbers"),
    "arrays": (each(lambda value: value.numpy()), "expected floating-point numbers"),
    "reshaped": (each(lambda value: value[..., None]), "expected floating-point numbers of shape"),
    "empty": (lambda model, graph: {}, "are missing"),
    "one_missing": (lambda model, graph: dict(list(good(model).items())[1:]), "1 of"),
    "one_more": (lambda model, graph: {**good(model), "more": torch.zeros(10**7)}, "no parameter named more"),
    "other_names": (
        lambda model, graph: {f"module.{name}": value for name, value in good(model).items()},
        "are missing",
    ),
    "numbered": (lambda model, graph: {**good(model), 3: torch.zeros(1)}, "no parameter named 3"),
    "nothing": (lambda model, graph: None, "expected a dict of tensors, got NoneType"),
    "pairs": (lambda model, graph: list(good(model).items()), "expected a dict of tensors, got list"),
    "generator": (endless, "expected a dict of tensors, got generator"),
    "module": (lambda model, graph: model, "expected a dict of tensors"),
    "text": (lambda model, graph: "weights.pt", "expected a dict of tensors, got str"),
    "interrupt": (raises(KeyboardInterrupt()), "its process ended"),
    "base_exception": (raises(BaseException("no")), "its process ended"),
    "exit": (raises(SystemExit(0)), "SystemExit"),
    "exit_text": (raises(SystemExit("\x1b[2Jbye")), "SystemExit"),
    "generator_exit": (raises(GeneratorExit()), "its process ended"),
    "stop": (raises(StopIteration()), "StopIteration"),
    "memory": (raises(MemoryError()), "not enough memory"),
    "unprintable": (raises(UnprintableError()), "its process ended"),
    "long_text": (raises(ValueError("a" * 10**6)), "ValueError: aaaa"),
    "surrogates": (raises(ValueError("\ud800 \x00 =cmd|calc")), "ValueError"),
}
for _name, (_predictor, _outcome) in CASES.items():
    globals()[_name] = _predictor
    EXPECTED[f"{__name__}:{_name}"] = _outcome
