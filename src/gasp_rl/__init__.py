"""Guided asymmetric self-play (GASP, arXiv:2603.15957): teach a code model the problems it never solves."""

__version__ = "0.1.0"
