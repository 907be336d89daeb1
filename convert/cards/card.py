"""`python -m convert.cards.card RUN MODEL.tflite --out CARD.md`: a model card whose every figure is read from a file.

Reads RUN's files, the model, and the .json beside it (convert/cards/sources.py). A run that learnt from every photo has
no test photos: with `--crossval DIR` the figures are those of its recipe out of fold, as `python -m convert.crossval`
wrote them. What is known of a data set's limits stands in convert/cards/data_notes/NAME.md. No TensorFlow.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from convert.cards.sources import Sources, read_sources
from convert.command import run_command
from convert.files import whole_file
from convert.inputs import SOURCE_SEPARATOR
from edge_runtime.errors import EXIT_OK

NOTES = Path(__file__).parent / "data_notes"


def write_card(sources: Sources) -> str:
    """The card as Markdown."""
    sections = (
        _title(sources),
        _use(sources),
        _data(sources),
        _figures(sources),
        _per_class(sources),
        _subgroups(sources),
        _quantization(sources),
        _making(sources),
    )
    return "\n\n".join(section for section in sections if section) + "\n"


def _title(s: Sources) -> str:
    contract = s.contract
    rows = [
        ("file", f"`{s.model_name}`, {s.report['model']['bytes']:,} bytes"),
        ("sha256", f"`{s.report['model']['sha256']}`"),
        ("recipe", f"`{contract.provenance.recipe}`"),
        ("network", _network(s.config["model"])),
        (
            "input",
            f"{contract.input.height_px} x {contract.input.width_px} RGB, {s.report['tensors']['input']['dtype']}",
        ),
        ("output", ", ".join(f"`{x.code}` {x.name} ({x.group})" for x in contract.labels)),
        ("run", f"`{contract.provenance.run_id}`, commit `{contract.provenance.commit}`"),
        ("licence of the model", contract.provenance.model_licence),
    ]
    return f"# Model card: {contract.model_id}\n\n" + _table(("", ""), rows)


def _network(model: dict[str, Any]) -> str:
    """Only MobileNetV2 has a width; an EfficientNet-Lite's stands in its name."""
    width = f", width {model['alpha']}" if model["backbone"] == "mobilenet_v2" else ""
    return f"{model['backbone']}{width}"


def _use(s: Sources) -> str:
    contract = s.contract
    rules = [
        f"- `{name}` when {rule.measure} is {'below' if rule.measure == 'top_score' else 'above'} {rule.threshold} "
        f"({rule.source})."
        for name, rule in (
            ("refer", contract.decision.refer),
            ("not_a_lesion", contract.decision.not_a_lesion),
        )
        if rule is not None
    ]
    notes = [NOTES / f"{name.lower()}.md" for name in contract.provenance.data_name.split(SOURCE_SEPARATOR)]
    limits = "\n".join(path.read_text(encoding="utf-8").strip() for path in notes if path.is_file())
    limits = limits or "- None are on file for this data set."
    parts = [
        "## Use and limits",
        contract.intended_use,
        "**Not a medical device. Not a diagnosis.** A research model's scores; a doctor decides.",
        limits,
    ]
    if rules:
        parts.append("Instead of an answer the model says:\n\n" + "\n".join(rules))
    return "\n\n".join(parts)


def _data(s: Sources) -> str:
    provenance = s.contract.provenance
    parts = [
        "## Data",
        f"{provenance.data_name}, licence {provenance.data_licence}. Manifest `{provenance.data_manifest_sha256}`.",
        "Photos of one lesion, and lesions with near-duplicate photos, stand in one split only.",
    ]
    return "\n\n".join(parts + [part for name, leak in s.leaks.items() for part in _data_set(s, name, leak)])


