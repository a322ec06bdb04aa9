"""Comparisons: the same model on the same graph under several samplers, repeated over seeds.

``specification`` says what to compare and ``runner`` does it, each cell in its own ``process``;
``results`` keeps the numbers, ``plots`` draws them and ``display`` tells how it goes.
"""
