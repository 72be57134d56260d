"""scFoundation (Hao et al. 2024): adapter, tokenizer, network. Card: README.md."""
