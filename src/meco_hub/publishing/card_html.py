"""A card as a web page, to look at before it is published.

This file knows how Markdown becomes HTML; it knows nothing of what a card says.
"""

import html
import re

from huggingface_hub import ModelCard

from ..errors import DependencyError

_STYLE = """
body { max-width: 52rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 } td, th { border: 1px solid #ccc; padding: .25rem .6rem; text-align: left }
pre { background: #f4f4f4; padding: .8rem; overflow-x: auto } code { background: #f4f4f4 } img { max-width: 100% }
.tags { color: #666; font-size: .9rem }
"""


def render_html(card: str) -> str:
    """The page of a card; HTML inside the Markdown is shown as text, never run.

    Args:
        card: Markdown below YAML metadata, as `render_card` gives it.

    Raises:
        DependencyError: markdown-it-py is missing.
    """
    try:
        from markdown_it import MarkdownIt
    except ImportError as error:
        raise DependencyError(
            'A card as HTML needs markdown-it-py, which is not installed. Install it: pip install "meco-hub[cards]".'
        ) from error
    parsed = ModelCard(card)
    data = parsed.data.to_dict()
    title = re.search(r"^# (.+)$", parsed.text, re.MULTILINE)
    told = [str(data[key]) for key in ("library_name", "pipeline_tag", "license") if data.get(key)] + list(
        data.get("tags") or []
    )
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(parsed.text)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title[1] if title else 'Model card')}</title><style>{_STYLE}</style></head><body>\n"
        f'<p class="tags">{html.escape(" · ".join(told))}</p>\n{body}</body></html>\n'
    )
