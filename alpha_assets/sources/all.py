"""Every source by its name, built when it is first asked for: nobody pays for a client that is not used."""

from collections.abc import Iterator, Mapping

from alpha_assets.settings import Settings
from alpha_assets.sources.base import Source


class Sources(Mapping[str, Source]):
    """``sources["yahoo"]`` and its siblings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._built: dict[str, Source] = {}

    def __getitem__(self, name: str) -> Source:
        if name not in self._built:
            self._built[name] = self._build(name)
        return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter(("yahoo", "files", "simulated"))

    def __len__(self) -> int:
        return 3

    def _build(self, name: str) -> Source:
        if name == "yahoo":
            from alpha_assets.sources.yahoo import Yahoo

            return Yahoo(self._settings)
        if name == "files":
            from alpha_assets.sources.files import Files

            return Files(self._settings)
        if name == "simulated":
            from alpha_assets.sources.simulated import Simulated

            return Simulated(self._settings)
        raise KeyError(name)
