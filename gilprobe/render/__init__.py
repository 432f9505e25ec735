"""The Profile in the formats people and tools read."""

from gilprobe.render.base import FORMATS, Renderer, format_of, render_to, write_report

__all__ = ["FORMATS", "Renderer", "format_of", "render_to", "write_report"]
