"""Makes reference files with TensorFlow: the network of the paper in Keras 2, its weights as HDF5, its softmax on a picture.

Not run by the tests, because it needs TensorFlow (Keras 2) in an environment of its own:

    pip install "tensorflow-cpu==2.15.*" "numpy<2"
    python plugins/expressnet_moe/tests/make_keras_reference.py                  # the small files of tests/golden
    python plugins/expressnet_moe/tests/make_keras_reference.py --full --out DIR # published size, about 140 MB a file

The network is written from the specification, in several styles a Keras programmer might choose, because the converter must
not depend on the style: sub-models or layers, experts as Dense or Sequential or one stacked tensor, gate before or after the
experts, everything flat, layer numbers that start anywhere. Weights and BatchNorm statistics are random and far from their
initial values. The pictures are stored as RGB uint8; the network sees them as BGR / 255.
"""

import argparse
import gzip
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

keras = tf.keras
layers = tf.keras.layers


@dataclass(frozen=True)
class Size:
    """Dimensions of the network; the defaults are the published ones."""

    image: int = 224
    channels_1: tuple[int, ...] = (8, 16, 32, 64, 128, 256)
    kernels_1: tuple[int, ...] = (75, 50, 25, 15, 9, 3)
    channels_2: tuple[int, ...] = (16, 32, 64, 128, 256)
    kernels_2: tuple[int, ...] = (15, 7, 5, 3, 3)
    widths: tuple[int, ...] = (64, 128, 256, 512)
    depths: tuple[int, ...] = (3, 4, 6, 3)
    hidden: int = 512
    experts: int = 4
    classes: int = 7


SMALL = Size(
    64, (2, 3, 4, 4, 5, 6), (7, 6, 5, 3, 3, 3), (3, 4, 4, 5, 6), (6, 5, 3, 3, 3), (2, 3, 3, 4), (2, 1, 1, 1), 8
)


def norm(name: str | None = None) -> keras.layers.Layer:
    return layers.BatchNormalization(name=name)


def conv(channels: int, kernel: int, name: str | None = None) -> keras.layers.Layer:
    return layers.Conv2D(channels, kernel, padding="same", activation="relu", name=name)


def extractor_steps(channels: tuple[int, ...], kernels: tuple[int, ...], prefix: str = "") -> list[keras.layers.Layer]:
    """The layers of a feature extractor, in order; with a prefix the layers bear names of their own."""
    steps = []
    for index, (width, kernel) in enumerate(zip(channels, kernels, strict=True)):
        names = (f"{prefix}conv_{index}", f"{prefix}bn_{index}") if prefix else (None, None)
        steps += [conv(width, kernel, names[0]), layers.Dropout(0.1), norm(names[1])]
        if index < len(channels) - 1:
            steps.append(layers.MaxPooling2D(2))
    return steps


def large_steps(size: Size, prefix: str = "") -> list[keras.layers.Layer]:
    dense = layers.Dense(size.hidden, activation="relu", name=f"{prefix}projection" if prefix else None)
    return [*extractor_steps(size.channels_1, size.kernels_1, prefix), layers.Flatten(), dense, layers.Dropout(0.5)]


def small_steps(size: Size, prefix: str = "") -> list[keras.layers.Layer]:
    return [*extractor_steps(size.channels_2, size.kernels_2, prefix), layers.GlobalAveragePooling2D()]


def through(steps: list[keras.layers.Layer], x):
    for step in steps:
        x = step(x)
    return x


