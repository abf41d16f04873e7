"""A face's expression from an exported folder, with onnxruntime, NumPy and Pillow alone: no torch, no transformers, no meco_hub.

meco export meco-expressnet-lfw5 exported
python examples/onnx_face.py exported/model.onnx face.jpg          # a picture that is one face
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
known = {key: json.loads(text) for key, text in session.get_modelmeta().custom_metadata_map.items()}
options, size = known["processor"], (known["processor"]["size"]["width"], known["processor"]["size"]["height"])
picture = Image.open(sys.argv[2]).convert("RGB")
picture = (
    (picture.convert("L") if options["do_grayscale"] else picture).resize(size, options["resample"]).convert("RGB")
)
pixels = np.asarray(picture, np.float32) * options["rescale_factor"]
if options["do_normalize"]:
    pixels = (pixels - np.float32(options["image_mean"])) / np.float32(options["image_std"])
(logits,) = session.run(["logits"], {"pixel_values": pixels.transpose(2, 0, 1)[None]})
logits = logits[0] / (known["calibration"] or {}).get("temperature", 1.0)
scores = np.exp(logits - logits.max())
for label, score in sorted(zip(known["labels"], scores / scores.sum(), strict=True), key=lambda pair: -pair[1]):
    print(f"{label} {score:.3f}")
