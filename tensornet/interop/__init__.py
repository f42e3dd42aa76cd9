"""Exchange with other libraries: their signatures and results, run by our kernels.

So far there is one, e3nn, with the models that are built on it.
"""

from torch.serialization import add_safe_globals

# At import e3nn before 0.5.2 reads its constants from a pickle with a slice, which torch refuses
# since 2.6. This stands here so that it comes before any import of e3nn below.
add_safe_globals([slice])
