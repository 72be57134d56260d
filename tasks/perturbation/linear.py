"""The linear model of perturbations: gene vectors times a matrix times perturbation vectors, in closed form.

Ahlmann-Eltze et al., Nature Methods 2025, doi:10.1038/s41592-025-02772-6. Either side may be vectors of another source,
such as a foundation model's.
"""

from __future__ import annotations

import numpy as np

#: Principal components of genes, and ridge penalty of both sides, as published.
COMPONENTS, RIDGE = 10, 0.1


def linear_fit_predict(
    changes: np.ndarray, genes: np.ndarray, trained: np.ndarray, asked: np.ndarray, ridge: float = RIDGE
) -> np.ndarray:
    """Fit changes ≈ genes · W · trained + gene means, and predict what is asked.

    Y = `changes`, c its row means, G = `genes`, P = `trained`: W = (G'G + ridge·I)⁻¹ G' (Y - c) P' (PP' + ridge·I)⁻¹.

    Parameters
    ----------
    changes
        Mean profiles less the control mean, (g, n); as published with a column of zeros for the control.
    genes
        Vectors of the measured genes, (g, k).
    trained
        Vectors of the perturbations of `changes`, (d, n); zeros for the control.
    asked
        Vectors of the perturbations to predict, (d, m).
    ridge
        Penalty of both sides. It is not scaled: vectors of another length are penalised otherwise.

    Returns
    -------
    float64 (g, m)
        Predicted changes from control.
    """
    y, g, p = (np.asarray(each, np.float64) for each in (changes, genes, trained))
    mean = y.mean(axis=1, keepdims=True)
    left = np.linalg.solve(g.T @ g + ridge * np.eye(g.shape[1]), g.T @ (y - mean) @ p.T)
    weights = np.linalg.solve(p @ p.T + ridge * np.eye(p.shape[0]), left.T).T
    return g @ (weights @ np.asarray(asked, np.float64)) + mean


def gene_components(profiles: np.ndarray, components: int = COMPONENTS) -> np.ndarray:
    """Scores of genes on the principal components of mean profiles, float64 (g, min(components, n)).

    Parameters
    ----------
    profiles
        Mean profiles, control among them, genes × profiles (g, n); columns are centred. Signs of components are
        arbitrary, and cancel in `linear_fit_predict`.
    """
    centred = np.asarray(profiles, np.float64) - np.mean(profiles, axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    return left[:, :components] * values[:components]
