"""Benchmark of one photo: median and 95th percentile of each stage, memory, throttling. stdlib only."""

from __future__ import annotations

import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from edge_runtime.classifier import Classifier
from edge_runtime.errors import escaped, quoted
from edge_runtime.result import JSON_SCHEMA


@dataclass(frozen=True)
class Bench:
    """The measurement of one photo."""

    image: str
    runs: int
    """Measured runs; one more, unmeasured, came before them."""
    median_ms: dict[str, float]
    p95_ms: dict[str, float]
    """95th percentile: the smallest lap that 95 % of the laps do not exceed."""
    min_ms: dict[str, float]
    peak_rss_mib: float | None
    """Of the whole process so far; None where the platform does not report it."""
    throttling: dict[str, Any]
    """As `throttling`: `before` and `after` the runs; empty where the system reports nothing."""
    runtime: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        bench = asdict(self)
        image, runtime = bench.pop("image"), bench.pop("runtime")
        return {"schema": JSON_SCHEMA, "image": image, "bench": bench, "runtime": runtime}

    def to_text(self) -> str:
        """Return a table as text, without a final newline."""
        runtime = self.runtime
        memory = "unknown" if self.peak_rss_mib is None else f"{self.peak_rss_mib:.1f} MiB"
        lines = [
            f"{quoted(self.image)}: {self.runs} runs, {runtime['engine']}, {runtime['accelerator']}, "
            f"{runtime['threads']} thread(s), peak memory {memory}",
            f"  {'stage':<10} {'median ms':>10} {'p95 ms':>10} {'min ms':>10}",
        ]
        lines += [
            f"  {stage:<10} {self.median_ms[stage]:>10.3f} {self.p95_ms[stage]:>10.3f} {self.min_ms[stage]:>10.3f}"
            for stage in self.median_ms
        ]
        lines += [f"  {name}: {value}" for name, value in self.throttling.get("after", {}).items()]
        return "\n".join(map(escaped, lines))


def measure(classifier: Classifier, photo: bytes, runs: int, *, name: str = "photo") -> Bench:
    """Classify one photo 1 + `runs` times; the first, which fills caches, does not count.

    Raises:
        ImageError, InterpreterBroken: As `Classifier.classify`.
    """
    classifier.classify(photo, name=name)
    before = throttling()
    laps = [classifier.classify(photo, name=name).elapsed_ms for _ in range(runs)]
    # The photo is in memory already.
    stages = [stage for stage in laps[0] if stage != "read"]
    return Bench(
        image=name,
        runs=runs,
        median_ms={stage: round(median(lap[stage] for lap in laps), 3) for stage in stages},
        p95_ms={stage: percentile([lap[stage] for lap in laps], 0.95) for stage in stages},
        min_ms={stage: min(lap[stage] for lap in laps) for stage in stages},
        peak_rss_mib=peak_rss_mib(),
        throttling={"before": before, "after": throttling()} if before else {},
        runtime=classifier.describe_runtime(),
    )


def percentile(values: list[float], fraction: float) -> float:
    """Return the smallest value that at least `fraction` of the values do not exceed."""
    return sorted(values)[max(0, math.ceil(fraction * len(values)) - 1)]


def throttling(root: str = "/sys") -> dict[str, Any]:
    """Return what this machine reports of heat and clock, by name: empty on most desktops and in containers.

    A Raspberry Pi reports `throttled` (hexadecimal flags of its firmware: bit 0 under-voltage now, 1 capped, 2
    throttled, 3 soft temperature limit; 16 to 19 the same since boot). `temperature_c` and `clock_mhz` are of the first
    sensor and the first core.
    """
    found: dict[str, Any] = {}
    sources = (
        ("throttled", "devices/platform/soc/soc:firmware/get_throttled", lambda text: f"0x{int(text, 16):x}"),
        ("temperature_c", "class/thermal/thermal_zone0/temp", lambda text: int(text) / 1000),
        ("clock_mhz", "devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", lambda text: int(text) / 1000),
    )
    for name, path, read in sources:
        try:
            found[name] = read(Path(root, path).read_text(encoding="ascii").strip())
        except (OSError, ValueError):
            continue
    return found


def peak_rss_mib() -> float | None:
    """Return the peak resident memory of this process in MiB, None where it is unknown (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts KiB, macOS bytes.
    return round(peak / (1024 * 1024 if sys.platform == "darwin" else 1024), 1)
