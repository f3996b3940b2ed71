"""Images that are read and decoded while the devices work."""