def _data_set(s: Sources, name: str, leak: dict[str, Any]) -> tuple[str, str]:
    """The table of one data set's split, and what a random one would have leaked."""
    sizes, groups = leak["sizes"], leak.get("group_sizes", {})
    codes = [label.code for label in s.contract.labels]
    rows = [
        (split, sum(of.values()), groups.get(split, ""), *(of.get(code, 0) for code in codes))
        for split, of in sizes.items()
    ]
    of_class = leak["random_leak_of_class"]
    worst = max(of_class, key=lambda code: of_class[code] or 0)
    return (
        _table((name, "photos", "lesion groups", *codes), rows),
        f"{len(leak.get('near_duplicates_across_lesions', []))} near-duplicate pairs across lesions (perceptual hash, "
        f"at most {leak['near_duplicate_bits']} of 64 bits apart, or known) were joined. A split by photo would have "
        f"put another photo of the same lesion into training for {_percent(leak['random_leak'])} of the test photos, "
        f"and for {_percent(of_class[worst])} of the `{worst}` ones.",
    )


def _figures(s: Sources) -> str:
    test = s.test
    if test is None:
        return f"## Figures\n\n{_no_figures(s)}"
    if s.crossval is None:
        which = (
            f"On {test['photos']:,} test photos of {test['lesions']:,} lesion groups that neither training, nor the "
            "choice of an epoch, nor calibration, nor quantization has seen."
        )
    else:
        which = (
            f"Out of fold: {len(test['folds'])} models were trained and converted as this one was, each without a part "
            f"of the photos, and answered that part: {test['photos']:,} photos of {test['lesions']:,} lesion groups. "
            "This file learnt from all of them, so no photo is left on which it could be measured itself."
        )
    lines = ["## Figures", f"{which} Intervals are 95 %, bootstrap by lesion group.", *_pair(s, test)]
    malignant_auc = s.metrics.get("test", {}).get("malignant_auc")
    if s.crossval is None and malignant_auc is not None:
        lines.append(f"Malignant against benign, sum of scores, float: AUC {malignant_auc:.3f}.")
    for name, figures in test.get("sources", {}).items():
        lines += [f"### {name}", f"{figures['photos']:,} photos.", *_pair(s, figures)]
    return "\n\n".join(lines)


def _no_figures(s: Sources) -> str:
    """Why there are none: no test photos, or nobody asked them when the model was made."""
    photos = sum(sum(leak["sizes"].get("test", {}).values()) for leak in s.leaks.values())
    if not photos:
        return "The run has no test split."
    return (
        f"The {photos:,} photos of the test split were not asked when this file was made (`--no-test-report`); "
        "`python -m convert.comparison.compare` asks them."
    )


def _pair(s: Sources, test: dict[str, Any]) -> list[str]:
    """Both models' figures, and how far they are apart."""
    rows = [
        (
            title,
            _with_interval(test[side]["balanced_accuracy"], test[side]["balanced_accuracy_interval"]),
            _percent(test[side]["accuracy"]),
            f"{test[side]['expected_calibration_error']:.3f}",
        )
        for title, side in (
            ("float, Keras", "keras"),
            (
                f"{s.contract.provenance.recipe}, this file" if s.crossval is None else "converted",
                "converted",
            ),
        )
    ]
    return [
        _table(("model", "balanced accuracy", "accuracy", "calibration error"), rows),
        f"As a pair on the same photos: conversion loses "
        f"{_with_interval(test['balanced_accuracy_loss'], test['balanced_accuracy_loss_interval'])} of balanced "
        f"accuracy; {test['answers_changed']} of {test['photos']:,} answers change, {test['right_to_wrong']} for the "
        f"worse, {test['wrong_to_right']} for the better; agreement {_percent(test['agreement'])}.",
    ]


def _per_class(s: Sources) -> str:
    test = s.test
    if test is None:
        return ""
    float_figures = s.metrics.get("test", {}).get("per_class", {}) if s.crossval is None else {}
    rows = [
        (
            f"`{label.code}`",
            test["photos_per_class"][label.code],
            _number(test["keras"]["recall"][label.code]),
            _number(test["converted"]["recall"][label.code]),
            _number(float_figures.get(label.code, {}).get("precision")),
            _number(float_figures.get(label.code, {}).get("auc")),
        )
        for label in s.contract.labels
    ]
    return "### By class\n\n" + _table(
        (
            "class",
            "photos",
            "recall, float",
            f"recall, {'this file' if s.crossval is None else 'converted'}",
            "precision, float",
            "AUC, float",
        ),
        rows,
    )


