"""What is wanted: objectives over outcomes and descriptors, and what candidates must be."""
