"""The CUDA kernels: on a GPU where there is one, and everywhere as a build of the same sources for the host.

They need torch, NumPy, pytest and what builds the kernels, and nothing else of what gnnscale needs (`make test-cuda`).
"""
