"""What training scripts share: batches, optimizers, runs that resume, and where a result came from."""
