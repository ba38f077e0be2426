"""Tests, in folders that mirror the package's. A package, lest another `tests` be imported."""
