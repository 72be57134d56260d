"""Gene influence: which genes a network moves when one gene is taken away, and whether these are its known targets."""
