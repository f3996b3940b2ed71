"""What a person sees of a run: drawings, curves, a page."""
