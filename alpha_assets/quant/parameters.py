"""Every threshold of the domain as plain data, with its unit, default and the reason for the default.

Settings reads these classes so that a user can change them; the functions of ``quant`` take them as
arguments. Nothing heavy is imported here: reading signals must not pay for polars.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class CleaningParameters:
    """Thresholds of the cleaning rules (``quant.bars``)."""


@dataclass(frozen=True)
class SimulationParameters:
    """The simulated market (``quant.simulate``)."""


@dataclass(frozen=True)
class LearningParameters:
    """Labels, splits and the learner of a candidate (``quant.labels``, ``quant.splits``, ``quant.learners``)."""


@dataclass(frozen=True)
class GateParameters:
    """What counts as evidence (``quant.gate``)."""


@dataclass(frozen=True)
class SignalParameters:
    """When a promoted model's opinion is a signal (``quant.blend``)."""
