"""Measured runs of one photo: median and minimum of each stage, peak memory. stdlib only."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from statistics import median
from typing import Any

from edge_runtime.classifier import Classifier


@dataclass(frozen=True)
class Bench:
    """The measurement of one photo."""

    image: str
    runs: int
    """Measured runs; one more, unmeasured, came before them."""
    median_ms: dict[str, float]
    min_ms: dict[str, float]
    peak_rss_mib: float | None
    """Of the whole process so far; None where the platform does not tell."""
    runtime: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "image": self.image,
            "bench": {
                "runs": self.runs,
                "median_ms": self.median_ms,
                "min_ms": self.min_ms,
                "peak_rss_mib": self.peak_rss_mib,
            },
            "runtime": self.runtime,
        }

    def to_text(self) -> str:
        """A table for people, without a final newline."""
        runtime = self.runtime
        memory = "unknown" if self.peak_rss_mib is None else f"{self.peak_rss_mib:.1f} MiB"
        lines = [
            f"{self.image}: {self.runs} runs, {runtime['engine']}, {runtime['accelerator']}, "
            f"{runtime['threads']} thread(s), peak memory {memory}",
            f"  {'stage':<10} {'median ms':>10} {'min ms':>10}",
        ]
        lines += [
            f"  {stage:<10} {self.median_ms[stage]:>10.3f} {self.min_ms[stage]:>10.3f}"
            for stage in self.median_ms
        ]
        return "\n".join(lines)


def measure(classifier: Classifier, photo: bytes, runs: int, *, name: str = "photo") -> Bench:
    """Classifies one photo 1 + `runs` times; the first, which pays for caches, does not count.

    Raises:
        ImageError, InterpreterBroken: As `Classifier.classify`.
    """
    classifier.classify(photo, name=name)
    laps = [classifier.classify(photo, name=name).elapsed_ms for _ in range(runs)]
    # The photo is in memory already.
    stages = [stage for stage in laps[0] if stage != "read"]
    return Bench(
        image=name,
        runs=runs,
        median_ms={stage: round(median(lap[stage] for lap in laps), 3) for stage in stages},
        min_ms={stage: min(lap[stage] for lap in laps) for stage in stages},
        peak_rss_mib=peak_rss_mib(),
        runtime=classifier.describe_runtime(),
    )


def peak_rss_mib() -> float | None:
    """Peak resident memory of this process in MiB, None where it cannot be known (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts KiB, macOS bytes.
    return round(peak / (1024 * 1024 if sys.platform == "darwin" else 1024), 1)
