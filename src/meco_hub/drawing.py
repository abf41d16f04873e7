"""Drawing answers into pictures: a box around each face, the expression and its score beside it.

This file knows pixels and fonts; it reads answers as the pipeline gives them.
"""

from typing import Any

from PIL import Image, ImageDraw, ImageFont

_INK = (255, 214, 0)
_PAPER = (0, 0, 0)


def _faces(answer: list[dict[str, Any]]) -> list[tuple[dict[str, float] | None, list[dict[str, Any]]]]:
    if answer and "expressions" in answer[0]:
        return [(face["box"], face["expressions"]) for face in answer]
    return [(answer[0].get("box"), answer)] if answer else []


def annotate_image(image: Image.Image, answer: list[dict[str, Any]], lines: int = 2) -> Image.Image:
    """A copy of the picture with the answer drawn in.

    Args:
        image: any mode; the copy is RGB.
        answer: what the pipeline returned for it, in any of its three forms.
        lines: how many expressions are written per face.
    """
    drawn = image.convert("RGB")
    draw = ImageDraw.Draw(drawn)
    size = max(12, round(min(drawn.size) / 24))
    font = ImageFont.load_default(size)
    for box, expressions in _faces(answer):
        if box is not None:
            draw.rectangle((box["xmin"], box["ymin"], box["xmax"], box["ymax"]), outline=_INK, width=max(2, size // 8))
        text = "\n".join(f"{entry['label']} {entry['score']:.2f}" for entry in expressions[:lines])
        x, y = (box["xmin"], box["ymax"]) if box is not None else (0, 0)
        left, top, right, bottom = draw.multiline_textbbox((x, y), text, font=font)
        # Near the lower edge the text would fall off the picture; it then stands inside it.
        shift = min(0, drawn.height - (bottom + 4))
        draw.rectangle((left - 3, top + shift - 3, right + 3, bottom + shift + 3), fill=_PAPER)
        draw.multiline_text((x, y + shift), text, font=font, fill=_INK)
    return drawn
