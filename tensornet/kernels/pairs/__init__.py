"""What pairs of atoms have beside features: lengths, envelopes and repulsion, in one sweep."""
