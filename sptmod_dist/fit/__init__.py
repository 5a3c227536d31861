"""`fit`: from two files, what went into a device and what came out, to a model of it."""
