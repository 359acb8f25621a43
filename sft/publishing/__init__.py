"""Card, push, export."""
