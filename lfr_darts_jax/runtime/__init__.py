"""What a long run needs besides its method: files, checkpoints, processes, signals, metrics."""
