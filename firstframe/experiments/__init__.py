"""How well the tiny model does on scenes whose truth is known; in `evaluation`, clips of any origin."""
