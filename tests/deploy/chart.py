"""What becomes of the Helm chart, by Helm's own code, and what Kubernetes' schemas say about it.

chart.py CHART VALUES.yaml...: one JSON object a line on stdout, for each file of values. `text` and `manifests` are what
is rendered, `faults` those of lint and of the schemas; `refused` is why nothing is rendered.
"""

import json
import sys

import helm_python as helm
import kubernetes_validate
import yaml

# The oldest of Chart.yaml, and a recent one.
VERSIONS = ["1.25", "1.36"]
# Kinds of other projects have no schema among those of Kubernetes.
FOREIGN = {"PodMonitor"}


def outcome(path, file):
    with open(file, encoding="utf-8") as text:
        values = yaml.safe_load(text) or {}
    try:
        with helm.Chart.load(path) as chart:
            rendered = chart.render(values, name="fanline", namespace="feeds")
    except helm.HelmError as error:
        return {"refused": str(error)}
    texts = [text.strip() for name, text in sorted(rendered.items()) if name.endswith(".yaml") and text.strip()]
    manifests = [yaml.safe_load(text) for text in texts]
    # 1 is a hint, such as that for an icon.
    faults = [found["error"] for found in helm.lint(path, values, strict=True)["messages"] if found["severity"] > 1]
    for manifest in manifests:
        for version in VERSIONS if manifest["kind"] not in FOREIGN else []:
            try:
                kubernetes_validate.validate(manifest, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                faults.append(f"{manifest['kind']} in {version}: {error.message} at {list(error.path)}")
    return {"text": "".join(f"---\n{text}\n" for text in texts), "manifests": manifests, "faults": faults}


for file in sys.argv[2:]:
    print(json.dumps(outcome(sys.argv[1], file)))