def resnet(size: Size, x):
    """ResNet-50 with the layer names of keras-vggface; stride in the first 1x1, valid max-pool."""

    def unit(x, filters: int, kernel: int, name: str, strides: int = 1):
        padding = "same" if kernel > 1 else "valid"
        x = layers.Conv2D(filters, kernel, strides=strides, padding=padding, use_bias=False, name=name)(x)
        return norm(name + "/bn")(x)

    x = layers.ReLU()(unit(x, size.widths[0], 7, "conv1/7x7_s2", 2))
    x = layers.MaxPooling2D(3, strides=2)(x)
    for stage, (width, depth) in enumerate(zip(size.widths, size.depths, strict=True), start=2):
        for block in range(1, depth + 1):
            strides = 2 if block == 1 and stage > 2 else 1
            base = f"conv{stage}_{block}"
            y = layers.ReLU()(unit(x, width, 1, f"{base}_1x1_reduce", strides))
            y = layers.ReLU()(unit(y, width, 3, f"{base}_3x3"))
            y = unit(y, 4 * width, 1, f"{base}_1x1_increase")
            shortcut = unit(x, 4 * width, 1, f"{base}_1x1_proj", strides) if block == 1 else x
            x = layers.ReLU()(layers.add([y, shortcut]))
    if x.shape[1] == 7:  # as in keras-vggface; the identity for a global average, and impossible for small pictures
        x = layers.AveragePooling2D(7, name="avg_pool")(x)
    return layers.GlobalAveragePooling2D()(x)


def mix(gates, outputs):
    """Top-2 of the gates, not renormalised; gates (B,E), outputs (B,E,H)."""
    values, chosen = tf.math.top_k(gates, k=2)
    return tf.einsum("bk,bkh->bh", values, tf.gather(outputs, chosen, batch_dims=1))


@keras.utils.register_keras_serializable("reference")
class ExpertLayer(layers.Layer):
    """Mixture of experts as a custom layer; `style`: gate_last, gate_first, sequential, stacked, stacked_middle."""

    def __init__(self, width: int, experts: int, style: str = "gate_last", **options):
        super().__init__(**options)
        self.width, self.count, self.style = width, experts, style
        if style.startswith("stacked"):
            return
        if style == "gate_first":
            self.gate = layers.Dense(experts, activation="softmax")
        dense = [layers.Dense(width, activation="relu") for _ in range(experts)]
        self.experts = [keras.Sequential([one]) for one in dense] if style == "sequential" else dense
        if style != "gate_first":
            self.gate = layers.Dense(experts, activation="softmax")

    def build(self, shape):
        if self.style.startswith("stacked"):
            inputs = int(shape[-1])
            middle = self.style == "stacked_middle"
            kernel = (inputs, self.count, self.width) if middle else (self.count, inputs, self.width)
            self.gate_bias = self.add_weight("gate_bias", (self.count,))
            self.expert_kernel = self.add_weight("expert_kernel", kernel)
            self.expert_bias = self.add_weight("expert_bias", (self.count, self.width))
            self.gate_kernel = self.add_weight("gate_kernel", (inputs, self.count))
        super().build(shape)

    def call(self, x):
        if self.style.startswith("stacked"):
            rule = "bi,ieo->beo" if self.style == "stacked_middle" else "bi,eio->beo"
            gates = tf.nn.softmax(x @ self.gate_kernel + self.gate_bias)
            return mix(gates, tf.nn.relu(tf.einsum(rule, x, self.expert_kernel) + self.expert_bias))
        return mix(self.gate(x), tf.stack([expert(x) for expert in self.experts], axis=1))

    def get_config(self):
        return super().get_config() | {"width": self.width, "experts": self.count, "style": self.style}


@keras.utils.register_keras_serializable("reference")
class StepLayer(layers.Layer):
    """A feature extractor as a custom layer: convolutions and norms are attributes, all convolutions first."""

    def __init__(self, size: Size, large: bool, **options):
        super().__init__(**options)
        self.size, self.large = (Size(**size) if isinstance(size, dict) else size), large
        steps = large_steps(self.size) if large else small_steps(self.size)
        self.norms = [step for step in steps if isinstance(step, layers.BatchNormalization)]
        self.rest = [step for step in steps if not isinstance(step, layers.BatchNormalization)]
        self.order = [("norms" if step in self.norms else "rest") for step in steps]

    def call(self, x):
        pools = {"norms": iter(self.norms), "rest": iter(self.rest)}
        for kind in self.order:
            x = next(pools[kind])(x)
        return x

    def get_config(self):
        return super().get_config() | {"size": self.size.__dict__, "large": self.large}


