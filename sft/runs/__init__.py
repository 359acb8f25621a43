"""The folder of a run: files, records, hashes, tokens, the machine and its paths, and the processes that fill it."""
