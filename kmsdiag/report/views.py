"""The kinds of documents there are, each in the formats it has."""

from kmsdiag.model.difference import Difference
from kmsdiag.model.explanation import Explanation
from kmsdiag.model.finding import Severity
from kmsdiag.model.forecast import Forecast
from kmsdiag.model.merged import Merged
from kmsdiag.model.report import Report
from kmsdiag.report import difference, explained, forecast, json, junit, markdown, merged, text
from kmsdiag.report.lines import Line

Document = Report | Merged | Difference | Explanation | Forecast
"""What a command has to say: one run, many places in one picture, two runs side by side, what is known of a word, or
what is to come."""


def as_lines(document: Document, *, verbosity: int, width: int, unicode: bool) -> list[Line]:
    """For a terminal, ``width`` columns wide; ``verbosity`` from 0 to 2."""
    match document:
        case Merged():
            return merged.lines(document, verbosity=verbosity, width=width, unicode=unicode)
        case Difference():
            return difference.lines(document, verbosity=verbosity, width=width, unicode=unicode)
        case Explanation():
            return explained.lines(document, width=width, unicode=unicode)
        case Forecast():
            return forecast.lines(document, width=width, unicode=unicode)
    return text.render(document, verbosity=verbosity, width=width, unicode=unicode)


def as_markdown(document: Document) -> str:
    """For a ticket."""
    match document:
        case Merged():
            return merged.markdown(document)
        case Difference():
            return difference.markdown(document)
        case Explanation():
            return explained.markdown(document)
        case Forecast():
            return forecast.markdown(document)
    return markdown.render(document)


def as_json(document: Document) -> str:
    """With every detail; each kind has a schema."""
    return json.render(document)


def as_junit(document: Document, fail_on: Severity) -> str:
    """For a pipeline; findings of a run from ``fail_on`` on are failures.

    Raises:
        ValueError: the document has no such form, since nothing was tested.
    """
    match document:
        case Merged():
            return merged.junit(document)
        case Difference():
            return difference.junit(document)
        case Explanation() | Forecast():
            raise ValueError("nothing was tested, so there is no JUnit form")
    return junit.render(document, fail_on)
