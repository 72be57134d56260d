"""Genetic perturbation: what a knock-out or an activation does to expression, predicted before it is measured."""
