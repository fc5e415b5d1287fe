"""Predictors that change settings of the process, or code that others use."""

from __future__ import annotations

import atexit
import gc
import json
import logging
import os
import random
import signal
import sys
import threading
import time
import warnings
from typing import Any

import numpy as np
import torch

from tests.support.misbehaving import ANY, FOREVER, SAME, expect, good


@expect(SAME)
def sets_default_dtype(model: Any, graph: Any) -> Any:
    torch.set_default_dtype(torch.float64)
    return good(model)


@expect(SAME)
def sets_default_device(model: Any, graph: Any) -> Any:
    values = good(model)
    torch.set_default_device("meta")
    return values


@expect(SAME)
def sets_numbers_of_threads(model: Any, graph: Any) -> Any:
    torch.set_num_threads(2)
    os.environ["OMP_NUM_THREADS"] = "2"
    return good(model)


@expect(SAME)
def disables_gradients(model: Any, graph: Any) -> Any:
    torch.set_grad_enabled(False)
    torch.inference_mode().__enter__()
    torch.autocast("cpu").__enter__()
    return good(model)


@expect(SAME)
def sets_everything(model: Any, graph: Any) -> Any:
    torch.use_deterministic_algorithms(True)
    torch.set_flush_denormal(True)
    torch.backends.mkldnn.enabled = False
    torch.set_float32_matmul_precision("medium")
    torch.set_printoptions(precision=1)
    return good(model)


@expect(SAME)
def seeds_random_numbers(model: Any, graph: Any) -> Any:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    return good(model)


@expect(ANY)
def draws_in_a_thread(model: Any, graph: Any) -> Any:
    """Its own second network is affected, unless it gets a new process."""

    def draw() -> None:
        while True:
            torch.rand(10)
            np.random.rand(10)  # noqa: NPY002
            random.random()
            time.sleep(0.001)

    values = good(model)
    threading.Thread(target=draw, daemon=True).start()
    threading.Thread(target=time.sleep, args=(FOREVER,)).start()  # would delay the end of a process
    return values


@expect("its process ended")
def patches_json(model: Any, graph: Any) -> Any:
    json.dumps = json.loads = None  # type: ignore[assignment]
    return good(model)


@expect("parameters: ")
def patches_torch(model: Any, graph: Any) -> Any:
    values = good(model)
    torch.Tensor.isfinite = lambda self: torch.ones((), dtype=torch.bool)  # type: ignore[method-assign,assignment]
    for value in values.values():
        value.fill_(float("nan"))
    return values


@expect("its process ended")
def patches_os(model: Any, graph: Any) -> Any:
    values = good(model)
    for name in ("write", "read", "open", "close", "fork", "kill", "getpid", "listdir"):
        setattr(os, name, None)
    return values


@expect(ANY)
def patches_numpy_and_random(model: Any, graph: Any) -> Any:
    np.random.Philox = np.asarray = np.float64 = None  # type: ignore[misc,assignment]
    random.random = random.seed = random.getstate = lambda *a: 4  # type: ignore[assignment]
    return good(model)


@expect(ANY)
def clears_modules(model: Any, graph: Any) -> Any:
    values = good(model)
    sys.modules.clear()
    return values


@expect(SAME)
def traces_the_interpreter(model: Any, graph: Any) -> Any:
    sys.setprofile(lambda *a: None)
    gc.disable()
    gc.set_threshold(0)
    warnings.simplefilter("ignore")
    logging.disable()
    return good(model)


@expect(SAME)
def registers_exit_handlers(model: Any, graph: Any) -> Any:
    atexit.register(time.sleep, FOREVER)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    return good(model)
