"""In transformers' repository this tests the generation of text."""


class GenerationTesterMixin:
    """Nothing is generated here."""
