"""The objective by which a network is tuned on cells before and after a drug: a code that expression is read off.

CellFM's tutorial (ChemicalPerturbation): cell vector -> 512 (SiLU) -> 50, and back over 512 to the genes, by mean
squared error.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.classification import Standardise
from harness.errors import NotApplicableError
from harness.model import ModelAdapter
from harness.networks import seeded
from harness.tokens import CellOutput

HIDDEN, DROPOUT = 512, 0.15


class Bottleneck(nn.Module):
    """Cell vector (n, d) -> code (n, c); `decode` gives expression (n, g) back.

    Parameters
    ----------
    vectors
        Of some training cells, to scale by (m, d).
    start
        Mean expression of the training cells (g,): the decoder begins there.
    linear
        No hidden layer on the way in.
    """

    def __init__(self, vectors: Tensor, size: int, start: Tensor, linear: bool):
        super().__init__()
        width, genes = vectors.shape[1], len(start)
        inner = [nn.Linear(width, size)]
        if not linear:
            inner = [nn.Linear(width, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, size)]  # type: ignore[list-item]
        self.encoder = nn.Sequential(Standardise(vectors), *inner)
        self.decoder = nn.Sequential(nn.Linear(size, HIDDEN), nn.Dropout(DROPOUT), nn.SiLU(), nn.Linear(HIDDEN, genes))
        with torch.no_grad():
            self.decoder[-1].bias.copy_(start)  # type: ignore[union-attr, operator]

    def forward(self, cell: Tensor, tokens: Tensor | None, mask: Tensor) -> Tensor:
        return self.encoder(cell.float())

    def decode(self, codes: Tensor) -> Tensor:
        """Expression (n, g) of codes (n, c)."""
        return self.decoder(codes)


class Reconstruction:
    """Codes of `size` numbers from which log-normalised expression is decoded; targets are expression, float32 (n, g).

    What the trained head gives of a cell is its code; its `decode` is the way back.
    """

    def __init__(self, size: int, start: Tensor):
        self.n_outputs, self.start = size, start

    def head(self, model: ModelAdapter, kind: str, vectors: Tensor, generator: torch.Generator) -> nn.Module:
        """See `harness.objective.Objective.head`.

        Raises
        ------
        NotApplicableError
            `native`: no model here has an autoencoder of its own.
        """
        if kind == "native":
            raise NotApplicableError(
                f"{model.spec.title} has no autoencoder of its own; finetune.head=mlp is for every model"
            )
        seed = int(torch.randint(2**31, (1,), generator=generator))
        return seeded(lambda: Bottleneck(vectors, self.n_outputs, self.start, kind == "linear"), seed)

    def loss(self, head: nn.Module, output: CellOutput, mask: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error over cells and genes."""
        codes = head(output.cell, output.tokens, mask)
        return F.mse_loss(head.decode(codes), targets.to(codes.dtype))  # type: ignore[operator]
