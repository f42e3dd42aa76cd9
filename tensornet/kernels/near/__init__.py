"""Points against charges that are closer than a cutoff: one plain function, `cpu.near`.

It gives potentials and their gradients and is no kernel of the registry: what it computes is
defined, in torch, by `tensornet.functional`.
"""
