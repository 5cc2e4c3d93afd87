"""What runs leave on disk: records, model files, checkpoints."""
