"""AN OPERATOR'S NOUNS: one noun, one file, with its record, its table, its SQL and its verbs.

Read `pauses` first; the others are made the same way.
"""

from importlib import import_module
from pkgutil import iter_modules

# with a noun its table becomes known: to the look for missing rights, to the migrations and to the test kit
for _noun in iter_modules(__path__):
    import_module(f"{__name__}.{_noun.name}")
