"""scGPT's perturbation predictor: a `Generator` trained to turn control cells into perturbed ones.

The authors' recipe (Cui et al. 2024; their perturbation tutorial), but where a rule of theirs loses something: the
random genes of a step always hold the perturbed ones (`keep_targets`), and a gene outside the vocabulary, which they
hand to the network as `<pad>`, gets what the training conditions say of it: the mean of the control cells plus the
mean change over the training conditions.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from harness.embedding import autocast
from harness.errors import InputError, InternalError
from harness.perturbation_model import Targets
from harness.progress import track
from harness.recipe import Recipe
from harness.torch_learner import make_optimizer, training_mode
from models.scgpt.perturbation_cells import Pairs, by_condition, mean_change
from models.scgpt.perturbation_network import from_network, training_step

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from models.scgpt.adapter import ScGPT

OUTSIDE = "measured genes outside scGPT's vocabulary"
NOT_FLAGGED = "perturbed genes that are not measured or not in scGPT's vocabulary"
LEFT_OUT = "training cells left out, their perturbed gene cannot be flagged"
#: Genes x cells in one forward pass of `predict`.
PREDICT_VALUES = {"cpu": 65_536, "cuda": 524_288}
#: Control cells that validation starts from.
VALIDATION_CELLS = 32


@dataclass(frozen=True)
class Settings:
    """How it is trained; the defaults are the authors'.

    Parameters
    ----------
    genes_per_step
        Genes drawn anew for each step.
    keep_targets
        The genes perturbed in a step's cells are among them. The authors' code draws without looking, so that a step
        may see the effect and not the cause.
    batch_cells
        Perturbed cells of a step.
    learning_rate, decay
        Adam's, and the factor by which it falls after each epoch.
    clip
        Largest norm of the gradient.
    dropout
        In all layers.
    patience
        Epochs without a better validation score after which training ends.
    """

    genes_per_step: int = 1536
    keep_targets: bool = True
    batch_cells: int = 64
    learning_rate: float = 1e-4
    decay: float = 0.9
    clip: float = 1.0
    dropout: float = 0.0
    patience: int = 10


class PerturbationPredictor:
    """`harness.perturbation_model.PerturbationModel` on a scGPT network.

    Parameters
    ----------
    model
        Whose backbone is copied, and never changed; published, trained here, or untrained.
    genes
        Columns of all values, by name.
    seed
        Of the fresh parts, the pairs of cells, their order and the genes of each step.
    settings
        Fields of `Settings`.

    Raises
    ------
    InputError
        An unknown setting, or no gene is in the vocabulary.
    """

    def __init__(self, model: ScGPT, genes: Sequence[str], seed: int = 0, **settings: Any):
        unknown = sorted(set(settings) - set(Settings.__dataclass_fields__))
        if unknown:
            raise InputError(
                f"scGPT's perturbation predictor has no setting {', '.join(unknown)}; it has "
                f"{', '.join(Settings.__dataclass_fields__)}"
            )
        self.settings, self.seed, self.model = Settings(**settings), seed, model
        ids = model.match_genes(list(genes)).ids
        self.known = np.flatnonzero(ids >= 0)
        if not len(self.known):
            raise InputError(
                f"none of the {len(genes)} genes ({', '.join(list(genes)[:3])} …) is in scGPT's vocabulary"
            )
        self.n_genes = len(genes)
        self._ids = torch.as_tensor(ids[self.known], device=model.device)
        #: Perturbed gene -> its place among the known ones.
        self._place = {genes[column]: place for place, column in enumerate(self.known.tolist())}
        self.network = from_network(model.network, model.special.pad, seed, self.settings.dropout).to(model.device)
        #: Loss of each step, and validation score of each epoch.
        self.losses: list[float] = []
        self.scores: list[float] = []
        self._change: np.ndarray | None = None
        self.notes: dict[str, Any] = {}
        self._absent: set[str] = set()
        if len(self.known) < len(genes):
            self.notes[OUTSIDE] = (
                f"{len(genes) - len(self.known)} of {len(genes)}: predicted as the mean of the control cells plus the "
                "mean change over the training conditions"
            )

    def fit(
        self,
        values: csr_matrix,
        control_rows: np.ndarray,
        perturbed_rows: np.ndarray,
        targets: Sequence[Targets],
        *,
        val: tuple[np.ndarray, Sequence[Targets]] | None = None,
        epochs: int = 15,
        steps: int | None = None,
        progress: bool = False,
    ) -> Self:
        """See `PerturbationModel.fit`; each perturbed cell is set against one control cell, drawn once.

        Parameters
        ----------
        val
            The epoch with the highest mean correlation (Pearson) of predicted and observed mean profiles is kept.

        Raises
        ------
        InputError
            No control cell, or no perturbed cell whose genes can be flagged.
        """
        usable = self._usable(targets)
        if not len(control_rows) or not usable.any():
            raise InputError(
                f"scGPT's perturbation predictor is given {len(control_rows)} control cells and {usable.sum()} "
                "perturbed cells whose perturbed genes are measured and in its vocabulary; both are needed"
            )
        if len(usable) > usable.sum():
            self.notes[LEFT_OUT] = f"{len(usable) - usable.sum()} of {len(usable)}"
        rng = np.random.default_rng([self.seed, 0])
        pairs = Pairs(
            values[:, self.known],
            rng.choice(control_rows, usable.sum()),
            np.asarray(perturbed_rows)[usable],
            [self._places(genes) for genes, ok in zip(targets, usable, strict=True) if ok],
        )
        some = rng.permutation(control_rows)[:VALIDATION_CELLS]
        self._change = mean_change(values, control_rows, np.asarray(perturbed_rows), targets)
        validate = (lambda: self._score(values, some, *val)) if val is not None and len(val[0]) else None
        per_epoch = -(-len(pairs.after) // self.settings.batch_cells)
        with training_mode(self.network, self.seed, str(self.model.device)):
            self._train(pairs, rng, per_epoch, epochs * per_epoch if steps is None else steps, validate, progress)
        return self

    def _train(
        self,
        pairs: Pairs,
        rng: np.random.Generator,
        per_epoch: int,
        total: int,
        validate: Callable[[], float] | None,
        progress: bool,
    ) -> None:
        settings, device = self.settings, self.model.device
        recipe = Recipe(
            learning_rate=settings.learning_rate, optimizer="adam", weight_decay=0.0, warm_up=0.0, clip=settings.clip
        )
        optimizer = make_optimizer(self.network.parameters(), recipe)
        best, kept, waited = -np.inf, None, 0
        for step in track(
            range(total),
            total=total,
            label="scgpt · perturbation",
            note=lambda: f"loss {np.mean(self.losses[-20:]):.4f}" if self.losses else "",
            on=progress,
        ):
            epoch, batch = divmod(step, per_epoch)
            if batch == 0:
                order = rng.permutation(len(pairs.after))
                for group in optimizer.param_groups:
                    group["lr"] = settings.learning_rate * settings.decay**epoch
            chosen = order[batch * settings.batch_cells : (batch + 1) * settings.batch_cells]
            genes = self._draw_genes(rng, [pairs.places[i] for i in chosen])
            cells = (self._ids[genes], *(array.to(device) for array in pairs.tensors(chosen, genes)))
            loss = training_step(self.network, optimizer, recipe, cells, autocast(self.model))
            if not np.isfinite(loss):
                raise InternalError(f"scGPT's perturbation predictor: the loss became {loss}")
            self.losses.append(loss)
            if validate and (batch == per_epoch - 1 or step == total - 1):
                self.scores.append(validate())
                waited += 1
                if kept is None or self.scores[-1] > best:
                    best, kept, waited = self.scores[-1], copy.deepcopy(self.network.state_dict()), 0
                if waited >= settings.patience:
                    break
        if kept is not None:
            self.network.load_state_dict(kept)

    def predict(self, control: np.ndarray, targets: Sequence[Targets]) -> np.ndarray:
        """See `PerturbationModel.predict`; all genes of the vocabulary see one another.

        Raises
        ------
        InputError
            `control` has no cell or other columns, or nothing was fitted and some genes are not in the vocabulary.
        """
        if control.ndim != 2 or control.shape[1] != self.n_genes or not len(control):
            raise InputError(f"control cells of shape {control.shape}; expected at least one, of {self.n_genes} genes")
        if self._change is None and len(self.known) < self.n_genes:
            raise InputError("fit the predictor first: genes outside the vocabulary are predicted from training cells")
        usable = self._usable(targets)
        change = np.zeros(self.n_genes) if self._change is None else self._change
        found = np.tile(control.mean(axis=0, dtype=np.float64) + change, (len(targets), 1))
        found[~usable] = np.nan
        known = torch.as_tensor(np.asarray(control, np.float32)[:, self.known], device=self.model.device)
        for row in np.flatnonzero(usable):
            found[row, self.known] = self._mean_profile(known, self._places(targets[row]))
        return found

    def _mean_profile(self, control: Tensor, places: np.ndarray) -> np.ndarray:
        """Predicted mean of the known genes, float64 (n_known,)."""
        training = self.network.training
        budget = PREDICT_VALUES.get(str(self.model.device).split(":")[0], 65_536)
        total = np.zeros(control.shape[1])
        self.network.eval()
        with torch.inference_mode(), autocast(self.model):
            for cells in control.split(max(1, budget // control.shape[1])):
                flags = torch.zeros(cells.shape, dtype=torch.int64, device=cells.device)
                flags[:, torch.as_tensor(places, device=cells.device)] = 1
                total += self.network(self._ids, cells, flags).double().sum(dim=0).cpu().numpy()
        self.network.train(training)
        return total / len(control)

    def _score(self, values: csr_matrix, control: np.ndarray, rows: np.ndarray, targets: Sequence[Targets]) -> float:
        """Mean over conditions of the correlation of predicted and observed mean profiles."""
        names, members = by_condition(targets)
        predicted = self.predict(values[control].toarray(), names)
        said = ~np.isnan(predicted).any(axis=1)
        observed = members @ values[np.asarray(rows)].astype(np.float64).toarray()
        both = zip(predicted[said], observed[said], strict=True)
        return float(np.mean([np.corrcoef(p, o)[0, 1] for p, o in both])) if said.any() else np.nan

    def _draw_genes(self, rng: np.random.Generator, places: list[np.ndarray]) -> np.ndarray:
        """Places of the genes of a step."""
        order, wanted = rng.permutation(len(self.known)), self.settings.genes_per_step
        if not self.settings.keep_targets:
            return order[:wanted]
        perturbed = np.unique(np.concatenate(places))
        others = order[~np.isin(order, perturbed)]
        return np.concatenate([perturbed, others[: max(0, wanted - len(perturbed))]])

    def _places(self, genes: Targets) -> np.ndarray:
        return np.array([self._place[gene] for gene in genes], np.int64)

    def _usable(self, targets: Sequence[Targets]) -> np.ndarray:
        """Which conditions can be flagged, bool (n,); genes that cannot are noted."""
        absent = {gene for genes in targets for gene in genes if gene not in self._place}
        if absent:
            self._absent |= absent
            self.notes[NOT_FLAGGED] = f"{', '.join(sorted(self._absent))}: their conditions are not predicted"
        return np.array([absent.isdisjoint(genes) for genes in targets], bool)
