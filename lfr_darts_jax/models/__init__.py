"""Mixed and derived cells, the networks that they make, and what these cost."""
