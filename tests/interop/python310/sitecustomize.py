"""Lets pika 0.x, unpatched, run on Python 3.10 and newer.

Python 3.10 removed the name `collections.Callable`, which pika 0.12 and 0.13 use once (in
`utils.is_callable`). Python imports this module by itself at start-up when its
directory is on PYTHONPATH; it gives the old name back and does nothing else.
"""

import collections
import collections.abc

if not hasattr(collections, "Callable"):
    collections.Callable = collections.abc.Callable
