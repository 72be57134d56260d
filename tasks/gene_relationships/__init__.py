"""Gene relationships: what the similarity of two genes' vectors says of regulation and of shared function."""
