"""Sharpe ratios that know how they were found: probabilistic and deflated (Bailey and Lopez de Prado, 2012 and 2014).

All ratios are per date and not annualised.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import variance


@dataclass(frozen=True)
class Trials:
    """Distinct configurations whose out-of-sample score was seen for a family, refits not counted.

    ``variance`` is that of their Sharpe ratios (``PoolVerdict.figures["sharpe"]``), per date.
    """

    count: int
    variance: float = 0.0

    def __post_init__(self) -> None:
        """Refuses what cannot be counted."""
        if self.count < 1 or not 0 <= self.variance < math.inf:
            raise ValueError(f"{self.count} trials of variance {self.variance}: wanted at least 1, and 0 or more")

    @classmethod
    def of(cls, scores: Sequence[float | None]) -> "Trials":
        """The trials of these Sharpe ratios, one each; one that is not known yet (None) counts and adds no variance.

        The variance is that of a sample (over n - 1), as there will be more trials; 0 of fewer than two.
        """
        known = [score for score in scores if score is not None]
        return cls(len(scores), variance(known) if len(known) > 1 else 0.0)

    def beside(self, rivals: int) -> "Trials":
        """These where each was compared out of sample with so many others, whose scores were seen as well."""
        return Trials(self.count * (1 + rivals), self.variance)

    def threshold(self, dates: float) -> float:
        """The Sharpe ratio that the best of the trials is expected to reach by luck, on so many independent dates.

        sqrt(V) ((1 - g) Z(1 - 1/N) + g Z(1 - 1/(N e))), Z the normal quantile and g Euler's constant (doi
        10.3905/jpm.2014.40.5.094, equation 6); 0 for one trial. V is at least 1 / dates: the trials could not agree
        better than their own errors let them.
        """
        return math.sqrt(max(self.variance, 1 / dates)) * luckiest(self.count)


def luckiest(count: int) -> float:
    """The largest of so many independent standard normal numbers, on average (nearly); 0 of one."""
    if count == 1:
        return 0.0
    euler = 0.5772156649015329
    first, second = normal_quantile(1 - 1 / count), normal_quantile(1 - 1 / (count * math.e))
    return (1 - euler) * first + euler * second


def minimum_years(count: int, sharpe_a_year: float) -> float | None:
    """Years of a backtest below which the best of so many trials without skill is expected to show this Sharpe ratio.

    (the expected maximum of N standard normal numbers / the annual ratio)^2 (Bailey, Borwein, Lopez de Prado and Zhu,
    2014, «Pseudo-mathematics and financial charlatanism», equation 6); None for a ratio that is not above 0, which no
    length makes look good.
    """
    return (luckiest(count) / sharpe_a_year) ** 2 if sharpe_a_year > 0 else None


def sharpe_error(sharpe: float, skew: float, kurtosis: float, dates: float) -> float:
    """Standard error of a Sharpe ratio: sqrt((1 - skew SR + (kurtosis - 1) / 4 SR^2) / (dates - 1)).

    ``kurtosis`` is 3 for a normal distribution; ``dates`` counts independent ones (Bailey and Lopez de Prado, 2012,
    equation 8, after Mertens, 2002). The variance is not taken below that of a tenth of itself at SR = 0, where a
    sample of few dates could make it negative.
    """
    spread = max(1 - skew * sharpe + (kurtosis - 1) / 4 * sharpe**2, 0.1)
    return math.sqrt(spread / max(dates - 1, 1.0))


def probabilistic_sharpe(sharpe: float, threshold: float, error: float) -> float:
    """Probability that the true Sharpe ratio lies above the threshold; the deflated one where that is ``Trials``'."""
    from scipy.special import ndtr

    return float(ndtr((sharpe - threshold) / error))


def normal_quantile(probability: float) -> float:
    """The value that a standard normal number lies below with this probability."""
    from scipy.special import ndtri

    return float(ndtri(probability))
