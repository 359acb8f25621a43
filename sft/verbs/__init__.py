"""The verbs as functions: what ``sft VERB`` does, for a notebook or a script, with results that can be shown.

``import sft`` hands these on, each when it is first asked for, and the command line calls them.
"""
