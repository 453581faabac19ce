"""What ndshare costs, beside what its peers cost, measured in one run on one machine.

`python -m bench` prints a table. Every figure is the median of rounds in which all contestants take turns, so that
a machine which slows down slows down all of them, and every timed result is checked.
"""
