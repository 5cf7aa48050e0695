"""MicroCode: the embedded family of small Python problems on lists of integers.

`operations` is its language, `draw` the random side, `splits` the shipped problems and what is held out for them.
"""
