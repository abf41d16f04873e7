"""In transformers' repository this tests configs; the common tests take a mapping from it."""

config_common_kwargs = {
    "return_dict": False,
    "output_hidden_states": True,
    "output_attentions": True,
    "dtype": "float16",
    "chunk_size_feed_forward": 3,
    "architectures": ["SomeModel"],
    "id2label": {0: "calm", 1: "tense"},
    "label2id": {"calm": 0, "tense": 1},
    "problem_type": "regression",
}
