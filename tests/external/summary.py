"""The tables of docs/transformers_suite.md, from the files that `pytest tests/external --results FOLDER` writes.

    python tests/external/summary.py out/external

One column per release that was run; nothing in the tables is typed by hand.
"""

import json
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

REASONS = {
    r"accelerator|MPS|[Ff]lash|kernels|grouped_mm|deepspeed": "a GPU, its kernels, or DeepSpeed",
    r"attention|sdpa": "attention maps, or attention to exchange",
    r"RoPE|position emb|inputs_embeds|resize_emb|head to check|require_grads": "words: embeddings, positions, heads",
    r"chat template|tokenizer attribute|text inputs|with text|_num_multimodal": "text beside pictures",
    r"composite|subconfigs|TP plan|sparse experts": "sub-models, plans for tensor parallelism, transformers' own experts",
    r"Torchcodec|librosa|video_processor|no sound": "video files or sound",
    r"is slow": "time: the suite's slow tests",
    r"No validation found": "checks that processors of the old kind declare",
}
"""What a skipped test asks for, by the words of the suite's reason."""

SUITES = ("model", "config", "image processor", "feature extractor", "processor")


class Run:
    """The results of one release, from one file."""

    def __init__(self, path: Path) -> None:
        found = json.loads(path.read_text(encoding="utf-8"))
        self.release: str = found["transformers"]
        self.head = f"{self.release}, torch {found['torch'].partition('+')[0]}"
        own = {test: result for test, result in found["tests"].items() if "subject" in result}
        self.results: list[dict[str, Any]] = [{"name": test.rpartition("::")[2], **own[test]} for test in own]

    def of(self, subject: str, suite: str | None = None) -> list[dict[str, Any]]:
        """Results of one model, of one of its suites."""
        return [one for one in self.results if one["subject"] == subject and suite in (None, one["suite"])]


def main(folder: str) -> None:
    """Print the tables."""
    runs = [Run(path) for path in Path(folder).glob("*.json")]
    if not runs:
        sys.exit(f"{folder} holds no results. Run pytest tests/external --results {folder} first.")
    runs.sort(key=lambda run: [int(part) for part in run.release.split(".")])
    subjects = sorted({one["subject"] for run in runs for one in run.results})
    rows = [
        [f"{subject}, {suite}", *(_counts(run.of(subject, suite)) for run in runs)]
        for subject in subjects
        for suite in SUITES
        if any(run.of(subject, suite) for run in runs)
    ]
    print(_table(["passed + replaced / skipped / failed", *(f"transformers {run.head}" for run in runs)], rows))
    print("\nSkipped by the suite itself, which asks for something that is not there:\n")
    print(
        _table(["", *(f"{subject}, {run.release}" for subject in subjects for run in runs)], _skipped(runs, subjects))
    )
    print("\nReplaced, by a test that says what holds instead:\n")
    print("\n".join(_replaced(runs)))


def _counts(results: list[dict[str, Any]]) -> str:
    outcomes = Counter(one["outcome"] for one in results)
    replaced = sum("replaces" in one and one["outcome"] == "passed" for one in results)
    return f"{outcomes['passed'] - replaced} + {replaced} / {outcomes['skipped']} / {outcomes['failed']}"


def _skipped(runs: list[Run], subjects: list[str]) -> list[list[str]]:
    columns = [
        Counter(_group(one["reason"]) for one in run.of(subject) if one["outcome"] == "skipped")
        for subject in subjects
        for run in runs
    ]
    groups = [*REASONS.values(), *sorted(set().union(*columns) - set(REASONS.values()))]
    return [[group, *(str(column[group]) for column in columns)] for group in groups]


def _group(reason: str) -> str:
    return next((group for pattern, group in REASONS.items() if re.search(pattern, reason)), reason)


def _replaced(runs: list[Run]) -> list[str]:
    """A line for each reason: which tests, of which models, on which releases."""
    tests, where = defaultdict(set), defaultdict(set)
    for run in runs:
        for one in run.results:
            if "replaces" in one:
                tests[one["replaces"]].add(one["name"])
                where[one["replaces"]].add((one["subject"], run.release))
    lines = []
    for reason in sorted(tests, key=lambda key: sorted(where[key])):
        subjects, releases = (sorted({pair[place] for pair in where[reason]}) for place in (0, 1))
        only = "" if len(releases) == len(runs) else f", {', '.join(releases)} only"
        names = ", ".join(f"`{name}`" for name in sorted(tests[reason]))
        lines.append(f"- {names} ({', '.join(subjects)}{only}): {reason}.")
    return lines


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
