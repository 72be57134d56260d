"""The smallest adapter that keeps the whole contract: two linear maps and an attention layer over a cell's genes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from harness.checkpoints import load_state, read_torch
from harness.draws import CellDraws
from harness.errors import InputError
from harness.loss import PretrainingLoss
from harness.model import ModelAdapter
from harness.spec import ModelSpec
from harness.tokens import CellOutput, TokenBatch

CONTEXT = 48
WIDTH = 16


def network(n_tokens):
    import torch

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.gene = torch.nn.Embedding(n_tokens, WIDTH)
            self.value = torch.nn.Linear(1, WIDTH)
            self.query = torch.nn.Linear(WIDTH, WIDTH)
            self.out = torch.nn.Linear(WIDTH, WIDTH)
            self.decoder = torch.nn.Linear(WIDTH, 1)

        def forward(self, ids, values, mask):
            x = self.gene(ids) + self.value(torch.log1p(values)[..., None])
            scores = (self.query(x) @ x.transpose(1, 2) / WIDTH**0.5).masked_fill(~mask[:, None, :], -1e9)
            x = x + self.out(scores.softmax(-1) @ x)
            return x * mask[..., None]

    return Network()


class Toy(ModelAdapter):
    """Token 0 is `<pad>`, token 1 is `<cls>`; a cell too long for the context keeps its highest counts."""

    spec = ModelSpec(
        name="toy",
        title="Toy",
        readouts=("cls", "mean"),
        paper="none",
        pretraining="nothing",
        draws=False,
    )
    lora_targets = ("query", "out")

    def __init__(self, names, readout=None, seed=0):
        import torch

        if readout not in (None, *self.spec.readouts):
            raise InputError(f"model.readout={readout}: the toy has {', '.join(self.spec.readouts)}")
        self.token_names = np.asarray(["", "", *names], np.str_)
        self.readout = readout or "cls"
        self.context_length, self.embedding_size = CONTEXT, WIDTH
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.network = network(len(self.token_names)).eval().requires_grad_(False)

    @classmethod
    def from_scratch(cls, genes, *, size="tiny", seed=0, readout=None):
        return cls(genes.symbols.tolist(), readout, seed)

    @classmethod
    def from_checkpoint(cls, path, *, variant=None, readout=None):
        try:
            names = json.loads((Path(path) / "genes.json").read_text())
        except (OSError, ValueError):
            raise InputError(f"{path} holds no readable genes.json") from None
        model = cls(names, readout)
        model.load(Path(path) / "weights.pt")
        return model

    def load(self, path):
        load_state(self.network, read_torch(path), path)

    def save(self, directory):
        import torch

        directory.mkdir(parents=True)
        (directory / "genes.json").write_text(json.dumps(self.token_names[2:].tolist()))
        torch.save(self.network.state_dict(), directory / "weights.pt")

    def tokenize(self, counts, genes, *, seed=0):
        ids_of = self.match_genes(genes).ids
        dense = np.zeros((counts.shape[0], len(self.token_names)), np.float32)
        known = ids_of >= 0
        np.add.at(dense.T, ids_of[known], counts[:, np.flatnonzero(known)].toarray().T)
        order = np.argsort(-dense, axis=1, kind="stable")[:, : CONTEXT - 1]
        values = np.take_along_axis(dense, order, axis=1)
        real = values > 0
        first = np.ones((len(dense), 1))
        return TokenBatch(
            np.concatenate([first, np.where(real, order, 0)], axis=1).astype(np.int64),
            np.concatenate([0 * first, values], axis=1).astype(np.float32),
            np.concatenate([real.any(axis=1, keepdims=True), real], axis=1),
        )

    def forward(self, batch):
        batch = batch.tensors(self.device)
        tokens = self.network(batch.gene_ids, batch.values, batch.mask)
        return CellOutput(self.read_out(tokens, batch.mask), tokens)

    def read_out(self, tokens, mask):
        if self.readout == "cls":
            return tokens[:, 0]
        return tokens.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)

    def gene_table(self):
        return self.token_names[2:].tolist(), self.network.gene.weight.detach().numpy()[2:]

    def pretraining_loss(self, batch, generator):
        import torch

        batch = batch.tensors(self.device)
        hidden = (self.chances(batch, generator) < 0.3) & batch.mask

        def sums():
            seen = torch.where(hidden, torch.zeros_like(batch.values), batch.values)
            guess = self.network.decoder(self.network(batch.gene_ids, seen, batch.mask))[..., 0]
            return {"mse": ((guess - torch.log1p(batch.values)) ** 2 * hidden).sum()}

        return PretrainingLoss({"mse": int(hidden.sum())}, sums)

    def chances(self, batch, generator):
        return CellDraws(batch, generator).tokens()