def functional_experts(size: Size, x, prefix: str = ""):
    names = [f"{prefix}expert_{i}" if prefix else None for i in range(size.experts)]
    outputs = [layers.Dense(size.hidden, activation="relu", name=name)(x) for name in names]
    gates = layers.Dense(size.experts, activation="softmax", name=f"{prefix}gate" if prefix else None)(x)
    return mix(gates, tf.stack(outputs, axis=1))


def nested(shape: tuple[int, ...], name: str | None, build) -> keras.Model:
    inputs = keras.Input(shape)
    return keras.Model(inputs, build(inputs), name=name)


def build(size: Size, style: str) -> keras.Model:
    """The network in one of `STYLES`."""
    picture = (size.image, size.image, 3)
    inputs = keras.Input(picture)
    hidden = size.hidden
    named = {"cnn": "MoE_CNN_Features", "expression": "MoE_Expression"}
    if style.startswith("flat"):
        own = style == "flat_named"
        a = through(large_steps(size, "fe1_" if own else ""), inputs)
        b = through(small_steps(size, "fe2_" if own else ""), inputs)
        c = resnet(size, inputs)
    elif style == "layers":
        a = StepLayer(size, True, name="CNNFeatureExtractor_1")(inputs)
        b = StepLayer(size, False, name="CNNFeatureExtractor_2")(inputs)
        c = nested(picture, "ResNet50", lambda x: nested(picture, "vggface_resnet50", lambda y: resnet(size, y))(x))(
            inputs
        )
    elif style == "sequential":
        a = keras.Sequential([keras.Input(picture), *large_steps(size)])(inputs)
        b = keras.Sequential([keras.Input(picture), *small_steps(size)])(inputs)
        c = nested(picture, None, lambda x: resnet(size, x))(inputs)
        named = {"cnn": None, "expression": None}
    else:
        b = nested(picture, "CNNFeatureExtractor_2", lambda x: through(small_steps(size), x))(inputs)
        c = nested(picture, "ResNet50", lambda x: resnet(size, x))(inputs)
        a = nested(picture, "CNNFeatureExtractor_1", lambda x: through(large_steps(size), x))(inputs)
    c = layers.Dropout(0.5)(c)
    fused = layers.Dense(hidden, activation="relu")(layers.Concatenate()([b, c]))
    d = layers.Dropout(0.5)(fused)
    if style in ("functional", "flat", "flat_named"):
        if style == "functional":
            u = nested((hidden,), "MoE_CNN_Features", lambda x: functional_experts(size, x))(a)
            v = nested((hidden,), "MoE_Expression", lambda x: functional_experts(size, x))(d)
        else:
            u = functional_experts(size, a, "moe_cnn_" if style == "flat_named" else "")
            v = functional_experts(size, d, "moe_expression_" if style == "flat_named" else "")
    else:
        kind = {
            "gate_first": "gate_first",
            "sequential": "sequential",
            "stacked": "stacked",
            "stacked_middle": "stacked_middle",
        }
        # The second mixture is created first here, so that order alone would be misleading where names speak.
        second = ExpertLayer(hidden, size.experts, kind.get(style, "gate_last"), name=named["expression"])
        first = ExpertLayer(hidden, size.experts, kind.get(style, "gate_last"), name=named["cnn"])
        if named["cnn"] is None:
            first, second = second, first
        v = second(d)
        u = first(a)
    logits = layers.Dense(size.classes, activation="softmax", name="predictions" if style == "layers" else None)
    return keras.Model(inputs, logits(layers.Concatenate()([u, v])))


STYLES = (
    "nested",
    "functional",
    "gate_first",
    "layers",
    "sequential",
    "stacked",
    "stacked_middle",
    "flat",
    "flat_named",
)


