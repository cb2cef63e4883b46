"""What to try next: sources of candidates, and what makes one worth a run."""
