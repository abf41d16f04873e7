"""In transformers' repository this tests the generation of text.

This file knows only the name that the common tests ask for; no model of ours generates.
"""


class GenerationTesterMixin:
    """Nothing is generated here."""
