"""The parts of a report, a file for each subject: its sentence, its picture, its table, or why there is nothing.

A probe is shown by one file here; ``chapters`` says where it stands.
"""
