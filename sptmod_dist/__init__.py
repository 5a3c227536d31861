"""SPTMod, a neural model of dynamic range compressors: recordings, training, streaming."""

__version__ = "0.1.0"
