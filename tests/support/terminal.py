from support.command import Terminal, terminal

__all__ = ["Terminal", "terminal"]
