"""Constants of nature in Å, eV and elementary charges."""

COULOMB = 14.399645478425668  # e²/(4 pi epsilon_0) in eV Å, CODATA 2018
