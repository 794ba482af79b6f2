"""The world that tests of automation run in: that of the assets."""

from alpha_assets_tests.assets.conftest import _bare_environment, _lasting_instance, lasting_world, world

__all__ = ["_bare_environment", "_lasting_instance", "lasting_world", "world"]
