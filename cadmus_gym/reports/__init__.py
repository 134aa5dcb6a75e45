"""Pages, tables and plots of environments, models and training."""
