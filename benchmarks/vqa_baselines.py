"""What answers without images are worth: the floor that a figure of medical visual question answering stands on.

Two answerers over the vocabulary that a federation of the same sites agrees on, on the same test questions: the
commonest training answer, and a logistic regression on the words of the question (TF-IDF of one and two words, its
strength chosen on validation questions). Each is fitted on all sites' training questions together, and at each site
alone.

    python -m benchmarks.vqa_baselines --data 'vqa-rad(path=/data/vqa_rad)' --partition natural --min-count 2
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from fedmedpeft.config import RunConfig
from fedmedpeft.data import build_source
from fedmedpeft.data.run_partition import partition_for
from fedmedpeft.data.source import SPLITS, ImageTable
from fedmedpeft.data.split import Split
from fedmedpeft.tasks import Evaluation, build_task
from fedmedpeft.tasks.answers import frequent_answers
from fedmedpeft.tasks.task import RowTask

_STRENGTHS = (1.0, 10.0, 100.0)


def questions(table: ImageTable, rows: np.ndarray) -> Split:
    """Some rows without their images."""
    assert table.texts is not None
    assert table.answers is not None
    assert table.answer_types is not None
    return Split(
        images=torch.zeros(0, 3, 1, 1, dtype=torch.uint8),
        labels=torch.from_numpy(table.labels[rows]),
        rows=rows,
        questions=tuple(table.texts[row] for row in rows),
        answers=tuple(table.answers[row] for row in rows),
        answer_types=tuple(table.answer_types[row] for row in rows),
    )


def majority(task: RowTask, train: Split, tested: Sequence[Split]) -> list[Evaluation]:
    """The commonest training answer to every question."""
    commonest = Counter(answer for answer in train.answers or () if answer in task.classes).most_common(1)[0][0]
    return [_scored(task, [commonest] * len(split), split) for split in tested]


def question_only(task: RowTask, train: Split, val: Split, tested: Sequence[Split]) -> list[Evaluation]:
    """Words of the question alone."""
    known = [(q, a) for q, a in zip(train.questions or (), train.answers or (), strict=True) if a in task.classes]
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit([question for question, _ in known])
    features, answers = words.transform([question for question, _ in known]), [answer for _, answer in known]

    def fitted(strength: float) -> LogisticRegression:
        return LogisticRegression(C=strength, max_iter=500).fit(features, answers)

    def evaluated(model: LogisticRegression, split: Split) -> Evaluation:
        return _scored(task, list(model.predict(words.transform(split.questions or ()))), split)

    best = max(_STRENGTHS, key=lambda strength: evaluated(fitted(strength), val).metrics.get("accuracy", 0.0))
    return [evaluated(fitted(best), split) for split in tested]


def baselines(config: RunConfig) -> dict[str, dict[str, Evaluation]]:
    """Evaluations on the test questions by answerer and site; the site ``all`` is all of them together."""
    source = build_source(config.data)
    partition = partition_for(config, source, config.sites)
    splits = {
        site: {name: questions(source.table, partition.rows(site, name)) for name in SPLITS} for site in partition.sites
    }
    everyone = {
        name: questions(source.table, np.concatenate([partition.rows(site, name) for site in partition.sites]))
        for name in SPLITS
    }
    task = build_task(config.task, _vocabulary(config, splits))
    assert isinstance(task, RowTask)
    tested = {site: parts["test"] for site, parts in splits.items()} | {"all": everyone["test"]}
    shared = {
        "majority, pooled": majority(task, everyone["train"], list(tested.values())),
        "question only, pooled": question_only(task, everyone["train"], everyone["val"], list(tested.values())),
    }
    results = {name: dict(zip(tested, found, strict=True)) for name, found in shared.items()}
    for site, parts in splits.items():
        alone = question_only(task, parts["train"], parts["val"], [parts["test"]])[0]
        results.setdefault("majority, alone", {})[site] = majority(task, parts["train"], [parts["test"]])[0]
        results.setdefault("question only, alone", {})[site] = alone
    return results


def _vocabulary(config: RunConfig, splits: Mapping[str, Mapping[str, Split]]) -> tuple[str, ...]:
    """As the sites agree on it."""
    least = getattr(build_task(config.task).options, "min_count", 1)
    return tuple(
        sorted({a for parts in splits.values() for a in frequent_answers(parts["train"].answers or (), least)})
    )


def _scored(task: RowTask, answers: Sequence[str], split: Split) -> Evaluation:
    outputs = torch.zeros(len(split), len(task.classes))
    outputs[torch.arange(len(split)), torch.tensor([task.classes.index(answer) for answer in answers])] = 1
    return task.score(outputs, split)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--partition", default="natural")
    parser.add_argument("--min-count", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="partition-seed of the run")
    given = parser.parse_args()
    config = RunConfig.from_mapping(
        {
            "data": given.data,
            "partition": given.partition,
            "partition-seed": given.seed,
            "task": f"vqa(min_count={given.min_count})",
        }
    )
    print(f"{'':24}{'site':>12}{'accuracy':>10}{'closed':>8}{'open':>8}{'answerable':>12}")
    for name, sites in baselines(config).items():
        for site, evaluation in sites.items():
            values = [evaluation.metrics[m] for m in ("accuracy", "closed_accuracy", "open_accuracy", "answerable")]
            print(f"{name:24}{site:>12}{values[0]:>10.3f}{values[1]:>8.3f}{values[2]:>8.3f}{values[3]:>12.3f}")


if __name__ == "__main__":
    main()
