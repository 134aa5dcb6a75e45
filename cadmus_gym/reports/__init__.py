"""Pages, tables and pictures of environments, models and trainings."""
