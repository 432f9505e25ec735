"""Threads or processes, Pillow or nvImageCodec: the experiment, its page and its verdict."""
