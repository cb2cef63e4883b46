"""What outcomes are expected, and how sure that is: models of outcomes, calibrated, that learn."""