def _subgroups(s: Sources) -> str:
    test = s.report["test"]
    if test is None or not any(test["subgroups"].values()):
        return ""
    rows = [
        (
            f"{column}: {value}",
            figures["photos"],
            figures["classes"],
            _number(figures["keras_balanced_accuracy"]),
            _number(figures["converted_balanced_accuracy"]),
            _number(figures["agreement"]),
        )
        for column, values in test["subgroups"].items()
        for value, figures in values.items()
    ]
    return (
        "### By subgroup\n\nBalanced accuracy over the classes that occur in the subgroup; compare only where their "
        "number is the same. Small subgroups say little.\n\n"
        + _table(("subgroup", "photos", "classes", "float", "this file", "agreement"), rows)
    )


def _quantization(s: Sources) -> str:
    check, golden = s.report["check"], s.report["golden"]
    splits = ", ".join(f"{count} of {name}" for name, count in check["photos_by_split"].items() if count)
    lines = [
        "## Conversion",
        f"Written only because the gate let it through: on {check['photos']:,} photos ({splits}) the file, opened as a "
        f"device opens it, agrees with the Keras model on {_percent(check['agreement'])} of the answers (limit "
        f"{_percent(check['limits']['min_agreement'])}); mean score difference {check['mean_score_difference']:.4f} "
        f"(limit {check['limits']['max_mean_score_difference']}).",
        f"Operators: {', '.join(f'{count} {name}' for name, count in s.report['tensors']['operators'].items())}.",
    ]
    if s.report["calibration"]:
        calibration = s.report["calibration"]
        lines.append(
            f"Ranges from {calibration['photos']} train photos, classes balanced, seed {calibration['seed']}, "
            f"ids `{calibration['ids_sha256']}`."
        )
    if s.report.get("kept_float"):
        lines.append(_kept_float(s.report["kept_float"]))
    if s.report["qat"]:
        lines.append(_qat(s.report["qat"]))
    if temperature := s.report.get("temperature"):
        lines.append(
            f"Temperature, fitted to this file's own logits on {temperature['photos']} validation photos and folded "
            f"into its scales after quantization: {temperature['total']} in all, of which "
            f"{temperature['after_quantization']:.3f} after quantization."
        )
    spread = "; ".join(
        f"{name}: {value:g}" for name, value in golden["largest_difference_by_kernel_set"].items()
    )
    lines.append(
        f"Golden pictures inside the file, answered by {golden['runtime']}. Largest difference of any raw output by "
        f"kernel set: {spread}."
    )
    return "\n\n".join(lines)


def _kept_float(kept: dict[str, Any]) -> str:
    size, names = kept["bytes"], ", ".join(f"`{name}`" for name in kept["kept"])
    limit = f"at most {_percent(kept['limit'])} of the gate's answers may change (`--keep-float auto`)"
    if not names:
        return (
            f"Every layer is integer: {limit}, and {_percent(kept['loss'])} do, so none of the {kept['layers']} layers "
            "was given back to float."
        )
    return (
        f"Not integer throughout: {len(kept['kept'])} of {kept['layers']} layers compute in float, {names}, because "
        f"{limit}; {_percent(kept['loss'])} do, {_percent(kept['loss_of_whole'])} with every layer integer. That costs "
        f"{size['mixed'] - size['whole']:,} bytes."
    )


def _qat(qat: dict[str, Any]) -> str:
    rows = [
        (
            f"{row['epoch']}{' (kept)' if row['epoch'] == qat['best_epoch'] else ''}",
            _number(row["agreement"]),
            f"{row['mean_score_difference']:.4f}",
            _number(row["balanced_accuracy"]),
        )
        for row in qat["history"]
    ]
    settings = qat["settings"]
    return (
        f"Quantization-aware fine-tuning: {qat['steps']} steps of {settings['batch']} photos, {qat['optimizer']}, peak "
        f"learning rate {settings['learning_rate']}, {_taught(settings)}, batch normalization "
        f"{qat['batch_normalization']}. The file of each epoch on validation photos, epoch 0 being before the first "
        "step:\n\n" + _table(("epoch", "agreement", "mean score difference", "balanced accuracy"), rows)
    )


