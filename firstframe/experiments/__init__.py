"""How well the tiny model does, on rendered scenes that no training saw and whose truth is known."""
