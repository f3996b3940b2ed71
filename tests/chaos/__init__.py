"""Kills runs at random and at chosen moments, and compares where they end: `python -m tests.chaos --help`."""
