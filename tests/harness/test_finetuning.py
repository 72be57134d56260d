"""The fine-tuning loop on a toy network: what is trained and what is not, what stops it, what never reaches it."""

import copy

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import nn
from torch.nn import functional as F

from harness import CellData
from harness import training_cells as reading
from harness.classification import Classification
from harness.errors import InputError, NotApplicableError
from harness.finetuning import finetune
from harness.lora import LowRank, merge_lora
from harness.training_cells import TrainingCells, validation_part
from harness.tuning import FEWEST_STEPS, Tuning
from tests.conformance.toy import WIDTH, Toy
from tests.conftest import make_cells

N, TYPES, RANK = 90, 3, 2
ROWS = np.random.default_rng(1).permutation(N)[:60]
TEST = np.setdiff1d(np.arange(N), ROWS)


def cells(n=N, **settings):
    return CellData(make_cells(n_cells=n, n_genes=40, n_types=TYPES, **settings), columns={"cell_type": "cell_type"})


@pytest.fixture(scope="module")
def data():
    return cells()


@pytest.fixture(scope="module")
def numbers(data):
    return np.unique(data.labels("cell_type"), return_inverse=True)[1]


@pytest.fixture
def model(data):
    return Toy.from_scratch(data.genes, seed=0)


def settings(setting="lora", **node):
    return Tuning.of({"max_steps": 12, "batch_cells": 16, "lora_rank": RANK, **node}, setting)


def run(model, data, numbers, tuning=None, rows=ROWS, seed=0, **more):
    return finetune(
        model,
        data,
        rows,
        numbers[rows],
        Classification(TYPES),
        tuning or settings(),
        strata=numbers[rows],
        seed=seed,
        **more,
    )


