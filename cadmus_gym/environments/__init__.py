"""The Gymnasium environments, one and many at once."""
