"""Words, pictures and pages about a run."""
