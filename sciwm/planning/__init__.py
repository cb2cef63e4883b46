"""What to do to a system so that something happens: planned in learned worlds, carried out in a reference."""
