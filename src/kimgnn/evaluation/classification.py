"""How well a classification head tells its classes apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, f1_score, log_loss, roc_auc_score, roc_curve

if TYPE_CHECKING:
    from kimgnn.models.tasks import Task


@dataclass(frozen=True)
class Classification:
    """Labels beside predicted probabilities of one head on one split, structures without a label left out.

    Attributes:
        task: What the head predicts.
        reference: Classes ``(n,)`` int64, indices into ``task.classes``.
        probabilities: ``(n, n_classes)``, each row of sum 1.
        structure: ``(n,)`` int64, which structure of the split.
        members: Of an ensemble, logarithms of what its members say ``(n, n_members, n_classes)``.
    """

    task: Task
    reference: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    structure: NDArray[np.int64]
    members: NDArray[np.float64] | None = None

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable class ``(n,)``; -1 where a probability is NaN."""
        broken = np.isnan(self.probabilities).any(axis=1)
        return np.where(broken, -1, np.argmax(np.nan_to_num(self.probabilities), axis=1)).astype(np.int64)

    @property
    def binary(self) -> bool:
        """Whether there are two classes: the second one is then the positive one."""
        return len(self.task.classes) == 2

    def metrics(self) -> dict[str, float]:
        """Return every metric that is defined; probabilities that are NaN make them NaN.

        ``auc``, the area under the ROC curve, and ``f1`` are those of the positive class of two, else the mean over
        the classes that occur, each against the rest; ``balanced_accuracy`` is the mean recall of the classes that
        occur; ``accuracy``; ``log_loss`` in nats; ``count``, how many structures.
        """
        count = {"count": float(len(self.reference))}
        undefined = self.undefined()
        if np.isnan(self.probabilities).any():
            names = ("auc", "f1", "balanced_accuracy", "accuracy", "log_loss")
            return {name: np.nan for name in names if name not in undefined} | count
        predicted = self.predicted
        present = np.unique(self.reference)
        metrics = {}
        if "auc" not in undefined:
            judged = [1] if self.binary else present
            metrics["auc"] = float(np.mean([self.area(index) for index in judged]))
        if "f1" not in undefined:
            judged = [1] if self.binary else list(present)
            metrics["f1"] = float(
                f1_score(self.reference, predicted, labels=judged, average="macro", zero_division=0.0)
            )
        confusion = self.confusion()
        metrics["balanced_accuracy"] = float(np.mean((np.diag(confusion) / confusion.sum(axis=1).clip(1))[present]))
        metrics["accuracy"] = float(np.mean(predicted == self.reference))
        metrics["log_loss"] = float(log_loss(self.reference, self.probabilities, labels=range(len(self.task.classes))))
        return metrics | count

    def undefined(self) -> dict[str, str]:
        """Return metric -> why it has no value here."""
        present = np.unique(self.reference)
        reasons = {}
        if len(present) == 1:
            reasons["auc"] = f"only class {self.task.classes[present[0]]!r} occurs"
        if self.binary and 1 not in present and 1 not in self.predicted:
            reasons["f1"] = f"class {self.task.classes[1]!r} neither occurs nor is predicted"
        return reasons

    def confusion(self) -> NDArray[np.int64]:
        """Return how many of each class (rows) were taken for each class (columns), ``(n_classes, n_classes)``."""
        found = confusion_matrix(self.reference, self.predicted, labels=range(len(self.task.classes)))
        return np.asarray(found, dtype=np.int64)

    def roc(self, index: int) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Return false and true positive rates of class ``index`` against the rest, ``None`` where undefined."""
        positive = self.reference == index
        scores = self.probabilities[:, index]
        if positive.all() or not positive.any() or np.isnan(scores).any():
            return None
        false_rate, true_rate, _ = roc_curve(positive, scores)
        return false_rate, true_rate

    def area(self, index: int) -> float:
        """Return the area under the ROC curve of class ``index`` against the rest, where `roc` is defined."""
        return float(roc_auc_score(self.reference == index, self.probabilities[:, index]))

    def errors_of_structures(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return structures and their positions here, both ``(n,)``, the least probable true class first."""
        sure = self.probabilities[np.arange(len(self.reference)), self.reference]
        order = np.argsort(np.where(np.isnan(sure), -np.inf, sure), kind="stable")
        return self.structure[order], order
