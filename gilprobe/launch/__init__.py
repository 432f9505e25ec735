"""Starts the target as the user would, with the recorder preloaded, and gives back its exit status."""

from gilprobe.launch.target import Options, Target, run, target_of
from gilprobe.launch.interpreter import Interpreter, inspect

__all__ = ["Interpreter", "Options", "Target", "inspect", "run", "target_of"]
