"""Starts the target as the user would, with the recorder preloaded, and gives back its exit status."""

from gilprobe.launch.interpreter import Interpreter, inspect
from gilprobe.launch.target import Options, Target, run, target_of

__all__ = ["Interpreter", "Options", "Target", "inspect", "run", "target_of"]
