"""What experts wrote: read, select, split, audit, secrets."""
