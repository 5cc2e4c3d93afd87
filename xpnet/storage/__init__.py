"""Files of training runs: records, model files, checkpoints."""
