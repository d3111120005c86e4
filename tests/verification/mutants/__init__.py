"""The promise with one of its mechanisms broken: the tests that guard it must go red."""
