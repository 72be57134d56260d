"""Coverage: which share of genes and counts a model can read, and what follows from it."""

import logging

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

from harness.coverage import CoverageMeter, coverage, sample_coverage
from harness.data import CellData
from harness.errors import InputError
from harness.genes import GeneTable, match_exact

VOCABULARY = {"TP53": 0, "CD3D": 1, "ACTB": 2}


def measured(names, per_gene):
    match = match_exact(GeneTable.from_names(names), VOCABULARY)
    return coverage("toy", match, np.asarray(per_gene, float), vocabulary=VOCABULARY)


def test_shares_and_examples():
    result = measured(["TP53", "cd3d", "1-Mar", "ZZZ1", "TP53"], [10, 5, 1, 80, 4])
    assert (result.n_genes, result.matched, result.n_duplicates) == (5, 2, 1)
    assert result.share_of_counts == pytest.approx(0.14)
    assert result.unmatched == ("ZZZ1", "cd3d", "1-Mar")  # those with most counts first
    assert result.odd_case == (("cd3d", "CD3D"),)
    assert result.date_mangled == ("1-Mar",)
    line = result.describe()
    assert "2 of 5 genes, 14.0 % of the counts" in line
    assert "cd3d for CD3D" in line
    assert "\n" not in line


@pytest.mark.parametrize(("share", "outcome"), [(0.9, "silent"), (0.5, "warns"), (0.05, "refuses")])
def test_thresholds(share, outcome, caplog):
    result = measured(["TP53", "ZZZ1"], [share, 1 - share])
    with caplog.at_level(logging.WARNING):
        if outcome == "refuses":
            with pytest.raises(InputError, match=r"cells: toy knows 1 of 2 genes, 5.0 % of the counts.*ZZZ1"):
                result.enforce(source="cells")
            result.enforce(refuse=0.01)
        else:
            result.enforce(source="cells")
            assert bool(caplog.records) == (outcome == "warns")


def test_thresholds_can_be_switched_off(caplog):
    measured(["TP53", "ZZZ1"], [0, 1]).enforce(refuse=0, warn=0)
    assert not caplog.records


def test_no_known_gene_is_always_refused():
    with pytest.raises(InputError, match="knows 0 of 1 genes"):
        measured(["ZZZ1"], [1]).enforce(refuse=0)


def test_the_meter_adds_up_over_blocks_and_a_sample_stops_early():
    rng = np.random.default_rng(0)
    counts = sp.csr_matrix(rng.poisson(0.7, (700, 3)).astype(np.float32))
    data = CellData(anndata.AnnData(counts))
    data.genes = GeneTable.from_names(["TP53", "ZZZ1", "ACTB"])
    match = match_exact(data.genes, VOCABULARY)
    meter = CoverageMeter("toy", match, VOCABULARY)
    for _, block in data.blocks(500):
        meter.add(block)
    whole = meter.result()
    assert whole.n_cells == 700
    assert whole.counts == counts.sum()
    assert whole.share_of_counts == pytest.approx(counts[:, [0, 2]].sum() / counts.sum())
    sample = sample_coverage("toy", match, data.blocks(500), cells=200)
    assert 200 <= sample.n_cells < 700
    assert sample.share_of_counts == pytest.approx(whole.share_of_counts, abs=0.1)
    assert sample.as_dict()["matched"] == 2


def test_cells_without_counts_are_judged_by_their_genes():
    assert measured(["TP53", "ZZZ1"], [0, 0]).share_of_counts == 0.5
