"""The network's mathematics: layers, losses, optimisers, schedules, metrics."""
