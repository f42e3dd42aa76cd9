"""Exchange with other libraries: their signatures and results, run by our kernels."""

from torch.serialization import add_safe_globals

# e3nn before 0.5.2 reads its constants from a pickle with a slice, which torch 2.6 refuses.
add_safe_globals([slice])
