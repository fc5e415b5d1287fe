"""Files in other formats, and files whose layout was changed, raise errors."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest

from deepnets.corpus import (
    COLUMNS,
    WIRING,
    CorpusFile,
    DeepNets1M,
    corpus_path,
    verify,
)
from deepnets.support import FormatError
from tests.deepnets.corpus.corpus_files import (
    SPLIT,
    Change,
    about,
    attribute,
    link,
    put,
    refused,
    snapshot,
)


@pytest.mark.slow
def test_truncated(corpus: Path, tmp_path: Path) -> None:
    content = corpus_path(corpus, SPLIT).read_bytes()
    path = tmp_path / "deepnets1m_bnfree.h5"
    for length in {*range(0, len(content), 64), len(content) - 1}:
        path.write_bytes(content[:length])
        refused(path)
        with pytest.raises(FormatError):
            DeepNets1M(tmp_path, SPLIT)


def test_other_kinds(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    refused(path, "No such file")
    refused(tmp_path, "not a file")
    path.touch()
    refused(path, "not an HDF5 file")
    path.write_text("some text" * 1_000)
    refused(path, "not an HDF5 file")
    with h5py.File(path, "w") as file:
        file["weights"] = np.arange(10)
    refused(path, "not a corpus file of this toolkit")
    with h5py.File(path, "a") as file:
        file.attrs["format"] = "some other"
        file.attrs["format_version"] = "1.0"
    refused(path, "not a corpus file of this toolkit")
    with h5py.File(path, "w") as file:  # as in the original release
        file.attrs["train"] = 1
        file.create_group("train/0").create_dataset("adj", data=np.eye(3))
    refused(path, "files of the original release are read with `deepnets import`")


def test_untouched(tampered: Callable[[Change], Path], corpus: Path) -> None:
    """The unchanged file, from which the tests below start, is valid."""
    path = tampered(lambda file: None)
    assert verify(path).num_networks == 100

    def rewrite(file: h5py.File) -> None:
        for name in list(file["networks"]):
            put(file, f"networks/{name}", file[f"networks/{name}"][:])

    path = tampered(rewrite)
    assert snapshot(path.parent, SPLIT) == snapshot(corpus, SPLIT)


ATTRIBUTES = r"its attributes format, .* are not the strings and integers they should be"
HEADERS: dict[str, tuple[Change, str]] = {
    "newer version": (
        attribute("format_version", 2),
        "has format version 2, this version of deepnets1m reads 1; install the version that wrote it",
    ),
    "older version": (attribute("format_version", 0), "has format version 0, .* reads 1"),
    "huge version": (attribute("format_version", 2**63 - 1), "has format version 9223372036854775807"),
    "version of another type": (attribute("format_version", "1"), "has format version None"),
    "several versions": (attribute("format_version", [1, 1]), "has format version None"),
    "no version": (lambda file: file.attrs.__delitem__("format_version"), "has format version None"),
    "another format": (attribute("format", np.bytes_("DeepNets-2M corpus")), "not a corpus file"),
    "no format": (lambda file: file.attrs.__delitem__("format"), "not a corpus file"),
    "number as format": (attribute("format", 5), "not a corpus file"),
    "several formats": (attribute("format", np.array([b"a", b"b"])), "not a corpus file"),
    "format is no text": (attribute("format", np.bytes_(b"\xff\xfe")), "damaged"),
    "no digest": (lambda file: file.attrs.__delitem__("content_digest"), ATTRIBUTES),
    "number as digest": (attribute("content_digest", 5), ATTRIBUTES),
    "no number of networks": (lambda file: file.attrs.__delitem__("num_networks"), ATTRIBUTES),
    "fractional number of networks": (attribute("num_networks", 100.0), ATTRIBUTES),
    "number of networks as text": (attribute("num_networks", np.bytes_("100")), ATTRIBUTES),
    "no attributes": (lambda file: file.attrs.__delitem__("attributes"), ATTRIBUTES),
    "attributes of variable length": (attribute("attributes", '{"split": "bnfree"}'), ATTRIBUTES),
    "array as attributes": (attribute("attributes", np.zeros(10_000)), ATTRIBUTES),
    "reference as attributes": (lambda file: file.attrs.__setitem__("attributes", file.ref), ATTRIBUTES),
    "no JSON": (about("{'split': 'bnfree'}"), "damaged: Expecting property name"),
    "empty JSON": (about(b"\n"), "damaged: Expecting value"),
    "bytes as JSON": (about(b"\xff\x00\x01"), "damaged: "),
    "list as JSON": (about("[1, 2]"), "damaged: list indices"),
    "number as JSON": (about("5"), "damaged: 'int'"),
    "deeply nested JSON": (about('{"split":' + "[" * 60_000), "damaged: .*nested too deeply"),
    "long number in JSON": (about('{"split": "bnfree", "seed": ' + "9" * 60_000 + "}"), "damaged: Exceeds the limit"),
    "no split": (about('{"seed": 0}'), "damaged: split"),
    "number as split": (about('{"split": 5}'), "its split should have a name, not 5"),
    "structure as split": (about('{"split": {"a": 1}}'), "its split should have a name"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_headers(tampered: Callable[[Change], Path], case: str) -> None:
    change, message = HEADERS[case]
    refused(tampered(change), message)


def test_megabytes_of_attributes(tampered: Callable[[Change], Path]) -> None:
    def change(file: h5py.File) -> None:
        for i in range(3_000):
            file.attrs[f"more {i}"] = np.arange(50)

    assert CorpusFile(tampered(change)).num_networks == 100  # an unknown addition is ignored

    path = tampered(lambda file: None)
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        file.attrs["attributes"] = np.bytes_(json.dumps({"split": "bnfree", "lists": [[]] * 1_000_000}))
    refused(path, ATTRIBUTES)


WORDS = "does not have a vocabulary that this version knows"
TYPE = r"does not have the type and shape it should \(it has "
MEMBERS: dict[str, tuple[Change, str]] = {
    "no wiring": (
        lambda file: file.__delitem__("wiring"),
        "/ should hold networks, vocabulary, wiring and nothing else",
    ),
    "no networks": (lambda file: file.__delitem__("networks"), "/ should hold networks, vocabulary, wiring"),
    "no vocabulary": (lambda file: file.__delitem__("vocabulary"), "/ should hold networks, vocabulary, wiring"),
    "more": (lambda file: file.create_group("more"), "/ should hold .* and nothing else"),
    "many more": (lambda file: [file.create_group(f"more{i}") for i in range(2_000)], "/ should hold"),
    "renamed": (lambda file: file.move("wiring", "Wiring"), "/ should hold"),
    "group as wiring": (link("wiring", lambda file: file["networks"]), "/wiring is not a dataset"),
    "dataset as networks": (link("networks", lambda file: file["wiring"]), "/networks is not a group"),
    "type as vocabulary": (link("vocabulary", np.dtype("i8")), "/vocabulary is not a group"),
    "type as column": (link("networks/C", np.dtype("u2")), "/networks/C is not a dataset"),
    "no words": (lambda file: file.__delitem__("vocabulary/norms"), "/vocabulary should hold"),
    "another word": (
        lambda file: put(file, "vocabulary/norms", np.array([b"None", b"bnorm", b"bn", b"ln"])),
        f"/vocabulary/norms {WORDS}",
    ),
    "words in another order": (
        lambda file: put(file, "vocabulary/norms", np.array([b"None", b"bn", b"bnorm", b"bn-track"])),
        f"/vocabulary/norms {WORDS}",
    ),
    "a word more": (
        lambda file: put(file, "vocabulary/norms", np.array([b"None", b"bnorm", b"bn", b"bn-track", b"x"])),
        f"/vocabulary/norms {TYPE}",
    ),
    "a short word more": (
        lambda file: put(file, "vocabulary/primitives", np.append(file["vocabulary/primitives"][:-1], [b"a", b"b"])),
        "/vocabulary/primitives ",
    ),
    "words of variable length": (
        link("vocabulary/norms", ["None", "bnorm", "bn", "bn-track"]),
        "/vocabulary/norms is not stored with compression and checksums",
    ),
    "numbers as words": (lambda file: put(file, "vocabulary/norms", np.arange(4)), f"/vocabulary/norms {TYPE}"),
    "words in a table": (
        lambda file: put(file, "vocabulary/norms", np.array([[b"None", b"bnorm"]])),
        f"/vocabulary/norms {TYPE}",
    ),
    "wiring of other fields": (
        lambda file: put(file, "wiring", np.zeros(len(file["wiring"]), WIRING.descr[:4])),
        f"/wiring {TYPE}",
    ),
    "wiring of wider fields": (
        lambda file: put(file, "wiring", file["wiring"][:].astype([(name, "u4") for name in WIRING.names or ()])),
        f"/wiring {TYPE}",
    ),
    "wiring of renamed fields": (
        lambda file: put(
            file, "wiring", file["wiring"][:].astype([(n.title(), WIRING[n]) for n in WIRING.names or ()])
        ),
        f"/wiring {TYPE}",
    ),
    "wiring of other byte order": (
        lambda file: put(file, "wiring", file["wiring"][:].astype(WIRING.newbyteorder(">"))),
        f"/wiring {TYPE}",
    ),
    "wiring with gaps": (
        lambda file: put(file, "wiring", file["wiring"][:].astype(np.dtype(WIRING.descr, align=True))),
        f"/wiring {TYPE}",
    ),
    "wiring as bytes": (lambda file: put(file, "wiring", file["wiring"][:].view("u1")), f"/wiring {TYPE}"),
    "wiring in a table": (lambda file: put(file, "wiring", file["wiring"][:][None]), f"/wiring {TYPE}"),
    "a row too few": (
        lambda file: put(file, "wiring", file["wiring"][:-1]),
        "/wiring does not have as many rows as its networks have",
    ),
    "a row too many": (
        lambda file: put(file, "wiring", np.append(file["wiring"][:], file["wiring"][:1])),
        "/wiring does not have as many rows as its networks have",
    ),
    "no rows": (lambda file: put(file, "wiring", file["wiring"][:0]), "/wiring does not have as many rows"),
    "num_rows too large": (
        lambda file: put(file, "networks/num_rows", np.full(100, 65_535, "u2")),
        "/wiring does not have as many rows as its networks have",
    ),
    "num_rows zero": (
        lambda file: put(file, "networks/num_rows", np.zeros(100, "u2")),
        "/wiring does not have as many",
    ),
    "a network less claimed": (attribute("num_networks", 99), f"/networks/n_cells {TYPE}"),
    "a network more claimed": (attribute("num_networks", 101), f"/networks/n_cells {TYPE}"),
    "no networks claimed": (attribute("num_networks", 0), f"/networks/n_cells {TYPE}"),
    "negative number claimed": (attribute("num_networks", -100), f"/networks/n_cells {TYPE}"),
    "absurd number claimed": (attribute("num_networks", 2**62), f"/networks/n_cells {TYPE}"),
    "genes without pairs": (
        lambda file: put(file, "networks/ops", np.zeros((100, 2, 0), "u1")),
        f"/networks/ops {TYPE}",
    ),
    "genes with too many pairs": (
        lambda file: put(file, "networks/ops", np.zeros((100, 2, 22), "u1")),
        f"/networks/ops {TYPE}",
    ),
    "genes of one kind of cell": (
        lambda file: put(file, "networks/ops", np.zeros((100, 1, 8), "u1")),
        f"/networks/ops {TYPE}",
    ),
    "soft link": (
        lambda file: [file.move("wiring", "networks/x"), link("networks", h5py.SoftLink("/y"))(file)],
        "/ should hold",
    ),
    "soft link to a sibling": (link("networks/C", h5py.SoftLink("/networks/fc_dim")), "/networks/C is a link; refused"),
    "soft link to itself": (link("networks/C", h5py.SoftLink("/networks/C")), "/networks/C is a link; refused"),
    "soft link to nothing": (link("networks", h5py.SoftLink("/nothing")), "/networks is a link; refused"),
    "soft link to itself at the top": (link("wiring", h5py.SoftLink("/wiring")), "/wiring is a link; refused"),
    "soft link as vocabulary": (link("vocabulary/norms", h5py.SoftLink("/x")), "/vocabulary/norms is a link; refused"),
    "external link": (link("wiring", h5py.ExternalLink("/etc/passwd", "/")), "/wiring is a link; refused"),
    "external link to a group": (link("networks", h5py.ExternalLink("o.h5", "/")), "/networks is a link; refused"),
    "external link in a group": (link("networks/C", h5py.ExternalLink("o.h5", "/")), "/networks/C is a link; refused"),
    "group that holds itself": (link("networks/C", lambda file: file["networks"]), "/networks/C is not a dataset"),
    "group that holds the root": (link("networks", lambda file: file["/"]), "/networks should hold"),
    "vocabulary is networks": (link("vocabulary", lambda file: file["networks"]), "/vocabulary should hold"),
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("case", MEMBERS)
def test_members(tampered: Callable[[Change], Path], case: str) -> None:
    change, message = MEMBERS[case]
    path = tampered(change)
    refused(path, f"^{re.escape(str(path))}: {message}" if message[0] == "/" else message)


COLUMN_CHANGES: dict[str, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]] = {
    "wider": lambda values: values.astype("u8" if values.itemsize < 8 else "u4"),
    "signed": lambda values: values.astype(f"i{values.itemsize}"),
    "floating": lambda values: values.astype("f8"),
    "text": lambda values: values.astype("S8"),
    "structured": lambda values: values.astype([("x", values.dtype)]),
    "shorter": lambda values: values[:-1],
    "longer": lambda values: np.concatenate([values, values[:1]]),
    "with another axis": lambda values: values[..., None],
    "flat": lambda values: values.ravel() if values.ndim > 1 else values[:0],
}


@pytest.mark.sampled(15)
@pytest.mark.parametrize("name", COLUMNS)
def test_columns(tampered: Callable[[Change], Path], name: str) -> None:
    changes = dict(COLUMN_CHANGES)
    if COLUMNS[name].itemsize > 1:
        changes["of other byte order"] = lambda values: values.astype(values.dtype.newbyteorder(">"))
    for change in changes.values():

        def replace(file: h5py.File, change: Any = change) -> None:
            put(file, f"networks/{name}", change(file[f"networks/{name}"][:]))

        refused(tampered(replace), rf": /networks/{name} {TYPE}")
    path = tampered(lambda file: file.__delitem__(f"networks/{name}"))
    refused(path, ": /networks should hold")
    path = tampered(lambda file: file.move(f"networks/{name}", "networks/x"))
    refused(path, ": /networks should hold")
    path = tampered(lambda file: put(file, f"networks/{name}", file[f"networks/{name}"][:], fletcher32=False))
    refused(path, f": /networks/{name} is not stored with compression and checksums")


@pytest.mark.parametrize("name", ["wiring", "networks/ops", "vocabulary/names"])
def test_external_data(tampered: Callable[[Change], Path], tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(os.urandom(1 << 20))

    def external(file: h5py.File) -> None:
        old = file[name]
        shape, dtype = old.shape, old.dtype
        del file[name]
        file.create_dataset(name, shape, dtype, external=[(str(secret), 0, h5py.h5f.UNLIMITED)])

    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout(file[name].shape, file[name].dtype)
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", file[name].shape, file[name].dtype)
        del file[name]
        file.create_virtual_dataset(name, layout)

    for change in (external, virtual):
        refused(tampered(change), f": /{name} takes its data from other files; refused")
