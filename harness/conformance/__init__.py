"""The pieces of the conformance suite, by what they look at; `harness.checks` runs them."""
