"""What simulations are run for: measured numbers with their statistical errors."""
