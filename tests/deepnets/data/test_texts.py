"""Texts: parts, layouts of folders, tokenizers, windows, and input that is not a text."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from deepnets.data import TEXT_SETS, TextSet, check_text_name, open_texts
from deepnets.data.texts import load_python
from deepnets.data.tokenizers import open_tokenizer
from deepnets.support import ConfigError, DeepNetsError, FormatError, MissingDataError
from tests.support.limits import limited

WHOLE = b"".join(b"line %04d\n" % number for number in range(500))


def content(text: TextSet) -> bytes:
    """Return a text of bytes as it was before."""
    return bytes(text.tokens.tolist())


def written(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    for name, part in files.items():
        (folder / name).write_bytes(part)
    return folder


def test_parts_of_a_file_are_disjoint_and_complete(tmp_path: Path) -> None:
    (tmp_path / "corpus").write_bytes(WHOLE)
    name = f"text:{tmp_path / 'corpus'}"
    train, val, test, both = (content(open_texts(name, part)) for part in ("train", "val", "test", "trainval"))
    assert train + val + test == WHOLE
    assert both == train + val
    assert all(part.endswith(b"\n") and part.startswith(b"line") for part in (train, val, test))
    assert len(train) == pytest.approx(0.9 * len(WHOLE), abs=10)
    assert len(val) == pytest.approx(0.05 * len(WHOLE), abs=20)


def test_a_text_without_lines_is_split_by_position(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"x" * 2000)
    parts = [len(open_texts(f"text:{tmp_path / 'one'}", part).tokens) for part in ("train", "val", "test")]
    assert parts == [1800, 100, 100]


def test_folders_with_and_without_parts(tmp_path: Path) -> None:
    parts = {"train.txt": b"a" * 100, "valid.txt": b"b" * 100, "test.txt": b"c" * 100}
    own = f"text:{written(tmp_path / 'own', parts)}"
    assert [content(open_texts(own, part)) for part in ("train", "val", "test")] == [*parts.values()]
    assert content(open_texts(own, "trainval")) == b"a" * 100 + b"\n" + b"b" * 100
    halves = {"b.txt": WHOLE[2500:], "a.txt": WHOLE[:2499], "notes.md": b"ignored"}
    joined = f"text:{written(tmp_path / 'joined', halves)}"
    assert b"".join(content(open_texts(joined, part)) for part in ("train", "val", "test")) == WHOLE


@pytest.mark.parametrize("suffix", ["tokens", "raw"])
def test_wikitext(tmp_path: Path, suffix: str) -> None:
    names = {"train": "train", "val": "valid", "test": "test"}
    files = {f"wiki.{name}.{suffix}": part.encode() * 40 for part, name in names.items()}
    folder = f"wikitext:{written(tmp_path / 'wiki', files)}"
    for part in names:
        assert content(open_texts(folder, part)) == part.encode() * 40
    (tmp_path / "wiki" / f"wiki.valid.{suffix}").unlink()
    with pytest.raises(MissingDataError, match=r"wiki\.valid"):
        open_texts(folder, "val")


def test_wikitext_of_two_kinds_is_ambiguous(tmp_path: Path) -> None:
    folder = written(tmp_path / "wiki", {"wiki.train.tokens": WHOLE, "wiki.train.raw": WHOLE})
    with pytest.raises(MissingDataError, match="both"):
        open_texts(f"wikitext:{folder}")
    with pytest.raises(MissingDataError, match="neither"):
        open_texts(f"wikitext:{written(tmp_path / 'empty', {})}")


def test_the_embedded_text_is_english_and_its_parts_differ() -> None:
    parts = [load_python(part) for part in ("train", "val", "test")]
    assert all(b"the" in part for part in parts)
    assert sum(map(len, parts)) > 300_000
    assert len({part[:200] for part in parts}) == 3


@pytest.mark.parametrize(
    ("name", "split", "error", "message"),
    [
        ("text:there/is/nothing", "train", MissingDataError, "there/is/nothing"),
        ("wikitext:there/is/nothing", "train", MissingDataError, "there/is/nothing"),
        ("shakespeare", "train", ConfigError, "text:PATH"),
        ("python", "dev", ConfigError, "split"),
    ],
)
def test_names_that_are_no_texts(name: str, split: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        open_texts(name, split)


def test_short_and_unreadable_texts(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"x" * 100)
    with pytest.raises(ConfigError, match=r"short \(val\) has 5 tokens"):
        open_texts(f"text:{tmp_path / 'short'}", "val")
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(ConfigError, match="0 tokens"):
        open_texts(f"text:{tmp_path / 'empty'}")
    (tmp_path / "none").mkdir()
    with pytest.raises(MissingDataError, match=r"\.txt"):
        open_texts(f"text:{tmp_path / 'none'}")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**30 + 1)  # takes no room on the disk
    outcome = limited(lambda: open_texts(f"text:{tmp_path / 'large'}"))
    assert outcome.kind == "FormatError"
    assert outcome.text.endswith("large: cannot be read: larger than 1,073,741,824 bytes")


def test_a_loader_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_texts.py").write_text(
        "def load(split):\n    return split.encode() * 50\ndef wrong(split):\n    return 1\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert check_text_name("my_texts:load") == "my_texts:load"
    assert content(open_texts("my_texts:load", "val")) == b"val" * 50
    with pytest.raises(ConfigError, match="bytes"):
        open_texts("my_texts:wrong")
    assert "my_texts:load" not in TEXT_SETS


def test_windows_cover_the_text_once() -> None:
    text = TextSet("numbers", "train", torch.arange(100), 100, sequence_length=7)
    batches = list(text.batches(4))
    tokens, targets = (torch.cat(parts) for parts in zip(*batches))
    assert len(text) == len(tokens) == 14
    assert tokens.flatten().tolist() == list(range(98))
    assert torch.equal(targets, tokens + 1)
    assert [len(part) for part, _ in text.batches(4, drop_last=True)] == [4, 4, 4]
    mixed = torch.cat([part for part, _ in text.batches(4, shuffle=True, generator=torch.Generator().manual_seed(1))])
    assert not torch.equal(mixed, tokens)
    assert torch.equal(mixed[mixed[:, 0].argsort()], tokens)


def test_the_last_token_is_only_a_target() -> None:
    assert len(TextSet("exact", "train", torch.arange(8), 8, sequence_length=7)) == 1
    assert len(TextSet("exact", "train", torch.arange(15), 15, sequence_length=7)) == 2
    assert len(TextSet("one less", "train", torch.arange(14), 14, sequence_length=7)) == 1


def test_digests_depend_on_the_tokens() -> None:
    def digest(*tokens: int, size: int = 5) -> str:
        return TextSet("t", "train", torch.tensor(tokens), size, sequence_length=1).digest

    assert digest(1, 2, 3) == digest(1, 2, 3)
    assert len({digest(1, 2, 3), digest(1, 2, 4), digest(1, 2, 3, size=6)}) == 3


@pytest.mark.parametrize("tokens", [torch.tensor([0, 9, 1]), torch.tensor([0, -1, 1]), torch.rand(3), torch.ones(2, 2)])
def test_tokens_outside_of_the_vocabulary(tokens: torch.Tensor) -> None:
    with pytest.raises(ConfigError, match="token"):
        TextSet("mine", "train", tokens, 9, sequence_length=1)


def tokenizer_file(path: Path) -> Path:
    """Write a tokenizer of words."""
    tokenizers = pytest.importorskip("tokenizers")
    model = tokenizers.models.WordLevel({"[UNK]": 0, "line": 1, "word": 2}, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(path))
    return path


def test_the_tokenizer_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tokenizer_file(tmp_path / "tokenizer.json")
    (tmp_path / "text").write_bytes(b"line word line other\n" * 200)
    monkeypatch.setattr("deepnets.data.tokenizers._PIECE", 50)  # pieces end at the ends of lines
    text = open_texts(f"text:{tmp_path / 'text'}", tokenizer=file)
    assert text.vocabulary_size == 3
    assert text.tokens.view(-1, 4).unique(dim=0).tolist() == [[1, 2, 1, 0]]
    assert len(text.tokens) == 4 * 180
    (tmp_path / "text").write_bytes(b"line\xff\n" * 200)
    with pytest.raises(FormatError, match="not UTF-8 at byte 4"):
        open_texts(f"text:{tmp_path / 'text'}", tokenizer=file)


def test_a_tokenizer_that_cuts_and_pads_gives_the_whole_text(tmp_path: Path) -> None:
    """`save_pretrained` of the library transformers stores the options of the last call in the file."""
    tokenizers = pytest.importorskip("tokenizers")
    (tmp_path / "text").write_bytes(b"line word line other\n" * 200)
    whole = open_texts(f"text:{tmp_path / 'text'}", tokenizer=tokenizer_file(tmp_path / "plain.json"))
    tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "plain.json"))
    tokenizer.enable_truncation(max_length=16)
    tokenizer.enable_padding(length=4096)
    tokenizer.save(str(tmp_path / "cutting.json"))
    cut = open_texts(f"text:{tmp_path / 'text'}", tokenizer=tmp_path / "cutting.json")
    assert torch.equal(cut.tokens, whole.tokens)


@pytest.mark.parametrize("length", [50, 3001, 3002, 3003])
def test_parts_of_a_text_without_lines_end_between_characters(tmp_path: Path, length: int) -> None:
    text = "".join(chr(0x4E00 + number % 5000) + "é" * (number % 2) + "🙂" * (number % 3) for number in range(length))
    (tmp_path / "text").write_text(text, encoding="utf-8")
    parts = [
        content(open_texts(f"text:{tmp_path / 'text'}", part, sequence_length=2)) for part in ("train", "val", "test")
    ]
    assert "".join(part.decode() for part in parts) == text


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff\xfe", json.dumps({"model": {"type": "os"}}).encode()])
def test_files_that_are_no_tokenizers(tmp_path: Path, damage: bytes) -> None:
    pytest.importorskip("tokenizers")
    (tmp_path / "tokenizer.json").write_bytes(damage)
    with pytest.raises(DeepNetsError, match="tokenizer"):
        open_texts("python", tokenizer=tmp_path / "tokenizer.json")
    with pytest.raises(MissingDataError, match="absent"):
        open_texts("python", tokenizer=tmp_path / "absent.json")


@pytest.mark.parametrize("name", ["NFC", "NFKC", "Lowercase", "Strip", "Nmt", "BertNormalizer", "Replace", "Sequence"])
def test_tokenizers_with_normalizers(tmp_path: Path, name: str) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    normalizers = tokenizers.normalizers
    made = {
        "Replace": lambda: normalizers.Replace("?", "!"),
        "Sequence": lambda: normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(), normalizers.Strip()]),
    }
    path = tokenizer_file(tmp_path / "tokenizer.json")
    library = tokenizers.Tokenizer.from_file(str(path))
    library.normalizer = made.get(name, getattr(normalizers, name))()
    library.save(str(path))
    text = "word Line line other " * 9
    expected = library.encode(text, add_special_tokens=False).ids
    assert open_tokenizer(path).encode(text.encode(), "text").tolist() == expected


def test_tokens_of_a_file_need_not_be_consecutive(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    model = {"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 70, "b": 5}, "unk_token": "[UNK]"}
    path, text = tmp_path / "tokenizer.json", tmp_path / "text.txt"
    path.write_bytes(changed_file(model=model, pre_tokenizer={"type": "Whitespace"}))
    text.write_text("a b a c\n" * 200)
    found = open_texts(f"text:{text}", tokenizer=path)
    assert (found.vocabulary_size, set(found.tokens.tolist())) == (71, {0, 5, 70})


def changed_file(**changes: Any) -> bytes:
    content = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None}
    content |= {"pre_tokenizer": None, "post_processor": None, "decoder": None}
    model = {"type": "WordLevel", "vocab": {"a": 0, "[UNK]": 1}, "unk_token": "[UNK]"}
    return json.dumps({**content, "model": model, **changes}).encode()


def replace(content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": "a"}, "content": content}


CHARSMAP = base64.b64encode(bytes([4, 0, 0, 0, *range(4)]) + b"a" * 100 + b"\0b\0").decode()
HOSTILE = {
    "without its unknown token": ({"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "?"}}, "fails for"),
    "a token of 32 bits": (
        {"model": {"type": "WordLevel", "vocab": {"b": 2**32 - 1, "?": 2**32 - 2}, "unk_token": "?"}},
        "the token 4294967294, which is too large",
    ),
    "backtracking": (
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}},
        "fails for the text: PanicException",
    ),
    "a long replacement": ({"normalizer": replace("b" * 20_000)}, "lengthens texts more than 64 times"),
    "nested replacements": (
        {"normalizer": {"type": "Sequence", "normalizers": [replace("a" * 9)] * 3}},
        "lengthens texts more than 64 times",
    ),
    "a map of characters": (
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": CHARSMAP}},
        "lengthens texts|is not the file",
    ),
    "levels": ({"decoder": json.loads("[" * 90 + "]" * 90)}, "is not the file"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_tokenizers(tmp_path: Path, case: str) -> None:
    pytest.importorskip("tokenizers")
    changes, message = HOSTILE[case]
    path, text = tmp_path / "tokenizer.json", tmp_path / "text.txt"
    path.write_bytes(changed_file(**changes))
    text.write_text("a" * 3000 + "!" + "a" * 100_000)
    outcome = limited(lambda: open_texts(f"text:{text}", tokenizer=path), megabytes=600)
    assert outcome.kind == "FormatError", outcome
    assert re.search(message, outcome.text), outcome
    assert len(outcome.text.splitlines()) == 1


@pytest.mark.slow
def test_a_line_without_end_is_encoded_in_pieces(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    path, text = tmp_path / "tokenizer.json", tmp_path / "text.txt"
    path.write_bytes(changed_file(pre_tokenizer={"type": "Whitespace"}))
    text.write_text("a " * 2_000_000)
    outcome = limited(lambda: open_texts(f"text:{text}", tokenizer=path), megabytes=600)
    assert outcome.kind == "returned", outcome


@pytest.mark.slow
def test_bytes_need_no_package_and_files_say_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    code = f"""
import sys
sys.modules["tokenizers"] = sys.modules["transformers"] = None
from deepnets.data import open_texts
from deepnets.support import MissingDependencyError
assert open_texts("python", "val").vocabulary_size == 256
try:
    open_texts("python", "val", tokenizer={str(tmp_path / "tokenizer.json")!r})
except MissingDependencyError as error:
    assert "deepnets1m[language]" in str(error)
else:
    raise SystemExit("no error")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
