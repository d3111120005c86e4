"""AN OPERATOR'S NOUNS: one noun, one file, with its record, its table, its SQL and its verbs.

Read `pauses` first; `limits`, `nodes`, `batches`, `webhooks`, `keys` and `schedules` are made the same way. Some are
too large for one file: of `schedules` the due times are in `due`, what code declares in `declarations`, past times in
`backfill`; of `keys` the check at each request is in `key_verifier`. `totals`, `stats`, `doctor` and `audit` are no
nouns: they keep numbers of all jobs, or ask the database about them.
"""

from importlib import import_module
from pkgutil import iter_modules

# with a noun its table becomes known: to the look for missing rights, to the migrations and to the test kit
for _noun in iter_modules(__path__):
    import_module(f"{__name__}.{_noun.name}")
