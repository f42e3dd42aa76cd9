"""What atoms have beside messages: products with matrices by component or element, readouts.

The functions of `cpu.py` are plain code for inference and no kernels of the registry. What they
compute is defined by `tensornet.layers`.
"""
