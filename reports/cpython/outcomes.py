"""outcomes.py [--skip=METHOD]... OUT NAME...: runs unit tests by module or full name.

Writes {test id: outcome} to OUT as JSON. Runs in the interpreter under test: standard library only.
"""

import json
import sys
import unittest


class Outcomes(unittest.TextTestResult):
    """unittest's own bookkeeping, and the last word on each test; a test with a failed subtest has failed."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.outcomes = {}

    def _note(self, test, outcome):
        self.outcomes.setdefault(test.id(), outcome)

    def addSuccess(self, test):
        super().addSuccess(test)
        self._note(test, "ok")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._note(test, "failed")

    def addError(self, test, err):
        super().addError(test, err)
        self._note(test, "error")

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._note(test, "skipped")

    def addExpectedFailure(self, test, err):
        super().addExpectedFailure(test, err)
        self._note(test, "expected failure")

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self._note(test, "unexpected success")

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._note(test, "failed")


def without(tests, skipped):
    kept = unittest.TestSuite()
    for test in tests:
        if isinstance(test, unittest.TestSuite):
            kept.addTest(without(test, skipped))
        elif test.id().rpartition(".")[2] not in skipped:
            kept.addTest(test)
    return kept


def main():
    skipped = [word.partition("=")[2] for word in sys.argv[1:] if word.startswith("--skip=")]
    out, *names = [word for word in sys.argv[1:] if not word.startswith("--skip=")]
    tests = without(unittest.defaultTestLoader.loadTestsFromNames(names), skipped)
    result = unittest.TextTestRunner(verbosity=2, resultclass=Outcomes).run(tests)
    with open(out, "w") as file:
        json.dump(result.outcomes, file)


if __name__ == "__main__":
    main()
