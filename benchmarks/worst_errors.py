"""The pictures on which a checkpoint is most sure of a wrong label, as one picture to look at.

    meco evaluate meco-expressnet-fer2013 --dataset fer2013 --data_dir fer2013.zip --split test --output_dir report
    python benchmarks/worst_errors.py report --dataset fer2013 --data_dir fer2013.zip --split test --output worst.png

Below each stand the label of the corpus, and the answer with its score. Pictures of a corpus may not be passed on without its
leave: the picture is for looking at.
"""

import argparse
import csv
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from meco_hub import plugins
from meco_hub.evaluation.task import take_split

SIDE, TEXT = 96, 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="folder that `meco evaluate` wrote")
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--data_dir", required=True, type=Path)
    parser.add_argument("--split")
    parser.add_argument("--output", type=Path, default=Path("worst.png"))
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--rows", type=int, default=6)
    given = parser.parse_args()
    with (given.report / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        answers = [row for row in csv.DictReader(stream) if row["label"] != row["prediction"]]
    answers.sort(key=lambda row: -float(row[row["prediction"]]))
    corpus = plugins.corpus(given.dataset)
    rows = take_split(corpus.load(given.data_dir), given.split)
    places = {name: place for place, name in enumerate(rows["sample_id"][:])}
    sheet = Image.new("RGB", (given.columns * SIDE, given.rows * (SIDE + TEXT)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for place, answer in enumerate(answers[: given.columns * given.rows]):
        x, y = place % given.columns * SIDE, place // given.columns * (SIDE + TEXT)
        picture = corpus.read(rows[places[answer["sample_id"]]])
        sheet.paste(picture.convert("RGB").resize((SIDE, SIDE)), (x, y))
        said = f"{answer['label']}\n{answer['prediction']} {float(answer[answer['prediction']]):.2f}"
        draw.multiline_text((x + 2, y + SIDE), said, fill="black", font=font, spacing=1)
    sheet.save(given.output)
    print(f"{len(answers)} wrong answers; wrote {given.output}.")


if __name__ == "__main__":
    main()
