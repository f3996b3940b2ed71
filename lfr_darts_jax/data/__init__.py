"""Data sets, their batches and augmentation."""
