"""Read by every Python that is started with this folder on its path; see ``watching``."""

import importlib.abc
import importlib.util
import os
import sys


class Watch(importlib.abc.MetaPathFinder):
    """Installs the hooks when ``sft.training`` has been imported, and torch with it."""

    def find_spec(self, name, path=None, target=None):
        if name != "sft.training":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            import watching

            watching.install()

        spec.loader.exec_module = exec_module
        return spec


if "WATCH" in os.environ:
    sys.meta_path.insert(0, Watch())
