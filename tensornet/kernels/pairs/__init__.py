"""What pairs of atoms have beside features: lengths, envelopes and repulsion, in one sweep.

`cpu.Edges` is plain code for inference, with its derivatives written out; it is no kernel of the
registry. What it computes is defined by `tensornet.layers`.
"""
