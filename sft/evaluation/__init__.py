"""Policies act on held-out prompts, and it is written down."""
