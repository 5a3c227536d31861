"""What `launch/bench.py` measures, a file a benchmark; nothing here is installed."""
