"""Measures jaxrl on the accelerator that JAX finds: ``python -m benchmarks.gpu --minutes 8 --out DIR``."""
