"""The dossier's part on the tree: the taxonomy, three-way and nine-way answers, fine against coarse. numpy."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from train.dossier.binary_tasks import data_set_of
from train.dossier.coarse_levels import LevelResult
from train.dossier.dermatologists import shown_name
from train.dossier.reader_tests import EVIDENCE_DIR
from train.evaluation.metrics import Estimate
from train.evaluation.out_of_fold import Answers
from train.reports import html as page
from train.reports.html import Markup
from train.taxonomy.partition import partition
from train.taxonomy.tree import Taxonomy

# The paper's largest training class.
MOST_PHOTOS = 1000


def paper_table() -> dict[str, Any]:
    """The paper's figures and elements: train/dossier/evidence/paper.toml."""
    return tomllib.loads((EVIDENCE_DIR / "paper.toml").read_text(encoding="utf-8"))


def taxonomy_part(taxonomy: Taxonomy, answers: Answers) -> Markup:
    """The tree with the photos of each node, and the training classes that the paper's partition makes of it."""
    data_set = data_set_of(taxonomy, answers.codes)
    own = Counter(taxonomy.node_of(data_set, answers.codes[y]) for y in answers.y_true)
    labels_of: dict[str, list[str]] = {}
    for name, mapped in taxonomy.labels.items():
        for label, code in mapped.items():
            labels_of.setdefault(code, []).append(f"{name} {label}")
    rows = []
    for root in taxonomy.roots:
        for code in taxonomy.descendants(root):
            depth = len(taxonomy.path(code)) - 1
            photos = sum(own[node] for node in taxonomy.descendants(code))
            indent = "\N{NO-BREAK SPACE}" * 3 * depth
            told = ", ".join(labels_of.get(code, []))
            rows.append((indent + taxonomy.by_code[code].name, photos or page.MISSING, told))
    tree = page.table(
        ("Node", "Photos", "Labels"),
        rows,
        caption=f"Taxonomy {taxonomy.name}, photos below each node",
        texts=(2,),
    )
    classes = partition(taxonomy, own, MOST_PHOTOS)
    kinds = {entry.node: entry for entry in classes}
    table = page.table(
        ("Training class", "Parts", "Photos a part, at most", "Nodes in it"),
        [
            (taxonomy.by_code[code].name, entry.parts, -(-own[code] // entry.parts) if entry.parts > 1 else
            entry.photos,  ", ".join(taxonomy.by_code[node].name for node in entry.nodes if own[node]))
            for code, entry in kinds.items()
        ],
        caption=f"The paper's partition of these photos into classes of at most {MOST_PHOTOS:,}",
        texts=(3,),
    )  # fmt: skip
    told = (
        f"Source of the tree: {taxonomy.source}. Labels that pool diseases stand at inner nodes. A node's probability "
        "is the sum over its descendants. The partition cuts a single disease with too many photos into parts, which "
        "the paper does not."
    )
    return page.join([page.paragraph(told), page.details("The whole tree", tree, open_=True), table])


def levels_part(taxonomy: Taxonomy, results: Sequence[LevelResult]) -> Markup:
    """Both levels of every model, beside the paper's figures; confusion of the first model."""
    papers = {entry["depth"]: entry for entry in paper_table()["level"]}
    rows = []
    for result in results:
        entry = papers[result.depth]
        spread = result.spread
        rows.append(
            (
                f"{entry['name']}, {shown_name(result.model)}",
                result.balanced_accuracy,
                f"{spread[0]:.3f} ± {spread[1]:.3f}" if spread else None,
                result.accuracy,
                f"{len(result.nodes)} of {entry['nodes']}",
                entry["network"],
                entry["dermatologists"],
                result.photos,
            )
        )
    header = (
        "Level, model", "Balanced accuracy", "Mean ± s.d. over folds", "Accuracy", "Nodes that occur",
        "Paper's network", "Paper's two dermatologists", "Photos",
    )  # fmt: skip
    absent = {result.depth: result.absent for result in results}
    names = "; ".join(
        f"{papers[depth]['name']}: {', '.join(taxonomy.by_code[code].name for code in codes)}"
        for depth, codes in absent.items()
        if codes
    )
    told = (
        "The paper's accuracy is the mean over classes, as balanced accuracy here. Its figures are not to be compared "
        f"with ours: nodes without a photo in our data cannot be confused with anything ({names}), so our three-way "
        "question has two answers and our nine-way question five; our photos are dermoscopic, its photos mostly "
        "clinical, with labels that the paper itself calls inconclusive. Dermatologists: the paper's."
    )
    blocks = [page.table(header, rows, caption="Scores summed up the tree, out of fold"), page.note(told)]
    for result in results:
        if result.model == results[0].model:
            blocks.append(_confusion(taxonomy, result, papers[result.depth]))
    return page.join(blocks)


def _confusion(taxonomy: Taxonomy, result: LevelResult, entry: Mapping[str, Any]) -> Markup:
    names = [taxonomy.by_code[code].name for code in result.nodes]
    caption = (
        f"{entry['name'].capitalize()}, {shown_name(result.model)}: truth in rows, answer in columns. "
        f"Paper, {entry['nodes']} nodes: network {entry['network']}, dermatologists {entry['dermatologists']}."
    )
    return page.heat_table(
        "truth \\ answer", names, list(zip(names, result.confusion, strict=True)), caption=caption
    )


# ------------------------------------------------------------------ fine against coarse


def fine_coarse_part(taxonomy: Taxonomy, study: Mapping[str, Any]) -> Markup:
    """What `python -m train.taxonomy.hierarchy` found: heads that learnt other classes, asked the same questions."""
    about = study["about"]
    intro = (
        f"Not end-to-end training: heads on frozen features of {about['network']} with {about['weights']} weights at "
        f"{about['size_px']} px, which has seen none of the {study['photos']:,} photos ({study['groups']:,} groups of "
        f"lesions). Grouped {study['folds']}-fold cross-validation; folds, features, photo weights and steps are the "
        "same for every choice of classes. It says what the classes do to a head, not what they would do to the "
        "features."
    )
    blocks = [page.paragraph(intro)]
    for level, content in study["levels"].items():
        rows = []
        for head, choices in content["heads"].items():
            for choice, figures in choices.items():
                rows.append((f"{head} head, {choice}", *_study_row(figures)))
        header = (
            "Head, classes learnt", "Balanced accuracy", "Less direct", "Mean ± s.d. over folds", "Accuracy", "Classes",
        )  # fmt: skip
        caption = f"{level.capitalize()}: {len(content['nodes'])} nodes occur"
        blocks += [page.table(header, rows, caption=caption), page.paragraph(verdict(level, content))]
        blocks.append(_study_confusions(taxonomy, level, content))
    heads = "; ".join(f"{name} head: {told}" for name, told in study["heads"].items())
    blocks.append(page.paragraph(f"{heads}.", class_="subtitle"))
    return page.join(blocks)


def _study_row(figures: Mapping[str, Any]) -> tuple[page.Cell, ...]:
    widths = sorted(set(figures["classes_by_fold"]))
    return (
        Estimate(*figures["balanced_accuracy"]),
        None
        if figures["less_direct"] is None
        else page.estimate(Estimate(*figures["less_direct"]), sign=True),
        f"{figures['mean_over_folds']:.3f} ± {figures['std_over_folds']:.3f}",
        Estimate(*figures["accuracy"]),
        f"{widths[0]}" if len(widths) == 1 else f"{widths[0]} to {widths[-1]}",
    )


def verdict(level: str, content: Mapping[str, Any]) -> str:
    """The paper's claim on one level in one sentence: how many comparisons speak for it, how many against."""
    differences = [
        figures["less_direct"]
        for choices in content["heads"].values()
        for figures in choices.values()
        if figures["less_direct"] is not None
    ]
    better = sum(low > 0 for _, low, _ in differences)
    worse = sum(high < 0 for _, _, high in differences)
    if better and not worse:
        told = "the paper's claim holds here"
    elif worse and not better:
        told = "the paper's claim does not hold here; the contrary does"
    elif better:
        told = "it depends on head and classes"
    else:
        told = "the paper's claim is not shown here, nor its contrary"
    return (
        f"Fine against coarse, {level}: of {len(differences)} comparisons {better} show finer classes to be better "
        f"than training on the asked ones directly, {worse} show them to be worse, {len(differences) - better - worse} "
        f"intervals hold 0: {told}."
    )


def _study_confusions(taxonomy: Taxonomy, level: str, content: Mapping[str, Any]) -> Markup:
    names = [taxonomy.by_code[code].name for code in content["nodes"]]
    head = list(content["heads"])[-1]
    tables = [
        page.heat_table(
            "truth \\ answer",
            names,
            list(zip(names, figures["confusion"], strict=True)),
            caption=f"{level}, {head} head, {choice}",
        )
        for choice, figures in content["heads"][head].items()
    ]
    return page.details(f"Confusion of the {head} head, {level}", *tables)