def scramble(model: keras.Model, seed: int) -> None:
    """Give every weight a value far from its initial one, but keep activations of order one."""
    draw = np.random.default_rng(seed)
    values = []
    for weight in model.weights:
        shape, name = tuple(weight.shape), weight.name
        if "gamma" in name or "moving_variance" in name:
            values.append(draw.uniform(0.5, 1.5, shape))
        elif len(shape) == 1 or "bias" in name or "moving_mean" in name:
            values.append(draw.normal(0, 0.2, shape))
        else:
            fan_in = np.prod(shape[:-1]) / (shape[0] if len(shape) == 3 else 1)
            values.append(draw.normal(0, np.sqrt(2 / fan_in), shape))
    model.set_weights([value.astype("float32") for value in values])


def calm(model: keras.Model, bgr: np.ndarray) -> None:
    """Scale the last Dense so that no probability saturates: a saturated softmax would hide errors."""
    head = model.layers[-1]
    kernel, bias = head.get_weights()
    features = keras.Model(model.inputs, head.input)(bgr, training=False).numpy()
    head.set_weights([kernel / (features @ kernel).std(), bias])


def picture(size: int, seed: int) -> np.ndarray:
    """Two seeded pictures (2,H,W,3) uint8 RGB, with structure at several scales so that every branch has something to see."""
    draw = np.random.default_rng(seed)
    total = np.zeros((2, size, size, 3), "float32")
    for cells in (2, 5, 16, size):
        total += tf.image.resize(draw.uniform(-1, 1, (2, cells, cells, 3)), (size, size)).numpy()
    tint = draw.uniform(40, 215, (2, 1, 1, 3))  # makes the channels differ, so that BGR taken for RGB shows
    return np.clip(tint + 60 * total, 0, 255).astype("uint8")


def make(style: str, size: Size, out: Path, seed: int, offset: int, *, whole: bool, compiled: bool = False) -> None:
    """Write STYLE.h5 (or STYLE.whole.h5) and STYLE.npz with rgb (2,H,W,3) uint8 and softmax (2,K)."""
    keras.backend.clear_session()
    for _ in range(offset):  # so that Keras's numbering does not start at zero
        layers.Conv2D(1, 1), layers.Dense(1), layers.BatchNormalization()
    model = build(size, style)
    scramble(model, seed)
    rgb = picture(size.image, seed)
    bgr = rgb[..., ::-1].astype("float32") / 255
    calm(model, bgr)
    if compiled:  # one step of training, so that optimizer weights are in the file too
        model.compile("adam", "categorical_crossentropy")
        model.fit(bgr, np.eye(size.classes)[[0, 1]], verbose=0)
    stem = style + (".whole" if whole else "")
    softmax = model(bgr, training=False).numpy()
    if whole:
        model.save(out / f"{stem}.h5")
    else:
        model.save_weights(str(out / f"{stem}.h5"))
    np.savez_compressed(out / f"{stem}.npz", rgb=rgb, softmax=softmax)
    print(stem, f"{model.count_params():,}", *(" ".join(f"{p:.3f}" for p in row) for row in softmax), sep="  ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "golden")
    parser.add_argument("--full", action="store_true", help="published size")
    parser.add_argument("--styles", nargs="+", choices=STYLES, help="default: what the tests read, compressed")
    parser.add_argument("--classes", type=int, default=7)
    parser.add_argument("--image", type=int)
    parser.add_argument(
        "--offset", type=int, default=7, help="layers made before, so that numbers do not begin at zero"
    )
    parser.add_argument(
        "--whole", action="store_true", help="model.save instead of save_weights; small ones are trained first"
    )
    args = parser.parse_args()
    size = replace(Size() if args.full else SMALL, classes=args.classes)
    size = replace(size, image=args.image or size.image)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.styles:
        for seed, style in enumerate(args.styles, start=20):
            make(style, size, args.out, seed, args.offset, whole=args.whole, compiled=args.whole and not args.full)
        return
    make("nested", size, args.out, 20, args.offset, whole=False)
    make("layers", size, args.out, 21, args.offset, whole=True, compiled=True)
    for file in args.out.glob("*.h5"):
        file.with_suffix(".h5.gz").write_bytes(gzip.compress(file.read_bytes(), mtime=0))
        file.unlink()


if __name__ == "__main__":
    main()
