"""Plugins, looked at from outside: each is read in a process of its own before this process dares to.

One that hangs or crashes would take the doctor with it, and one that imports torch is noticed only where nobody has imported it
before. Afterwards the classes of all are imported as transformers would import them, in one more process.

This file knows how to try a plugin; what a healthy one looks like is known in `discovery.py` and `registration.py`.
"""

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from .. import discovery, plugins
from ..discovery import EntryPoint
from .finding import Finding
from .processes import Trial, run_program

PATIENCE_S = 30.0
"""Seconds that reading one plugin may take; the default of `meco doctor --patience`."""

_CLASSES = 4
"""So many times as long may importing transformers and all classes take: ten seconds on a quiet machine."""

_READ = """
import json, sys, traceback
from meco_hub import discovery
group, name, owner, *others = sys.argv[1:]
discovery.ignored.update(others)
(entry,) = [one for one in discovery.claims(group)[name] if discovery.owner_of(one) == owner]
story = ""
try:
    entry.load()
except (Exception, SystemExit):
    story = traceback.format_exc()
print()
print(json.dumps({"heavy": [root for root in discovery.HEAVY if root in sys.modules], "traceback": story}))
"""

_IMPORT = """
import importlib, json, sys
from meco_hub import discovery, registration
discovery.ignored.update(sys.argv[1:])
for name in ("modeling", "image_processing", "feature_extraction", "processing"):
    importlib.import_module(f"transformers.models.auto.{name}_auto")
print()
print(json.dumps(registration.failures))
"""


def examine_plugins(patience_s: float) -> tuple[dict[str, str], list[Finding]]:
    """Try all plugins.

    Returns:
        name → distribution of those that work, in the order of `meco list`; findings.
    """
    strangers = [
        (group, name, entry)
        for group in (plugins.ARCHITECTURES, plugins.CORPORA)
        for name, entries in discovery.claims(group).items()
        for entry in entries
        if discovery.owner_of(entry) != discovery.CORE
    ]
    owners = sorted({discovery.owner_of(entry) for _, _, entry in strangers})

    def read(one: tuple[str, str, EntryPoint]) -> Trial:
        group, name, entry = one
        owner = discovery.owner_of(entry)
        return run_program(_READ, (group, name, owner, *(other for other in owners if other != owner)), patience_s)

    with ThreadPoolExecutor(4) as pool:
        trials = list(pool.map(read, strangers))
    findings = []
    for (_, name, entry), trial in zip(strangers, trials, strict=True):
        owner = discovery.owner_of(entry)
        if trial.failed:
            discovery.ignored.add(owner)  # this process must not meet it
            findings.append(_impossible(f"plugin {name}", f"reading {entry.value} of {owner}", owner, trial))
    groups = (plugins.architectures(), plugins.corpora())
    for group in groups:
        findings += [
            Finding(
                f"plugin {plugin.name}",
                f"{plugin.reason} (entry point {plugin.target} of {plugin.distribution})",
                plugin.mend or f"pip uninstall {plugin.distribution}",
                plugin.traceback,
            )
            for plugin in group.broken
            if plugin.distribution not in discovery.ignored
        ]
    for (_, name, entry), trial in zip(strangers, trials, strict=True):
        if any(name in group.healthy for group in groups) and not trial.failed:
            findings += _heavy(name, discovery.owner_of(entry), json.loads(trial.last_line)["heavy"])
    impaired, about_classes = _examine_classes(owners, patience_s)
    healthy = {
        name: group.distributions[name]
        for group in groups
        for name in group.healthy
        if name not in impaired and group.distributions[name] not in discovery.ignored
    }
    return healthy, findings + about_classes


def _impossible(subject: str, doing: str, owner: str, trial: Trial) -> Finding:
    what = "hangs: " if trial.hangs else ""
    return Finding(
        subject,
        f"{what}{doing} {trial.problem}",
        f"pip uninstall {owner}, or pip install --upgrade {owner}",
        trial.error_output,
    )


def _heavy(name: str, owner: str, roots: list[str]) -> list[Finding]:
    if not roots:
        return []
    return [
        Finding(
            f"plugin {name}",
            f"imports {' and '.join(roots)} when its entry point is read, and everybody who imports meco_hub waits for it",
            f"pip install --upgrade {owner}, or tell its author to import them in modules, not in __init__",
            level="warning",
        )
    ]


def _examine_classes(owners: Iterable[str], patience_s: float) -> tuple[set[str], list[Finding]]:
    """Import all classes; where that does not come to an end, of one distribution after another.

    Returns:
        Names of architectures that do not work; findings.
    """
    known = plugins.architectures().distributions
    timeout = _CLASSES * patience_s
    left_out = sorted(discovery.ignored)
    trial = run_program(_IMPORT, left_out, timeout)
    if not trial.failed:
        failures: dict[str, str] = json.loads(trial.last_line)
        return set(failures), [_no_classes(name, known.get(name, "?"), story) for name, story in failures.items()]
    impaired, findings = set[str](), []
    suspects = sorted(set(owners) & set(known.values()))

    def import_alone(owner: str) -> Trial:
        return run_program(_IMPORT, [*left_out, *(other for other in owners if other != owner)], timeout)

    with ThreadPoolExecutor(2) as pool:
        trials = list(pool.map(import_alone, suspects))
    for owner, alone in zip(suspects, trials, strict=True):
        names = [name for name, distribution in known.items() if distribution == owner]
        if alone.failed:
            impaired.update(names)
            findings += [_impossible(f"plugin {name}", "importing its classes", owner, alone) for name in names]
        else:
            failures = json.loads(alone.last_line)
            impaired.update(failures)
            findings += [_no_classes(name, owner, story) for name, story in failures.items()]
    if not findings:
        problem = f"its Auto classes cannot be imported: {trial.problem}"
        findings.append(
            Finding("transformers", problem, "pip install --force-reinstall transformers", trial.error_output)
        )
    return impaired, findings


def _no_classes(name: str, owner: str, story: str) -> Finding:
    last = story.strip().splitlines()[-1] if story.strip() else "no reason given"
    return Finding(f"plugin {name}", f"its classes do not import: {last}", f"pip install --upgrade {owner}", story)
