"""One file a source: each yields the records of an export, and says by which rule they become demonstrations."""
