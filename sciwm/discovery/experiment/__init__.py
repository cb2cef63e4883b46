"""Reference runs, and the ledger that keeps them."""