def _taught(settings: dict[str, Any]) -> str:
    labels = settings["hard_label_weight"]
    # Reports of before it could be chosen do not name it: it was 1.
    if not settings.get("distillation_weight", 1.0):
        return "from the labels alone"
    distilled = f"distilled from the float model at temperature {settings['distillation_temperature']}"
    return f"{distilled}, the labels with weight {labels:g}" if labels else distilled


def _training(s: Sources) -> tuple[list[str], str]:
    """The commands that gave the run its weights, and what else is to be said of these."""
    config, run = f"train/configs/{s.config['name']}.toml", f"runs/{s.run_folder.name}"
    no_test = " --no-test" if s.config.get("split", {}).get("test_fold", 0) < 0 else ""
    averaged = s.run.get("mean_of", [])
    # train.experiments.soup writes run ids, or "NAME.tflite, sha256 ..." of a shipped file whose run is gone.
    if len(averaged) == 1 and ".tflite, sha256 " in averaged[0]:
        shipped = averaged[0].partition(", ")[0]
        return (
            [
                f"python -m train.experiments.soup RECORD/config.toml {shipped} --learnt-from RECORD --workdir {run}"
            ],
            f"Its weights are those of {averaged[0]}, with new batch-norm statistics; RECORD is that of its training.",
        )
    if averaged:
        return (
            [
                f"python -m train.training.crossval {config} --workdir runs/folds",
                f"python -m train.experiments.soup {config} runs/folds/fold* --workdir {run}",
            ],
            f"Its weights are the mean of those of {', '.join(averaged)}.",
        )
    return [f"python -m train {config} --workdir {run}{no_test}"], ""


def _making(s: Sources) -> str:
    training, said = _training(s)
    commands = [
        *training,
        f"python -m convert runs/{s.run_folder.name} {' '.join(s.report['options'])} --out {s.model_name}",
        f"python -m convert.cards.card runs/{s.run_folder.name} {s.model_name} --out CARD.md",
    ]
    versions = {**s.run.get("versions", {}), **{k: v for k, v in s.report["versions"].items() if v}}
    hashes = {name: value for name, value in s.report["run"].items() if name.endswith("sha256")}
    rows = [(name.removesuffix("_sha256").replace("_", "."), f"`{value}`") for name, value in hashes.items()]
    return "\n\n".join(
        (
            "## How it was made",
            "```\n" + "\n".join(commands) + "\n```",
            *([said] if said else []),
            f"Seed {s.run.get('seed')}. " + ", ".join(f"{k} {v}" for k, v in sorted(versions.items())) + ".",
            _table(("file of the run", "sha256"), rows),
            "This card is generated; every figure above is read from the run directory and from the report beside the "
            "model.",
        )
    )


def _table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _with_interval(value: float, interval: Sequence[float]) -> str:
    return f"{value:.4f} ({interval[0]:.4f} to {interval[1]:.4f})"


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the card; 0, or the error's exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m convert.cards.card",
        description="Writes a model card from a run and its model.",
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument(
        "model", type=Path, metavar="MODEL.tflite", help="with the .json that convert wrote beside it"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="CARD.md")
    parser.add_argument(
        "--crossval", type=Path, metavar="DIR", help="figures out of fold, for a run without test photos"
    )
    arguments = parser.parse_args(argv)

    def write() -> int:
        card = write_card(read_sources(arguments.run, arguments.model, arguments.crossval))
        with whole_file(arguments.out) as temporary:
            temporary.write_text(card, encoding="utf-8")
        return EXIT_OK

    return run_command(write)


if __name__ == "__main__":
    sys.exit(main())
