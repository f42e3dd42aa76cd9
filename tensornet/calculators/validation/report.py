"""What came out of a validation: rows of numbers, limits and verdicts."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class Row:
    """One check.

    Attributes:
        name: Short name of the check.
        measured: What the number is, in words.
        value: The number. None if nothing could be measured.
        limit: The largest value that passes. None if nothing could be measured.
        unit: Unit of both, empty for relative errors.
        passed: The verdict. None if the check does not apply; then `note` says why.
        note: Details, the reason of a failure, or why the check does not apply.
    """

    name: str
    measured: str
    value: float | None
    limit: float | None
    unit: str
    passed: bool | None
    note: str = ""


@dataclass(frozen=True)
class Report:
    """The rows of a validation.

    Attributes:
        subject: Which model and which structure were looked at.
        rows: One per check, in the order of the table.

    Examples:
        >>> row = Row("forces", "error against finite differences", 1e-3, 1e-6, "", False)
        >>> Report("a model", (row,)).passed
        False
    """

    subject: str
    rows: tuple[Row, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed, and at least one was made."""
        verdicts = [row.passed for row in self.rows]
        return False not in verdicts and True in verdicts

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the checks that failed."""
        return tuple(row.name for row in self.rows if row.passed is False)

    @property
    def skipped(self) -> tuple[str, ...]:
        """Names of the checks that do not apply."""
        return tuple(row.name for row in self.rows if row.passed is None)

    def table(self) -> Table:
        """Give the rows as a table for a `rich` console, with details of what did not pass below.

        Returns:
            One line per check; then what was measured and the note of each check that failed or
            does not apply.
        """
        table = Table(
            title=Text(f"Validation of {self.subject}"), title_justify="left",
            caption=self._details(), caption_justify="left", caption_style="",
            box=box.SIMPLE_HEAD, pad_edge=False,
        )  # fmt: skip
        table.add_column("check", no_wrap=True)
        table.add_column("value", justify="right", no_wrap=True)
        table.add_column("limit", justify="right", no_wrap=True)
        table.add_column("unit", no_wrap=True)
        table.add_column("verdict", no_wrap=True)
        for row in self.rows:
            verdict = _VERDICTS[row.passed]
            table.add_row(row.name, _number(row.value), _number(row.limit), row.unit, verdict)
        return table

    def _details(self) -> Text | None:
        """What was measured, and what is to be said, where a check did not pass."""
        lines = []
        for row in self.rows:
            if not row.passed:
                note = f"; {row.note}" if row.note else ""
                lines.append(Text.assemble((row.name, "bold"), f": {row.measured}{note}"))
        return Text("\n").join(lines) if lines else None

    def __str__(self) -> str:
        console = Console(file=StringIO(), width=100, color_system=None)
        console.print(self.table())
        console.print(self.summary())
        assert isinstance(console.file, StringIO)
        return console.file.getvalue().rstrip()

    def summary(self) -> str:
        """Say the outcome in one line.

        Returns:
            How many checks passed, and the names of those that failed or do not apply.
        """
        n = len(self.rows) - len(self.skipped)
        line = f"{n - len(self.failed)} of {n} checks passed."
        if self.failed:
            line += f" Failed: {_listed(self.failed)}."
        if self.skipped:
            line += f" Not applicable: {_listed(self.skipped)}."
        return line


_VERDICTS = {
    True: "[green]passed[/green]",
    False: "[bold red]FAILED[/bold red]",
    None: "[yellow]not applicable[/yellow]",
}


def _number(x: float | None) -> str:
    return "" if x is None else f"{x:.1e}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
