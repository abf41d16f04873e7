"""In transformers' repository this tests its exporters.

This file knows only the name that the common tests derive from; exports of our models are tested in the plugins.
"""


class ExportTesterMixin:
    """Nothing is exported here."""
