"""The network of GEARS, with the names of its released weights.

Roohani, Huang, Leskovec, Nat Biotechnol 2024, doi 10.1038/s41587-023-01905-6; forward as in cell-gears 0.1.2. What a
perturbation adds to a cell depends on the perturbation alone (and on the gene vectors), never on the cell's own
expression, which is only added at the end. So each distinct perturbation of a batch is computed once, and the
batch statistics count it as often as it occurs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from tasks.perturbation.gears_layers import MLP, GraphConvolution, WeightedBatchNorm, all_rows, moments, sparse

#: Weight of the co-expression branch beside the gene's own vector.
COEXPRESS_WEIGHT = 0.2


class GearsNetwork(nn.Module):
    """Expression after a perturbation, from the expression of a control cell.

    Parameters
    ----------
    go, coexpress
        Normalised adjacency (target × source) of the perturbable genes (p, p) and of the measured genes (g, g), see
        `tasks.perturbation.gears_graphs.Graph.normalised`.
    hidden
        Width H.
    uncertainty
        Whether a head says the log variance.
    graft
        `none`: learned gene vectors; `projected`, `scfoundation`, `cellfm`: what stands in their place, see `_genes`.
    width
        Dimension d of grafted vectors.
    middle
        Width inside the MLP of graft `cellfm` (published: 1536 -> 1024 -> 512); None: H.
    without
        Bool (g,): genes that may lack a grafted vector and learn one (d long, or H where projected); None: no gene.
    coexpress_first
        True: only the first cell of a batch is reached by the co-expression graph, as in the released code, whose graph
        is not repeated per cell; the others have their own node alone. False: every cell.
    """

    def __init__(
        self,
        go: Any,
        coexpress: Any,
        hidden: int = 64,
        *,
        go_layers: int = 1,
        coexpress_layers: int = 1,
        uncertainty: bool = False,
        graft: str = "none",
        width: int | None = None,
        middle: int | None = None,
        without: np.ndarray | None = None,
        coexpress_first: bool = True,
    ):
        super().__init__()
        n_genes, n_perts = coexpress.shape[0], go.shape[0]
        self.n_genes, self.graft, self.coexpress_first = n_genes, graft, coexpress_first
        if graft == "scfoundation" and width != hidden:
            raise ValueError(f"graft scfoundation needs hidden = {width}, the width of the gene vectors")
        self.indv_w1 = nn.Parameter(torch.empty(n_genes, hidden, 1))
        self.indv_b1 = nn.Parameter(torch.empty(n_genes, 1))
        self.indv_w2 = nn.Parameter(torch.empty(1, n_genes, hidden + 1))
        self.indv_b2 = nn.Parameter(torch.empty(1, n_genes))
        for parameter in (self.indv_w1, self.indv_b1, self.indv_w2, self.indv_b2):
            nn.init.xavier_normal_(parameter)
        self.pert_w = nn.Linear(1, hidden)  # never used, but in every released file
        if graft != "projected":
            self.gene_emb = nn.Embedding(n_genes, hidden, max_norm=1.0)
        self.pert_emb = nn.Embedding(n_perts, hidden, max_norm=1.0)
        first = (width, middle or hidden) if graft == "cellfm" else (hidden, hidden)
        self.emb_trans_v2 = MLP(*first, hidden)
        self.pert_fuse = MLP(hidden, hidden, hidden)
        self.emb_pos = nn.Embedding(n_genes, hidden, max_norm=1.0)
        self.layers_emb_pos = nn.ModuleList(GraphConvolution(hidden) for _ in range(coexpress_layers))
        self.sim_layers = nn.ModuleList(GraphConvolution(hidden) for _ in range(go_layers))
        self.recovery_w = MLP(hidden, 2 * hidden, hidden)
        self.cross_gene_state = MLP(n_genes, hidden, hidden)
        self.bn_emb = WeightedBatchNorm(hidden)
        self.bn_pert_base = WeightedBatchNorm(hidden)
        self.bn_pert_base_trans = WeightedBatchNorm(hidden)  # never used either
        self.uncertainty_w = MLP(hidden, 2 * hidden, hidden, 1) if uncertainty else None
        if graft == "projected":
            # Rows of mean squared length 1 then start as long as learned ones.
            self.gene_projection = nn.Linear(width, hidden)
            nn.init.normal_(self.gene_projection.weight, std=hidden**-0.5)
        without = np.zeros(n_genes, bool) if without is None or graft == "none" else without
        if without.any():
            # Bounded like the learned vectors where it stands beside projections; published grafts have no bound.
            size, bound = (hidden, 1.0) if graft == "projected" else (width, None)
            self.gene_without = nn.Embedding(int(without.sum()), size, max_norm=bound)
        self.register_buffer("without", torch.from_numpy(without), persistent=False)
        self.register_buffer("go", sparse(go), persistent=False)
        self.register_buffer("coexpress", sparse(coexpress), persistent=False)

    def forward(
        self, basal: torch.Tensor, perturbed: Sequence[Sequence[int]], vectors: torch.Tensor | None = None
    ) -> Any:
        """Predicted expression (B, G), and with `uncertainty` also its log variance (B, G).

        Parameters
        ----------
        basal
            Float32 (B, G), log-normalised expression of control cells.
        perturbed
            For each cell the perturbed genes, as rows of `go`; -1 is none.
        vectors
            Grafted gene vectors, float32 (1, G, d) for all cells, or (B, G, d); rows of NaN are genes without one.

        Raises
        ------
        ValueError
            A graft got no vectors or lacks some, or batch statistics were asked of one cell.
        """
        change, log_variance, of_cell = self.changes(perturbed, vectors)
        predicted = basal + change[of_cell]
        return predicted if log_variance is None else (predicted, log_variance[of_cell])

    def changes(
        self, perturbed: Sequence[Sequence[int]], vectors: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
        """What is added to the basal expression: distinct rows (K, G), their log variance, and each cell's row (B,)."""
        device, n_cells = self.indv_b1.device, len(perturbed)
        base, base_of_cell = self._base(n_cells, vectors)
        sets = [tuple(int(gene) for gene in genes if gene >= 0) for genes in perturbed]
        distinct = list(dict.fromkeys(own for own in sets if own))
        place = {own: i for i, own in enumerate(distinct)} | {(): len(distinct)}
        pairs = list(zip(base_of_cell, (place[own] for own in sets), strict=True))
        rows = list(dict.fromkeys(pairs))
        row = {pair: i for i, pair in enumerate(rows)}
        of_cell = torch.tensor([row[pair] for pair in pairs], device=device)
        times = torch.bincount(of_cell, minlength=len(rows)).float()
        counts = torch.tensor([sets.count(own) for own in distinct], dtype=torch.float32, device=device)
        fused = self._fused(distinct, counts)

        base_row, fused_row = (torch.tensor(column, device=device) for column in zip(*rows, strict=True))
        change, log_variance = self._decoded(base, base_row, fused[fused_row], times)
        return change, log_variance, of_cell

    def _base(self, n_cells: int, vectors: torch.Tensor | None) -> tuple[torch.Tensor, list[int]]:
        """Gene states before the perturbation, distinct ones (R, G, H), and the one of each cell."""
        genes = self._genes(vectors)
        alone = len(genes) == 1  # else gene vectors differ from cell to cell
        times = torch.full((len(genes),), float(n_cells) if alone else 1.0, device=genes.device)
        if self.graft == "cellfm":
            return self.emb_trans_v2(genes, times), [0] * n_cells if alone else list(range(n_cells))
        genes = torch.relu(self.bn_emb(genes, times))
        kinds = self._positions(n_cells)
        of_cell = [min(i, len(kinds) - 1) for i in range(n_cells)]
        if alone:
            base = genes + COEXPRESS_WEIGHT * kinds
            times = torch.bincount(torch.tensor(of_cell, device=genes.device)).float()
        else:
            base = genes + COEXPRESS_WEIGHT * kinds[of_cell]
            of_cell = list(range(n_cells))
        return self.emb_trans_v2(base, times), of_cell

    def _genes(self, vectors: torch.Tensor | None) -> torch.Tensor:
        """What each gene is, (1, G, H) or (B, G, H or d): learned, or grafted.

        `projected`: a learned projection of the vectors in place of the learned ones, all else as it was.
        `scfoundation` (Hao et al. 2024): the vectors themselves. `cellfm` (Zeng et al. 2025): the vectors go through
        the MLP only, without normalisation, ReLU and co-expression branch.
        """
        if self.graft == "none":
            return all_rows(self.gene_emb)[None]
        if vectors is None:
            raise ValueError(f"graft={self.graft} needs gene vectors")
        missing = torch.isnan(vectors).any(dim=-1)
        if (missing & ~self.without).any():
            raise ValueError("a gene has no vector, and none was set aside for it to learn")
        genes = torch.nan_to_num(vectors)
        genes = self.gene_projection(genes) if self.graft == "projected" else genes
        if not missing.any():
            return genes
        own = torch.zeros(genes.shape[1:], device=genes.device)
        own = own.index_put((self.without.nonzero()[:, 0],), all_rows(self.gene_without))
        return torch.where(missing[..., None], own, genes)

    def _positions(self, n_cells: int) -> torch.Tensor:
        """The co-expression branch: (1, G, H), or that of the first cell and of the others, (2, G, H)."""
        start = all_rows(self.emb_pos)
        kinds = [self.coexpress, None] if self.coexpress_first and n_cells > 1 else [self.coexpress]
        return torch.stack([_through(self.layers_emb_pos, start, graph) for graph in kinds])

    def _fused(self, distinct: list[tuple[int, ...]], counts: torch.Tensor) -> torch.Tensor:
        """What each distinct perturbation adds to every gene, (C + 1, H); the last row is the unperturbed cell's."""
        nothing = torch.zeros(1, self.pert_emb.embedding_dim, device=counts.device)
        if not distinct:
            return nothing
        graphed = _through(self.sim_layers, all_rows(self.pert_emb), self.go)
        which = torch.tensor([i for i, own in enumerate(distinct) for _ in own], device=counts.device)
        genes = torch.tensor([gene for own in distinct for gene in own], device=counts.device)
        summed = torch.zeros(len(distinct), graphed.shape[1], device=counts.device).index_add(0, which, graphed[genes])
        # A lone perturbed cell counts twice, as in the released code, so that there are batch statistics.
        counts = counts * 2 if counts.sum() == 1 else counts
        return torch.cat([self.pert_fuse(summed[:, None], counts)[:, 0], nothing])

    def _decoded(
        self, base: torch.Tensor, base_row: torch.Tensor, fused: torch.Tensor, times: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Gene states and perturbation -> a change per gene (K, G), and its log variance."""
        # The statistics of base + fused follow from those of base: nothing of size (K, G, H) is made for them.
        mean, variance = moments(base)
        scale, shift = self.bn_pert_base.factors(mean[base_row] + fused, variance[base_row], times, self.n_genes)
        states = torch.relu_((base * scale)[base_row] + (fused * scale + shift)[:, None])
        recovered, scale, shift = self.recovery_w.before_last_norm(states, times)
        weight = self.indv_w1[..., 0]
        out = (recovered * (weight * scale)).sum(dim=-1) + weight @ shift + self.indv_b1[:, 0]
        across = self.cross_gene_state(out[:, None], times)[:, 0]
        change = out * self.indv_w2[..., 0] + across @ self.indv_w2[0, :, 1:].T + self.indv_b2
        return change, None if self.uncertainty_w is None else self.uncertainty_w(states, times)[..., 0]


def _through(layers: Any, states: torch.Tensor, graph: torch.Tensor | None) -> torch.Tensor:
    """Convolutions with ReLU between them; None is the graph in which every node is alone."""
    for i, layer in enumerate(layers):
        states = layer(torch.relu(states) if i else states, graph)
    return states
