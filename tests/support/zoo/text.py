"""Small models of text and sequences: recurrent layers, embeddings, and well-known transformers."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.zoo.attention import HEADS, heads, merge
from tests.support.zoo.case import Case, Parts, ids, parameter, tokens
from tests.support.zoo.parameters import RootMeanSquare

__all__ = ["TEXT"]

WORDS, LENGTH, WIDTH = 11, 6, 8


class BertLike(nn.Module):
    """BERT: embeddings of words, positions and segments, post-norm layers, and a pooler on the first token."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH, padding_idx=0)
        self.positions = nn.Embedding(2 * LENGTH, WIDTH)
        self.segments = nn.Embedding(2, WIDTH)
        self.register_buffer("position_ids", torch.arange(2 * LENGTH)[None], persistent=False)
        self.norm = nn.LayerNorm(WIDTH)
        for name in ("query", "key", "value", "output", "pooler"):
            setattr(self, name, nn.Linear(WIDTH, WIDTH))
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 16), nn.Linear(16, WIDTH)
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Linear(WIDTH, 3)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> dict[str, Tensor]:
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        mask = (1.0 - attention_mask[:, None, None, :].float()) * torch.finfo(torch.float32).min
        x = self.words(input_ids) + self.segments(token_type_ids)
        x += self.positions(self.position_ids[:, : input_ids.shape[1]])
        x = self.dropout(self.norm(x))
        q, k, v = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
        scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(WIDTH // HEADS) + mask
        attended = merge(torch.matmul(self.dropout(F.softmax(scores, dim=-1)), v))
        x = self.norm1(self.dropout(self.output(attended)) + x)
        x = self.norm2(self.dropout(self.down(F.gelu(self.up(x)))) + x)
        pooled = torch.tanh(self.pooler(x[:, 0]))
        return {"logits": self.classifier(pooled), "hidden": x}


class Conv1D(nn.Module):
    """A linear layer with a transposed weight, as in GPT-2."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.1 * torch.randn(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(*x.shape[:-1], -1)


class Gpt2Like(nn.Module):
    """GPT: learned positions, a causal mask, pre-norm layers, and an output layer that shares the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(WORDS, WIDTH), nn.Embedding(2 * LENGTH, WIDTH)
        self.ln_1, self.ln_2, self.ln_f = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.c_attn, self.c_proj = Conv1D(WIDTH, 3 * WIDTH), Conv1D(WIDTH, WIDTH)
        self.c_fc, self.c_out = Conv1D(WIDTH, 16), Conv1D(16, WIDTH)
        self.register_buffer("causal", torch.tril(torch.ones(2 * LENGTH, 2 * LENGTH, dtype=torch.bool)))
        self.lm_head = nn.Linear(WIDTH, WORDS, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, input_ids: Tensor) -> Tensor:
        T = input_ids.shape[1]
        x = self.wte(input_ids) + self.wpe(torch.arange(T, device=input_ids.device))
        q, k, v = (heads(part) for part in self.c_attn(self.ln_1(x)).split(WIDTH, dim=2))
        scores = (q @ k.transpose(-2, -1)) / math.sqrt(WIDTH // HEADS)
        scores = scores.masked_fill(~self.causal[:T, :T], float("-inf"))
        x = x + self.c_proj(merge(scores.softmax(-1) @ v))
        x = x + self.c_out(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))
        return self.lm_head(self.ln_f(x))


class LlamaLike(nn.Module):
    """Llama: RMS norms, rotary positions, grouped keys and values, gated linear units."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, WIDTH)
        self.norm1, self.norm2, self.norm = (RootMeanSquare(WIDTH) for _ in range(3))
        self.q, self.o = nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.k, self.v = (nn.Linear(WIDTH, WIDTH // HEADS, bias=False) for _ in range(2))
        self.gate, self.up = nn.Linear(WIDTH, 16, bias=False), nn.Linear(WIDTH, 16, bias=False)
        self.down = nn.Linear(16, WIDTH, bias=False)
        self.register_buffer("frequencies", 1 / 10000 ** (torch.arange(0, 4, 2) / 4), persistent=False)
        self.lm_head = nn.Linear(WIDTH, WORDS, bias=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        B, T = input_ids.shape
        x = self.embed(input_ids)
        angles = torch.outer(torch.arange(T, device=x.device).float(), self.frequencies)
        cos, sin = (torch.cat((f, f), -1) for f in (angles.cos(), angles.sin()))

        def rotate(x: Tensor) -> Tensor:
            left, right = x.chunk(2, -1)
            return x * cos + torch.cat((-right, left), -1) * sin

        y = self.norm1(x)
        q = rotate(heads(self.q(y)))
        k, v = rotate(self.k(y)[:, None]).expand(B, HEADS, T, -1), self.v(y)[:, None].expand(B, HEADS, T, -1)
        x = x + self.o(merge(F.scaled_dot_product_attention(q, k, v, is_causal=True)))
        y = self.norm2(x)
        x = x + self.down(F.silu(self.gate(y)) * self.up(y))
        return self.lm_head(self.norm(x))


def classify(self: Any, input_ids: Tensor) -> Tensor:
    return self.head(self.embed(input_ids).mean(1))


def last_state(self: Any, x: Tensor) -> Tensor:
    return self.head(self.rnn(x)[0][:, -1])


def unrolled(self: Any, x: Tensor) -> Tensor:
    h = x.new_zeros(len(x), 5)
    c = torch.zeros_like(h)
    for step in x.unbind(1):
        h, c = self.cell(step, (h, c))
    return self.head(h)


def recurrent(kind: Any, **options: Any) -> Any:
    width = 5 * (2 if options.get("bidirectional") else 1)
    return lambda: Parts(last_state, rnn=kind(WIDTH, 5, batch_first=True, **options), head=nn.Linear(width, 3))


BERT = (
    "input embed pos_enc sum pos_enc sum ln conv bias conv bias conv bias msa conv bias sum"
    " ln conv bias conv bias sum ln conv bias conv bias"
)

TEXT = {
    "text classifier": Case(
        lambda: Parts(classify, embed=nn.Embedding(WORDS, WIDTH), head=nn.Linear(WIDTH, 3)),
        ids(),
        types="input embed glob_avg conv bias",
    ),
    "bag of words": Case(
        lambda: Parts(
            lambda self, x: self.head(self.bag(x)), bag=nn.EmbeddingBag(WORDS, WIDTH), head=nn.Linear(WIDTH, 3)
        ),
        ids(),
        types="input embed conv bias",
    ),
    "lstm": Case(recurrent(nn.LSTM), tokens(), types="input rnn conv bias", edges="0>1 1>2 2>3"),
    "lstm of two layers and directions": Case(
        recurrent(nn.LSTM, num_layers=2, bidirectional=True, dropout=0.1), tokens()
    ),
    "lstm in training": Case(recurrent(nn.LSTM), tokens(), types="input rnn conv bias", training=True),
    "gru": Case(recurrent(nn.GRU, bias=False), tokens(), types="input rnn conv bias"),
    "rnn": Case(recurrent(nn.RNN, nonlinearity="relu"), tokens(), types="input rnn conv bias"),
    "lstm with projection": Case(
        lambda: Parts(last_state, rnn=nn.LSTM(WIDTH, 5, proj_size=3, batch_first=True), head=nn.Linear(3, 3)), tokens()
    ),
    "lstm cell": Case(
        lambda: Parts(unrolled, cell=nn.LSTMCell(WIDTH, 5), head=nn.Linear(5, 3)),
        tokens(length=3),
        types="input rnn rnn rnn conv bias",
        edges="0>1 0>2 1>2 0>3 2>3 3>4 4>5",
    ),
    "text through lstm": Case(
        lambda: Parts(
            lambda self, x: self.head(self.rnn(self.embed(x))[1][0].squeeze(0)),
            embed=nn.Embedding(WORDS, WIDTH),
            rnn=nn.LSTM(WIDTH, 5, batch_first=True),
            head=nn.Linear(5, 3),
        ),
        ids(),
        types="input embed rnn conv bias",
    ),
    "bert": Case(
        BertLike, lambda: {"input_ids": ids()(), "attention_mask": torch.ones(2, LENGTH, dtype=torch.long)}, types=BERT
    ),
    "bert, word indices only": Case(BertLike, ids(), types=BERT),
    "gpt-2": Case(
        Gpt2Like,
        ids(),
        types="input embed pos_enc sum ln conv bias msa conv bias sum ln conv bias conv bias sum ln conv",
        edges="0>1 1>3 2>3 3>4 4>5 5>6 6>7 7>8 8>9 3>10 9>10 10>11 11>12 12>13 13>14 14>15 10>16 15>16 16>17 17>18",
    ),
    "llama": Case(
        LlamaLike,
        ids(),
        types="input embed scale conv conv conv msa conv sum scale conv conv mul conv sum scale conv",
        edges="0>1 1>2 2>3 2>4 2>5 3>6 4>6 5>6 6>7 1>8 7>8 8>9 9>10 9>11 10>12 11>12 12>13 8>14 13>14 14>15 15>16",
    ),
    "embedding of a table that is computed": Case(
        lambda: Parts(
            lambda self, x: self.head(F.embedding(x, self.norm(self.table)).mean(1)),
            table=parameter(WORDS, WIDTH),
            norm=nn.LayerNorm(WIDTH),
            head=nn.Linear(WIDTH, 4, bias=False),
        ),
        ids(),
        types="input token ln embed glob_avg conv",
        edges="1>2 0>3 2>3 3>4 4>5",
    ),
    "positions of a table that is computed": Case(
        lambda: Parts(
            lambda self, x: self.head(self.words(x) + F.embedding(torch.arange(LENGTH), self.norm(self.table))),
            words=nn.Embedding(WORDS, WIDTH),
            table=parameter(LENGTH, WIDTH),
            norm=nn.LayerNorm(WIDTH),
            head=nn.Linear(WIDTH, 4, bias=False),
        ),
        ids(),
        types="input embed token ln sum conv",
        edges="0>1 2>3 1>4 3>4 4>5",
    ),
    "embedding of constants in a table of data": Case(
        lambda: Parts(
            lambda self, x: self.head(F.embedding(torch.zeros(2, dtype=torch.long), self.words(x).mean(1))),
            words=nn.Embedding(WORDS, WIDTH),
            head=nn.Linear(WIDTH, 4, bias=False),
        ),
        ids(),
        types="input embed glob_avg conv",
    ),
    "bag of weighted words": Case(
        lambda: Parts(
            lambda self, x, given: self.head(
                F.embedding_bag(x, self.table, per_sample_weights=self.weigh(given), mode="sum")
            ),
            table=parameter(WORDS, WIDTH),
            weigh=nn.Linear(LENGTH, LENGTH, bias=False),
            head=nn.Linear(WIDTH, 4, bias=False),
        ),
        lambda: (ids()(), torch.rand(2, LENGTH)),
        types="input conv embed conv",
        edges="0>1 0>2 1>2 2>3",
    ),
}
