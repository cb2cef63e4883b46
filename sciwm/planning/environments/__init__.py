"""Tasks with a true simulator, a world to be learned and a measure of success, one in a file."""
