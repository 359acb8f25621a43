"""Models that read prompts, write, and score: templates, rendering, weights, adapters, generation."""
