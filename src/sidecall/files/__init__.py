"""Files that calls name: volumes, paths beneath them, scratch directories."""
