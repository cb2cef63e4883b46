"""Models as compiled programs."""
