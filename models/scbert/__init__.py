"""scBERT (Yang et al. 2022): adapter, tokenizer, network. Card: README.md."""
