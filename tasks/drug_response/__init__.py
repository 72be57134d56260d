"""Drug and stimulus response: which cells would the untreated ones have become? See tasks/README.md."""
