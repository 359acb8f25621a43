"""The folder of a run: whole files, records, hashes, the machine, and the processes that fill it."""
