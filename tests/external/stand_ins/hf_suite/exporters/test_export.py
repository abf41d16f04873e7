"""In transformers' repository this tests its exporters."""


class ExportTesterMixin:
    """Nothing is exported here."""