def states(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# -- what is trained --------------------------------------------------------------------------------------------


def test_lora_trains_low_ranks_and_head_and_nothing_else(model, data, numbers):
    before = states(model.network)
    tuned = run(model, data, numbers, settings(head="linear"))
    low = [module for module in tuned.model.network.modules() if isinstance(module, LowRank)]
    assert len(low) == 2
    assert tuned.n_trained_params == 2 * RANK * (WIDTH + WIDTH) + WIDTH * TYPES + TYPES
    after = {name.replace(".base.", "."): tensor for name, tensor in states(tuned.model.network).items()}
    assert all(torch.equal(after[name], before[name]) for name in before)  # frozen: to the bit
    assert all(module.B.weight.abs().max() > 0 for module in low)
    assert same(states(model.network), before)  # the loaded network is another one
    for network in (model.network, tuned.model.network, tuned.head):
        assert not network.training and not any(p.requires_grad for p in network.parameters())


def test_full_trains_what_a_gradient_reaches(model, data, numbers):
    before = states(model.network)
    tuned = run(model, data, numbers, settings("full"))
    after = states(tuned.model.network)
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert moved == [name for name in before if not name.startswith("decoder")]
    head = WIDTH * 128 + 128 + 128 * TYPES + TYPES
    assert tuned.n_trained_params == sum(before[name].numel() for name in moved) + head
    assert same(states(model.network), before)


class Normed(Toy):
    """The toy with a norm of its own making before the read-out."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)

        class MyNorm(nn.LayerNorm):
            pass

        self.network.norm = MyNorm(WIDTH).eval().requires_grad_(False)

    def read_out(self, tokens, mask):
        return self.network.norm(super().read_out(tokens, mask))


@pytest.mark.parametrize("train_norms", [True, False])
def test_norms_are_trained_with_lora_unless_told_otherwise(data, numbers, train_norms):
    model = Normed.from_scratch(data.genes, seed=0)
    tuned = run(model, data, numbers, settings(head="linear", train_norms=train_norms))
    moved = not torch.equal(tuned.model.network.norm.weight, model.network.norm.weight)
    assert moved == train_norms
    assert tuned.n_trained_params == 2 * RANK * 2 * WIDTH + WIDTH * TYPES + TYPES + 2 * WIDTH * train_norms


def test_merged_equals_unmerged(model, data, numbers):
    tuned = run(model, data, numbers, settings(learning_rate=0.03))
    vectors, outputs = tuned.read(data)
    assert np.abs(vectors - model.embed_cells(data)).max() > 1e-3
    tuned.model = copy.copy(tuned.model)
    tuned.model.network = copy.deepcopy(tuned.model.network)
    merge_lora(tuned.model.network)
    assert not [m for m in tuned.model.network.modules() if isinstance(m, LowRank)]
    again, read = tuned.read(data)
    np.testing.assert_allclose(again, vectors, atol=1e-5)
    np.testing.assert_allclose(read, outputs, atol=1e-5)


def test_it_learns(model, data, numbers):
    tuned = run(model, data, numbers, settings("full", max_steps=60, learning_rate=3e-3))
    _, outputs = tuned.read(data)
    assert outputs.shape == (N, TYPES) and outputs.dtype == np.float32
    assert (outputs[TEST].argmax(1) == numbers[TEST]).mean() > 0.9
    assert np.mean(tuned.losses[-5:]) < 0.5 * np.mean(tuned.losses[:5])


# -- what never reaches it --------------------------------------------------------------------------------------


def test_test_cells_never_influence_it(model, data, numbers):
    """A planted leak: test cells with other counts and other labels leave the trajectory as it was, to the bit."""
    rng = np.random.default_rng(0)
    adata = data.adata.copy()
    dense = adata.X.toarray()
    dense[TEST] = rng.permutation(dense[TEST].ravel()).reshape(len(TEST), -1)
    dense[TEST, 0] = 50 + numbers[TEST]  # a gene that gives the label away
    adata.X = sp.csr_matrix(dense)
    other = numbers.copy()
    other[TEST] = rng.permutation(numbers[TEST])
    one = run(model, data, numbers)
    two = run(model, CellData(adata, columns={"cell_type": "cell_type"}), other)
    assert one.losses == two.losses and one.curve == two.curve
    assert same(states(one.model.network), states(two.model.network)) and same(states(one.head), states(two.head))
    np.testing.assert_array_equal(one.read(data)[1][ROWS], two.read(data)[1][ROWS])


def test_seeded_and_the_global_generators_are_left_alone(model, data, numbers):
    torch.manual_seed(5)
    np.random.seed(5)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    one = run(model, data, numbers)
    assert torch.equal(before, torch.get_rng_state()) and (np.random.get_state()[1] == numpy_before).all()
    torch.manual_seed(6)
    two = run(model, data, numbers)
    assert one.losses == two.losses and same(states(one.head), states(two.head))
    assert run(model, data, numbers, seed=1).losses != one.losses


def test_neither_the_order_of_rows_nor_memory_changes_what_is_read(model, data, monkeypatch):
    kept = TrainingCells(model, data, ROWS)
    monkeypatch.setattr(reading, "KEEP_NNZ", 0)
    streamed = TrainingCells(model, data, ROWS)
    assert streamed._kept is None and kept._kept is not None
    some = np.array([5, 0, 41, 5, 17])
    direct = model.tokenize(data.counts(ROWS[some]), data.genes)
    for found in (kept.tokens(some), streamed.tokens(some)):
        np.testing.assert_array_equal(found.gene_ids, direct.gene_ids)
        np.testing.assert_array_equal(found.values, direct.values)
    np.testing.assert_array_equal(kept.lengths[some], direct.lengths())


def test_streamed_training_is_the_same(model, data, numbers, monkeypatch):
    one = run(model, data, numbers)
    monkeypatch.setattr(reading, "KEEP_NNZ", 0)
    monkeypatch.setattr(CellData, "block_slices", lambda self, *_: [slice(i, min(i + 7, N)) for i in range(0, N, 7)])
    assert run(model, data, numbers).losses == one.losses


def test_padding_changes_nothing(model, data, numbers):
    class Wide(Toy):
        def tokenize(self, counts, genes, *, seed=0):
            batch = super().tokenize(counts, genes, seed=seed)
            add = ((0, 0), (0, 9))
            return batch.replace(
                gene_ids=np.pad(batch.gene_ids, add), values=np.pad(batch.values, add), mask=np.pad(batch.mask, add)
            )

    wide = Wide.from_scratch(data.genes, seed=0)
    np.testing.assert_allclose(run(wide, data, numbers).losses, run(model, data, numbers).losses, atol=1e-5)


def test_batches_hold_every_cell_once_and_cells_of_like_length(model, data):
    some = TrainingCells(model, data, np.arange(N))
    batches = list(some.epoch(np.arange(N), 8, np.random.default_rng(0)))
    assert sorted(np.concatenate(batches).tolist()) == list(range(N))
    spread = np.mean([np.ptp(some.lengths[batch]) for batch in batches])
    assert spread < 0.6 * np.mean(
        [np.ptp(some.lengths[np.random.default_rng(i).permutation(N)[:8]]) for i in range(20)]
    )
    again = list(some.epoch(np.arange(N), 8, np.random.default_rng(1)))
    assert {frozenset(batch.tolist()) for batch in batches}.isdisjoint(frozenset(batch.tolist()) for batch in again)


# -- parts of a batch, stopping ---------------------------------------------------------------------------------


class Centred(Classification):
    """With a head that looks at no other cell of the batch."""

    def head(self, model, kind, vectors, generator):
        class Head(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(vectors.shape[1], TYPES)
                nn.init.eye_(self.layer.weight)
                nn.init.zeros_(self.layer.bias)

            def forward(self, cell, tokens, mask):
                return self.layer(cell)

        return Head()


def test_a_batch_in_parts_is_the_same_step(model, data, numbers):
    found = [
        finetune(model, data, ROWS, numbers[ROWS], Centred(TYPES), settings("full", accumulate=n)) for n in (1, 3, 99)
    ]
    for other in found[1:]:
        np.testing.assert_allclose(other.losses, found[0].losses, atol=1e-5)


def test_it_is_a_plain_loop(model, data, numbers):
    """The same steps by hand: every batch by itself, at the rates of the recipe, gradients clipped."""
    tuning = settings("full", validation=0.0, clip=0.5, weight_decay=0.1, head_learning_rate=1e-2)
    tuned = finetune(model, data, ROWS, numbers[ROWS], Centred(TYPES), tuning, seed=3)
    rng = np.random.default_rng(3)
    validation_part(np.zeros(len(ROWS)), 0.0, rng)
    order = np.arange(len(ROWS))
    rng.permutation(order)
    hand, some = copy.copy(model), TrainingCells(model, data, ROWS)
    hand.network = copy.deepcopy(model.network).requires_grad_(True)
    head = Centred(TYPES).head(model, "", torch.zeros(1, WIDTH), None)
    of_network, of_head = list(hand.network.parameters()), list(head.parameters())
    optimizer = torch.optim.AdamW([{"params": of_network}, {"params": of_head}], weight_decay=0.1)
    losses = []
    while len(losses) < 12:
        for batch in list(some.epoch(order, 16, rng))[: 12 - len(losses)]:
            rate = tuning.recipe.rate_at(len(losses) / 12)
            optimizer.param_groups[0]["lr"], optimizer.param_groups[1]["lr"] = rate, 100 * rate
            optimizer.zero_grad()
            loss = F.cross_entropy(
                head(hand.forward(some.tokens(batch)).cell, None, None), torch.tensor(numbers[ROWS[batch]])
            )
            loss.backward()
            nn.utils.clip_grad_norm_([*of_network, *of_head], 0.5)
            optimizer.step()
            losses.append(float(loss.detach()))
    np.testing.assert_allclose(tuned.losses, losses, atol=1e-6)
    for one, other in zip(tuned.model.network.parameters(), of_network, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5, check_stride=False)


def test_validation_part():
    strata = np.repeat([0, 1, 2, 3], [100, 40, 5, 1])
    counts = []
    for seed in range(20):
        chosen = validation_part(strata, 0.2, np.random.default_rng(seed))
        found = np.bincount(strata, chosen, 4)
        assert 19 <= found[0] <= 21 and 7 <= found[1] <= 9 and found[2] <= 2 and found[3] == 0
        counts.append(tuple(np.flatnonzero(chosen)))
    assert len(set(counts)) == 20
    assert not validation_part(strata, 0.0, np.random.default_rng(0)).any()
    whole = validation_part(np.array([0, 0, 1, 1]), 0.99, np.random.default_rng(0))
    assert not whole[:2].all() and not whole[2:].all()


def test_the_best_state_comes_back(model, data, numbers):
    """Labels that cannot be learned: the network gets worse on the part set apart, and the best of it is given."""
    noise = np.random.default_rng(0).permutation(numbers)
    tuning = settings("full", max_steps=None, epochs=200, patience=2, learning_rate=3e-3, validation=0.3)
    tuned = run(model, data, noise, tuning)
    curve = [point["validation_loss"] for point in tuned.curve]
    assert FEWEST_STEPS <= tuned.steps < 200 * 3 and tuned.steps == len(tuned.losses) and not tuned.smoke
    assert tuned.best_epoch == int(np.argmin(curve)) + 1 <= tuned.epochs - 2
    assert tuned.n_training + tuned.n_validation == len(ROWS) and 16 <= tuned.n_validation <= 20
    apart = validation_part(noise[ROWS], 0.3, np.random.default_rng(0))
    outputs = torch.from_numpy(tuned.read(data)[1][ROWS[apart]])
    assert float(F.cross_entropy(outputs, torch.from_numpy(noise[ROWS[apart]]))) == pytest.approx(min(curve), abs=1e-5)


def test_without_a_validation_part_the_last_state_stays(model, data, numbers):
    tuned = run(model, data, numbers, settings(validation=0.0))
    assert tuned.n_validation == 0 and tuned.best_epoch == tuned.epochs
    assert {point["validation_loss"] for point in tuned.curve} == {None}


def test_the_budget():
    assert Tuning.of({}, "lora").steps(50) == FEWEST_STEPS
    assert Tuning.of({"epochs": 3}, "lora").steps(32 * 1000 + 1) == 3003
    assert Tuning.of({"max_steps": 5}, "lora").steps(10**6) == 5
    assert Tuning.of({}, "lora").recipe.learning_rate > Tuning.of({"learning_rate": None}, "full").recipe.learning_rate


def test_the_networks_dropout_is_off_unless_asked_for(data, numbers):
    class Dropping(Toy):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.network.drop = nn.Dropout(0.5).eval()

        def read_out(self, tokens, mask):
            return self.network.drop(super().read_out(tokens, mask))

    plain = run(Toy.from_scratch(data.genes, seed=0), data, numbers).losses
    model = Dropping.from_scratch(data.genes, seed=0)
    assert run(model, data, numbers).losses == plain
    dropped = run(model, data, numbers, settings(dropout=True)).losses
    assert dropped != plain and dropped == run(model, data, numbers, settings(dropout=True)).losses


def test_what_is_read_of_a_cell_is_its_own(model, data, numbers):
    """The head standardises by the batch while it is trained, and never afterwards."""
    tuned = run(model, data, numbers)
    whole = np.concatenate(tuned.read(data), axis=1)
    for row in (TEST[0], ROWS[3]):
        alone = np.concatenate(tuned.read(data.subset(np.array([row]))), axis=1)
        np.testing.assert_allclose(alone[0], whole[row], atol=1e-5)


# -- other objectives, other heads ------------------------------------------------------------------------------


class Depth:
    """A regression: the logarithm of a cell's total."""

    n_outputs = 1

    def head(self, model, kind, vectors, generator):
        return Classification(1).head(model, "linear", vectors, generator)

    def loss(self, head, output, mask, targets):
        return F.mse_loss(head(output.cell, output.tokens, mask)[:, 0].float(), targets)


def test_any_supervised_objective(model, data):
    depth = np.asarray(np.log1p(data.counts(ROWS).sum(1)), np.float32).ravel()
    depth = (depth - depth.mean()) / depth.std()
    tuned = finetune(model, data, ROWS, depth, Depth(), settings("full", max_steps=80, learning_rate=3e-3))
    assert np.mean(tuned.losses[-5:]) < 0.4 * np.mean(tuned.losses[:5])


class Own(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.layer = nn.Linear(WIDTH, n)

    def forward(self, cell, tokens, mask):
        assert not tokens[~mask].any()
        return self.layer(tokens.sum(1))

    def loss(self, cell, tokens, mask, targets):
        return 2 * F.cross_entropy(self(cell, tokens, mask), targets)


def test_a_models_own_classifier(model, data, numbers):
    with pytest.raises(NotApplicableError, match=r"no classifier.*finetune.head=mlp"):
        run(model, data, numbers, settings(head="native"))

    class Classifying(Toy):
        def classifier(self, n_classes, generator):
            return Own(n_classes)

    tuned = run(Classifying.from_scratch(data.genes, seed=0), data, numbers, settings(head="native"))
    assert tuned.head_name == "native" and isinstance(tuned.head, Own)
    assert tuned.read(data)[1].shape == (N, TYPES)


# -- cells and models that cannot -------------------------------------------------------------------------------


def test_cells_that_cannot_be_read(model, data, numbers):
    adata = data.adata.copy()
    keep = np.ones(N)
    keep[[ROWS[0], ROWS[7], TEST[0]]] = 0
    adata.X = sp.csr_matrix(sp.diags(keep) @ adata.X, dtype=np.float32)
    holed = CellData(adata, columns={"cell_type": "cell_type"})
    tuned = run(model, holed, numbers, settings(validation=0.3))
    assert tuned.n_unreadable == 2 and tuned.n_training + tuned.n_validation == len(ROWS) - 2
    vectors, outputs = tuned.read(holed)
    gone = np.isnan(outputs).all(axis=1)
    assert np.flatnonzero(gone).tolist() == sorted([ROWS[0], ROWS[7], TEST[0]])
    assert np.isnan(vectors[gone]).all() and np.isfinite(outputs[~gone]).all()
    rows = np.delete(ROWS, [0, 7])  # what is set apart is drawn from the others, by their own strata
    apart = rows[validation_part(numbers[rows], 0.3, np.random.default_rng(0))]
    loss = float(F.cross_entropy(torch.from_numpy(outputs[apart]), torch.from_numpy(numbers[apart])))
    assert loss == pytest.approx(min(point["validation_loss"] for point in tuned.curve), abs=1e-5)


@pytest.mark.parametrize("readable", [0, 1])
def test_too_few_cells(model, numbers, readable):
    data = cells()
    data.adata.X = sp.vstack([data.adata.X[:readable], sp.csr_matrix((N - readable, 40), dtype=np.float32)]).tocsr()
    data = CellData(data.adata, columns=data.columns, min_coverage=0.0)
    with pytest.raises(InputError, match=f"reads {readable} of 60 training cells"):
        run(model, data, numbers, rows=np.arange(60))


def test_odd_numbers_of_cells(model, data, numbers):
    for rows in (ROWS[:2], ROWS[:17], ROWS[:33]):  # a last batch of one cell among them
        tuned = run(model, data, numbers, settings(validation=0.0), rows=rows)
        assert tuned.steps == 12 and np.isfinite(tuned.losses).all()


def test_a_rate_far_too_high_is_said(model, data, numbers):
    with pytest.raises(InputError, match=r"lower finetune\.learning_rate"):
        run(model, data, numbers, settings("full", learning_rate=1e30, head_learning_rate=1e30, clip=0.0))


def test_networks_that_cannot_be_trained(model, data, numbers):
    model.lora_targets = ()
    with pytest.raises(NotApplicableError, match="LoRA"):
        run(model, data, numbers)
    assert run(model, data, numbers, settings("full")).steps == 12
    model.network = object()  # another framework's
    with pytest.raises(NotApplicableError, match="not PyTorch's"):
        run(model, data, numbers, settings("full"))


@pytest.mark.parametrize(
    ("node", "says"),
    [
        ({"head": "forest"}, "finetune.head=forest: expected mlp"),
        ({"epochs": 0}, "finetune.epochs=0"),
        ({"max_steps": 2.5}, "finetune.max_steps=2.5"),
        ({"batch_cells": None}, "finetune.batch_cells=None"),
        ({"lora_rank": -1}, "finetune.lora_rank=-1"),
        ({"patience": 0}, "finetune.patience=0: expected a whole number from 1 or null"),
        ({"validation": 1.0}, "finetune.validation=1.0"),
        ({"validation": True}, "finetune.validation=True"),
        ({"train_norms": "yes"}, "finetune.train_norms=yes"),
        ({"head_learning_rate": 0}, "finetune.head_learning_rate=0"),
        ({"learning_rate": -1}, "finetune.learning_rate=-1"),
        ({"optimizer": "sgd"}, "finetune.optimizer=sgd"),
        ({"momentum": 0.9}, "finetune has no momentum"),
    ],
)
def test_wrong_settings(node, says):
    with pytest.raises(InputError, match=says):
        Tuning.of(node, "lora")
